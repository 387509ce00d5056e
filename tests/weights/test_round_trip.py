"""Our bundle, read and written again by transformers, comes back bit for bit."""

from __future__ import annotations

import json
import shutil

import msgspec
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from halbert.errors import InputError
from halbert.source import load_bundle, resolve_spec
from halbert.spec import TextSpec
from halbert.weights.names import layout_of
from tests import tiny
from tests.weights.folders import change_config, change_tensors, files, through_transformers

ENCODERS = {
    "bert": {},
    "albert": tiny.ALBERT,
    "groups": {**tiny.ALBERT, "num_hidden_layers": 5, "num_hidden_groups": 2, "inner_group_num": 2},
}
CLASSES = [(), ("mlm", "pair"), ("mlm",), ("label",), ("score",), ("choice",), ("span",), ("tag",)]


def equal(found, expected) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)


def make(encoder: dict, names: tuple[str, ...] = (), **others):
    heads = {name: tiny.HEADS[name] for name in names}
    pooled = not heads or any(head.row.states == "pooled" for head in heads.values())
    return tiny.bundle(tiny.encoder(**encoder, pooler="tanh" if pooled else "none"), heads, **others)


@pytest.mark.parametrize("names", CLASSES, ids=lambda names: "+".join(names) or "bare")
@pytest.mark.parametrize("encoder", ENCODERS)
def test_through_transformers(tmp_path, encoder, names):
    bundle = make(ENCODERS[encoder], names)
    back = load_bundle(through_transformers(bundle.save(tmp_path / "ours"), tmp_path / "theirs"))
    assert equal(back.arrays, bundle.arrays)
    assert back.spec.encoder == bundle.spec.encoder
    assert {name: (head.kind, head.labels) for name, head in back.heads.items()} == {
        name: (head.kind, head.labels) for name, head in bundle.heads.items()
    }


@pytest.mark.parametrize("encoder", ENCODERS)
def test_our_own_folder(tmp_path, encoder):
    bundle = make(ENCODERS[encoder], ("choice",), pooling="cls", normalize=True, provenance={"licence": "MIT"})
    back = load_bundle(bundle.save(tmp_path / "ours"))
    assert equal(back.arrays, bundle.arrays)
    assert (back.spec, back.heads, back.pooling, back.normalize) == (bundle.spec, bundle.heads, "cls", True)
    assert back.provenance["licence"] == "MIT" and not back.random
    assert back.tokenizer.fingerprint == bundle.tokenizer.fingerprint


def test_nothing_is_lost_by_saving_again(tmp_path):
    first = make(ENCODERS["groups"], ("mlm", "pair")).save(tmp_path / "a" / "tiny")
    again = load_bundle(first).save(tmp_path / "b" / "tiny")
    assert files(first) == files(again)


def test_a_bert_without_next_sentence_classes(tmp_path):
    bundle = make({}, ("pair",))
    assert equal(
        load_bundle(through_transformers(bundle.save(tmp_path / "ours"), tmp_path / "theirs")).arrays, bundle.arrays
    )


