"""What a forward pass returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class EncoderOutput:
    """Last states (B, S, H), pooled first state (B, H; packed (P, H)) or None, and, where asked for, one entry per layer.

    ``hidden_states`` holds the input of the first block and the output of every block (inner blocks included), each
    (B, S, H); ``attentions`` the attention probabilities of every block, each (B, A, S, S).
    """

    last_BSH: Tensor
    pooled_BH: Tensor | None
    hidden_states: list[Tensor] | None = None
    attentions: list[Tensor] | None = None
