"""Examples to rectangular arrays, with next to no padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Rows(NamedTuple):
    """Ids, mask and segments (B, S) of a batch of encoded texts."""

    ids: np.ndarray
    mask: np.ndarray
    segments: np.ndarray


def pad_rows(
    encoded: Sequence[tuple[Sequence[int] | np.ndarray, Sequence[int] | np.ndarray]],
    pad_id: int,
    multiple: int = 8,
    most: int | None = None,
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