def test_an_albert_with_only_a_pair_head_has_no_class(tmp_path):
    with pytest.raises(InputError, match="no ALBERT class with the heads pair"):
        make(tiny.ALBERT, ("pair",)).save(tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("head", ["tag", "mlm", "span"])
@pytest.mark.parametrize("encoder", [{}, tiny.ALBERT])
def test_a_pooler_that_transformers_would_not_have_lies_beside(tmp_path, head, encoder):
    bundle = tiny.bundle(tiny.encoder(**encoder), {head: tiny.HEADS[head]})
    place = bundle.save(tmp_path / "ours")
    assert {name.rpartition(".")[2] for name in load_file(place / "pooler.safetensors")} == {"weight", "bias"}
    assert equal(load_bundle(place).arrays, bundle.arrays)
    through_transformers(place, tmp_path / "theirs")  # nothing missing, nothing unexpected
    (place / "pooler.safetensors").unlink()
    with pytest.raises(InputError, match=r"pooler\.safetensors: no such file"):
        load_bundle(place)


@pytest.mark.parametrize(("encoder", "released"), [({}, "BertForMaskedLM"), (tiny.ALBERT, "AlbertForMaskedLM")])
def test_the_hubs_released_layout(tmp_path, encoder, released):
    """bert-base-uncased and albert-base-v2 call themselves a masked LM, and hold a pooler (BERT a pair head) besides."""
    heads = ("mlm", "pair") if not encoder else ("mlm",)
    bundle = tiny.bundle(tiny.encoder(**encoder), {head: tiny.HEADS[head] for head in heads})
    place = bundle.save(tmp_path / "ours")
    change_config(place, lambda config: config.update(architectures=[released]))
    tensors = load_file(place / "model.safetensors")
    if (place / "pooler.safetensors").exists():
        tensors |= load_file(place / "pooler.safetensors")
        (place / "pooler.safetensors").unlink()
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    (place / "halbert.json").unlink()
    assert resolve_spec(place).spec.encoder.pooler == "tanh"
    back = load_bundle(place)
    assert back.heads == bundle.heads and equal(back.arrays, bundle.arrays)
    assert equal(load_bundle(back.save(tmp_path / "again")).arrays, bundle.arrays)


def test_further_heads_live_beside_the_model(tmp_path):
    bundle = make({}, ("label", "score", "choice"))
    place = bundle.save(tmp_path / "ours")
    back = load_bundle(place)
    assert equal(back.arrays, bundle.arrays) and back.heads == bundle.heads
    assert {path.name for path in (place / "heads").iterdir()} == {"score", "choice"}
    assert json.loads((place / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_shards(tmp_path, encoder):
    bundle = make(ENCODERS[encoder], ("mlm", "pair"))
    theirs = through_transformers(bundle.save(tmp_path / "ours"), tmp_path / "theirs", max_shard_size="30KB")
    assert len(list(theirs.glob("model-*.safetensors"))) > 1 and not (theirs / "model.safetensors").exists()
    assert equal(load_bundle(theirs).arrays, bundle.arrays)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_half_precision_files(tmp_path, encoder, dtype):
    bundle = make(ENCODERS[encoder])
    back = load_bundle(through_transformers(bundle.save(tmp_path / "ours"), tmp_path / "theirs", dtype))
    for name, array in bundle.arrays.items():
        rounded = torch.from_numpy(array).to(dtype).float().numpy()
        assert np.array_equal(back.arrays[name].astype(np.float32), rounded), name
    assert any(not np.array_equal(back.arrays[name].astype(np.float32), bundle.arrays[name]) for name in bundle.arrays)


def test_written_in_half_precision(tmp_path):
    bundle = make(tiny.ALBERT)
    place = bundle.save(tmp_path / "ours", dtype="float16")
    assert transformers.AutoModel.from_pretrained(place).dtype == torch.float16
    back = load_bundle(place)
    assert all(np.array_equal(back.arrays[n], a.astype(np.float16)) for n, a in bundle.arrays.items())
    with pytest.raises(InputError, match="'int4': expected one of float32, float16"):
        bundle.save(tmp_path / "other", dtype="int4")


@pytest.mark.parametrize(
    "encoder",
    [
        {"num_hidden_layers": 4, "attention_groups": 1, "ffn_groups": 4},
        {"num_hidden_layers": 4, "attention_groups": 4, "ffn_groups": 1, **tiny.ALBERT},
        {"num_hidden_layers": 5, "attention_groups": 2, "ffn_groups": 3, "inner_group_num": 2, **tiny.ALBERT},
        {"num_hidden_layers": 18, "num_hidden_groups": 14},  # transformers' formula rounds elsewhere
    ],
    ids=["attention", "ffn", "both", "rounding"],
)
def test_partial_sharing_is_written_unshared_and_read_shared(tmp_path, encoder):
    bundle = tiny.bundle(tiny.encoder(**encoder))
    place = bundle.save(tmp_path / "ours")
    config = json.loads((place / "config.json").read_text())
    assert config["num_hidden_groups"] == config["num_hidden_layers"]
    back = load_bundle(place)
    assert back.spec == bundle.spec and equal(back.arrays, bundle.arrays)
    through_transformers(place, tmp_path / "theirs")
    assert len(load_bundle(tmp_path / "theirs").arrays) > len(bundle.arrays)
    shutil.copy(place / "halbert.json", tmp_path / "theirs")
    assert equal(load_bundle(tmp_path / "theirs").arrays, bundle.arrays)


def test_copies_of_a_shared_tensor_must_be_equal(tmp_path):
    place = tiny.bundle(tiny.encoder(num_hidden_layers=4, attention_groups=1)).save(tmp_path / "ours")
    name = "albert.encoder.albert_layer_groups.2.albert_layers.0.attention.key.bias"

    def change(tensors):
        tensors[name] = tensors[name] + 1

    change_tensors(place, change)
    with pytest.raises(InputError, match=f"{name} should be one shared tensor, but differ"):
        load_bundle(place)


def test_shared_bert_gets_an_identity_projection(tmp_path):
    bundle = tiny.bundle(tiny.encoder(num_hidden_groups=1))
    place = bundle.save(tmp_path / "ours")
    theirs = transformers.AlbertModel.from_pretrained(place).encoder.embedding_hidden_mapping_in
    assert torch.equal(theirs.weight, torch.eye(42)) and not theirs.bias.any()
    back = load_bundle(place)
    assert not back.spec.encoder.has_projection and equal(back.arrays, bundle.arrays)
    (place / "halbert.json").unlink()
    assert load_bundle(place).spec.encoder.embedding_projection == "always"


def test_a_projection_that_halbert_json_denies_is_refused(tmp_path):
    place = tiny.bundle(tiny.encoder(num_hidden_groups=1)).save(tmp_path / "ours")

    def change(tensors):
        tensors["albert.encoder.embedding_hidden_mapping_in.weight"] *= 2

    change_tensors(place, change)
    with pytest.raises(InputError, match="embedding_hidden_mapping_in is not the identity"):
        load_bundle(place)


@pytest.mark.parametrize("encoder", ["bert", "albert"])
def test_old_names(tmp_path, encoder):
    """gamma and beta, no prefix, a stored table of positions: as files from 2019 have them."""
    bundle = make(ENCODERS[encoder])
    place = bundle.save(tmp_path / "ours")
    (place / "halbert.json").unlink()

    def change(tensors):
        old = {
            name.removeprefix(f"{encoder}.")
            .replace("LayerNorm.weight", "LayerNorm.gamma")
            .replace("LayerNorm.bias", "LayerNorm.beta"): array
            for name, array in tensors.items()
        }
        return {**old, "embeddings.position_ids": np.arange(37)[None]}

    change_tensors(place, change)
    assert equal(load_bundle(place).arrays, bundle.arrays)


DECODERS = {
    "bert": ("cls.predictions.decoder", "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"),
    "albert": ("predictions.decoder", "albert.embeddings.word_embeddings.weight", "predictions.bias"),
}


@pytest.mark.parametrize("encoder", DECODERS)
def test_copies_of_the_tied_decoder_are_dropped(tmp_path, encoder):
    bundle = make(ENCODERS[encoder], ("mlm", "pair"))
    place = bundle.save(tmp_path / "ours")
    decoder, table, bias = DECODERS[encoder]
    change_tensors(
        place, lambda t: {**t, f"{decoder}.weight": t[table].copy(), f"{decoder}.bias": t[bias].copy()}
    )  # fmt: skip
    assert equal(load_bundle(place).arrays, bundle.arrays)


@pytest.mark.parametrize("end", ["weight", "bias"])
@pytest.mark.parametrize("encoder", DECODERS)
def test_an_untied_decoder_is_refused(tmp_path, encoder, end):
    place = make(ENCODERS[encoder], ("mlm", "pair")).save(tmp_path / "ours")
    decoder, table, bias = DECODERS[encoder]
    original = table if end == "weight" else bias
    change_tensors(place, lambda t: {**t, f"{decoder}.{end}": t[original] + 1})
    with pytest.raises(InputError, match=f"{decoder}.{end} differs from {original}"):
        load_bundle(place)


def test_a_config_of_2018_without_model_type(tmp_path):
    for encoder in ("bert", "albert"):
        bundle = make(ENCODERS[encoder])
        place = bundle.save(tmp_path / encoder)
        (place / "halbert.json").unlink()
        change_config(place, lambda config: (config.pop("model_type"), config.pop("architectures")))
        assert equal(load_bundle(place).arrays, bundle.arrays)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_layout_follows_from_the_spec(encoder):
    assert layout_of(tiny.encoder(**ENCODERS[encoder])) == ("bert" if encoder == "bert" else "albert")


@pytest.mark.parametrize(
    "changes", [{"num_hidden_groups": 1}, {"inner_group_num": 2}, {"embedding_size": 11}, {"ffn_groups": 1}]
)
def test_any_albert_knob_makes_the_albert_layout(changes):
    assert layout_of(tiny.encoder(**changes)) == "albert"


def test_text_switches_are_kept(tmp_path):
    switches = {"compat": "google", "lower_case": False, "strip_accents": False}
    bundle = tiny.bundle(tokenizer=tiny.tokenizer(**switches))
    assert load_bundle(bundle.save(tmp_path / "ours")).spec.text == TextSpec(**switches)


def test_more_tokens_than_rows_are_refused():
    rows = len(tiny.SPECIALS + tiny.WORDS)
    assert tiny.bundle(tiny.encoder(vocab_size=rows)).spec.encoder.vocab_size == rows
    with pytest.raises(InputError, match=f"{rows} tokens, but the embedding table only {rows - 1} rows"):
        tiny.bundle(tiny.encoder(vocab_size=rows - 1))


def test_fresh_random_weights_say_so(tmp_path):
    from halbert.bundle import random_bundle

    made = [
        random_bundle(tiny.bundle().spec, tiny.tokenizer(), seed, {"mlm": tiny.HEADS["mlm"]}, "new")
        for seed in (1, 1, 2)
    ]
    assert equal(made[0].arrays, made[1].arrays) and not equal(made[0].arrays, made[2].arrays)
    assert made[0].random and np.abs(made[0].arrays["encoder.embeddings.piece.weight"]).max() <= 0.04 + 1e-7
    place = made[0].save(tmp_path / "new")
    assert "**The weights are random.**" in (place / "README.md").read_text()
    assert load_bundle(place).random


def test_newer_formats_are_refused(tmp_path):
    place = tiny.bundle().save(tmp_path / "ours")
    manifest = json.loads((place / "halbert.json").read_text())
    (place / "halbert.json").write_text(json.dumps({**manifest, "format": manifest["format"] + 1}))
    with pytest.raises(InputError, match="is newer than this Halbert"):
        load_bundle(place)


def test_specs_are_written_field_by_field(tmp_path):
    bundle = tiny.bundle(tiny.encoder(num_hidden_layers=4, ffn_groups=2))
    manifest = json.loads((bundle.save(tmp_path / "ours") / "halbert.json").read_text())
    assert manifest["spec"]["encoder"] == msgspec.to_builtins(bundle.spec.encoder)
