"""Multi-head self-attention with its residual connection and normalisation (BERT paper 3; Vaswani et al. 2017, 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from halbert.model.dropout import Dropout, DroppedAttention, left_to_torch


class SelfAttention(nn.Module):
    """Scaled dot-product attention over the keys that the bias leaves to be seen, then dense, dropout, residual, LayerNorm."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float, hidden_dropout: float, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.hidden_dropout = Dropout(hidden_dropout)
        self.norm = nn.LayerNorm(hidden_size, eps=eps)

    def forward(
        self, x_BSH: Tensor, bias_B1SS: Tensor | None, want_probs: bool = False, columns_BQ: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """States (B, S, H) and, if wanted, attention probabilities (B, A, S, S).

        With ``columns_BQ`` only the states of these columns are computed (then Q stands for the first S). ``bias_B1SS``
        (or (B, 1, 1, S), the same for all queries of a row) is added to the score of each query and key:
        0 where the key may be seen, the type's lowest number where not.
        """
        H = x_BSH.shape[-1]
        parts = [self.query, self.key, self.value]
        asking_BQH = x_BSH
        asked: list[Tensor] = []
        if columns_BQ is not None:
            asking_BQH = columns_of(x_BSH, columns_BQ)
            asked.append(parts.pop(0)(asking_BQH))
            if bias_B1SS is not None and bias_B1SS.shape[2] > 1:
                bias_B1SS = columns_of(bias_B1SS[:, 0], columns_BQ)[:, None]
        if self.training:
            # One product for what reads the same states: they are cast to half precision once, not three times.
            weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
            asked += functional.linear(x_BSH, weight, bias).split(H, -1)
        else:  # without gradients the weights would be copied for nothing
            asked += [part(x_BSH) for part in parts]
        q_BASD, k_BASD, v_BASD = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in asked)
        dropout = self.dropout if self.training else 0.0
        probs_BASS = None
        if want_probs:
            scores_BASS = q_BASD @ k_BASD.transpose(-1, -2) / math.sqrt(H // self.num_heads)
            if bias_B1SS is not None:
                scores_BASS = scores_BASS + bias_B1SS
            probs_BASS = torch.softmax(scores_BASS, dim=-1)
            mixed_BASD = functional.dropout(probs_BASS, dropout) @ v_BASD
        elif dropout and not left_to_torch(x_BSH):
            with torch.autocast(x_BSH.device.type, enabled=False):  # it would compute the probabilities in float32
                mixed_BASD = DroppedAttention.apply(q_BASD, k_BASD, v_BASD, bias_B1SS, dropout)
        else:
            mixed_BASD = functional.scaled_dot_product_attention(
                q_BASD, k_BASD, v_BASD, attn_mask=bias_B1SS, dropout_p=dropout
            )
        mixed_BQH = mixed_BASD.transpose(1, 2).flatten(2)
        return self.norm(asking_BQH + self.hidden_dropout(self.output(mixed_BQH))), probs_BASS


def columns_of(x_BSH: Tensor, columns_BQ: Tensor) -> Tensor:
    """The states (B, Q, H) of some columns of each row."""
    return x_BSH.gather(1, columns_BQ[:, :, None].expand(-1, -1, x_BSH.shape[-1]))
