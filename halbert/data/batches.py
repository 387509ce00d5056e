"""Instances and examples to rectangular arrays, with next to no padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from halbert.data.corpus import Corpus, CorpusShard
from halbert.data.masking import mask_batch
from halbert.data.pairs import Pairs, draw_pairs
from halbert.spec import PretrainSpec
from halbert.text import Tokenizer


class PretrainBatch(NamedTuple):
    """One batch for pre-training: (B, S) arrays, flat masked positions (M,) and labels (M,), pair labels (B,)."""

    ids: np.ndarray
    mask: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    pair_labels: np.ndarray


class Rows(NamedTuple):
    """Ids, mask and segments (B, S) of a batch of encoded texts."""

    ids: np.ndarray
    mask: np.ndarray
    segments: np.ndarray


def pad_rows(
    encoded: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int, multiple: int = 8, most: int | None = None
) -> Rows:
    """(ids, segments) of several texts as one rectangle, as wide as the longest, rounded up to ``multiple``.

    ``most`` bounds the rounding: a model's positions need not be a multiple.
    """
    longest = max(len(ids) for ids, _ in encoded)
    width = -(-longest // multiple) * multiple
    if most is not None:
        width = max(longest, min(width, most))
    ids = np.full((len(encoded), width), pad_id, np.int64)
    mask, segments = np.zeros_like(ids), np.zeros_like(ids)
    for row, (piece_ids, segment_ids) in enumerate(encoded):
        n = len(piece_ids)
        ids[row, :n], mask[row, :n], segments[row, :n] = piece_ids, 1, segment_ids
    return Rows(ids, mask, segments)


def group_by_length(
    lengths: np.ndarray, batch_tokens: int, rng: np.random.Generator | None = None, multiple: int = 8
) -> list[np.ndarray]:
    """Indices in groups of similar length, each at most ``batch_tokens`` padded pieces (one long row may exceed it).

    With ``rng`` rows of equal padded length are shuffled and the groups come in random order; without, both keep the
    order of length, longest first (so that the largest memory need comes first).
    """
    padded = -(-np.asarray(lengths) // multiple) * multiple
    order = np.lexsort((np.arange(len(padded)) if rng is None else rng.permutation(len(padded)), -padded))
    groups, start = [], 0
    while start < len(order):
        rows = max(1, batch_tokens // int(padded[order[start]]))
        groups.append(order[start : start + rows])
        start += rows
    return groups if rng is None else [groups[i] for i in rng.permutation(len(groups))]


def group_by_count(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Random groups of ``batch_size`` indices; rows of one group have similar lengths (sorted inside large windows)."""
    order = rng.permutation(len(lengths))
    window = 50 * batch_size
    groups = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort(lengths[part], kind="stable")]
        groups += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [groups[i] for i in rng.permutation(len(groups))]


def pretrain_batches(
    corpus: Corpus,
    tokenizer: Tokenizer,
    spec: PretrainSpec,
    length: int,
    batch_tokens: int,
    seed: int,
    epoch: int,
) -> Iterator[PretrainBatch]:
    """The batches of one epoch, a function of (seed, epoch) alone; one shard is in memory at a time."""
    shards = np.random.default_rng((seed, epoch, 0)).permutation(len(corpus))
    for number in shards:
        shard = corpus.shard(int(number))
        pairs = draw_pairs(shard, spec.sentence_objective, length, (seed, epoch, 1, int(number)))
        rng = np.random.default_rng((seed, epoch, 2, int(number)))
        for group in group_by_length(pairs.lengths, batch_tokens, rng):
            yield _assemble(shard, pairs, group, tokenizer, spec, rng, length)


def _assemble(
    shard: CorpusShard,
    pairs: Pairs,
    rows: np.ndarray,
    tokenizer: Tokenizer,
    spec: PretrainSpec,
    rng: np.random.Generator,
    length: int,
) -> PretrainBatch:
    special = tokenizer.special_ids
    encoded = []
    for r in rows:
        a = shard.ids[pairs.a_start[r] : pairs.a_end[r]]
        b = shard.ids[pairs.b_start[r] : pairs.b_end[r]]
        ids = [special["cls"], *a.tolist(), special["sep"]]
        segments = [0] * len(ids)
        if len(b):
            ids += [*b.tolist(), special["sep"]]
            segments += [1] * (len(b) + 1)
        encoded.append((ids, segments))
    padded = pad_rows(encoded, special["pad"], most=length)
    fixed = np.isin(padded.ids, [special["cls"], special["sep"], special["pad"]])
    hidden = mask_batch(
        padded.ids, (padded.mask == 1) & ~fixed, tokenizer.starts_word, spec, special["mask"], tokenizer.vocab_size, rng
    )
    return PretrainBatch(hidden.ids, padded.mask, padded.segments, hidden.positions, hidden.labels, pairs.label[rows])
