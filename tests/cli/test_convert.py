"""``halbert convert`` and ``inspect``: what they say of good models, and of every kind of malformed one."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from halbert.source import load_bundle
from tests import small, tiny
from tests.weights.folders import change_config, change_tensors
from tests.weights.tensorflow1 import GOLDEN


def test_convert_says_where_every_value_came_from(halbert, tmp_path):
    done = halbert("convert", GOLDEN / "albert", tmp_path / "out", "--dtype", "bfloat16")
    assert (done.status, done.out) == (0, "")
    lines = done.err.splitlines()
    assert any(line.startswith("from albert_config.json: vocab_size,") for line in lines)
    assert (
        "assumed hidden_act = gelu_new: the file says gelu, which Google's ALBERT code computes by the tanh formula"
        in lines
    )
    assert lines[-1] == f"wrote {tmp_path / 'out'}: 7,304 encoder parameters, heads: mlm, pair"
    shown = halbert("inspect", tmp_path / "out")
    assert "assumed hidden_act = gelu_new: the file says gelu" in shown.out
    told = json.loads(halbert("inspect", tmp_path / "out", "--json").out)
    assert told["origins"]["num_attention_heads"] == "albert_config.json"
    assert told["provenance"]["weights"].keys() == {
        "model.ckpt-best.index", "model.ckpt-best.data-00000-of-00002", "model.ckpt-best.data-00001-of-00002",
    }  # fmt: skip
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith('---\nlibrary_name: "halbert"\nlicense: "unknown"\ntags: ["halbert", "albert"]\n')
    assert "- `hidden_act` = gelu_new: assumed" in card


def test_every_verb_reads_a_release(halbert, tmp_path):
    (tmp_path / "texts.txt").write_text("the cat sat\n")
    release = GOLDEN / "bert"
    assert json.loads(halbert("tokenize", release, "the cat", "--json").out)["tokens"] == [
        "[CLS]",
        "the",
        "cat",
        "[SEP]",
    ]
    assert halbert("fill", release, "the [MASK] sat").status == 0
    done = halbert("embed", release, "--input", tmp_path / "texts.txt", "--output", tmp_path / "v.npy")
    assert done.status == 0
    assert halbert("diff", release, GOLDEN / "blocks.tar.gz").status == 0


def test_verify(halbert, tmp_path):
    place = tiny.bundle(heads={n: tiny.HEADS[n] for n in ("label", "score")}).save(tmp_path / "m")
    done = halbert("inspect", place, "--verify")
    assert done.out.splitlines()[-2:] == ["verified: heads/score/model.safetensors", "verified: model.safetensors"]
    file = place / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    done = halbert("inspect", place, "--verify")
    assert done.status == 1 and f"{file}: has sha256" in done.err
    file.unlink()
    assert "no such file" in halbert("inspect", place, "--verify").err
    done = halbert("inspect", GOLDEN / "bert", "--verify")
    assert done.status == 1 and "records no sha256" in done.err
    (place / "provenance.json").write_text(json.dumps({"files": {"../../x": "0"}}))
    assert "outside the folder; refused" in halbert("inspect", place, "--verify").err


# Every malformed source: how it is made from a good one, which file is named, which fault


def google(change: Callable[[Path], object], folder: str = "bert") -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        shutil.copytree(GOLDEN / folder, place / "model")
        change(place / "model")
        return place / "model"

    return make


def hugging(change: Callable[[Path], object], **spec: object) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        model = tiny.bundle(tiny.encoder(**spec), {"label": tiny.HEADS["label"]}).save(place / "model")  # type: ignore[arg-type]
        (model / "halbert.json").unlink()
        change(model)
        return model

    return make


def damage(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def huge_header(_: bytes) -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**6, 25 * 10**5], "data_offsets": [0, 10**13]}}).encode()
    return struct.pack("<Q", len(header)) + header


def huge_length(_: bytes) -> bytes:
    return struct.pack("<Q", 10**13) + b"{}"


def outside_index(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "secret.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))


def leaving_zip(place: Path) -> Path:
    with zipfile.ZipFile(place / "model.zip", "w") as target:
        target.writestr("../vocab.txt", "x")
    return place / "model.zip"


def text_file(place: Path) -> Path:
    (place / "model.txt").write_text("no model")
    return place / "model.txt"


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


INDEX, SHARD = "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
MALFORMED: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "index truncated": (google(damage(INDEX, lambda d: d[:1000])), INDEX, "magic number"),
    "index empty": (google(damage(INDEX, lambda d: b"")), INDEX, "is empty"),
    "index bit flipped": (google(damage(INDEX, flip(700))), INDEX, "checksum of the block"),
    "index is a picture": (google(damage(INDEX, lambda d: b"\x89PNG" + os.urandom(500))), INDEX, "no valid checkpoint index"),
    "shard truncated": (google(damage(SHARD, lambda d: d[:5000])), SHARD, "it may be truncated"),
    "shard bit flipped": (google(damage(SHARD, flip(30))), SHARD, "checksum of bert/embeddings"),
    "shard missing": (google(lambda f: (f / SHARD).unlink()), SHARD, "no such file"),
    "google config of 10^9 layers": (
        google(lambda f: (f / "bert_config.json").write_text(
            json.dumps({**json.loads((f / "bert_config.json").read_text()), "num_hidden_layers": 10**9}))),
        "bert_config.json", "num_hidden_layers is 1000000000"),
    "google config is no JSON": (google(lambda f: (f / "bert_config.json").write_text("{")), "bert_config.json", "JSON"),
    "google vocabulary missing": (google(lambda f: (f / "vocab.txt").unlink()), "model", "holds no vocabulary"),
    "google vocabulary too long": (
        google(lambda f: (f / "vocab.txt").write_text("\n".join(f"[{i}]" for i in range(90)) + "\n[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")),
        "model", "the vocabulary holds 95 tokens"),
    "google vocabulary is binary": (google(lambda f: (f / "vocab.txt").write_bytes(b"\xff\xfe")), "vocab.txt", "UTF-8"),
    "no model in the hub folder": (google(lambda f: shutil.rmtree(f / "variables"), "hub"), "model", "is no model"),
    "safetensors of 10 TB": (hugging(damage("model.safetensors", huge_header)), "model.safetensors", "not a valid"),
    "safetensors header of 10 TB": (hugging(damage("model.safetensors", huge_length)), "model.safetensors", "not a valid"),
    "safetensors truncated": (hugging(damage("model.safetensors", lambda d: d[:-9])), "model.safetensors", "not a valid"),
    "safetensors is a pickle": (hugging(damage("model.safetensors", lambda d: b"\x80\x04.")), "model.safetensors", "not a valid"),
    "index leads outside": (hugging(outside_index), "model.safetensors.index.json", "outside the folder; refused"),
    "config of 10^9 layers": (
        hugging(lambda f: change_config(f, lambda c: c.update(num_hidden_layers=10**9))), "config.json", "num_hidden_layers"),
    "config of another model": (
        hugging(lambda f: change_config(f, lambda c: c.update(model_type="t5"))), "config.json", "t5 is no encoder"),
    "pickle": (
        hugging(lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin")), "pytorch_model.bin", "is a pickle"),
    "zip that leads outside": (leaving_zip, "model.zip", "leads outside"),
    "a text": (text_file, "model.txt", "is a file, expected a model folder"),
    "an empty folder": (lambda place: (place / "model").mkdir() or place / "model", "model", "is no model"),
    "nothing": (lambda place: place / "gone" / "model", "model", "no such folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_source(halbert, tmp_path, name):
    make, file, fault = MALFORMED[name]
    (tmp_path / "in").mkdir()
    source = make(tmp_path / "in")
    before = small.left_in(tmp_path)
    done = halbert("convert", source, tmp_path / "out" / "bundle")
    assert (done.status, done.out) == (1, ""), done
    assert done.err.startswith("halbert: ") and done.err.count("\n") == 1, done.err
    assert file in done.err and fault in done.err, done.err
    assert small.left_in(tmp_path) == before


def test_a_tokenizer_config_that_names_a_file_outside_is_not_followed(halbert, tmp_path):
    """transformers#46279: ``vocab_file`` in tokenizer_config.json once read any file of the machine."""
    (tmp_path / "secret.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "secret"]))
    model = hugging(lambda folder: None)(tmp_path)
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "vocab_file": "../secret.txt"}))
    (model / "vocab.txt").unlink()
    done = halbert("convert", model, tmp_path / "out")
    assert done.status == 1 and "found neither vocab.txt" in done.err and "secret" not in done.err


