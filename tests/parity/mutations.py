"""ONE list of deliberate mistakes in the torch model. Each must be seen by at least one parity check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from halbert.model import layer
from halbert.model.attention import SelfAttention
from halbert.model.embeddings import Embeddings
from halbert.model.encoder import Encoder
from halbert.model.heads import MaskedHead
from halbert.model.layer import FeedForward
from halbert.spec import EncoderSpec

Patch = pytest.MonkeyPatch


def _after_init(patch: Patch, cls: type, change: Callable[[Any], None]) -> None:
    original = cls.__init__

    def init(self: Any, *args: Any, **named: Any) -> None:
        original(self, *args, **named)
        change(self)

    patch.setattr(cls, "__init__", init)


def _around(patch: Patch, cls: type, change: Callable[..., Any]) -> None:
    """Replace ``forward`` by ``change(original, self, ...)``."""
    original = cls.forward

    def forward(self: Any, *args: Any, **named: Any) -> Any:
        return change(original, self, *args, **named)

    patch.setattr(cls, "forward", forward)


def gelu_form(patch: Patch) -> None:
    erf, tanh = layer.ACTIVATIONS["gelu"], layer.ACTIVATIONS["gelu_new"]
    patch.setitem(layer.ACTIVATIONS, "gelu", tanh)
    patch.setitem(layer.ACTIVATIONS, "gelu_new", erf)


def norm_epsilon(patch: Patch) -> None:
    """The specification's value ignored, torch's default used."""

    def change(module: Any) -> None:
        module.norm.eps = 1e-5

    for cls in (Embeddings, SelfAttention, FeedForward, MaskedHead):
        _after_init(patch, cls, change)


def segment_dropped(patch: Patch) -> None:
    _around(
        patch, Embeddings, lambda run, self, ids, segments, *rest: run(self, ids, torch.zeros_like(segments), *rest)
    )


def query_key_swapped(patch: Patch) -> None:
    def change(run: Any, self: SelfAttention, *args: Any) -> Any:
        self.query, self.key = self.key, self.query
        try:
            return run(self, *args)
        finally:
            self.query, self.key = self.key, self.query

    _around(patch, SelfAttention, change)


def mask_on_queries(patch: Patch) -> None:
    def change(run: Any, self: SelfAttention, x: Tensor, bias: Tensor | None, *others: Any) -> Any:
        return run(self, x, None if bias is None else bias.transpose(-1, -2), *others)

    _around(patch, SelfAttention, change)


def mask_inverted(patch: Patch) -> None:
    def change(run: Any, self: Encoder, ids: Tensor, mask: Any = None, segments: Any = None, **named: Any) -> Any:
        return run(self, ids, None if mask is None else 1 - mask, segments, **named)

    _around(patch, Encoder, change)


def group_formula(patch: Patch) -> None:
    patch.setattr(EncoderSpec, "group_of", lambda self, part, index: index % self.groups(part))


def heads_doubled(patch: Patch) -> None:
    def change(module: SelfAttention) -> None:
        module.num_heads *= 2

    _after_init(patch, SelfAttention, change)


def position_plus_one(patch: Patch) -> None:
    def change(run: Any, self: Embeddings, ids: Tensor, segments: Tensor, given: Tensor | None = None) -> Tensor:
        positions = (torch.arange(ids.shape[1]) if given is None else given) + 1
        return self.norm(self.piece(ids) + self.position(positions) + self.segment(segments))

    _around(patch, Embeddings, change)


def decoder_bias_dropped(patch: Patch) -> None:
    _around(patch, MaskedHead, lambda run, self, states, piece: run(self, states, piece) - self.bias)


def masked_head_linear(patch: Patch) -> None:
    """The activation between the head's dense layer and its LayerNorm forgotten."""
    _after_init(patch, MaskedHead, lambda head: setattr(head, "activation", lambda x: x))


def projection_bias_skipped(patch: Patch) -> None:
    def change(run: Any, self: Encoder, *args: Any, **named: Any) -> Any:
        if self.projection is not None:
            self.projection.bias.zero_()
        return run(self, *args, **named)

    _around(patch, Encoder, change)


def pooler_reads_last(patch: Patch) -> None:
    def change(run: Any, self: Encoder, *args: Any, **named: Any) -> Any:
        output = run(self, *args, **named)
        if self.pooler is not None:
            output.pooled_BH = torch.tanh(self.pooler(output.last_BSH[:, -1]))
        return output

    _around(patch, Encoder, change)


def pooler_linear(patch: Patch) -> None:
    def change(run: Any, self: Encoder, *args: Any, **named: Any) -> Any:
        output = run(self, *args, **named)
        if self.pooler is not None:
            output.pooled_BH = self.pooler(output.last_BSH[:, 0])
        return output

    _around(patch, Encoder, change)


def residual_dropped(patch: Patch) -> None:
    def change(run: Any, self: FeedForward, x: Tensor) -> Tensor:
        return self.norm(self.output(self.activation(self.intermediate(x))))

    _around(patch, FeedForward, change)


def inner_blocks_reversed(patch: Patch) -> None:
    def change(run: Any, self: Encoder, *args: Any, **named: Any) -> Any:
        for blocks in (*self.attention, *self.ffn):
            blocks._modules = dict(zip(blocks._modules, reversed(list(blocks._modules.values())), strict=True))
        return run(self, *args, **named)

    _around(patch, Encoder, change)


def scores_unscaled(patch: Patch) -> None:
    """Scores divided by the root of the hidden width instead of the head's."""

    def change(run: Any, self: SelfAttention, x: Tensor, *args: Any) -> Any:
        factor = self.num_heads**-0.25
        weights = (self.query.weight, self.query.bias, self.key.weight, self.key.bias)
        for tensor in weights:
            tensor.mul_(factor)
        try:
            return run(self, x, *args)
        finally:
            for tensor in weights:
                tensor.div_(factor)

    _around(patch, SelfAttention, change)


def span_columns_swapped(patch: Patch) -> None:
    from halbert.model.heads import LinearHead

    def change(run: Any, self: LinearHead, states: Tensor) -> Tensor:
        return functional.linear(states, self.dense.weight.flip(0), self.dense.bias.flip(0))

    _around(patch, LinearHead, change)


MUTATIONS: dict[str, Callable[[Patch], None]] = {
    "GELU form swapped": gelu_form,
    "LayerNorm epsilon changed": norm_epsilon,
    "segment dropped": segment_dropped,
    "query and key swapped": query_key_swapped,
    "mask on the query side": mask_on_queries,
    "mask inverted": mask_inverted,
    "group formula changed": group_formula,
    "heads doubled": heads_doubled,
    "position + 1": position_plus_one,
    "decoder bias dropped": decoder_bias_dropped,
    "masked head without activation": masked_head_linear,
    "projection bias skipped": projection_bias_skipped,
    "pooler reads the last piece": pooler_reads_last,
    "pooler without tanh": pooler_linear,
    "residual dropped": residual_dropped,
    "inner blocks reversed": inner_blocks_reversed,
    "scores scaled by the hidden width": scores_unscaled,
    "columns of a linear head reversed": span_columns_swapped,
}
