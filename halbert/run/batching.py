"""Many texts through a backend: sorted by length, cut into batches by a budget of tokens, answers in input order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from halbert.data.batches import Rows, group_by_length, pad_rows

BATCH_TOKENS = 4096


def in_batches(
    encoded: Sequence[tuple[Sequence[int], Sequence[int]]],
    pad_id: int,
    batch_tokens: int = BATCH_TOKENS,
    most: int | None = None,
) -> Iterator[tuple[np.ndarray, Rows]]:
    """(row numbers, batch) over all encoded texts; rows of similar length share a batch, at most ``most`` wide."""
    if not encoded:
        return
    lengths = np.array([len(ids) for ids, _ in encoded])
    for group in group_by_length(lengths, batch_tokens):
        yield group, pad_rows([encoded[i] for i in group], pad_id, most=most)