def test_a_cased_vocabulary_that_is_lower_cased_warns(halbert, tmp_path):
    model = hugging(lambda folder: None)(tmp_path)
    words = (model / "vocab.txt").read_text().splitlines()
    (model / "vocab.txt").write_text("\n".join([*words[:-6], "Alpha", "Beta", "Gamma", "Delta", "É", "Ω"]) + "\n")
    done = halbert("convert", model, tmp_path / "out")
    assert (
        "warning: text is lower-cased (tokenizer_config.json), but 6 tokens of the vocabulary hold upper-case"
        in done.err
    )
    assert "can never be found" in halbert("inspect", tmp_path / "out").out


def test_pickles_with_permission(halbert, tmp_path):
    import torch
    from safetensors.numpy import load_file

    model = hugging(lambda folder: None)(tmp_path)
    tensors = {name: torch.from_numpy(a) for name, a in load_file(model / "model.safetensors").items()}
    torch.save(tensors, model / "pytorch_model.bin")
    expected = load_bundle(model).arrays
    (model / "model.safetensors").unlink()
    assert halbert("convert", model, tmp_path / "out", "--allow-pickle").status == 0
    assert all((array == expected[name]).all() for name, array in load_bundle(tmp_path / "out").arrays.items())


@pytest.mark.parametrize("head", ["squad", "mlm"])
def test_a_release_whose_head_does_not_read_its_pooler(halbert, tmp_path, head):
    """Google's SQuAD fine-tunings and masked-LM releases hold a pooler, transformers' classes for them do not."""
    from tests.weights import tensorflow1
    from tests.weights.test_tensorflow1 import variables

    kept = {name: array for name, array in variables().items() if not name.startswith("cls/seq")}
    if head == "squad":
        kept = {name: array for name, array in kept.items() if not name.startswith("cls/")}
        kept |= {
            "cls/squad/output_weights": np.ones((2, 15), np.float32),
            "cls/squad/output_bias": np.zeros(2, np.float32),
        }
    source = Path(shutil.copytree(GOLDEN / "bert", tmp_path / "in"))
    tensorflow1.write(source / "bert_model.ckpt", kept)
    assert halbert("convert", source, tmp_path / "out").status == 0
    back, first = load_bundle(tmp_path / "out"), load_bundle(source)
    assert "encoder.pooler.weight" in back.arrays
    assert all((array == first.arrays[name]).all() for name, array in back.arrays.items())


