"""A bundle is written whole or not at all, and the same bundle gives the same bytes."""

from __future__ import annotations

import os

import pytest

import halbert.bundle
import halbert.files
from halbert.errors import InputError
from halbert.source import load_bundle
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
        patch.setattr(halbert.files.os, "rename", second_fails)
        with pytest.raises(OSError, match="the disk is full"):
            bundle(seed=1).save(tmp_path / "a", overwrite=True)
    assert files(tmp_path / "a") == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_overwriting_replaces_everything(tmp_path):
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
