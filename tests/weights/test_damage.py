"""Damaged and hostile folders end in a Halbert error that names the file: no crash, no code run, nothing allocated."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.errors import HalbertError, InputError, WeightsError
from halbert.source import load_bundle, resolve_spec
from halbert.weights.huggingface import spec_of
from tests import tiny
from tests.weights.folders import change_config


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tiny.bundle(heads={"label": tiny.HEADS["label"]}).save(tmp_path_factory.mktemp("damage") / "model")


@pytest.fixture
def folder(original, tmp_path):
    """A folder as transformers writes it: without halbert.json."""
    place = tmp_path / "model"
    shutil.copytree(original, place, ignore=shutil.ignore_patterns("halbert.json"))
    return place


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_not_opened(folder, tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match=rf"{name}: is a pickle.*--allow-pickle"):
        load_bundle(folder)
    assert not (tmp_path / "exploded").exists()


def test_no_weights_at_all(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"found no model\.safetensors"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "target", ["../outside.safetensors", "/tmp/outside.safetensors", "sub/../../x", "\0", "x" * 5000]
)
def test_an_index_that_leads_elsewhere(folder, target):
    shutil.move(folder / "model.safetensors", folder.parent / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": target}}))
    with pytest.raises(InputError) as raised:
        load_bundle(folder)
    assert "model.safetensors.index.json" in str(raised.value) and "outside the folder" in str(raised.value)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "gone.safetensors"}}, r"gone.safetensors: no such file"),
        ({"weight_map": {"a": "model.safetensors"}, "x": 1}, "lists a, which is in none of the shards"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": ["model.safetensors"]}, "has no weight_map"),
        ([], "has no weight_map"),
        ("{", "is not valid JSON"),
    ],
)
def test_a_broken_index(folder, index, message):
    if "lists" in message:
        shutil.copy(folder / "model.safetensors", folder / "shard.safetensors")
        index = {"weight_map": {"a": "shard.safetensors"}}
    (folder / "model.safetensors").unlink()
    file = folder / "model.safetensors.index.json"
    file.write_text(index if isinstance(index, str) else json.dumps(index))
    with pytest.raises(InputError, match=message):
        load_bundle(folder)


def header(entry: dict, size: int | None = None) -> bytes:
    text = json.dumps({"bert.pooler.dense.bias": entry}).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


TEN_TB = 10**13
DAMAGES = {
    "empty": lambda data: b"",
    "8 bytes": lambda data: data[:8],
    "half": lambda data: data[: len(data) // 2],
    "last byte lost": lambda data: data[:-1],
    "bytes appended": lambda data: data + b"\0" * 16,
    "no safetensors": lambda data: b"PK\x03\x04" * 100,
    "flipped bit in the length": lambda data: bytes([data[0] ^ 0x10]) + data[1:],
    "flipped bit in the header": lambda data: data[:9] + bytes([data[9] ^ 0x80]) + data[10:],
    "huge header": lambda data: struct.pack("<Q", TEN_TB) + data[8:],
    "ten terabytes": lambda data: header({"dtype": "F32", "shape": [TEN_TB // 4], "data_offsets": [0, TEN_TB]}),
    "ten terabytes of bfloat16": lambda data: header(
        {"dtype": "BF16", "shape": [TEN_TB // 2], "data_offsets": [0, TEN_TB]}
    ),
    "overflowing shape": lambda data: header({"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}),
    "negative offsets": lambda data: header({"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}),
    "shape against offsets": lambda data: header({"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}) + b"\0" * 4,
    "unknown type": lambda data: header({"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}) + b"\0" * 4,
    "a type numpy lacks": lambda data: header({"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}) + b"\0" * 4,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_safetensors(folder, damage):
    file = folder / "model.safetensors"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    start = time.monotonic()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_bundle(folder)
    assert time.monotonic() - start < 5


@given(st.data())
def test_any_changed_header_byte_ends_well(original, data):
    from halbert.weights.huggingface import read_tensors

    good = (original / "model.safetensors").read_bytes()
    size = 8 + int.from_bytes(good[:8], "little")
    at, value = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 255))
    place = original.parent / "flipped"
    place.mkdir(exist_ok=True)
    (place / "model.safetensors").write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
    try:
        assert len(read_tensors(place)) >= 1
    except HalbertError as error:
        assert "model.safetensors" in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "expected a JSON object"),
        ('"bert"', "expected a JSON object"),
        ("null", "expected a JSON object"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_config_is_no_object(folder, text, message):
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    for read in (load_bundle, lambda place: resolve_spec(str(place))):
        with pytest.raises(InputError, match=f"config.json: .*{message}"):
            read(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": ...}, "the field 'hidden_size' is missing"),
        ({"vocab_size": ...}, "the field 'vocab_size' is missing"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish'; expected one of gelu"),
        ({"hidden_act": ["gelu"]}, "hidden_act is"),
        ({"model_type": "gpt2"}, "gpt2 is no encoder"),
        ({"model_type": {}}, "model_type is {}"),
        ({"model_type": ..., "num_attention_heads": ...}, "model_type is None"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "this is a decoder"),
        ({"add_cross_attention": True}, "this is a decoder"),
        ({"hidden_size": "42"}, "json: hidden_size: expected int, got str"),
        ({"num_hidden_layers": None}, "json: num_hidden_layers: expected int, got NoneType"),
        ({"hidden_size": 41}, "hidden_size 41 is not divisible by num_attention_heads 3"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
        ({"id2label": {"0": "a", "1": "a"}}, "config.json: a head's labels must differ"),
        ({"architectures": ["GPT2Model"]}, "does not know the architecture 'GPT2Model'"),
        ({"architectures": ["BertLMHeadModel"]}, "does not know the architecture 'BertLMHeadModel'"),
        ({"architectures": 5}, "architectures"),
        ({"id2label": ["a", "b"]}, "id2label"),
        ({"id2label": {"x": "a", "y": "b"}}, "id2label must map whole numbers to names"),
        ({"id2label": ..., "num_labels": "three"}, "num_labels"),
        ({"id2label": ..., "num_labels": 10**12}, "num_labels"),
    ],
)
def test_config_with_an_impossible_value(folder, changes, message):
    def change(config):
        for name, value in changes.items():
            if value is ...:
                config.pop(name)
            else:
                config[name] = value

    change_config(folder, change)
    with pytest.raises(InputError, match=message) as raised:
        load_bundle(folder)
    assert "config.json" in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
CONFIG = {
    "model_type": "albert", "architectures": ["AlbertForTokenClassification"], "vocab_size": 101, "hidden_size": 42,
    "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 53, "hidden_act": "gelu",
    "embedding_size": 11, "num_hidden_groups": 1, "inner_group_num": 1, "classifier_dropout_prob": 0.1,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 37,
    "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "id2label": {"0": "a", "1": "b"},
    "problem_type": None, "position_embedding_type": "absolute", "is_decoder": False, "num_labels": 2,
}  # fmt: skip


@given(st.sampled_from(sorted(CONFIG)), JSON, st.sampled_from(["ForSequenceClassification", "ForTokenClassification"]))
def test_any_value_in_a_config_ends_well(field, value, suffix):
    config = {**CONFIG, "architectures": [f"Albert{suffix}"]}
    good, heads = spec_of(config, "config.json")
    assert good.hidden_size == 42 and len(heads) == 1
    try:
        found, _ = spec_of({**config, field: value}, "config.json")
    except InputError as error:
        assert str(error).startswith("config.json: ")
    else:
        assert found.count_encoder() > 0


@pytest.mark.parametrize(
    ("name", "message"), [("config.json", "holds neither a config.json"), ("vocab.txt", "found neither vocab.txt")]
)
def test_missing_files(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(InputError, match=message):
        load_bundle(folder)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_bundle(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(spce=1), "unknown field 'spce'; did you mean 'spec'"),
        (lambda m: m.pop("heads"), "heads"),
        (lambda m: m.update(format="one"), "format: expected int, got str"),
        (lambda m: m["spec"]["encoder"].update(hidden_size=43), "hidden_size 43 is not divisible"),
        (
            lambda m: m["spec"]["encoder"].update(num_hidden_layers=2, num_hidden_groups=2),
            "one of them was changed since",
        ),
        (
            lambda m: m["spec"]["encoder"].update(num_attention_heads=6),
            "num_attention_heads is 3, but halbert.json says 6",
        ),
        (lambda m: m.update(origins={"nosuchfield": "assumed"}), "origins names 'nosuchfield'"),
        (lambda m: m["heads"]["label"].update(labels=["a", "b"]), "has shape"),
        (lambda m: m["heads"].update({"../../x": {"kind": "span"}}), "outside the folder; refused"),
    ],
)
def test_a_damaged_manifest(original, tmp_path, change, message):
    place = tmp_path / "model"
    shutil.copytree(original, place)
    manifest = json.loads((place / "halbert.json").read_text())
    change(manifest)
    (place / "halbert.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=message):
        load_bundle(place)


def test_modules_json_that_leads_elsewhere(folder):
    module = {"type": "sentence_transformers.models.Pooling", "path": "../elsewhere"}
    (folder / "modules.json").write_text(json.dumps([module]))
    with pytest.raises(InputError, match="outside the folder"):
        load_bundle(folder)
