"""The contract every engine keeps. Anything that is not a forward pass lives above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np

from halbert.data.batches import Rows

Precision = Literal["auto", "fp32", "bf16"]
STATES = ("pooled", "last", "hidden_states", "attentions")


class Backend(Protocol):
    """A model that can run batches."""

    def forward(self, batch: Rows, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Run a batch and return the named outputs in float32.

        ``pooled`` (B, H), ``last`` (B, S, H), ``hidden_states`` (blocks + 1, B, S, H), ``attentions``
        (blocks, B, A, S, S), and heads by name: (B, C), (B, S, C), or (B, S, V) for masked pieces.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Engine, version, device, precision and threads, as asked from the engine, and the outputs it offers."""
        ...
