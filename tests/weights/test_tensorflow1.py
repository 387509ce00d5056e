"""Google's checkpoints: files that TensorFlow wrote, read back; damaged ones, refused by name."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from halbert import presets
from halbert.data.batches import Rows
from halbert.errors import HalbertError, InputError, SpecError, WeightsError
from halbert.run.predictor import open_backend
from halbert.source import load_bundle, resolve_bundle, resolve_spec, resolve_tokenizer
from halbert.weights import leveldb, names
from halbert.weights.tensorflow1 import Checkpoint
from tests import tiny
from tests.weights import tensorflow1
from tests.weights.folders import through_transformers
from tests.weights.tensorflow1 import GOLDEN

NAMES = {"bert": "bert_model.ckpt", "albert": "model.ckpt-best"}


@pytest.fixture
def folder(tmp_path):
    """A copy of the BERT that TensorFlow wrote, to damage."""
    return Path(shutil.copytree(GOLDEN / "bert", tmp_path / "bert"))


def config(folder: Path, **changes):
    file = next(folder.glob("*_config.json"))
    values = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def variables(folder: Path = GOLDEN / "bert", name: str = "bert_model.ckpt") -> dict[str, np.ndarray]:
    checkpoint = Checkpoint(folder / name)
    return {variable: checkpoint.read(variable) for variable in checkpoint.variables}


# What TensorFlow wrote


@pytest.mark.parametrize(("name", "form"), [("bert", "erf"), ("albert", "tanh")])
@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_outputs_are_those_of_tensorflow(name, form, backend):
    told = json.loads((GOLDEN / name / "outputs.json").read_text())
    engine = open_backend(resolve_bundle(GOLDEN / name), backend, "fp32")
    rows = Rows(*(np.array(told[key], np.int64) for key in ("ids", "mask", "segments")))
    real = rows.mask.astype(bool)
    for output, found in engine.forward(rows, ["last", "pooled", "mlm", "pair"]).items():
        away = np.abs(found - np.array(told[f"{form}_{output}"]))
        assert (away[real] if away.ndim == 3 else away).max() <= 5e-6, output


def test_the_other_gelu_would_show():
    told = json.loads((GOLDEN / "bert" / "outputs.json").read_text())
    assert np.abs(np.array(told["erf_pooled"]) - np.array(told["tanh_pooled"])).max() > 1e-5


def indexes() -> dict[str, bytes]:
    found = {str(f.relative_to(GOLDEN)): f.read_bytes() for f in sorted(GOLDEN.rglob("*.index"))}
    with tarfile.open(GOLDEN / "blocks.tar.gz") as archive:
        stream = archive.extractfile("blocks/bert_model.ckpt.index")
        assert stream is not None
        found["blocks.tar.gz"] = stream.read()
    return found


@pytest.mark.parametrize("name", indexes())
def test_our_writer_writes_what_tensorflow_wrote(tmp_path, name):
    (tmp_path / "x.index").write_bytes(indexes()[name])
    assert tensorflow1.table(leveldb.read_table(tmp_path / "x.index")) == indexes()[name]


@pytest.mark.parametrize(
    ("name", "prefix", "shards"), [("albert", "model.ckpt-best", 2), ("hub/variables", "variables", 1)]
)
def test_our_writer_writes_the_data_too(tmp_path, name, prefix, shards):
    scope = "module/" if name.startswith("hub") else ""
    stored = {scope + variable: array for variable, array in variables(GOLDEN / name, prefix).items()}
    written = tensorflow1.write(tmp_path / name / prefix, stored, shards)
    for file in sorted(written.parent.iterdir()):
        assert file.read_bytes() == (GOLDEN / name / file.name).read_bytes()


def test_several_blocks_with_shared_prefixes():
    data = indexes()["blocks.tar.gz"]
    assert len(data) > tensorflow1.BLOCK_SIZE
    bundle = resolve_bundle(GOLDEN / "blocks.tar.gz")
    assert bundle.spec.encoder.num_hidden_layers == 180
    assert (
        sum(a.size for n, a in bundle.arrays.items() if n.startswith("encoder")) == bundle.spec.encoder.count_encoder()
    )


def test_slots_and_counters_are_left_out():
    checkpoint = Checkpoint(GOLDEN / "bert" / "bert_model.ckpt")
    stored = [key.decode() for key in leveldb.read_table(checkpoint.index)]
    ignored = {name.rpartition("/")[2] for name in stored} - {name.rpartition("/")[2] for name in checkpoint.variables}
    assert ignored == {"", "adam_m", "adam_v", "global_step"}


def test_a_hub_module_is_its_release_without_heads():
    module, release = resolve_bundle(GOLDEN / "hub"), resolve_bundle(GOLDEN / "albert")
    assert module.heads == {} and set(release.heads) == {"mlm", "pair"}
    assert module.spec.encoder == release.spec.encoder
    for name, array in module.arrays.items():
        assert np.array_equal(array, release.arrays[name])


@pytest.mark.parametrize("name", NAMES)
def test_through_transformers_to_the_bit(tmp_path, name):
    bundle = resolve_bundle(GOLDEN / name)
    place = bundle.save(tmp_path / "bundle")
    again = load_bundle(through_transformers(place, tmp_path / "transformers"))
    assert again.arrays.keys() == bundle.arrays.keys()
    for key, array in bundle.arrays.items():
        assert array.tobytes() == again.arrays[key].tobytes()
    assert load_bundle(place).spec == bundle.spec


def test_albert_groups_run_in_googles_order(tmp_path):
    place = resolve_bundle(GOLDEN / "albert").save(tmp_path / "bundle")
    told = json.loads((GOLDEN / "albert" / "outputs.json").read_text())
    import torch

    model = transformers.AlbertModel.from_pretrained(place).eval()
    with torch.inference_mode():
        found = model(*(torch.tensor(told[key]) for key in ("ids", "mask", "segments"))).pooler_output
    assert np.abs(found.numpy() - np.array(told["tanh_pooled"])).max() <= 5e-6


# Where a checkpoint is looked for


def test_the_checkpoint_itself_can_be_named(folder):
    shutil.copy(folder / "bert_model.ckpt.index", folder / "other.ckpt.index")
    with pytest.raises(InputError, match=r"holds 2 checkpoints \(bert_model.ckpt, other.ckpt\); name one"):
        load_bundle(folder)
    for name in ("bert_model.ckpt", "bert_model.ckpt.index"):
        assert resolve_bundle(folder / name).spec.encoder.hidden_size == 15
    (folder / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/bert_model.ckpt"\n')
    assert load_bundle(folder).spec.encoder.hidden_size == 15


def test_no_such_checkpoint(folder):
    with pytest.raises(InputError, match=r"missing.ckpt'.*no such folder"):
        resolve_spec(folder / "missing.ckpt")


def test_a_folder_without_vocabulary_can_be_inspected_but_not_used(folder):
    (folder / "vocab.txt").unlink()
    assert resolve_spec(folder).origins["lower_case"] == "assumed: there is no vocabulary"
    for read in (load_bundle, resolve_tokenizer):
        with pytest.raises(InputError, match=r"holds no vocabulary; expected one of vocab\.txt"):
            read(folder)


def test_tokenizer_and_model_are_of_the_same_kind(folder):
    """Google's files under the name that others give theirs: still Google's text rules, for both."""
    shutil.copy(folder / "bert_config.json", folder / "config.json")
    bundle, tokenizer = load_bundle(folder), resolve_tokenizer(folder)
    assert tokenizer.spec == bundle.tokenizer.spec and tokenizer.fingerprint == bundle.tokenizer.fingerprint


def test_keys_that_grow_with_the_square_of_the_file(tmp_path):
    """Each key is the one before and a byte more: a megabyte of such an index would need gigabytes."""
    rows = {b"a" * n: b"" for n in range(1, leveldb.LONGEST_KEY + 2)}
    (tmp_path / "x.index").write_bytes(tensorflow1.table(rows))
    with pytest.raises(WeightsError, match=r"a key of 4,097 bytes; a tensor's name has at most 4,096"):
        leveldb.read_table(tmp_path / "x.index")
    rows.popitem()
    (tmp_path / "x.index").write_bytes(tensorflow1.table(rows))
    assert leveldb.read_table(tmp_path / "x.index") == rows


# Traps that shapes cannot show


def test_every_value_has_an_origin():
    for name in NAMES:
        told = resolve_spec(GOLDEN / name)
        flat = told.spec.flat()
        own = {"embedding_projection", "attention_groups", "ffn_groups", "inner_group_num", "masking_prob", "max_ngram"}
        own |= {"short_prob", "faithful"}  # how pre-training draws its pairs: no checkpoint says
        assert flat.keys() - told.origins.keys() <= own
        assert told.origins.keys() <= flat.keys()


@pytest.mark.parametrize(("name", "act"), [("bert", "gelu"), ("albert", "gelu_new")])
def test_gelu_is_an_assumption(name, act):
    told = resolve_spec(GOLDEN / name)
    assert told.spec.encoder.hidden_act == act and told.origins["hidden_act"].startswith("assumed: ")
    assert told.spec.text.compat == "google"


def test_inspect_keeps_showing_it(tmp_path):
    place = resolve_bundle(GOLDEN / "albert").save(tmp_path / "kept")
    assert resolve_spec(place).origins == resolve_spec(GOLDEN / "albert").origins


@pytest.mark.parametrize(("pieces", "lower"), [(["Dog"], False), ([], True), (["<S>", "[unused1]", "[X]"], True)])
def test_case_is_told_by_the_vocabulary(folder, pieces, lower):
    words = (folder / "vocab.txt").read_text().splitlines()
    (folder / "vocab.txt").write_text("\n".join(words[: len(words) - len(pieces)] + pieces) + "\n")
    text = load_bundle(folder).spec.text
    assert (text.lower_case, text.strip_accents) == (lower, lower)


def release(place: Path, encoder, column: names.Column, act: str = "gelu", with_config: bool = True) -> Path:
    """A checkpoint with the shapes of an encoder; only its index is true, the data is one hole."""
    entries, offset = {b"": tensorflow1.header(1)}, 0
    for entry in names.expected(encoder, {}, column):
        size = 4 * int(np.prod(entry.shape))
        entries[entry.theirs[0].encode()] = tensorflow1.entry(1, entry.file_shape, 0, offset, size, 0)
        offset += size
    place.mkdir(parents=True)
    (place / "model.ckpt-best.index").write_bytes(tensorflow1.table(entries))
    with (place / "model.ckpt-best.data-00000-of-00001").open("wb") as stream:
        stream.truncate(offset)
    if with_config:
        fields = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
        values = {name: getattr(encoder, name) for name in (*fields, "embedding_size", "type_vocab_size")}
        file = "albert_config.json" if column == "albert_tf1" else "bert_config.json"
        (place / file).write_text(json.dumps({**values, "num_hidden_groups": 1, "hidden_act": act}))
    return place


def changed(name: str, **changes):
    import msgspec

    return msgspec.structs.replace(presets.get(name).spec.encoder, **changes)


@pytest.mark.parametrize(
    ("name", "changes", "act", "warning"),
    [
        ("albert-xlarge-v2", {"num_attention_heads": 32}, "gelu", r"num_attention_heads is 32.*albert-xlarge-v2.*16.*albert#180"),
        ("albert-xlarge-v2", {}, "gelu", None),
        ("albert-base-zh", {}, "gelu", r"hidden_act is gelu_new.*albert-base-zh.*relu.*albert#154"),
        ("albert-base-zh", {}, "relu", None),
        ("albert-xxlarge-zh", {"num_attention_heads": 64}, "relu", r"num_attention_heads is 64.*16.*albert#153"),
        ("albert-base-v1", {}, "gelu", None),
    ],
)  # fmt: skip
def test_what_contradicts_a_known_release(tmp_path, name, changes, act, warning):
    told = resolve_spec(release(tmp_path / "r", changed(name, **changes), "albert_tf1", act))
    if warning is None:
        assert told.warnings == ()
    else:
        import re

        assert len(told.warnings) == 1 and re.search(warning, told.warnings[0]), told.warnings


@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-tiny", "albert-base-v2", "albert-xxlarge-zh"])
def test_without_configuration_the_shapes_of_a_release(tmp_path, name):
    preset = presets.get(name)
    column: names.Column = "bert_tf1" if name.startswith("bert") else "albert_tf1"
    told = resolve_spec(release(tmp_path / "r", preset.spec.encoder, column, with_config=False))
    assert told.spec.encoder.num_attention_heads == preset.spec.encoder.num_attention_heads
    assert told.spec.encoder.num_hidden_layers == preset.spec.encoder.num_hidden_layers
    assert told.origins["num_attention_heads"].startswith("the released ")


def test_without_configuration_unknown_shapes_are_refused(folder):
    (folder / "bert_config.json").unlink()
    with pytest.raises(InputError, match=r"no bert_config\.json.*number of heads is unknown"):
        load_bundle(folder)


def test_the_name_of_a_release_tells_its_masking(tmp_path):
    encoder = presets.get("bert-large-uncased").spec.encoder
    for name, masking in (("wwm_uncased_L-24_H-1024_A-16", "word"), ("uncased_L-24_H-1024_A-16", "piece")):
        told = resolve_spec(release(tmp_path / name, encoder, "bert_tf1"))
        assert told.spec.pretraining.masking == masking
        assert told.origins["masking"] == f"the release {name}.zip"


# What does not fit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 18}, r"word_embeddings has shape \[37, 15\], the configuration expects \[37, 18\]"),
        ({"num_hidden_layers": 4}, r"16 tensors are missing: bert/encoder/layer_3/"),
        ({"num_hidden_layers": 2}, r"16 tensors have no place.*layer_2"),
        ({"num_attention_heads": 4}, r"bert_config\.json: hidden_size 15 is not divisible"),
        ({"num_attention_heads": None}, r"bert_config\.json: the field 'num_attention_heads' is missing"),
        ({"num_hidden_layers": 10**9}, r"bert_config\.json: num_hidden_layers is 1000000000; expected"),
        ({"num_hidden_layers": "three"}, r"bert_config\.json: num_hidden_layers: expected int"),
        ({"hidden_act": "swish"}, r"bert_config\.json: hidden_act is 'swish'; expected gelu or relu"),
        ({"net_structure_type": 1}, r"net_structure_type is 1; Halbert reads 0"),
        ({"intermediate_size": 0}, r"intermediate_size is 0"),
    ],
)
def test_a_configuration_that_does_not_fit(folder, changes, message):
    config(folder, **changes)
    with pytest.raises(InputError, match=message):
        load_bundle(folder)


def test_fields_nobody_reads_are_named(folder):
    config(folder, rotary_dim=8)
    told = load_bundle(folder).warnings
    assert told[0] == "bert_config.json: rotary_dim = 8 is not used"
    assert told[1:] == ("the vocabulary holds 30 tokens, the embedding table 37 rows: 7 are never used",)


@pytest.mark.parametrize("text", ["[]", "{", "", "\xff"])
def test_a_configuration_that_is_none(folder, text):
    (folder / "bert_config.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"bert_config\.json"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v | {"bert/extra": np.zeros(3, np.float32)}, r"1 tensors have no place.*bert/extra"),
        (lambda v: v | {"x/adam_m_": np.zeros(3, np.float32)}, r"have no place.*x/adam_m_"),
        (lambda v: {k: a for k, a in v.items() if "pooler/dense/bias" not in k}, r"are missing: bert/pooler/dense/bias"),
        (lambda v: {"a/b": np.zeros(2, np.float32)}, r"holds no BERT or ALBERT.*a/b"),
        (lambda v: {"bert/encoder/layer_shared/x": np.zeros(2, np.float32)}, r"albert_zh.*'_google'"),
        (lambda v: v | {"cls/seq_relationship/output_weights": np.zeros((3, 15), np.float32)}, r"shape \[3, 15\].*\[2, 15\]"),
        (lambda v: v | {"bert/pooler/dense/bias": np.zeros(15, np.int32)}, r"bias is of TensorFlow type 3"),
        (lambda v: v | {"v/.ATTRIBUTES/VARIABLE_VALUE": np.zeros(1, np.float32)}, r"TensorFlow 2 object checkpoint"),
    ],
)  # fmt: skip
def test_variables_that_do_not_fit(folder, change, message):
    tensorflow1.write(folder / "bert_model.ckpt", change(variables()))
    with pytest.raises(WeightsError, match=message):
        load_bundle(folder)


def test_a_group_that_google_rounds_elsewhere_is_refused(tmp_path):
    # 7 / 25 * 25 is 7.000000000000001, but 14 / 25 * 25 is 14.000000000000002; with 49 groups 1 / 49 * 49 is below 1.
    encoder = tiny.encoder(num_hidden_layers=49, num_hidden_groups=49, embedding_size=11)
    place = release(tmp_path / "r", encoder, "albert_tf1")
    config(place, num_hidden_groups=49, max_position_embeddings=37)
    with pytest.raises(SpecError, match="with 49 layers and 49 groups"):
        resolve_spec(place)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_widths(folder, dtype):
    before = load_bundle(folder)
    tensorflow1.write(folder / "bert_model.ckpt", {k: a.astype(dtype) for k, a in variables().items()})
    for name, array in load_bundle(folder).arrays.items():
        assert np.allclose(array, before.arrays[name], rtol=1e-3, atol=1e-6)


def test_bfloat16(tmp_path):
    value = np.array([1.0, -2.5, 3.140625], np.float32)
    tensorflow1.write(tmp_path / "x", {"v": (value.view(np.uint32) >> 16).astype(np.uint16).view(np.float16)})
    table = leveldb.read_table(tmp_path / "x.index")
    table[b"v"] = table[b"v"].replace(b"\x08\x13", b"\x08\x0e", 1)
    (tmp_path / "x.index").write_bytes(tensorflow1.table(table))
    assert np.array_equal(Checkpoint(tmp_path / "x").read("v"), value)


@pytest.mark.parametrize(
    ("extra", "kind", "width"),
    [
        ({"output_weights": (3, 15), "output_bias": (3,)}, "label", 3),
        ({"output_weights": (1, 15), "output_bias": (1,)}, "score", 1),
        ({"cls/squad/output_weights": (2, 15), "cls/squad/output_bias": (2,)}, "span", 2),
    ],
)
def test_heads_of_googles_fine_tuning(folder, extra, kind, width):
    kept = {name: array for name, array in variables().items() if not name.startswith("cls/")}
    drawn = {name: np.random.default_rng(5).standard_normal(shape).astype(np.float32) for name, shape in extra.items()}
    tensorflow1.write(folder / "bert_model.ckpt", kept | drawn)
    bundle = load_bundle(folder)
    ((name, head),) = bundle.heads.items()
    assert (head.kind, head.width) == (kind, width)
    assert np.array_equal(bundle.arrays[f"heads.{name}.dense.weight"], drawn[next(n for n in extra if "weights" in n)])


# Damage


@pytest.mark.parametrize("size", [0, 1, 47, 48, 500, -1])
def test_a_truncated_index(folder, size):
    file = folder / "bert_model.ckpt.index"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(InputError, match=r"bert_model\.ckpt\.index: (is empty|is no valid checkpoint index)"):
        load_bundle(folder)


@given(data=st.data())
def test_any_flipped_bit_of_an_index_is_found(tmp_path_factory, data):
    good = indexes()["bert/bert_model.ckpt.index"]
    at, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    bad = bytearray(good)
    bad[at] ^= 1 << bit
    place = tmp_path_factory.getbasetemp() / "flipped.index"
    place.write_bytes(bad)
    try:
        found = leveldb.read_table(place)
    except WeightsError as error:
        assert str(place) in str(error)
    else:  # only the padding of the footer carries no meaning
        assert len(good) - 48 <= at < len(good) - 8
        assert found == leveldb.read_table(GOLDEN / "bert" / "bert_model.ckpt.index")


@given(data=st.data())
def test_any_flipped_bit_of_the_data_is_found(tmp_path_factory, data):
    place = tmp_path_factory.getbasetemp() / "flipped"
    if not place.exists():
        shutil.copytree(GOLDEN / "albert", place)
    shard = data.draw(st.integers(0, 1))
    file = f"model.ckpt-best.data-0000{shard}-of-00002"
    bad = bytearray((GOLDEN / "albert" / file).read_bytes())
    bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (place / file).write_bytes(bad)
    with pytest.raises(WeightsError, match=rf"{file}: the checksum of bert/.*|{file}: the checksum of cls/"):
        load_bundle(place)
    shutil.copy(GOLDEN / "albert" / file, place / file)


def test_a_truncated_shard(folder):
    file = folder / "bert_model.ckpt.data-00000-of-00001"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"data-00000-of-00001: .* reaches to byte .*, but the file has"):
        load_bundle(folder)


def test_a_missing_shard(tmp_path):
    place = Path(shutil.copytree(GOLDEN / "albert", tmp_path / "albert"))
    (place / "model.ckpt-best.data-00001-of-00002").unlink()
    with pytest.raises(InputError, match=r"data-00001-of-00002: no such file"):
        load_bundle(place)


ENTRY = {"dtype": 1, "shape": (2, 2), "shard": 0, "offset": 0, "size": 16, "checksum": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (10**6, 10**6), "size": 4 * 10**12}, r"v reaches to byte 4,000,000,000,000, but the file has"),
        ({"shape": (2, 3)}, r"v has shape \[2, 3\] but 16 bytes"),
        ({"shape": (1,) * 40 + (4,)}, r"v has shape"),
        ({"offset": 2**62}, r"reaches to byte"),
        ({"shard": 5}, r"v is in shard 5, but there are 1"),
        ({"shape": (2**64 - 1, 2**64 - 1)}, r"v has shape"),
        ({"dtype": 7}, r"TensorFlow type 7"),
    ],
)
def test_an_index_that_claims_too_much(tmp_path, changes, message):
    (tmp_path / "x.data-00000-of-00001").write_bytes(b"\0" * 16)
    table = {b"": tensorflow1.header(1), b"v": tensorflow1.entry(**{**ENTRY, **changes})}
    (tmp_path / "x.index").write_bytes(tensorflow1.table(table))
    with pytest.raises(WeightsError, match=message):
        Checkpoint(tmp_path / "x")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "it has no header"),
        (tensorflow1.field(1, 1) + tensorflow1.field(2, 1), "big-endian"),
        (tensorflow1.field(1, 10**9), "1000000000 shards"),
        (tensorflow1.field(3, b""), "0 shards"),
        (b"\x0a\xff", "past the end"),
        (b"\x0b", "wire type 3"),
        (tensorflow1.field(1, b"one"), "a text where a number belongs"),
    ],
)
def test_a_header_that_is_wrong(tmp_path, header, message):
    table = {b"v": tensorflow1.entry(**ENTRY)} | ({} if header is None else {b"": header})
    (tmp_path / "x.index").write_bytes(tensorflow1.table(table))
    with pytest.raises(WeightsError, match=message):
        Checkpoint(tmp_path / "x")


def test_slices_and_compression_are_refused(tmp_path):
    table = {b"": tensorflow1.header(1), b"v": tensorflow1.entry(**ENTRY) + tensorflow1.field(7, b"\x0a\x00")}
    (tmp_path / "x.index").write_bytes(tensorflow1.table(table))
    with pytest.raises(WeightsError, match="'v' is stored in slices"):
        Checkpoint(tmp_path / "x")
    data = bytearray(indexes()["hub/variables/variables.index"])
    end = next(
        i for i in range(len(data)) if data[i] == 0 and i > 100
        and tensorflow1.masked(google_crc32c.value(bytes(data[: i + 1]))).to_bytes(4, "little") == data[i + 1 : i + 5]
    )  # fmt: skip
    data[end] = 1
    data[end + 1 : end + 5] = tensorflow1.masked(google_crc32c.value(bytes(data[: end + 1]))).to_bytes(4, "little")
    (tmp_path / "x.index").write_bytes(data)
    with pytest.raises(WeightsError, match=r"is compressed \(type 1\)"):
        Checkpoint(tmp_path / "x")


@given(table=st.dictionaries(st.binary(max_size=40), st.binary(max_size=60), max_size=60), size=st.integers(1, 400))
def test_any_table_is_read_back(tmp_path_factory, table, size):
    place = tmp_path_factory.getbasetemp() / "any.index"
    place.write_bytes(tensorflow1.table(table, size))
    assert leveldb.read_table(place) == table


@given(noise=st.binary(max_size=300))
def test_noise_between_valid_ends_is_refused_or_read(tmp_path_factory, noise):
    place = tmp_path_factory.getbasetemp() / "noise.index"
    place.write_bytes(noise + indexes()["hub/variables/variables.index"][-48:])
    with pytest.raises(HalbertError):
        leveldb.read_table(place)