def test_a_folder_that_transformers_5_saved(halbert, tmp_path):
    """Its tokenizer is one file, ``tokenizer.json``."""
    import transformers

    bundle = tiny.bundle(
        heads={"label": tiny.HEADS["label"]}, tokenizer=tiny.tokenizer(lower_case=False, strip_accents=False)
    )
    place = bundle.save(tmp_path / "ours")
    saved = tmp_path / "theirs"
    transformers.AutoModelForSequenceClassification.from_pretrained(place).save_pretrained(saved)
    transformers.AutoTokenizer.from_pretrained(place).save_pretrained(saved)
    assert not (saved / "vocab.txt").exists()
    assert halbert("convert", saved, tmp_path / "again").status == 0
    back = load_bundle(tmp_path / "again")
    assert back.tokenizer.vocab == bundle.tokenizer.vocab and not back.spec.text.lower_case
    assert all((array == bundle.arrays[name]).all() for name, array in back.arrays.items())


def test_what_a_terminal_would_obey_is_written_out(halbert, tmp_path):
    place = tiny.bundle(provenance={"source": "x\x1b[31m\nhalbert: fine", "release_files": [1]}).save(tmp_path / "m")
    done = halbert("inspect", place)
    assert (
        "source: x\\x1b[31m …" in done.out and "halbert: fine" not in done.out and "files of the release: 1" in done.out
    )


