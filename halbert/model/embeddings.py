"""Pieces, positions and segments, added and normalised at width E (BERT paper Figure 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from halbert.errors import InputError
from halbert.model.dropout import Dropout


class Embeddings(nn.Module):
    """Sum of the piece, position and segment embeddings, then LayerNorm and dropout."""

    def __init__(self, vocab: int, positions: int, segments: int, width: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.piece = nn.Embedding(vocab, width)
        self.position = nn.Embedding(positions, width)
        self.segment = nn.Embedding(segments, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.dropout = Dropout(dropout)

    def forward(self, ids_BS: Tensor, segments_BS: Tensor, position_ids_BS: Tensor | None = None) -> Tensor:
        """Embedded pieces (B, S, E); positions count from 0 in each row unless given.

        Raises :class:`InputError` when the sequence is longer than the position table. Given positions are not checked
        beyond what a look-up does: it would mean waiting for the GPU.
        """
        S, positions = ids_BS.shape[1], self.position.num_embeddings
        if position_ids_BS is None and positions < S:
            raise InputError(
                f"a sequence of {S} pieces does not fit this model's {positions} positions; "
                "truncate it or cut it into windows"
            )
        if position_ids_BS is None:
            position_ids_BS = torch.arange(S, device=ids_BS.device)  # (S,), the same for all rows
        x_BSE = self.piece(ids_BS) + self.position(position_ids_BS) + self.segment(segments_BS)
        return self.dropout(self.norm(x_BSE))
