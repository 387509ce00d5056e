"""Texts and answers at addresses that fsspec knows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import tiny

fsspec = pytest.importorskip("fsspec")
TEXTS = ["the cat sat", "a dog ran", "the mat"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An address, what is there as files, and a working directory of its own."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tiny.bundle(tiny.encoder(), {}).save(tmp_path / "m")
    (tmp_path / "there/texts.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    return tmp_path


def test_vectors_go_where_they_are_wanted(place, halbert):
    address = f"file://{place}/there"
    halbert(
        "embed",
        str(place / "m"),
        "--input",
        f"{address}/texts.txt",
        "--output",
        f"{address}/v.npy",
        "--precision",
        "fp32",
    )
    halbert("embed", str(place / "m"), *TEXTS, "--output", "v.npy", "--precision", "fp32")
    np.testing.assert_array_equal(np.load(place / "there/v.npy"), np.load("v.npy"))
    assert [path.name for path in (place / "here").iterdir()] == ["v.npy"]  # nothing else stays here
    told = halbert("tokenize", str(place / "m"), "--input", f"{address}/texts.txt", "--json").out
    assert len(told.splitlines()) == 3 and json.loads(told.splitlines()[0])["tokens"][1] == "the"


def test_what_is_not_there_and_what_cannot_be_written(place, halbert):
    model, address = str(place / "m"), f"file://{place}/there"
    told = halbert("embed", model, "--input", f"{address}/none.txt", "--output", "v.npy")
    assert told.status == 1
    assert f"{address}/none.txt: cannot be read" in told.err and len(told.err.splitlines()) <= 2
    (place / "there/file").write_text("")
    told = halbert("embed", model, "a", "--output", f"{address}/file/v.npy")
    assert "cannot be written" in told.err and "the file is here: .halbert-" in told.err
    (kept,) = (place / "here").glob(".halbert-*-v.npy")
    assert np.load(kept).shape[0] == 1
    told = halbert("embed", model, "a", "--output", "nowhere9://b/v.npy")
    assert "nowhere9" in told.err and "Traceback" not in told.err
