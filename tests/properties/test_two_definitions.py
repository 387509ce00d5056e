"""The torch model and the OpenVINO graph are two definitions of one spec: equal everywhere, and no field is ignored."""

from __future__ import annotations

import random
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest

from halbert.bundle import Bundle
from halbert.data.batches import Rows, pad_rows
from halbert.errors import InputError
from halbert.heads import HeadSpec
from halbert.run.backend import Backend
from halbert.run.openvino_backend import OpenVINOBackend
from halbert.run.torch_backend import TorchBackend
from halbert.spec import EncoderSpec, ModelSpec
from halbert.weights import names
from tests import tiny

COUNT = 200
HEADS = tiny.HEADS
LAST = {"mlm", "span", "tag"}
# fp32 on both sides, states of size 1 to 5 after LayerNorm, another order of summation.
TOLERANCE = 2e-4
CAREFUL = {"openvino": OpenVINOBackend, "torch": TorchBackend}


def draw(seed: int) -> EncoderSpec:
    """A random spec over every field. Small, and often one: one row, one head, one group."""
    rng = random.Random(seed)
    layers, heads = rng.randint(1, 3), rng.choice([1, 2, 3, 4])
    hidden = heads * rng.randint(1, 16 // heads)
    groups = [1, layers, rng.randint(1, layers)]
    return EncoderSpec(
        vocab_size=rng.randint(33, 60),
        embedding_size=rng.choice([hidden, rng.randint(1, 16)]),
        embedding_projection=rng.choice(["auto", "always"]),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_hidden_groups=rng.choice(groups),
        inner_group_num=rng.choice([1, 1, 2]),
        attention_groups=rng.choice([None, *groups]),
        ffn_groups=rng.choice([None, *groups]),
        num_attention_heads=heads,
        intermediate_size=rng.randint(1, 23),
        hidden_act=rng.choice(["gelu", "gelu_new", "relu"]),
        hidden_dropout_prob=rng.choice([0.0, 0.5]),
        attention_probs_dropout_prob=rng.choice([0.0, 0.5]),
        classifier_dropout_prob=rng.choice([0.0, 0.5]),
        max_position_embeddings=rng.randint(7, 19),
        type_vocab_size=rng.randint(1, 3),
        initializer_range=rng.choice([0.01, 0.02]),
        layer_norm_eps=rng.choice([1e-12, 1e-5, 0.1]),
        pooler=rng.choice(["tanh", "tanh", "none"]),
    )


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of a name: the same numbers whatever spec asks, so that a field's own effect can be told."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    mean = 1.0 if name.endswith("norm.weight") else 0.0
    return (mean + 0.3 * rng.standard_normal(shape)).astype(np.float32)


def bundle(spec: EncoderSpec) -> Bundle:
    heads: dict[str, HeadSpec] = {k: h for k, h in HEADS.items() if h.row.states == "last" or spec.pooler == "tanh"}
    entries = names.expected(spec, heads, names.layout_of(spec))
    arrays = {entry.ours: value(entry.ours, entry.shape) for entry in entries}
    words = tiny.tokenizer()
    return Bundle(ModelSpec(encoder=spec, text=words.spec), words, arrays, heads, name="drawn")


def rows_for(spec: EncoderSpec, seed: int) -> Rows:
    """Three rows (a choice head's question) of drawn lengths, padded, with drawn ids and segments everywhere."""
    rng = np.random.default_rng(seed)
    longest = int(rng.integers(1, spec.max_position_embeddings + 1))
    lengths = [longest, *rng.integers(1, longest + 1, 2)]
    encoded = [
        (rng.integers(0, spec.vocab_size, n).tolist(), rng.integers(0, spec.type_vocab_size, n).tolist())
        for n in lengths
    ]  # fmt: skip
    return pad_rows(encoded, 0, multiple=1)


def counted(name: str, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What stands at real pieces."""
    if name == "hidden_states":
        return values[:, mask]
    if name == "attentions":
        return values.transpose(1, 3, 0, 2, 4)[mask]
    return values[mask] if name == "last" or name in LAST else values


@pytest.mark.parametrize("part", range(10))
def test_200_random_specs(part):
    for seed in range(part * COUNT // 10, (part + 1) * COUNT // 10):
        spec = draw(seed)
        model, rows = bundle(spec), rows_for(spec, seed)
        graph, reference = OpenVINOBackend(model, "fp32", threads=1), TorchBackend(model, "fp32", "cpu")
        offered = graph.offers()
        assert offered == reference.offers()
        # Wanted with its probabilities, attention is spelt out in the graph; without, it is one fused operation. Each
        # spec takes one of the two ways, and compiles once.
        wanted = [name for name in offered if seed % 2 or name != "attentions"]
        expected, found = reference.forward(rows, wanted), graph.forward(rows, wanted)
        assert set(found) == set(wanted)
        for name, values in found.items():
            assert values.shape == expected[name].shape, (seed, name)
            mine, theirs = (counted(name, v, rows.mask == 1) for v in (values, expected[name]))
            gap = np.abs(mine - theirs).max()
            assert gap <= TOLERANCE, f"seed {seed}, {name}: differs by {gap:.3g}; {spec}"


def test_the_draw_covers_every_field():
    drawn = [draw(seed) for seed in range(COUNT)]
    for field in EncoderSpec.__struct_fields__:
        assert len({getattr(spec, field) for spec in drawn}) >= 2, field
    assert {spec.embedding_size < spec.hidden_size for spec in drawn} == {True, False}
    assert any(spec.embedding_size == spec.hidden_size and spec.has_projection for spec in drawn)
    assert any(1 < spec.num_hidden_groups < spec.num_hidden_layers for spec in drawn)
    assert any(spec.attention_groups not in (None, spec.ffn_groups) for spec in drawn)


BASE = EncoderSpec(
    vocab_size=41, embedding_size=12, hidden_size=12, num_hidden_layers=3, num_hidden_groups=3, num_attention_heads=2,
    intermediate_size=11, max_position_embeddings=11, type_vocab_size=2,
)  # fmt: skip
# field: the changed value (and, where the base has to differ, its other fields).
CHANGES: dict[str, Any] = {
    "vocab_size": 40,
    "embedding_size": 7,
    "embedding_projection": "always",
    "hidden_size": 10,
    "num_hidden_layers": 4,
    "num_hidden_groups": 2,
    "inner_group_num": 2,
    "attention_groups": 2,
    "ffn_groups": 2,
    "num_attention_heads": 3,
    "intermediate_size": 10,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 10,
    "type_vocab_size": 1,
    "layer_norm_eps": 0.01,
    "pooler": "none",
}
NO_EFFECT_ON_PREDICTION = {
    "hidden_dropout_prob": "dropout happens in training only",
    "attention_probs_dropout_prob": "dropout happens in training only",
    "classifier_dropout_prob": "dropout happens in training only",
    "initializer_range": "says how fresh weights are drawn; a bundle has its weights",
}


def probe() -> Rows:
    """Reaches the last piece, the last position and the last segment of the base."""
    ids = np.arange(40, 40 - 22, -1).reshape(2, 11)
    segments = np.tile(np.array([0] * 5 + [1] * 6), (2, 1))
    return Rows(ids, np.ones_like(ids), segments)


def answer(backend: Backend) -> dict[str, np.ndarray] | str:
    """All outputs, or why there are none."""
    try:
        return backend.forward(probe(), [name for name in backend.offers() if name != "choice"])  # type: ignore[attr-defined]
    except InputError as error:
        return str(error)


def same(a: dict[str, np.ndarray] | str, b: dict[str, np.ndarray] | str) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return a.keys() == b.keys() and all(
        a[name].shape == b[name].shape and float(np.abs(a[name] - b[name]).max()) < 1e-3 for name in a
    )


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return {name: answer(engine(bundle(BASE), "fp32")) for name, engine in CAREFUL.items()}


def changed(field: str, value_: Any) -> EncoderSpec:
    spec = msgspec.structs.replace(BASE, **{field: value_})
    assert getattr(spec, field) != getattr(BASE, field)
    return spec


def test_every_field_is_listed():
    assert {*CHANGES, *NO_EFFECT_ON_PREDICTION} == set(EncoderSpec.__struct_fields__)
    assert not set(CHANGES) & set(NO_EFFECT_ON_PREDICTION)


@pytest.mark.parametrize("engine", CAREFUL)
@pytest.mark.parametrize("field", CHANGES)
def test_a_field_that_changes_the_answer(base, engine, field):
    found = answer(CAREFUL[engine](bundle(changed(field, CHANGES[field])), "fp32"))
    assert isinstance(base[engine], dict)
    assert not same(base[engine], found), f"{engine} ignores {field}"
    if field in ("vocab_size", "max_position_embeddings", "type_vocab_size"):
        assert (isinstance(found, str) and "none of this model's" in found) or "does not fit" in found


@pytest.mark.parametrize("engine", CAREFUL)
@pytest.mark.parametrize("field", NO_EFFECT_ON_PREDICTION)
def test_a_field_that_must_not(base, engine, field):
    assert same(base[engine], answer(CAREFUL[engine](bundle(changed(field, 0.7)), "fp32")))


def test_both_definitions_agree_on_the_base(base):
    assert same(base["openvino"], base["torch"])
    assert all(float(np.abs(values).max()) > 0.05 for values in base["torch"].values())
