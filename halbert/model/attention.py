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
        self, x_BSH: Tensor, bias_B1SS: Tensor | None, want_probs: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """States (B, S, H) and, if wanted, attention probabilities (B, A, S, S).

        ``bias_B1SS`` (or (B, 1, 1, S), the same for all queries of a row) is added to the score of each query and key:
        0 where the key may be seen, the type's lowest number where not.
        """
        B, S, H = x_BSH.shape
        shape = (B, S, self.num_heads, H // self.num_heads)
        q_BASD = self.query(x_BSH).view(shape).transpose(1, 2)
        k_BASD = self.key(x_BSH).view(shape).transpose(1, 2)
        v_BASD = self.value(x_BSH).view(shape).transpose(1, 2)
        dropout = self.dropout if self.training else 0.0
        probs_BASS = None
        if want_probs:
            scores_BASS = q_BASD @ k_BASD.transpose(-1, -2) / math.sqrt(shape[-1])
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
        mixed_BSH = mixed_BASD.transpose(1, 2).reshape(B, S, H)
        return self.norm(x_BSH + self.hidden_dropout(self.output(mixed_BSH))), probs_BASS
