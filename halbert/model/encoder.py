"""The one encoder: BERT, ALBERT and every point between them, as the spec says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
        hidden_states: bool = False,
        attentions: bool = False,
    ) -> EncoderOutput:
        """Encode piece ids (B, S); ``mask_BS`` is 1 for real pieces and 0 for padding, ``segments_BS`` 0 or 1."""
        if segments_BS is None:
            segments_BS = torch.zeros_like(ids_BS)
        x_BSH = self.embeddings(ids_BS, segments_BS)
        if self.projection is not None:
            x_BSH = self.projection(x_BSH)
        bias_B11S = None
        if mask_BS is not None:
            # The lowest finite number, not -inf: a row of nothing but padding must not become NaN.
            low = torch.finfo(x_BSH.dtype).min
            bias_B11S = ((mask_BS == 0).to(x_BSH.dtype) * low)[:, None, None, :]
        states, probabilities = [x_BSH], []
        for layer in range(self.spec.num_hidden_layers):
            attention = self.attention[self.spec.group_of("attention", layer)]
            ffn = self.ffn[self.spec.group_of("ffn", layer)]
            for inner in range(self.spec.inner_group_num):
                x_BSH, probs_BASS = attention[inner](x_BSH, bias_B11S, attentions)
                x_BSH = ffn[inner](x_BSH)
                states.append(x_BSH)
                probabilities.append(probs_BASS)
        pooled_BH = None if self.pooler is None else torch.tanh(self.pooler(x_BSH[:, 0]))
        return EncoderOutput(
            last_BSH=x_BSH,
            pooled_BH=pooled_BH,
            hidden_states=states if hidden_states else None,
            attentions=probabilities if attentions else None,
        )


def initialize(module: nn.Module, std: float, generator: torch.Generator) -> None:
    """Truncated normal (within 2 standard deviations) for matrices, 0 for biases, 1 for LayerNorm scales.

    Source: google-research/bert ``modeling.py``, ``create_initializer``.
    """
    for name, parameter in module.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.ones_(parameter)
        elif parameter.ndim >= 2:
            nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std, generator=generator)
        else:
            nn.init.zeros_(parameter)
