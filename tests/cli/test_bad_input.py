"""Whatever the user gets wrong ends with status 1 and one line that says what; nothing half-written stays behind."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil

import numpy as np
import pytest

from halbert.errors import Regression, Stopped
from tests import small
from tests.weights.folders import change_config, change_tensors


def refused(done, *words: str) -> None:
    assert done.status == 1, done
    assert done.out == ""
    assert "Traceback" not in done.err
    told = [line for line in done.err.splitlines() if not re.search(r"…$|: done in \d+ s$", line)]  # progress
    assert len(told) == 1 and told[0].startswith("halbert: "), done.err
    for word in words:
        assert word in told[0], f"{word!r} is not in {told[0]!r}"


@pytest.fixture(autouse=True)
def nothing_left(tmp_path, world):
    """A refused command leaves no new file, not even a hidden one, where it was to write or read."""
    before = small.left_in(world)
    (tmp_path / "room").mkdir()
    yield
    assert small.left_in(tmp_path / "room") == []
    assert small.left_in(world) == before


@pytest.fixture
def out(tmp_path, nothing_left):
    return tmp_path / "room" / "out"


# Verbs that read a labelled file: the file's place in the command is marked by None.
READERS = {
    "evaluate": ["evaluate", "tuned", "--data", None],
    "finetune": ["finetune", "model", "--train", None, "--dev", "dev.csv", "--out", "OUT", "--quiet"],
    "finetune dev": ["finetune", "model", "--train", "rows.csv", "--dev", None, "--out", "OUT", "--quiet"],
    "audit": ["audit", "model", "albert", "--task", "classify", "--data", None, "--out", "OUT", "--quiet"],
}
TEXTS = {
    "predict": ["predict", "tuned", "--input", None, "--output", "OUT"],
    "embed": ["embed", "model", "--input", None, "--output", "OUT.npy"],
    "tokenize": ["tokenize", "model", "--input", None],
}
LINES = {
    "vocab": ["vocab", None, "--size", "60", "--out", "OUT"],
    "corpus": ["corpus", None, "--tokenizer", "model", "--out", "OUT"],
}


def filled(command, world, out, file):
    found = []
    for part in command:
        if part is None:
            found.append(file)
        elif part.startswith("OUT"):
            found.append(f"{out}{part[3:]}")
        else:
            found.append(world / part if (world / part).exists() else part)
    return found


def every(*tables):
    return [pytest.param(command, id=name) for table in tables for name, command in table.items()]


def named(stem, command):
    """A name that the verb reads: vocab and corpus take tables for no text."""
    return f"{stem}.{'txt' if command in LINES.values() else 'csv'}"


@pytest.mark.parametrize("command", every(READERS, TEXTS, LINES))
def test_missing_file(halbert, world, out, command):
    name = named("gone", command)
    refused(halbert(*filled(command, world, out, world / name)), name, "no such file")


@pytest.mark.parametrize("command", every(LINES))
def test_a_table_is_no_text(halbert, world, out, command):
    refused(halbert(*filled(command, world, out, world / "rows.csv")), "rows.csv: ends in .csv", "plain text, .jsonl")


@pytest.mark.parametrize("command", every(READERS, TEXTS, LINES))
def test_empty_file(halbert, world, out, tmp_path, command):
    file = tmp_path / named("nothing", command)
    file.write_bytes(b"")
    refused(halbert(*filled(command, world, out, file)), file.name, "is empty")


@pytest.mark.parametrize("command", every(READERS, TEXTS))
def test_a_header_without_rows(halbert, world, out, tmp_path, command):
    file = tmp_path / "bare.csv"
    file.write_text("text,label\n")
    refused(halbert(*filled(command, world, out, file)), "bare.csv", "holds no rows")


@pytest.mark.parametrize("command", every(READERS))
def test_a_missing_column_and_the_nearest(halbert, world, out, tmp_path, command):
    file = small.write_csv(tmp_path / "other.csv", small.rows(9), ("text", "lable"))
    refused(halbert(*filled(command, world, out, file)), "'label'", "did you mean 'lable'?", "other.csv")


@pytest.mark.parametrize("command", every(TEXTS))
def test_no_text_column(halbert, world, out, tmp_path, command):
    file = small.write_csv(tmp_path / "other.csv", [("x", "y")], ("sentence", "label"))
    refused(halbert(*filled(command, world, out, file)), "no column 'text'", "sentence, label")


@pytest.mark.parametrize("name", ["finetune", "audit"])
def test_one_class_only(halbert, world, out, tmp_path, name):
    file = small.write_csv(tmp_path / "same.csv", [("the cat", "red"), ("a mat", "red"), ("wa", "red")] * 4)
    refused(halbert(*filled(READERS[name], world, out, file)), "one label ('red')", "at least two classes")


@pytest.mark.parametrize("name", ["finetune dev", "evaluate"])
def test_a_label_nobody_knows(halbert, world, out, tmp_path, name):
    file = small.write_csv(tmp_path / "odd.csv", [("the cat", "purple")])
    refused(halbert(*filled(READERS[name], world, out, file)), "'purple'", "red, green, blue")


@pytest.mark.parametrize("command", every(READERS, TEXTS, LINES))
def test_bytes_that_are_not_utf8(halbert, world, out, tmp_path, command):
    file = tmp_path / named("latin", command)
    file.write_bytes("text,label\nthe cat,red\nun café,green\n".encode("latin-1"))
    refused(halbert(*filled(command, world, out, file)), "line 3 is not UTF-8")


@pytest.mark.parametrize("command", every(TEXTS))
def test_standard_input_that_is_not_utf8(halbert, world, out, command):
    refused(halbert(*filled(command, world, out, "-"), stdin=b"ab\xff"), "standard input: line 1 is not UTF-8")


@pytest.mark.parametrize("command", every(READERS, TEXTS))
def test_damaged_gzip(halbert, world, out, tmp_path, command):
    import gzip

    data = bytearray(gzip.compress(b"text,label\n" + b"".join(b"the cat %d,red\n" % i for i in range(500))))
    data[30:60] = bytes(30)
    file = tmp_path / "torn.csv.gz"
    file.write_bytes(bytes(data))
    refused(halbert(*filled(command, world, out, file)), "torn.csv.gz")


@pytest.mark.parametrize("command", every(READERS, TEXTS))
def test_gzip_of_nothing(halbert, world, out, tmp_path, command):
    import gzip

    file = tmp_path / "void.csv.gz"
    file.write_bytes(gzip.compress(b""))
    refused(halbert(*filled(command, world, out, file)), "void.csv.gz", "holds no rows")


MODELS = {
    "inspect": ["inspect", None],
    "diff": ["diff", "bert-tiny", None],
    "convert": ["convert", None, "OUT"],
    "tokenize": ["tokenize", None, "a"],
    "corpus": ["corpus", "docs.txt", "--tokenizer", None, "--out", "OUT"],
    "pretrain": ["pretrain", "recipe.toml", "--tokenizer", None, "--out", "OUT", "--quiet"],
    "finetune": ["finetune", None, "--train", "rows.csv", "--dev", "dev.csv", "--out", "OUT", "--quiet"],
    "evaluate": ["evaluate", None, "--data", "rows.csv"],
    "predict": ["predict", None, "a", "--output", "OUT"],
    "embed": ["embed", None, "a", "--output", "OUT.npy"],
    "fill": ["fill", None, "a [MASK]"],
    "audit": ["audit", "model", None, "--out", "OUT", "--quiet"],
}
WEIGHED = {name: command for name, command in MODELS.items() if name not in ("corpus", "pretrain", "tokenize")}


@pytest.mark.parametrize("command", every(MODELS))
def test_a_folder_that_is_no_model(halbert, world, out, tmp_path, command):
    (tmp_path / "empty").mkdir()
    refused(halbert(*filled(command, world, out, tmp_path / "empty")), "empty: ")


@pytest.mark.parametrize("name", ["inspect", "diff"])
def test_a_name_nobody_knows(halbert, world, out, name):
    done = halbert(*filled(MODELS[name], world, out, "bert-base-uncasd"))
    refused(done, "no such folder", "did you mean 'bert-base-uncased'?")


@pytest.mark.parametrize("command", every(MODELS))
def test_heads_that_do_not_divide_the_width(halbert, world, out, tmp_path, command):
    broken = tmp_path / "broken"
    shutil.copytree(world / "model", broken)
    if command[0] in ("corpus", "pretrain", "tokenize"):
        # These read no more than the tokenizer and what halbert.json says.
        manifest = json.loads((broken / "halbert.json").read_text())
        manifest["spec"]["encoder"]["num_attention_heads"] = 5
        (broken / "halbert.json").write_text(json.dumps(manifest))
    else:
        (broken / "halbert.json").unlink()
        change_config(broken, lambda config: config.update(num_attention_heads=5))
    done = halbert(*filled(command, world, out, broken))
    refused(done, "12", "divisible", "5", str(broken))


@pytest.mark.parametrize("name", sorted(set(WEIGHED) - {"inspect", "diff"}))
def test_a_vocabulary_larger_than_the_embedding_table(halbert, world, out, tmp_path, name):
    broken = tmp_path / "broken"
    shutil.copytree(world / "model", broken)
    (broken / "halbert.json").unlink()
    change_config(broken, lambda config: config.update(vocab_size=20))

    def shorten(tensors):
        return {k: v[:20] if v.shape[:1] == (101,) else v for k, v in tensors.items()}

    change_tensors(broken, lambda tensors: {k: np.ascontiguousarray(v) for k, v in shorten(tensors).items()})
    done = halbert(*filled(WEIGHED[name], world, out, broken))
    refused(done, "vocabulary holds", "embedding table", "20")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--set", "stepz=3"], ["stepz", "did you mean 'steps'?"]),
        (["--set", "encoder.hiden_size=8"], ["hiden_size", "did you mean 'hidden_size'?"]),
        (["--set", "pretraining.maskin='word'"], ["maskin", "did you mean 'masking'?"]),
        (["--set", "steps"], ["expected key=value"]),
        (["--set", "steps.of=1"], ["steps is not a table"]),
        (["--set", "steps='many'"], ["steps"]),
        (["--set", "learning_rate=-1"], ["learning_rate is -1"]),
        (["--set", "encoder.num_attention_heads=3"], ["8", "divisible", "3"]),
        ([], ["names no corpus"]),
        (["--set", "corpus=nowhere"], ["nowhere", "is no corpus"]),
    ],
)
def test_recipes(halbert, world, out, change, words):
    command = ["pretrain", world / "recipe.toml", "--tokenizer", world / "model", "--out", out, "--quiet"]
    refused(halbert(*command, *change), *words)


def test_a_recipe_file_with_an_unknown_key(halbert, world, out, tmp_path):
    file = tmp_path / "odd.toml"
    file.write_text("batch_token = 64\n")
    done = halbert("pretrain", file, "--tokenizer", world / "model", "--out", out, "--quiet")
    refused(done, "odd.toml", "'batch_token'", "did you mean 'batch_tokens'?")


@pytest.mark.parametrize("text", ["steps = ", "[encoder", "\x00"])
def test_a_recipe_that_is_no_toml(halbert, world, out, tmp_path, text):
    file = tmp_path / "odd.toml"
    file.write_text(text)
    refused(halbert("pretrain", file, "--tokenizer", world / "model", "--out", out), "odd.toml", "not valid TOML")


def test_a_recipe_nobody_ships(halbert, world, out):
    done = halbert("pretrain", "bert-mni", "--tokenizer", world / "model", "--out", out)
    refused(done, "no shipped recipe", "did you mean 'bert-mini'?", "albert-mini")


@pytest.mark.parametrize(
    "change", [["--set", "epoch=1"], ["--set", "epochs=0"], ["--set", "length=4000"], ["--task", "clasify"]]
)
def test_fine_tuning_refuses(halbert, world, out, change):
    command = filled(READERS["finetune"], world, out, world / "rows.csv")
    refused(halbert(*command, *change), change[1].split("=")[0])


WRITERS = {
    "convert": ["convert", "model", "OUT"],
    "vocab": ["vocab", "docs.txt", "--size", "60", "--out", "OUT"],
    "corpus": ["corpus", "docs.txt", "--tokenizer", "model", "--out", "OUT"],
    "pretrain": ["pretrain", "recipe.toml", "--tokenizer", "model", "--out", "OUT"],
    "finetune": ["finetune", "model", "--train", "rows.csv", "--dev", "dev.csv", "--out", "OUT", "--quiet"],
    "audit": ["audit", "model", "albert", "--out", "OUT", "--quiet"],
    "audit of its own": ["audit", "--out", "OUT", "--quiet"],
}


@pytest.mark.parametrize("command", every(WRITERS))
def test_the_output_folder_holds_something(halbert, world, tmp_path, command):
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("keep me")
    refused(halbert(*filled(command, world, full, None)), "exists and is not empty")
    assert small.left_in(full) == ["precious"]
    assert (full / "precious").read_text() == "keep me"


@pytest.mark.parametrize("command", every(WRITERS))
def test_the_output_folder_is_a_file(halbert, world, tmp_path, command):
    (tmp_path / "file").write_text("keep me")
    refused(halbert(*filled(command, world, tmp_path / "file", None)), "is a file")
    assert (tmp_path / "file").read_text() == "keep me"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["fill", "model", "no gap"], ["holds no [MASK]"]),
        (["fill", "tuned", "a [MASK]"], ["has no masked-piece head"]),
        (["predict", "model", "a"], ["no fine-tuned head", "halbert finetune"]),
        (["predict", "tuned", "a", "--head", "lable"], ["no head 'lable'", "did you mean 'label'?"]),
        (["predict", "tuned"], ["give either texts or --input"]),
        (["predict", "tuned", "a", "--input", "lines.txt"], ["give either texts or --input"]),
        (["predict", "tuned", "a", "--max-length", "131"], ["131", "130 positions"]),
        (["predict", "tuned", "a", "--device", "cuda", "--backend", "openvino"], ["runs on CPUs", "--backend torch"]),
        (["evaluate", "scored", "--data", "rows.csv"], ["no column 'score'"]),
        (["embed", "model", "a", "--output", "OUT.txt"], [".npy"]),
        (["embed", "model", "--input", "pairs.csv", "--output", "OUT.npy"], ["pairs", "a column text alone"]),
        (["fill", "albert", "[MASK]" + "!" * 140 + "[MASK]"], ["of its [MASK] beyond the 130"]),
        (["tokenize", "model", "a", "b", "c", "--pair"], ["even number", "3"]),
        (["vocab", "docs.txt", "--size", "9", "--out", "OUT"], ["9", "at least 32"]),
        (["audit", "model", "--out", "OUT"], ["at least two"]),
        (["audit", "model", "albert", "--precision", "fp16", "--out", "OUT"], ["fp16 is for GPUs"]),
        (["audit", "model", "albert", "--only", "sice", "--out", "OUT"], ["did you mean 'size'?"]),
        (["audit", "model", "albert", "--task", "classify", "--out", "OUT"], ["1 --task for 0 --data"]),
        (["audit", "--task", "classify", "--data", "rows.csv", "--out", "OUT"], ["name at least two"]),
        (["audit", "model", "--languages", "--out", "OUT"], ["at least two models, or none"]),
        (["audit", "model", "albert", "--languages", "--data", "rows.csv", "--out", "OUT"], ["without --languages"]),
        (["embed", "model", "a", "--output", "OUT.npy", "--address", "here:1"], ["--engine ray"]),
        (["embed", "model", "--input", "-", "--output", "OUT.npy", "--engine", "ray"], ["cannot be read twice"]),
        (["predict", "tuned", "a", "--engine", "ray"], ["name one with --output"]),
        (["audit", "model", "albert", "--seconds", "9", "--out", "OUT"], ["--seconds trains models"]),
        (["audit", "--report-only", "OUT", "--seeds", "9", "--out", "OUT"], ["--report-only measures nothing"]),
        (["audit", "--report-only", "OUT", "--threads", "1", "--out", "OUT"], ["--report-only measures nothing"]),
        (["audit", "model", "albert", "--set", "epoch=1", "--out", "OUT"], ["did you mean 'epochs'?"]),
    ],
)
def test_what_cannot_be_done(halbert, world, out, command, words):
    refused(halbert(*filled(command, world, out, None)), *words)


@pytest.mark.parametrize("data", [b"\n\n\n", b" \n"])
def test_text_without_words(halbert, world, out, tmp_path, data):
    file = tmp_path / "blank.txt"
    file.write_bytes(data)
    refused(halbert(*filled(LINES["corpus"], world, out, file)), "no text")
    refused(halbert(*filled(LINES["vocab"], world, out, file)), "no words")


@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["nonsense"],
        ["inspect", "model", "--jsn"],
        ["predict", "tuned", "a", "--precision", "fp17"],
        ["predict", "tuned", "a", "--batch-tokens", "0"],
        ["predict", "tuned", "a", "--threads", "many"],
        ["embed", "model", "a"],
        ["finetune", "model", "--train", "rows.csv", "--dev", "dev.csv", "--out", "OUT", "--seeds", "0"],
        ["audit", "model", "albert"],
    ],
)
def test_usage_errors_end_with_2(halbert, world, out, command):
    done = halbert(*filled(command, world, out, None))
    assert done.status == 2
    assert done.out == "" and "Usage: halbert" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
        (Stopped("stopped; go on with --resume"), 75),
        (Regression("slower than before"), 3),
        (OSError(errno.ENOSPC, "No space left on device", "/full/file"), 1),
        (ZeroDivisionError("oh"), 70),
        (AssertionError("no"), 70),
    ],
)
def test_other_ends(halbert, monkeypatch, error, status):
    def fail(*_):
        raise error

    monkeypatch.setattr("halbert.source.resolve_spec", fail)
    done = halbert("inspect", "bert-tiny")
    assert done.status == status
    assert ("Traceback" in done.err) == (status == 70)
    assert ("Please report" in done.err) == (status == 70)
    if isinstance(error, OSError):
        assert done.err == "halbert: /full/file: cannot be written: No space left on device\n"
    elif str(error) and not isinstance(error, SystemExit):
        assert str(error) in done.err
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        assert done.err == "halbert: stopped; nothing half-written was left behind\n"


def test_the_message_goes_to_standard_error_in_a_real_process(world):
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", "from halbert.cli.main import run; run()", "inspect", str(world / "gone")],
        capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("halbert: ") and done.stderr.count("\n") == 1
