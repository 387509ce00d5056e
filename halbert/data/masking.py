"""Which pieces are hidden, and by what: pieces, whole words, or n-grams of whole words; 80 % / 10 % / 10 %.

BERT paper 3.1 and appendix A.1; ALBERT paper 4.1: n-gram lengths with p(n) proportional to 1/n, n <= 3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from halbert.spec import PretrainSpec


class Masked(NamedTuple):
    """Inputs (B, S) with pieces hidden, the flat positions (M,) that were chosen, and their true ids (M,)."""

    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


def mask_batch(
    ids: np.ndarray,
    maskable: np.ndarray,
    starts_word: np.ndarray,
    spec: PretrainSpec,
    mask_id: int,
    vocab_size: int,
    rng: np.random.Generator,
) -> Masked:
    """Choose about ``masking_prob`` of each row's real pieces and hide them.

    ``ids`` (B, S); ``maskable`` (B, S) is False for special tokens and padding, which are never chosen; ``starts_word``
    (V,) says which pieces begin a word. Every row with a maskable piece has at least one chosen, and none has more than
    its share unless the first unit drawn is larger than it.
    """
    budget = np.maximum(1, np.round(maskable.sum(1) * spec.masking_prob)).astype(np.int64)
    budget[~maskable.any(1)] = 0
    if spec.masking == "piece":
        chosen = _choose_pieces(maskable, budget, rng)
    else:
        chosen = np.zeros_like(maskable)
        longest = 1 if spec.masking == "word" else spec.max_ngram
        weights = 1.0 / np.arange(1, longest + 1)
        for row in range(len(ids)):
            chosen[row] = _choose_words(
                ids[row], maskable[row], starts_word, int(budget[row]), weights / weights.sum(), rng
            )
    positions = np.flatnonzero(chosen)
    labels = ids.reshape(-1)[positions]
    hidden = ids.copy()
    dice = rng.random(len(positions))
    flat = hidden.reshape(-1)
    flat[positions[dice < 0.8]] = mask_id
    other = positions[dice >= 0.9]
    flat[other] = rng.integers(0, vocab_size, len(other))
    return Masked(hidden, positions, labels)


def _choose_pieces(maskable: np.ndarray, budget: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scores = np.where(maskable, rng.random(maskable.shape), 2.0)
    rank = scores.argsort(1).argsort(1)
    return (rank < budget[:, None]) & maskable


def _choose_words(
    ids: np.ndarray,
    maskable: np.ndarray,
    starts_word: np.ndarray,
    budget: int,
    lengths: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    chosen = np.zeros(len(ids), bool)
    where = np.flatnonzero(maskable)
    if not len(where):
        return chosen
    # A word begins at a starting piece, at the first piece, and after any gap (a special token).
    begins = starts_word[ids[where]] | (np.diff(where, prepend=-2) > 1)
    begins[0] = True
    words = np.split(where, np.flatnonzero(begins)[1:])
    sizes = rng.choice(len(lengths), len(words), p=lengths) + 1
    taken = 0
    for first in rng.permutation(len(words)):
        unit = np.concatenate(words[first : first + sizes[first]])
        if chosen[unit].any() or (taken and taken + len(unit) > budget):
            continue
        chosen[unit] = True
        taken += len(unit)
        if taken >= budget:
            break
    return chosen
