"""The feed-forward half of a block, and the activations both families use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from halbert.model.dropout import Dropout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


class FeedForward(nn.Module):
    """Two dense layers around an activation, then dropout, residual and LayerNorm (BERT paper 3)."""

    def __init__(self, hidden_size: int, intermediate_size: int, activation: str, dropout: float, eps: float) -> None:
        super().__init__()
        self.intermediate = nn.Linear(hidden_size, intermediate_size)
        self.activation = ACTIVATIONS[activation]
        self.output = nn.Linear(intermediate_size, hidden_size)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(hidden_size, eps=eps)

    def forward(self, x_BSH: Tensor) -> Tensor:
        """States (B, S, H) to states (B, S, H)."""
        return self.norm(x_BSH + self.dropout(self.output(self.activation(self.intermediate(x_BSH)))))
