"""Named comparisons of Halbert's torch model with transformers' on the same random weights.

A check is a plain function that raises when the two differ; ``test_parity`` runs each once, ``test_mutations`` runs
each once per deliberate mistake. What transformers computes is computed once and kept.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from halbert.model import EncoderOutput, Model
from halbert.source import load_bundle
from tests import tiny

# fp32 on both sides, numbers of size 1 to 10, another order of summation: the differences seen are below 2e-6.
TOLERANCE = 1e-5
ROWS, LENGTH = 6, 13

ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {},
    "bert tanh": {"hidden_act": "gelu_new", "num_hidden_layers": 2},
    "albert": tiny.ALBERT,
    "albert groups": {
        **tiny.ALBERT, "num_hidden_layers": 5, "num_hidden_groups": 2, "hidden_act": "relu", "layer_norm_eps": 1e-3,
    },
    "albert inner": {**tiny.ALBERT, "num_hidden_groups": 2, "inner_group_num": 2, "hidden_act": "gelu"},
    "bert shared": {"num_hidden_groups": 1},
    "partly shared": {"num_hidden_layers": 4, "attention_groups": 1, "ffn_groups": 2},
    "square projection": {"num_hidden_groups": 1, "embedding_projection": "always"},
}  # fmt: skip

# transformers' class: our heads, and where its output holds each head's logits.
HEADS: dict[str, dict[str, str]] = {
    "ForPreTraining": {"mlm": "prediction_logits", "pair": "pair"},
    "ForMaskedLM": {"mlm": "logits"},
    "ForSequenceClassification": {"label": "logits"},
    "ForSequenceClassification score": {"score": "logits"},
    "ForTokenClassification": {"tag": "logits"},
    "ForQuestionAnswering": {"span": "logits"},
    "ForMultipleChoice": {"choice": "logits"},
    "ForNextSentencePrediction": {"pair": "logits"},
}


class Inputs(NamedTuple):
    ids: torch.Tensor
    mask: torch.Tensor
    segments: torch.Tensor


@functools.cache
def inputs(ragged: bool = True) -> Inputs:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 101, (ROWS, LENGTH), generator=draw)
    lengths = torch.tensor([13, 2, 7, 11, 1, 5]) if ragged else torch.full((ROWS,), LENGTH)
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()
    segments = (torch.arange(LENGTH) >= lengths[:, None] // 2).long() * mask
    return Inputs(ids, mask, segments)


@functools.cache
def folder(encoder: str, heads: tuple[str, ...] = ()) -> Path:
    """A saved bundle; without a pooler where transformers' class has none."""
    chosen = {name: tiny.HEADS[name] for name in heads}
    pooled = not chosen or any(head.row.states == "pooled" for head in chosen.values())
    spec = tiny.encoder(**ENCODERS[encoder], pooler="tanh" if pooled else "none")
    place = _temporary() / f"{encoder}-{'-'.join(heads)}".replace(" ", "-")
    return tiny.bundle(spec, chosen).save(place)


@functools.cache
def _temporary() -> Path:
    place = tempfile.mkdtemp(prefix="halbert-parity-")
    atexit.register(shutil.rmtree, place)
    return Path(place)


@functools.cache
def reference(encoder: str, suffix: str = "Model", ragged: bool = True) -> Any:
    """transformers' output for a saved bundle, loaded with nothing missing and nothing left over."""
    place = folder(encoder, tuple(HEADS.get(suffix, {})))
    cls = getattr(transformers, ("Albert" if "albert" in _model_type(place) else "Bert") + suffix.partition(" ")[0])
    model, told = cls.from_pretrained(place, attn_implementation="eager", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"], told
    ids, mask, segments = inputs(ragged)
    if suffix == "ForMultipleChoice":
        ids, mask, segments = (x.view(-1, tiny.HEADS["choice"].choices, LENGTH) for x in (ids, mask, segments))
    with torch.inference_mode():
        return model.eval()(
            input_ids=ids, attention_mask=mask, token_type_ids=segments, output_hidden_states=True,
            output_attentions=True,
        )  # fmt: skip


def _model_type(place: Path) -> str:
    return transformers.AutoConfig.from_pretrained(place).model_type


def ours(encoder: str, heads: tuple[str, ...] = ()) -> Model:
    """Halbert's model, from the files."""
    bundle = load_bundle(folder(encoder, heads))
    model = Model(bundle.spec.encoder, bundle.heads)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in bundle.arrays.items()})
    return model.eval()


@torch.inference_mode()
def run(model: Model, given: Inputs, **wanted: bool) -> EncoderOutput:
    return model(given.ids, given.mask, given.segments, **wanted)


