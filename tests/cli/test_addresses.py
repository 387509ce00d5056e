"""Texts and answers at addresses that fsspec knows; here its file system in memory."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest

from tests import small, tiny

fsspec = pytest.importorskip("fsspec")
TEXTS = ["the cat sat", "a dog ran", "the mat"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model ``m``; the working directory ``here`` is inside."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tiny.bundle(tiny.encoder(), {}).save(tmp_path / "m")
    return tmp_path


@pytest.fixture
def there():
    memory = fsspec.filesystem("memory")
    memory.pipe("/there/texts.txt", "".join(f"{text}\n" for text in TEXTS).encode())
    yield memory
    memory.rm("/there", recursive=True)


def vectors(model, halbert, *more):
    done = halbert("embed", model, *more, "--precision", "fp32")
    assert done.status == 0, done.err


def test_vectors_go_where_they_are_wanted(place, there, halbert):
    vectors(place / "m", halbert, "--input", "memory://there/texts.txt", "--output", "memory://there/v.npy")
    vectors(place / "m", halbert, *TEXTS, "--output", "v.npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(there.cat("/there/v.npy"))), np.load("v.npy"))
    assert [path.name for path in (place / "here").iterdir()] == ["v.npy"]  # nothing else stays here
    told = halbert("tokenize", place / "m", "--input", "memory://there/texts.txt", "--json").out
    assert len(told.splitlines()) == 3 and json.loads(told.splitlines()[0])["tokens"][1] == "the"


def test_labelled_rows_are_brought(place, there, halbert):
    small.bundle(("label",)).save(place / "tuned")
    table = small.write_csv(place / "rows.csv", small.rows(12))
    there.pipe("/there/rows.csv", table.read_bytes())
    told = []
    for data in ("memory://there/rows.csv", str(table), f"file://{table}"):
        done = halbert("evaluate", place / "tuned", "--data", data, "--json", "--precision", "fp32")
        assert done.status == 0 and ("bringing memory" in done.err) == data.startswith("memory"), done.err
        told.append(json.loads(done.out)["metrics"])
    assert told[0] == told[1] == told[2]
    lost = halbert("evaluate", place / "tuned", "--data", "memory://there/none.csv")
    assert lost.status == 1 and "memory://there/none.csv: cannot be read" in lost.err


def test_a_path_may_be_written_as_an_address(place, halbert):
    (place / "texts.txt").write_text("the cat\n")
    vectors(place / "m", halbert, "--input", f"file://{place}/texts.txt", "--output", f"file://{place}/v.npy")
    assert np.load(place / "v.npy").shape[0] == 1


def test_what_is_not_there(place, there, halbert):
    told = halbert("embed", place / "m", "--input", "memory://there/none.txt", "--output", "v.npy")
    assert (
        told.status == 1 and "memory://there/none.txt: cannot be read" in told.err and len(told.err.splitlines()) <= 2
    )
    told = halbert("embed", place / "m", "a", "--output", "nowhere9://b/v.npy")
    assert told.status == 1 and "nowhere9" in told.err and "Traceback" not in told.err
    told = halbert("embed", place / "m", "a", "--input", "memory://there/texts.txt", "--output", "v.npy")
    assert told.status == 1 and "bringing" not in told.err and "either texts or --input" in told.err


def test_what_could_not_be_put_is_put_by_the_same_command(place, there, halbert, monkeypatch):
    from halbert.run import predictor

    with monkeypatch.context() as broken:
        broken.setattr(type(there), "put_file", lambda *given: (_ for _ in ()).throw(PermissionError("no key")))
        told = halbert("embed", place / "m", "the cat", "--output", "memory://there/v.npy")
        assert told.status == 1 and "cannot be written: no key; the file is here: .halbert-" in told.err
    monkeypatch.setattr(predictor.Predictor, "embed", None)  # nothing is computed again
    told = halbert("embed", place / "m", "the cat", "--output", "memory://there/v.npy")
    assert told.status == 0, told.err
    assert there.exists("/there/v.npy") and not list((place / "here").iterdir())


def test_another_text_at_the_same_address_is_not_joined_to_old_answers(place, there, halbert):
    from halbert.run.parts import Parts

    vectors(place / "m", halbert, "--input", "memory://there/texts.txt", "--output", "old.npy")
    kept = Parts.remove
    try:
        Parts.remove = lambda self: None  # as if it had been stopped at the end
        vectors(place / "m", halbert, "--input", "memory://there/texts.txt", "--output", "v.npy")
    finally:
        Parts.remove = kept
    there.pipe("/there/texts.txt", b"a dog\n")
    os.unlink("v.npy")
    told = halbert("embed", place / "m", "--input", "memory://there/texts.txt", "--output", "v.npy")
    assert told.status == 1 and "another command has finished" in told.err
    vectors(place / "m", halbert, "--input", "memory://there/texts.txt", "--output", "v.npy", "--overwrite")
    assert np.load("old.npy").shape[0] == 3 and np.load("v.npy").shape[0] == 1


def corpus(halbert, model, out, *more):
    return halbert("corpus", "memory://there/texts.txt", "--tokenizer", model, "--out", out, "--workers", "1", *more)


def test_a_corpus_goes_where_it_is_wanted(place, there, halbert, monkeypatch):
    assert corpus(halbert, place / "m", "c").status == 0
    told = corpus(halbert, place / "m", "memory://there/deep/c")
    assert told.status == 0 and "putting the corpus to memory://there/deep/c" in told.err, told.err
    names = sorted(path.name for path in (place / "here/c").iterdir())
    assert sorted(found.rpartition("/")[2] for found in there.ls("/there/deep/c", detail=False)) == names
    for name in names:
        assert there.cat(f"/there/deep/c/{name}") == (place / "here/c" / name).read_bytes()
    assert [path.name for path in (place / "here").iterdir()] == ["c"]
    assert corpus(halbert, place / "m", f"file://{place}/also").status == 0 and (place / "also/manifest.json").exists()
    # What is there is replaced only when asked, and then nothing of it stays.
    there.pipe("/there/deep/c/ids-00009.npy", b"old")
    told = corpus(halbert, place / "m", "memory://there/deep/c")
    assert (
        told.status == 1 and "memory://there/deep/c: exists and is not empty" in told.err and "--overwrite" in told.err
    )
    assert corpus(halbert, place / "m", "memory://there/deep/c", "--overwrite").status == 0
    assert len(there.ls("/there/deep/c")) == len(names)
    # Nothing but a corpus is.
    there.pipe("/there/deep/photo.jpg", b"mine")
    for folder in ("deep", "deep/c"):
        told = corpus(halbert, place / "m", f"memory://there/{folder}", "--overwrite")
        assert told.status == (1 if folder == "deep" else 0) and ("holds other files (c)" in told.err) == (
            folder == "deep"
        )
    assert there.cat("/there/deep/photo.jpg") == b"mine"
    # Corpora are put together there too.
    assert halbert("corpus", "--merge", "c", "c", "--out", "memory://there/both").status == 0
    assert json.loads(there.cat("/there/both/manifest.json"))["documents"] == 2


def test_a_corpus_that_could_not_be_put_stays_here(place, there, halbert, monkeypatch):
    sent, send = [], type(there).put_file

    def fail(self, file, path, **more):
        sent.append(path.rpartition("/")[2])
        if len(sent) == 3:
            raise PermissionError("no key")
        return send(self, file, path, **more)

    with monkeypatch.context() as broken:
        broken.setattr(type(there), "put_file", fail)
        told = corpus(halbert, place / "m", "memory://there/c")
        assert told.status == 1 and "cannot be written: no key; what was made is here: " in told.err
    assert (
        not there.exists("/there/c/manifest.json") and len(list((place / "here").glob(".halbert-*/manifest.json"))) == 1
    )
    told = corpus(halbert, place / "m", "memory://there/c")
    assert told.status == 0 and there.exists("/there/c/manifest.json") and not list((place / "here").iterdir())
    told = halbert("corpus", "memory://there/texts.txt", "--tokenizer", place / "m", "--out", "nowhere9://b/c")
    assert told.status == 1 and "nowhere9" in told.err and "Traceback" not in told.err


def test_a_corpus_that_came_first_stays(place, there, halbert, monkeypatch):
    """It was not there when the work began, or when the same command could not put its own."""
    from halbert.cli import corpus as verb

    put = verb._put

    def late(made, out, overwrite):
        there.pipe("/there/c/manifest.json", b"another's")
        put(made, out, overwrite)

    with monkeypatch.context() as slow:
        slow.setattr(verb, "_put", late)
        told = corpus(halbert, place / "m", "memory://there/c")
    assert told.status == 1 and "exists and is not empty" in told.err and "what was made is here: " in told.err
    told = corpus(halbert, place / "m", "memory://there/c")
    assert told.status == 1 and there.cat("/there/c/manifest.json") == b"another's"
    assert corpus(halbert, place / "m", "memory://there/c", "--overwrite").status == 0
    assert not list((place / "here").iterdir())


def test_where_nothing_can_be_written_is_known_before_the_work(place, there, halbert, monkeypatch):
    def refuse(self, path, data, **more):
        raise NotImplementedError("read-only")

    monkeypatch.setattr(type(there), "pipe_file", refuse)
    told = corpus(halbert, place / "m", "memory://there/c")
    assert told.status == 1 and "memory://there/c: cannot be written: read-only" in told.err
    assert not list((place / "here").iterdir())


def test_what_is_there_is_replaced_only_when_asked(place, there, halbert):
    vectors(place / "m", halbert, "the cat", "--output", "memory://there/v.npy")
    told = halbert("embed", place / "m", "a dog", "--output", "memory://there/v.npy")
    assert told.status == 1 and "memory://there/v.npy: exists already" in told.err and "--overwrite" in told.err
    before = there.cat("/there/v.npy")
    vectors(place / "m", halbert, "a dog", "--output", "memory://there/v.npy", "--overwrite")
    assert there.cat("/there/v.npy") != before


def test_who_may_write_but_not_look(place, there, halbert, monkeypatch):
    monkeypatch.setattr(type(there), "exists", lambda *given, **how: (_ for _ in ()).throw(PermissionError("no list")))
    vectors(place / "m", halbert, "the cat", "--output", "memory://there/v.npy")
    monkeypatch.undo()
    monkeypatch.chdir(place / "here")
    assert there.exists("/there/v.npy")
