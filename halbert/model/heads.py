"""Heads: one per kind of answer, and the model that puts them on an encoder."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor, nn

from halbert.errors import SpecError
from halbert.heads import HEADS as HEADS
from halbert.heads import HeadSpec as HeadSpec
from halbert.model.dropout import Dropout
from halbert.model.encoder import Encoder, initialize
from halbert.model.foreign import ForeignEncoder
from halbert.model.layer import ACTIVATIONS
from halbert.model.outputs import EncoderOutput
from halbert.spec import EncoderSpec, ForeignSpec


class MaskedHead(nn.Module):
    """Logits over the vocabulary: dense H to E, activation, LayerNorm, the piece embeddings transposed, bias.

    Source: google-research/bert ``run_pretraining.py`` and google-research/albert, ``get_masked_lm_output``.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.hidden_size, spec.embedding_size)
        self.activation = ACTIVATIONS[spec.hidden_act]
        self.norm = nn.LayerNorm(spec.embedding_size, eps=spec.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(spec.vocab_size))

    def forward(self, states_H: Tensor, piece_VE: Tensor) -> Tensor:
        """States (..., H) to logits (..., V), tied to the piece table."""
        return nn.functional.linear(self.norm(self.activation(self.dense(states_H))), piece_VE, self.bias)


class LinearHead(nn.Module):
    """Dropout and one dense layer: classes, scores, choices, tags, spans and sentence pairs differ in its width."""

    def __init__(self, hidden_size: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.dense = nn.Linear(hidden_size, width)

    def forward(self, states_H: Tensor) -> Tensor:
        """States (..., H) to logits (..., width)."""
        return self.dense(self.dropout(states_H))


class Model(nn.Module):
    """An encoder and its heads.

    Raises :class:`SpecError` when a head needs the pooler and the encoder has none.
    """

    def __init__(self, spec: EncoderSpec, heads: dict[str, HeadSpec] | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.head_specs = dict(heads or {})
        self.encoder: Encoder | ForeignEncoder = (
            ForeignEncoder(spec) if isinstance(spec, ForeignSpec) else Encoder(spec)
        )
        self.heads = nn.ModuleDict()
        for name, head in self.head_specs.items():
            if head.row.states == "pooled" and spec.pooler == "none":
                raise SpecError(f"head {name!r} ({head.kind}) reads the pooled state, but this encoder has no pooler")
            if head.kind == "mlm":
                self.heads[name] = MaskedHead(spec)
            else:
                # Google puts no dropout before the pair head; transformers follows.
                dropout = spec.classifier_dropout_prob if head.row.dropout else 0.0
                self.heads[name] = LinearHead(spec.hidden_size, head.width, dropout)

    def initialize(self, seed: int, but: Container[str] = ()) -> Model:
        """Fresh parameters, the same for the same seed on every machine; those named in ``but`` stay as they are."""
        initialize(self, self.spec.initializer_range, torch.Generator().manual_seed(seed), but)
        return self

    def allocate(self) -> Model:
        """Room on the CPU, without values, for every parameter that was built on the meta device."""
        for module in self.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and parameter.is_meta:
                    module._parameters[name] = nn.Parameter(torch.empty_like(parameter, device="cpu"))
        return self

    @property
    def checkpoint_activations(self) -> bool:
        """Whether the backward pass computes every block again instead of keeping what is inside it."""
        return self.encoder.checkpoint_activations

    @checkpoint_activations.setter
    def checkpoint_activations(self, wanted: bool) -> None:
        self.encoder.checkpoint_activations = wanted

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
        """The encoder's output, also of packed rows or of some columns (see :meth:`Encoder.forward`); see :meth:`answer` for a head's."""
        return self.encoder(
            ids_BS, mask_BS, segments_BS, position_ids_BS=position_ids_BS, sequence_BS=sequence_BS, starts_P=starts_P,
            columns_BQ=columns_BQ, hidden_states=hidden_states, attentions=attentions,
        )  # fmt: skip

    def answer(self, name: str, output: EncoderOutput, positions_M: Tensor | None = None) -> Tensor:
        """A head's logits: (B, C) from the pooled state ((P, C) of packed rows); (B, S, C) from all states, (B, S, V) for masked pieces.

        ``positions_M`` picks rows of the flattened (B * S) states first, so that vocabulary logits (M, V) are computed
        at masked positions only. A ``choice`` head returns (B / C, C): the candidates of one question are C
        consecutive rows.
        """
        head, module = self.head_specs[name], self.heads[name]
        if head.row.states == "pooled":
            assert output.pooled_BH is not None
            logits = module(output.pooled_BH)
            return logits.view(-1, head.choices) if head.kind == "choice" else logits
        states = output.last_BSH
        if positions_M is not None:
            states = states.reshape(-1, states.shape[-1]).index_select(0, positions_M)
        if head.kind == "mlm":
            return module(states, self.encoder.embeddings.piece.weight)
        return module(states)


def count_built(spec: EncoderSpec) -> dict[str, int]:
    """Parameters by part as the built module has them (on the meta device: nothing is allocated)."""
    with torch.device("meta"):
        model = Model(
            spec,
            {"mlm": HeadSpec(kind="mlm"), "pair": HeadSpec(kind="pair")}
            if spec.pooler == "tanh"
            else {"mlm": HeadSpec(kind="mlm")},
        )

    def size(module: nn.Module | None) -> int:
        return 0 if module is None else sum(p.numel() for p in module.parameters())

    encoder = model.encoder
    return {
        "embeddings": size(encoder.embeddings),
        "projection": size(encoder.projection),
        "attention": size(encoder.attention),
        "ffn": size(encoder.ffn),
        "pooler": size(encoder.pooler),
        "mlm_head": size(model.heads["mlm"]),
        "pair_head": size(model.heads["pair"]) if "pair" in model.heads else 0,
    }


__all__ = ["HEADS", "HeadSpec", "LinearHead", "MaskedHead", "Model", "count_built"]
