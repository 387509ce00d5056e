"""The contract every engine keeps. Anything that is not a forward pass lives above it."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from halbert.data.batches import Rows
from halbert.errors import InputError
from halbert.spec import EncoderSpec

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
STATES = ("pooled", "first", "last", "hidden_states", "attentions")


class Favoured(NamedTuple):
    """The batches an engine is fastest with: so many padded pieces, rows as wide as the next of ``widths``.

    Without ``widths`` a row is as wide as the next multiple of ``multiple``. With ``sizes`` the engine streams batches
    without their padding, all pieces in the next of these, and ``tokens`` are pieces: the padded rectangle, which attention
    alone sees, may be twice as large. Few pieces are best shared out among ``together`` batches.
    """

    tokens: int
    multiple: int = 8
    widths: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    together: int = 1

    def padded(self, lengths: np.ndarray) -> np.ndarray:
        """How wide rows of these lengths become."""
        if not self.widths:
            return -(-lengths // self.multiple) * self.multiple
        table = np.array(self.widths)
        return np.maximum(table[np.minimum(np.searchsorted(table, lengths), len(table) - 1)], lengths)

    def size(self, pieces: int) -> int:
        """Places that are computed for so many pieces of a batch."""
        found = bisect.bisect_left(self.sizes, pieces)
        return self.sizes[found] if found < len(self.sizes) else -(-pieces // self.sizes[-1]) * self.sizes[-1]


class Backend(Protocol):
    """A model that can run batches."""

    favoured: Favoured

    def forward(self, batch: Rows, outputs: Sequence[str], places: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Run a batch and return the named outputs in float32.

        ``pooled`` (B, H), ``first`` (B, H), the last state of [CLS], ``last`` (B, S, H), ``hidden_states``
        (blocks + 1, B, S, H), ``attentions`` (blocks, B, A, S, S), and heads by name: (B, C), (B, S, C), or (B, S, V) for
        masked pieces; with ``places`` (K,) in the flattened batch these are answered there alone: (K, V).
        """
        ...

    def stream(self, batches: Iterable[Rows], outputs: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """The same for many batches, in their order; only a few of them are held at a time.

        At padded places stands anything. The first place of every row has to be a piece.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Engine, version, device, precision and threads, as asked from the engine, and the outputs it offers."""
        ...


def check_batch(batch: Rows, spec: EncoderSpec) -> None:
    """Raise :class:`InputError` for a batch that leads outside the model's tables; an engine might answer it all the same."""
    length, positions = batch.ids.shape[1], spec.max_position_embeddings
    if length > positions:
        raise InputError(
            f"a sequence of {length} pieces does not fit this model's {positions} positions; "
            "truncate it or cut it into windows"
        )
    for what, values, size in (
        ("piece", batch.ids, spec.vocab_size),
        ("segment", batch.segments, spec.type_vocab_size),
    ):
        if values.size and (values.min() < 0 or values.max() >= size):
            wrong = values.min() if values.min() < 0 else values.max()
            raise InputError(
                f"{what} {wrong} is none of this model's {size:,}; was the text read by another tokenizer?"
            )
