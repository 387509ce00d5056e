"""Rows of text with pieces hidden, to be found again."""

from __future__ import annotations

import numpy as np

from halbert.data.instances import PretrainBatch
from halbert.data.masking import mask_batch
from halbert.data.pairs import NO_LABEL
from halbert.spec import PretrainSpec
from halbert.text import Tokenizer


def hide(
    ids: np.ndarray, mask: np.ndarray, tokenizer: Tokenizer, spec: PretrainSpec, rng: np.random.Generator
) -> PretrainBatch:
    """Rows (B, S) with pieces hidden as the model was pre-trained; no sentence pairs."""
    special = tokenizer.special_ids
    plain = (mask == 1) & ~np.isin(ids, [special["cls"], special["sep"]])
    hidden = mask_batch(ids, plain, tokenizer.starts_word, spec, special["mask"], tokenizer.vocab_size, rng)
    no_pair = np.full(len(ids), NO_LABEL, np.int64)
    return PretrainBatch(hidden.ids, mask, np.zeros_like(ids), hidden.positions, hidden.labels, no_pair)