@pytest.mark.parametrize("name", ["file/x", "x" * 250, "x" * 5000, "file/x/y"])
def test_a_target_that_cannot_be(halbert, tmp_path, name):
    (tmp_path / "file").write_text("mine")
    done = halbert("convert", GOLDEN / "bert", tmp_path / name)
    assert done.status in (0, 1) and "Traceback" not in done.err
    if done.status:
        assert "cannot be written" in done.err or "is a file" in done.err
        assert small.left_in(tmp_path) == ["file"]


def test_a_target_behind_a_link(halbert, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "made")
    for name in ("link", "dangling"):
        assert halbert("convert", GOLDEN / "bert", tmp_path / name).status == 0
        assert (tmp_path / name).is_symlink() and load_bundle(tmp_path / name).heads
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dangling", "link", "made", "real"]


def test_failure_removes_the_folders_it_made(halbert, tmp_path):
    source = google(damage(SHARD, flip(30)))(tmp_path)
    assert halbert("convert", source, tmp_path / "a" / "b" / "c").status == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_attention_heads": float("inf")}, "Infinity is no number of JSON"),
        ({"layer_norm_eps": float("nan")}, "NaN is no number of JSON"),
        ({"id2label": {"0": "\ud800", "1": "b", "2": "c"}}, "is not valid JSON"),
    ],
)
def test_values_that_are_lost_or_none(halbert, tmp_path, change, told):
    model = hugging(lambda folder: change_config(folder, lambda config: config.update(change)))(tmp_path)
    done = halbert("convert", model, tmp_path / "out")
    assert told in done.err and "Traceback" not in done.err


def test_labels_that_do_not_exclude_each_other_stay_so(halbert, tmp_path):
    several = {"problem_type": "multi_label_classification"}
    model = hugging(lambda folder: change_config(folder, lambda config: config.update(several)))(tmp_path)
    assert halbert("convert", model, tmp_path / "out").status == 0
    assert load_bundle(tmp_path / "out").heads["label"].several
    assert json.loads((tmp_path / "out" / "config.json").read_text())["problem_type"] == several["problem_type"]


def test_a_number_of_5000_digits(halbert, tmp_path):
    model = hugging(lambda folder: (folder / "config.json").write_text('{"a": ' + "9" * 5000 + "}"))(tmp_path)
    done = halbert("convert", model, tmp_path / "out")
    assert done.status == 1 and "config.json: is not valid JSON" in done.err


@pytest.mark.parametrize(
    ("value", "dtype", "told"), [(1e5, "float16", "holds 100000, beyond the largest"), (np.nan, "float32", "NaN")]
)
def test_weights_that_cannot_be_written(halbert, tmp_path, value, dtype, told):
    def change(tensors):
        tensors["classifier.weight"][0, 0] = value

    model = hugging(lambda folder: change_tensors(folder, change))(tmp_path)
    done = halbert("convert", model, tmp_path / "out", "--dtype", dtype)
    assert done.status == 1 and told in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "tokenizer_class is 'BertJapaneseTokenizer'"),
        ({"do_lower_case": "false"}, "do_lower_case is 'false'; expected true or false"),
    ],
)
def test_a_tokenizer_that_is_another(halbert, tmp_path, change, told):
    model = hugging(lambda folder: None)(tmp_path)
    file = model / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    done = halbert("convert", model, tmp_path / "out")
    assert done.status == 1 and told in done.err
