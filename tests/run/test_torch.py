"""What only the torch engine has: compiled graphs of few shapes, nothing computed for padding, 16 bits."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from halbert.data.batches import Rows, pad_rows
from halbert.errors import InputError
from halbert.run.backend import Favoured
from halbert.run.predictor import load, open_backend
from tests import tiny

torch = pytest.importorskip("torch")
from halbert.model.encoder import attention_bias  # noqa: E402
from halbert.run import torch_backend  # noqa: E402
from halbert.run.torch_backend import TorchBackend  # noqa: E402

# Torch's own compiler defines a script method when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
HEADS = {name: tiny.HEADS[name] for name in ("label", "tag", "choice")}


@functools.cache
def bundle():
    return tiny.bundle(tiny.encoder(num_hidden_layers=2), HEADS)


def batch(*lengths: int, seed: int = 1) -> Rows:
    rng = np.random.default_rng(seed)
    return pad_rows([(rng.integers(5, 101, n).tolist(), [0] * n) for n in lengths], 0, multiple=1)


def test_compiled_answers_are_the_same():
    """One batch cut in two, and one text: both kinds of graph, each filled up, compute what the model itself does."""
    small = tiny.bundle(tiny.encoder(num_hidden_layers=1), HEADS)
    plain = TorchBackend(small, "fp32", "cpu")
    compiled = TorchBackend(small, "fp32", "cpu", compile=True)
    compiled.favoured = compiled.favoured._replace(tokens=16 * 4)
    for rows in (batch(13, 9, 11, 16, 2, 5), batch(14)):
        expected, found = (engine.forward(rows, ["last", "label", "tag"]) for engine in (plain, compiled))
        mask = rows.mask.astype(bool)
        for name, values in found.items():
            assert values.shape == expected[name].shape
            gap = values - expected[name]
            assert np.abs(gap if name == "label" else gap[mask]).max() <= 1e-5
    assert set(compiled._compiled) == {(("last", "label", "tag"), single) for single in (True, False)}


def test_few_shapes_hold_every_row():
    engine = TorchBackend(bundle(), "fp32", "cpu", compile=True)
    assert engine.favoured.widths == (8, 16, 24, 32, 37)  # as wide as the positions go
    shapes = set()
    for n in range(1, 38):
        for count in (1, 3, 16, 200):
            rows = batch(*[n] * count, seed=n)
            parts = list(engine._parts(rows))
            ids = np.concatenate([part.ids[:real, :n] for real, part in parts])
            np.testing.assert_array_equal(ids, rows.ids)
            assert all(part.mask.any(1).all() for _, part in parts)  # no row without a piece to look at
            assert sum(part.mask[:real].sum() for real, part in parts) == rows.mask.sum()
            shapes |= {part.ids.shape for _, part in parts}
    widths = engine.favoured.widths
    # Of 200 rows all are in full batches but those of the last.
    last = {(min(1024 // w, 4**k), w) for w in widths for k in range(5) if 4 ** (k - 1) < 200 % (1024 // w) <= 4**k}
    assert shapes == {(rows, w) for w in widths for rows in (1, 4, 16, 1024 // w)} | last


def test_what_has_no_graph_is_computed_all_the_same(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    engine = TorchBackend(bundle(), "fp32", "cpu", compile=True)
    rows = batch(13, 9, 11)
    expected = TorchBackend(bundle(), "fp32", "cpu").forward(rows, ["hidden_states", "attentions", "choice"])
    for name, values in engine.forward(rows, list(expected)).items():
        np.testing.assert_array_equal(values, expected[name])


def test_without_a_compiler(monkeypatch):
    from torch._inductor.exc import InvalidCxxCompiler

    def compile(*_, **__):
        def fails(*_):
            raise InvalidCxxCompiler

        return fails

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(InputError, match=r"could not compile the model \(.+\); it needs a C\+\+ compiler on CPUs"):
        load(bundle(), "label", compile=True).predict(["the cat"])


def test_attention_is_fused_unless_it_is_asked_for(monkeypatch):
    fused = torch.nn.functional.scaled_dot_product_attention
    seen: list[bool] = []
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *given, attn_mask, **how: seen.append(attn_mask is None) or fused(*given, attn_mask=attn_mask, **how),
    )
    engine = TorchBackend(bundle(), "fp32", "cpu")
    engine.forward(batch(5, 5), ["last"])
    engine.forward(batch(5, 4), ["last"])
    assert seen == [True, True, False, False]  # two layers; rows that are full need no mask
    engine.forward(batch(5, 4), ["attentions"])
    assert len(seen) == 4


def test_many_texts_of_one_length_get_no_padding():
    """Sorted by length, most batches are rectangles by themselves."""
    predictor = load(bundle(), "label", backend="torch", precision="fp32", device="cpu")
    computed: list[int] = []
    original = predictor.backend.model.forward
    predictor.backend.model.forward = lambda ids, *rest, **how: (
        computed.append(ids.numel()) or original(ids, *rest, **how)
    )
    texts = [f"{'cat ' * (1 + i % 9)}{['the', 'a', 'on'][i % 3]}{' 1' * (i // 27)}" for i in range(270)]
    pieces = sum(len(ids) for ids, _ in predictor.prepare(texts).rows)
    predictor.predict(texts, batch_tokens=64)
    assert pieces <= sum(computed) <= 1.01 * pieces + 64


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_matrices_are_rounded_once(precision, monkeypatch):
    """The same bits as from matrices that autocast rounds for every batch."""
    monkeypatch.setattr(torch_backend, "choose_precision", lambda asked, device: asked)
    once = TorchBackend(bundle(), precision, "cpu")
    assert once.model.encoder.attention[0][0].query.weight.dtype == torch_backend.HALF[precision]
    assert once.model.encoder.embeddings.norm.weight.dtype == torch.float32
    monkeypatch.setattr(torch_backend, "halve", lambda model, dtype: None)
    always = TorchBackend(bundle(), precision, "cpu")
    for name in ("last", "label", "tag"):
        values = [engine.forward(batch(13, 9), [name])[name] for engine in (once, always)]
        np.testing.assert_array_equal(*values)


def test_a_row_of_padding_stays_a_number_in_float16():
    """Scores of -40 beside the lowest float16 would be -inf for every key."""
    mask = torch.tensor([[0, 0, 0]])
    bias = attention_bias(mask, None, torch.zeros(1, 3, 2, dtype=torch.float16))
    scores = torch.full((1, 1, 3, 3), -40.0, dtype=torch.float16)
    assert torch.isfinite(torch.softmax(scores + bias, -1)).all()
    assert not torch.isfinite(torch.softmax(scores + 2 * bias, -1)).all()  # the twin
    seen = torch.softmax(scores + attention_bias(torch.tensor([[1, 1, 0]]), None, bias), -1)
    assert (seen[..., 2] == 0).all()


@pytest.mark.parametrize("backend", ["auto", "torch", "openvino"])
def test_float16_is_for_gpus(backend):
    with pytest.raises(InputError, match="precision fp16 is for GPUs; on a CPU use bf16"):
        open_backend(bundle(), backend, "fp16", "cpu")


def test_compiling_is_for_torch():
    assert open_backend(bundle(), device="cpu", compile=True).describe()["engine"] == "torch"
    with pytest.raises(InputError, match="--compile is for --backend torch"):
        open_backend(bundle(), "openvino", compile=True)


class Gpu:
    """What torch says of a GPU that has bfloat16, or has not."""

    def __init__(self, capable: bool) -> None:
        self.capable = capable

    def is_bf16_supported(self, including_emulation: bool) -> bool:
        assert not including_emulation
        return self.capable


def test_precisions_of_a_gpu(monkeypatch):
    device = torch.device("cuda")
    for capable, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch, "cuda", Gpu(capable))
        assert torch_backend.choose_precision("auto", device) == expected
        assert torch_backend.choose_precision("fp16", device) == "fp16"
    with pytest.raises(InputError, match="this GPU cannot multiply bfloat16; use --precision fp16"):
        torch_backend.choose_precision("bf16", device)


def test_widths():
    plain, few = Favoured(64, 1), Favoured(64, 1, (8, 16, 37))
    lengths = np.array([1, 8, 9, 16, 17, 37])
    assert plain.padded(lengths).tolist() == lengths.tolist()
    assert Favoured(64).padded(lengths).tolist() == [8, 8, 16, 16, 24, 40]
    assert few.padded(lengths).tolist() == [8, 8, 16, 16, 37, 37]
    assert few.padded(np.array([38])).tolist() == [38]  # refused elsewhere, by its length