def same(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    assert found.shape == expected.shape, f"{what}: {tuple(found.shape)} instead of {tuple(expected.shape)}"
    gap = (found - expected).abs().max().item()
    assert gap <= TOLERANCE, f"{what}: differs by {gap:.3g}"


def check_states(encoder: str) -> None:
    """Every hidden state, the input of the first block included."""
    output, expected = run(ours(encoder), inputs(), hidden_states=True), reference(encoder)
    assert len(output.hidden_states) == len(expected.hidden_states)
    for i, (mine, theirs) in enumerate(zip(output.hidden_states, expected.hidden_states, strict=True)):
        same(mine, theirs, f"hidden state {i}")


def check_attentions(encoder: str) -> None:
    output, expected = run(ours(encoder), inputs(), attentions=True), reference(encoder)
    assert len(output.attentions) == len(expected.attentions)
    for i, (mine, theirs) in enumerate(zip(output.attentions, expected.attentions, strict=True)):
        same(mine, theirs, f"attention {i}")
    same(output.last_BSH, expected.last_hidden_state, "last state, attentions wanted")


def check_pooled(encoder: str) -> None:
    output, expected = run(ours(encoder), inputs()), reference(encoder)
    same(output.last_BSH, expected.last_hidden_state, "last state")
    same(output.pooled_BH, expected.pooler_output, "pooled state")


def check_unpadded(encoder: str) -> None:
    """Full rows, with a mask of ones and without any mask or segments."""
    model, given, expected = ours(encoder), inputs(ragged=False), reference(encoder, ragged=False)
    same(run(model, given).last_BSH, expected.last_hidden_state, "last state")
    with torch.inference_mode():
        bare = model(given.ids, None, given.segments)
        plain = model(given.ids)
        zeros = model(given.ids, given.mask, torch.zeros_like(given.segments))
    same(bare.last_BSH, expected.last_hidden_state, "last state without a mask")
    same(plain.last_BSH, zeros.last_BSH, "last state without segments")


def check_padding(encoder: str) -> None:
    """What stands in padded places, and how many there are, changes no answer."""
    model, (ids, mask, segments) = ours(encoder), inputs()
    answer = run(model, inputs())
    real = mask.bool()
    other = run(model, Inputs(torch.where(real, ids, 101 - ids), mask, torch.where(real, segments, 1 - segments)))
    same(other.last_BSH[real], answer.last_BSH[real], "real positions, other padding")
    same(other.pooled_BH, answer.pooled_BH, "pooled state, other padding")
    longer = run(model, Inputs(*(torch.nn.functional.pad(x, (0, 4)) for x in (ids, mask, segments))))
    same(longer.last_BSH[:, :LENGTH][real], answer.last_BSH[real], "real positions, more padding")
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = run(model, Inputs(*(x[row : row + 1, :length] for x in (ids, mask, segments))))
        same(alone.last_BSH[0], answer.last_BSH[row, :length], f"row {row} alone")


def check_head(encoder: str, suffix: str) -> None:
    expected = reference(encoder, suffix)
    model = ours(encoder, tuple(HEADS[suffix]))
    output = run(model, inputs())
    for name, field in HEADS[suffix].items():
        with torch.inference_mode():
            logits = model.answer(name, output)
        if suffix == "ForQuestionAnswering":
            theirs = torch.stack([expected.start_logits, expected.end_logits], dim=-1)
        elif field == "pair":
            theirs = expected.sop_logits if "sop_logits" in expected else expected.seq_relationship_logits
        else:
            theirs = expected[field]
        same(logits, theirs, name)
        if tiny.HEADS[name].row.states == "last":
            picked = torch.tensor([3, 0, 2 * LENGTH + 5])
            with torch.inference_mode():
                some = model.answer(name, output, picked)
            same(some, theirs.flatten(0, 1)[picked], f"{name} at some positions")


CHECKS: dict[str, Callable[[], None]] = {}
for _encoder in ENCODERS:
    for _name, _check in (
        ("states", check_states), ("attentions", check_attentions), ("pooled", check_pooled),
        ("unpadded", check_unpadded), ("padding", check_padding),
    ):  # fmt: skip
        CHECKS[f"{_encoder}: {_name}"] = functools.partial(_check, _encoder)
for _suffix in HEADS:
    for _encoder in ("bert", "albert") if _suffix != "ForNextSentencePrediction" else ("bert",):
        CHECKS[f"{_encoder}: {_suffix}"] = functools.partial(check_head, _encoder, _suffix)
