"""The one encoder: BERT, ALBERT and every point between them, as the spec says."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from halbert.model.attention import SelfAttention
from halbert.model.embeddings import Embeddings
from halbert.model.layer import FeedForward
from halbert.model.outputs import EncoderOutput
from halbert.spec import EncoderSpec


class Encoder(nn.Module):
    """Embeddings, an optional projection E to H, the stack of blocks, an optional pooler.

    ``attention[group][inner]`` and ``ffn[group][inner]`` hold each parameter set once, however many layers use it.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        # Keep only the states between blocks for the backward pass and compute the rest again: less memory, more time.
        self.checkpoint_activations = False
        H, eps, dropout = spec.hidden_size, spec.layer_norm_eps, spec.hidden_dropout_prob
        self.embeddings = Embeddings(
            spec.vocab_size, spec.max_position_embeddings, spec.type_vocab_size, spec.embedding_size, dropout, eps
        )
        self.projection = nn.Linear(spec.embedding_size, H) if spec.has_projection else None
        self.attention = nn.ModuleList(
            nn.ModuleList(
                SelfAttention(H, spec.num_attention_heads, spec.attention_probs_dropout_prob, dropout, eps)
                for _ in range(spec.inner_group_num)
            )
            for _ in range(spec.groups("attention"))
        )
        self.ffn = nn.ModuleList(
            nn.ModuleList(
                FeedForward(H, spec.intermediate_size, spec.hidden_act, dropout, eps)
                for _ in range(spec.inner_group_num)
            )
            for _ in range(spec.groups("ffn"))
        )
        self.pooler = nn.Linear(H, H) if spec.pooler == "tanh" else None

    def forward(
        self,
        ids_BS: Tensor,
        mask_BS: Tensor | None = None,
        segments_BS: Tensor | None = None,
        *,
        position_ids_BS: Tensor | None = None,
        sequence_BS: Tensor | None = None,
        starts_P: Tensor | None = None,
        columns_BQ: Tensor | None = None,
        hidden_states: bool = False,
        attentions: bool = False,
    ) -> EncoderOutput:
        """Encode piece ids (B, S); ``mask_BS`` is 1 for real pieces and 0 for padding, ``segments_BS`` 0 or 1.

        Rows may hold several sequences, packed: ``sequence_BS`` numbers them from 1 in each row (0 is padding; attention
        stays among equal numbers, and ``mask_BS`` is not read), ``position_ids_BS`` begins at 0 with each, and
        ``starts_P`` are the flat positions (of B * S) of their first pieces, whose states are pooled.

        With ``columns_BQ`` the last block computes the states of these columns only, and Q stands for S in what is
        returned and in ``starts_P``; the first column is pooled.
        """
        if segments_BS is None:
            segments_BS = torch.zeros_like(ids_BS)
        x_BSH = self.embeddings(ids_BS, segments_BS, position_ids_BS)
        if self.projection is not None:
            x_BSH = self.projection(x_BSH)
        bias_B1SS = attention_bias(mask_BS, sequence_BS, x_BSH)
        states, probabilities = [x_BSH], []
        last = self.spec.num_hidden_layers - 1, self.spec.inner_group_num - 1
        for layer in range(self.spec.num_hidden_layers):
            attention = self.attention[self.spec.group_of("attention", layer)]
            ffn = self.ffn[self.spec.group_of("ffn", layer)]
            for inner in range(self.spec.inner_group_num):
                columns = columns_BQ if (layer, inner) == last else None
                block = (attention[inner], ffn[inner], x_BSH, bias_B1SS, attentions, columns)
                if self.checkpoint_activations and torch.is_grad_enabled():
                    x_BSH, probs_BASS = checkpoint(apply_block, *block, use_reentrant=False)
                else:
                    x_BSH, probs_BASS = apply_block(*block)
                states.append(x_BSH)
                probabilities.append(probs_BASS)
        pooled_BH = None
        if self.pooler is not None:
            first_PH = x_BSH[:, 0] if starts_P is None else x_BSH.flatten(0, 1).index_select(0, starts_P)
            pooled_BH = torch.tanh(self.pooler(first_PH))
        return EncoderOutput(
            last_BSH=x_BSH,
            pooled_BH=pooled_BH,
            hidden_states=states if hidden_states else None,
            attentions=probabilities if attentions else None,
        )


def attention_bias(mask_BS: Tensor | None, sequence_BS: Tensor | None, x_BSH: Tensor) -> Tensor | None:
    """What to add to the scores so that no query sees padding or, in packed rows, another sequence; None for nothing.

    (B, 1, 1, S) from a mask; (B, 1, S, S) from sequence numbers, where padding sees padding, so that no row of scores is
    empty.
    """
    if sequence_BS is not None:
        hidden = sequence_BS[:, None, :, None] != sequence_BS[:, None, None, :]
    elif mask_BS is not None:
        hidden = (mask_BS == 0)[:, None, None, :]
    else:
        return None
    # The lowest finite number of the type that the scores have, not -inf: a row of nothing but padding must not become
    # NaN. (The lowest number of float32 is -inf in bfloat16.) In float16 half of it, which a score of -16 cannot turn
    # into -inf: exp(-32752) is 0 as well.
    kind = x_BSH.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_BSH.dtype
    return hidden.to(dtype) * (torch.finfo(dtype).min / (2 if dtype == torch.float16 else 1))


def apply_block(
    attention: nn.Module, ffn: nn.Module, x_BSH: Tensor, bias_B1SS: Tensor | None, want_probs: bool,
    columns_BQ: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """One block: states (B, S, H), or of some columns only, and, if wanted, attention probabilities (B, A, S, S)."""
    x_BSH, probs_BASS = attention(x_BSH, bias_B1SS, want_probs, columns_BQ)
    return ffn(x_BSH), probs_BASS


def initialize(module: nn.Module, std: float, generator: torch.Generator, but: Container[str] = ()) -> None:
    """Truncated normal (within 2 standard deviations) for matrices, 0 for biases, 1 for LayerNorm scales.

    Parameters whose names are in ``but`` stay as they are. Source: google-research/bert ``modeling.py``,
    ``create_initializer``.
    """
    for name, parameter in module.named_parameters():
        if name in but:
            continue
        if name.endswith("norm.weight"):
            nn.init.ones_(parameter)
        elif parameter.ndim >= 2:
            nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std, generator=generator)
        else:
            nn.init.zeros_(parameter)
