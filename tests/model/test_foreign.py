"""Encoders of other architectures: what transformers computes, through our own contracts."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import halbert
from halbert.data.readers import Example
from halbert.errors import InputError, MissingExtra, SpecError, WeightsError
from halbert.model.foreign import configuration
from halbert.source import load_bundle
from halbert.spec import EncoderSpec, difference
from halbert.tasks.table import get_task
from halbert.train.finetuning import finetune, finetune_once
from halbert.train.recipe import FinetuneRecipe
from tests.foreign import OWN, TEXTS, write

pytest.importorskip("transformers")
LONG = ["the cat", "a wonderful film, naïve 🙂 " * 3, "what a dog ran in the park with joy and the cat sat on the mat"]


@pytest.fixture(scope="module", params=OWN)
def folder(request, tmp_path_factory):
    return write(request.param, tmp_path_factory.mktemp("foreign") / request.param)


def theirs(folder):
    from transformers import AutoModel, AutoTokenizer

    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_ids_are_the_librarys(folder):
    ours, other = load_bundle(folder).tokenizer, theirs(folder)[1]
    for pairs in (None, LONG[::-1]):
        told = other(LONG, pairs)
        found = ours.encode_batch(LONG, pairs)
        assert [ids for ids, _ in found] == told["input_ids"]
        if "token_type_ids" in told:
            assert [segments for _, segments in found] == told["token_type_ids"]
        for i, text in enumerate(LONG):
            one = ours.encode(text, None if pairs is None else pairs[i])
            assert one.ids == told["input_ids"][i]
            assert len(one.ids) == len(one.spans) == len(one.words) == len(one.segments)
    most = 12 + ours.frame.room(0, True) % 2  # of an odd number of pieces the library gives the second text one more
    cut = other(LONG, LONG[::-1], max_length=most, truncation="longest_first")["input_ids"]
    assert [ids for ids, _ in ours.encode_batch(LONG, LONG[::-1], max_length=most)] == cut
    assert ours.windows(LONG[2], max_length=9, stride=2)[0].ids[:1] == [0]


def test_vectors_and_layers_are_transformers(folder):
    model, tokenizer = theirs(folder)
    predictor = halbert.load(str(folder))
    told = tokenizer(LONG, return_tensors="pt", padding=True)
    with torch.inference_mode():
        found = model(**told).last_hidden_state
    weights = told["attention_mask"][:, :, None].float()
    expected = ((found * weights).sum(1) / weights.sum(1)).numpy()
    assert np.allclose(predictor.embed(LONG, pooling="mean"), expected, atol=2e-5)
    table = predictor.backend.model.encoder.model.get_input_embeddings().weight.data
    table.copy_(table.flip(1))  # the twin that must fail
    assert not np.allclose(predictor.embed(LONG, pooling="mean"), expected, atol=1e-3)
    states = predictor.backend.forward(
        halbert.run.predictor.Rows(*(np.ones((1, 7), np.int64) for _ in range(2)), np.zeros((1, 7), np.int64)),
        ["hidden_states", "attentions", "first"],
    )  # fmt: skip
    assert states["hidden_states"].shape == (4, 1, 7, 24) and states["attentions"].shape == (3, 1, 3, 7, 7)
    assert np.allclose(states["attentions"].sum(-1), 1, atol=1e-5)


def test_it_is_counted(folder):
    bundle = load_bundle(folder)
    spec, (model, _) = bundle.spec.encoder, theirs(folder)
    own = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("pooler."))
    assert spec.count_encoder() == own == sum(array.size for array in bundle.arrays.values())
    for length in (5, 64):
        model.pooler = None
        model.set_attn_implementation("eager")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.full((1, length), 5), attention_mask=torch.ones(1, length, dtype=torch.long))
        assert spec.count_flops(length) == pytest.approx(counter.get_total_flops(), rel=1e-6)
        if folder.name in ("roberta", "megatron-bert"):  # the layers of a BERT, which are counted by formula
            shape = {f: getattr(spec, f) for f in EncoderSpec.__struct_fields__}
            assert spec.count_flops(length) == EncoderSpec(**shape).count_flops(length)
    assert spec.max_position_embeddings == 64  # as its tokenizer says
    assert (
        not {"config", "parts", "work"} & bundle.spec.flat().keys() and bundle.spec.flat()["model_type"] == folder.name
    )
    assert difference(bundle.spec, bundle.spec) == []
    with pytest.raises(SpecError, match="length is 0"):
        spec.count_flops(0)


def test_the_positions_behind_the_padding_are_counted(tmp_path):
    place = write("roberta", tmp_path / "m")
    file = place / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 10**30}))
    assert (
        load_bundle(place).spec.encoder.max_position_embeddings == 128
    )  # of 130 rows two stand before the first piece
    assert np.isfinite(halbert.load(str(place)).embed(["film " * 200])).all()


def test_it_learns(folder):
    rows = [Example(text=t, label="bad" if "terrible" in t else "good") for t in TEXTS if "film" in t]
    bundle = load_bundle(folder)
    recipe = FinetuneRecipe(epochs=40, batch_size=10, learning_rate=2e-3, length=16, on_divergence="ignore")
    run = finetune_once(bundle, get_task("classify"), rows, rows, recipe)
    assert run.scores["accuracy"].value == 1.0
    assert [a["label"] for a in halbert.load(run.bundle).predict(["what a terrible film", "what a wonderful film"])] == [
        "bad", "good",
    ]  # fmt: skip
    changed = [
        n for n, a in run.bundle.arrays.items() if n in bundle.arrays and not np.array_equal(a, bundle.arrays[n])
    ]
    assert len(changed) > 10


def test_what_cannot_be_done_is_said(folder, tmp_path):
    bundle = load_bundle(folder)
    with pytest.raises(InputError, match=f"another architecture \\({folder.name}\\)"):
        bundle.save(tmp_path / "out")
    data = tmp_path / "d.csv"
    data.write_text("text,label\na,x\nb,y\n")
    with pytest.raises(InputError, match="does not write it"):
        finetune(str(folder), train=data, dev=data, out=tmp_path / "out")
    with pytest.raises(InputError, match="PyTorch alone"):
        halbert.load(bundle, backend="openvino")


def changed(source, place, **config):
    shutil.copytree(source, place)
    file = place / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return place


def test_bad_folders(tmp_path, monkeypatch):
    good = write("roberta", tmp_path / "good")
    with pytest.raises(InputError, match="gpt2 is no encoder"):
        load_bundle(changed(good, tmp_path / "gpt", model_type="gpt2"))
    with pytest.raises(InputError, match="bart is no encoder"):
        load_bundle(changed(good, tmp_path / "bart", model_type="bart"))
    with pytest.raises(InputError, match=r"'nonsense', which transformers .* does not know"):
        load_bundle(changed(good, tmp_path / "nonsense", model_type="nonsense"))
    with pytest.raises(WeightsError, match="is missing"):
        load_bundle(changed(good, tmp_path / "deep", num_hidden_layers=4))
    with pytest.raises((WeightsError, InputError, SpecError)):
        load_bundle(changed(good, tmp_path / "wide", hidden_size=10**9))
    hostile = changed(good, tmp_path / "code", auto_map={"AutoModel": "evil.Model"})
    (hostile / "evil.py").write_text("raise SystemExit(99)")
    assert load_bundle(hostile).spec.encoder.model_type == "roberta"  # and evil.py was not run
    many = changed(good, tmp_path / "many")
    rules = json.loads((many / "tokenizer.json").read_text())
    rules["added_tokens"].append({**rules["added_tokens"][-1], "id": 10**12, "content": "<far>"})
    (many / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(InputError):
        load_bundle(many)
    few = changed(good, tmp_path / "few", vocab_size=100)
    with pytest.raises((InputError, WeightsError)):
        load_bundle(few)
    bare = changed(good, tmp_path / "bare")
    (bare / "model.safetensors").rename(bare / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        load_bundle(bare)
    cut = changed(good, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((good / "model.safetensors").read_bytes()[:999])
    with pytest.raises(WeightsError, match="cannot read it"):
        load_bundle(cut)
    mute = changed(good, tmp_path / "mute")
    (mute / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="tokenizer"):
        load_bundle(mute)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"halbert\[others\]"):
        load_bundle(good)


@pytest.mark.parametrize(
    "key", ["_attn_implementation", "attn_implementation", "quantization_config", "_experts_implementation", "auto_map"]
)
def test_what_would_bring_code_or_kernels_is_not_heard(tmp_path, key):
    """``attn_implementation: org/name`` lets transformers bring compiled kernels from the hub and run them."""
    value = {"quant_method": "gptq", "bits": 4} if key == "quantization_config" else "evil/kernel"
    place = changed(write("roberta", tmp_path / "good"), tmp_path / "hostile", **{key: value})
    told = configuration(json.loads((place / "config.json").read_text()), "config.json")
    assert "evil" not in str(told.__dict__) and not getattr(told, "quantization_config", None)
    assert load_bundle(place).spec.encoder.model_type == "roberta"


@pytest.mark.parametrize(("kind", "key"), [("convbert", "conv_kernel_size"), ("nystromformer", "conv_kernel_size")])
def test_a_field_of_the_architecture_is_heard(kind, key):
    assert getattr(configuration({"model_type": kind, key: 5}, "config.json"), key) == 5
