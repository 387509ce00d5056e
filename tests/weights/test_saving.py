"""A bundle is written whole or not at all, and the same bundle gives the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import halbert.bundle
import halbert.files
from halbert.errors import InputError
from halbert.source import load_bundle, resolve_bundle
from halbert.weights import tensors
from tests import tiny
from tests.weights.folders import files


def bundle(seed: int = 0):
    return tiny.bundle(heads={name: tiny.HEADS[name] for name in ("label", "score")}, seed=seed)


def test_same_bundle_same_bytes(tmp_path):
    first, second = bundle().save(tmp_path / "a"), bundle().save(tmp_path / "b")
    assert files(first) == files(second)
    assert set(files(first)) >= {
        "config.json",
        "model.safetensors",
        "halbert.json",
        "provenance.json",
        "README.md",
        "vocab.txt",
    }
    other = bundle(seed=1).save(tmp_path / "c")
    assert files(other)["model.safetensors"] != files(first)["model.safetensors"]


def test_the_order_of_arrays_does_not_matter(tmp_path):
    turned = bundle()
    turned.arrays = dict(reversed(turned.arrays.items()))
    assert files(turned.save(tmp_path / "a")) == files(bundle().save(tmp_path / "b"))


def test_files_are_readable_by_others(tmp_path):
    place = bundle().save(tmp_path / "a")
    assert place.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o044 for path in place.rglob("*") if path.is_file()} == {0o044}


FAILURES = {
    "weights": (tensors, "serialize_file"),
    "tokenizer": (type(tiny.tokenizer()), "save"),
    "card": (halbert.bundle, "card"),
}


def fail(*args, **named):
    raise OSError("the disk is full")


@pytest.mark.parametrize("where", FAILURES)
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, where):
    monkeypatch.setattr(*FAILURES[where], fail)
    with pytest.raises(OSError, match="the disk is full"):
        bundle().save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", FAILURES)
def test_a_failure_leaves_the_old_folder(tmp_path, monkeypatch, where):
    before = files(bundle().save(tmp_path / "a"))
    with monkeypatch.context() as patch:
        patch.setattr(*FAILURES[where], fail)
        with pytest.raises(OSError, match="the disk is full"):
            bundle(seed=1).save(tmp_path / "a", overwrite=True)
    assert files(tmp_path / "a") == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_at_the_last_rename_leaves_the_old_folder(tmp_path, monkeypatch):
    before = files(bundle().save(tmp_path / "a"))
    rename, calls = os.rename, []

    def second_fails(source, target):
        calls.append(source)
        if len(calls) == 2:
            fail()
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(halbert.files, "_exchange", lambda a, b: False)  # as on a system that cannot
        patch.setattr(halbert.files.os, "rename", second_fails)
        with pytest.raises(OSError, match="the disk is full"):
            bundle(seed=1).save(tmp_path / "a", overwrite=True)
    assert files(tmp_path / "a") == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("exchange", [True, False])
def test_overwriting_replaces_everything(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(halbert.files, "_exchange", lambda a, b: False)
    place = bundle().save(tmp_path / "a")
    (place / "old.txt").write_text("old")
    bundle(seed=1).save(place, overwrite=True)
    assert files(place) == files(bundle(seed=1).save(tmp_path / "b"))
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_a_folder_of_the_user_is_not_touched(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty"):
        bundle().save(tmp_path / "a")
    assert files(tmp_path / "a") == {"thesis.txt": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_is_not_replaced(tmp_path):
    (tmp_path / "a").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is a file"):
            bundle().save(tmp_path / "a", overwrite=overwrite)
    assert (tmp_path / "a").read_text() == "mine"


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path):
    (tmp_path / "a").mkdir()
    assert files(bundle().save(tmp_path / "a")) == files(bundle().save(tmp_path / "b" / "c" / "d"))


def test_a_loaded_bundle_can_be_saved_over_itself(tmp_path):
    place = bundle().save(tmp_path / "a")
    before = files(place)
    load_bundle(place).save(place, overwrite=True)
    changed = {name for name, data in files(place).items() if data != before[name]}
    assert changed <= {"README.md"}  # the name in its title


SAVE = """
import signal, sys
from pathlib import Path
from tests import tiny
signal.signal(signal.SIGINT, signal.default_int_handler)  # programs started in the background ignore Ctrl-C
print("ready", flush=True)
while True:
    for seed in (0, 1):
        tiny.bundle(heads={"label": tiny.HEADS["label"]}, seed=seed).save(Path(sys.argv[1]), overwrite=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_process_leaves_the_old_folder_or_the_new(tmp_path, how):
    valid = [
        files(tiny.bundle(heads={"label": tiny.HEADS["label"]}, seed=seed).save(tmp_path / f"s{seed}"))
        for seed in (0, 1)
    ]
    target = tmp_path / "made" / "model"
    for pause in (0.0, 0.013, 0.029, 0.041, 0.067):
        command = [sys.executable, "-c", SAVE, str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            while not target.exists():
                time.sleep(0.001)
            time.sleep(pause)
            process.send_signal(how)
            try:
                process.wait(20)
            finally:
                process.kill()
        assert files(target) in valid
    if how == signal.SIGINT:  # a killed process cannot tidy up, an interrupted one does
        assert [path.name for path in target.parent.iterdir()] == ["model"]


FULL = """
import resource, signal, sys
from pathlib import Path
from tests import tiny
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    tiny.bundle(seed=1, heads={"label": tiny.HEADS["label"]}).save(Path(sys.argv[1]), overwrite=True)
except Exception as error:
    print(type(error).__name__)
"""


def test_a_full_disk_leaves_the_old_folder(tmp_path):
    """A limit on the size of a file fails the same system call as a full disk."""
    before = files(bundle().save(tmp_path / "a"))
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert done.stdout.strip(), done.stderr
    assert files(tmp_path / "a") == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_transformers_cuts_where_the_model_ends(tmp_path, kind):
    """Without ``model_max_length`` it cuts nowhere, and a long text is an index error."""
    transformers = pytest.importorskip("transformers")
    made = bundle() if kind == "wordpiece" else resolve_bundle("albert-mini-100")
    longest = made.spec.encoder.max_position_embeddings
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.save(tmp_path / "a"))
    assert tokenizer.model_max_length == longest
    assert len(tokenizer("the cat " * longest, truncation=True)["input_ids"]) == longest


def test_what_appeared_meanwhile_is_not_replaced(tmp_path):
    with (
        pytest.raises(InputError, match="has come to be there") as told,
        halbert.files.whole_folder(tmp_path / "out") as folder,
    ):
        (folder / "made").write_text("hours of work")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("theirs")
    assert (tmp_path / "out" / "theirs").read_text() == "theirs"
    (kept,) = [p for p in tmp_path.iterdir() if p.name != "out"]
    assert str(kept) in str(told.value) and (kept / "made").read_text() == "hours of work"


def test_a_mount_point_cannot_be_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("halbert.files.os.path.ismount", lambda path: str(path) == str(tmp_path / "disk"))
    (tmp_path / "disk").mkdir()
    with pytest.raises(InputError, match="is a disk's own folder"), halbert.files.whole_folder(tmp_path / "disk"):
        pass
    assert halbert.files.check_target(tmp_path / "disk")  # what is written file by file may go there
    with halbert.files.whole_folder(tmp_path / "disk" / "in-it") as folder:
        (folder / "a").touch()
