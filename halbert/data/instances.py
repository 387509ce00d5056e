"""Instances, as ranges of ids, to batches of fixed shape with pieces hidden; index arithmetic from end to end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from halbert.data.masking import mask_batch
from halbert.data.pairs import NO_LABEL, Pairs
from halbert.spec import PretrainSpec
from halbert.text import Tokenizer

IGNORED = -100  # label of a masked position that is only there to fill the shape; torch's own default


class PretrainBatch(NamedTuple):
    """One batch for pre-training: (B, S) arrays, flat masked positions (M,) and labels (M,), pair labels (P,).

    Positions that only fill the shape are 0 and come last, their labels are :data:`IGNORED`. Without packing P is B, and
    a row that only fills the shape has mask 0 throughout and no pair label.

    A packed batch has more: ``position_ids`` (B, S) begin at 0 with each instance, ``sequence`` (B, S) numbers the
    instances of a row from 1 (0 is padding; attention is among equal numbers), and ``starts`` (P,) are the flat
    positions of the [CLS] that ``pair_labels`` belong to.
    """

    ids: np.ndarray
    mask: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    pair_labels: np.ndarray
    position_ids: np.ndarray | None = None
    sequence: np.ndarray | None = None
    starts: np.ndarray | None = None

    @property
    def masked(self) -> int:
        """How many pieces are to be found."""
        return int(np.count_nonzero(self.labels != IGNORED))


class Places(NamedTuple):
    """Where instances (n,) lie in a batch: their rows, first columns and numbers in the row from 1."""

    row: np.ndarray
    column: np.ndarray
    number: np.ndarray


class Shape(NamedTuple):
    """A batch's rows and width; ``masked`` is the most pieces hidden in a row, ``instances`` the most a row holds.

    ``fixed`` fills everything up to these; otherwise masked positions are only those there are.
    """

    rows: int
    width: int
    masked: int
    instances: int = 1
    fixed: bool = True


def assemble(
    source: np.ndarray,
    pairs: Pairs,
    places: Places | None,
    shape: Shape,
    tokenizer: Tokenizer,
    spec: PretrainSpec,
    rng: np.random.Generator,
) -> PretrainBatch:
    """Put instances ``pairs`` (n,), ranges of ``source``, into a batch and hide pieces.

    Without ``places`` instance i is row i; n may be less than the shape has room for.
    """
    special, lengths, n = tokenizer.special_ids, pairs.lengths, len(pairs.label)
    row = np.arange(n) if places is None else places.row
    a = pairs.a_end - pairs.a_start
    ends = np.cumsum(lengths)
    begins = ends - lengths
    # Two runs of source ids an instance, each a piece longer at its ends where the special tokens come.
    runs = np.stack([a + 2, lengths - a - 2], 1).reshape(-1)
    from_ = np.stack([pairs.a_start - 1 - begins, pairs.b_start - begins - a - 2], 1).reshape(-1)
    index = np.arange(len(source) and int(ends[-1])) + np.repeat(from_, runs)
    pieces = source.take(index, mode="clip").astype(np.int64)
    pieces[begins], pieces[begins + a + 1], pieces[ends - 1] = special["cls"], special["sep"], special["sep"]
    # A text may hold such ids too, in a vocabulary that has nothing else for it: they are never hidden.
    plain = (pieces != special["cls"]) & (pieces != special["sep"]) & (pieces != special["pad"])
    row_begins = row * shape.width + (0 if places is None else places.column)
    flat = np.arange(len(pieces)) + np.repeat(row_begins - begins, lengths)

    def spread(values: np.ndarray | int, empty: int = 0, kind: type = np.int64) -> np.ndarray:
        grid: np.ndarray = np.full(shape.rows * shape.width, empty, kind)
        grid[flat] = values
        return grid.reshape(shape.rows, shape.width)

    ids = spread(pieces, special["pad"])
    hidden = mask_batch(
        ids, spread(plain, 0, bool), tokenizer.starts_word, spec, special["mask"], tokenizer.vocab_size, rng,
        lengths=np.bincount(row, lengths, shape.rows).astype(np.int64),
        most=shape.masked if shape.fixed else None,
    )  # fmt: skip
    positions, labels, pair_labels = hidden.positions, hidden.labels, pairs.label
    if shape.fixed:
        positions = _filled(positions, shape.rows * shape.masked, 0)
        labels = _filled(labels, shape.rows * shape.masked, IGNORED)
        pair_labels = _filled(pair_labels, shape.rows * shape.instances, NO_LABEL)
    batch = PretrainBatch(
        hidden.ids, spread(1), spread(np.repeat(np.tile([0, 1], n), runs)), positions, labels, pair_labels
    )
    if places is None:
        return batch
    return batch._replace(
        position_ids=spread(np.arange(len(pieces)) - np.repeat(begins, lengths)),
        sequence=spread(np.repeat(places.number, lengths)),
        starts=_filled(row_begins, shape.rows * shape.instances if shape.fixed else n, 0),
    )


def _filled(values: np.ndarray, size: int, empty: int) -> np.ndarray:
    return np.concatenate([values, np.full(size - len(values), empty, np.int64)])
