"""Nothing of the user's is lost by a name: files that exist, other commands' parts, folders that are no reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from halbert.files import hold
from tests import small


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small.bundle(("label",), seed=2).save("m")
    small.bundle(("label",), seed=3).save("other")
    (tmp_path / "texts.txt").write_text("the cat\na mat\n")
    return tmp_path


def refused(told, *words):
    assert told.status == 1 and len(told.err.strip().splitlines()) <= 2, told.err
    for word in words:
        assert word in told.err


@pytest.mark.parametrize(("verb", "name"), [("embed", "a.npy"), ("embed", "a.parquet"), ("predict", "a.jsonl")])
def test_a_file_that_exists(place, halbert, verb, name):
    (place / name).write_text("mine")
    refused(halbert(verb, "m", "the cat", "--output", name), name, "exists", "--overwrite")
    assert (place / name).read_text() == "mine"
    assert halbert(verb, "m", "the cat", "--output", name, "--overwrite").status == 0
    assert (place / name).read_bytes() != b"mine"
    assert sorted(os.listdir(place)) == sorted({"m", "other", "texts.txt", name})


def test_the_input_is_never_the_output(place, halbert):
    (place / "rows.jsonl").write_text('{"text": "the cat"}\n')
    os.symlink("rows.jsonl", place / "link.jsonl")
    for name in ("rows.jsonl", "link.jsonl"):
        told = halbert("predict", "m", "--input", "rows.jsonl", "--output", name, "--overwrite")
        refused(told, name, "is the input, too")
    assert (place / "rows.jsonl").read_text() == '{"text": "the cat"}\n'


def test_what_is_no_file(place, halbert):
    (place / "folder.npy").mkdir()
    refused(halbert("embed", "m", "a", "--output", "folder.npy", "--overwrite"), "folder.npy: is a folder")
    os.mkfifo(place / "pipe.npy")
    refused(halbert("embed", "m", "a", "--output", "pipe.npy", "--overwrite"), "pipe.npy: is no regular file")
    refused(halbert("embed", "m", "a", "--output", "texts.txt/v.npy"), "texts.txt/v.npy: cannot be written")
    refused(halbert("predict", "m", "a", "--output", "v.csv"), "v.csv: answers are written as .jsonl or .parquet")
    refused(halbert("predict", "m", "--input", "m"), "m: is a folder")
    assert sorted(os.listdir(place)) == ["folder.npy", "m", "other", "pipe.npy", "texts.txt"]


def test_a_link_stays_and_what_it_leads_to_is_written(place, halbert):
    (place / "real.npy").write_text("old")
    os.symlink("real.npy", place / "link.npy")
    assert halbert("embed", "m", "the cat", "--output", "link.npy", "--overwrite").status == 0
    assert (place / "link.npy").is_symlink() and np.load(place / "real.npy").shape == (1, 12)


def stop_midway(place, halbert, monkeypatch):
    """A run of m over the texts in parts of one, stopped after the first."""
    from halbert.run import answering, parts

    monkeypatch.setattr(parts.Parts.__init__, "__defaults__", (1, False))
    whole = answering.Answering.__call__

    def once(self, texts, start):
        if start:
            raise KeyboardInterrupt
        return whole(self, texts, start)

    with monkeypatch.context() as patch:
        patch.setattr(answering.Answering, "__call__", once)
        assert halbert("embed", "m", "--input", "texts.txt", "--output", "v.npy").status == 130
    assert [p.name for p in (place / ".v.npy.parts").glob("0*")] == ["00000000.npy"]


def test_another_command_does_not_drop_what_one_has_finished(place, halbert, monkeypatch):
    stop_midway(place, halbert, monkeypatch)
    refused(
        halbert("embed", "other", "--input", "texts.txt", "--output", "v.npy"), "v.npy", "another command has finished"
    )
    done = halbert("embed", "m", "--input", "texts.txt", "--output", "v.npy")
    assert done.status == 0 and "going on after 1 texts" in done.err
    stop_midway_again = place / ".v.npy.parts"
    assert not stop_midway_again.exists()


def test_another_command_drops_it_when_told_to(place, halbert, monkeypatch):
    stop_midway(place, halbert, monkeypatch)
    done = halbert("embed", "other", "--input", "texts.txt", "--output", "v.npy", "--overwrite")
    assert done.status == 0 and "going on" not in done.err
    assert halbert("embed", "other", "--input", "texts.txt", "--output", "w.npy").status == 0
    np.testing.assert_array_equal(np.load(place / "v.npy"), np.load(place / "w.npy"))


def test_what_was_begun_is_dropped_also_where_nobody_knows_any_more_what_it_was(place, halbert, monkeypatch):
    stop_midway(place, halbert, monkeypatch)
    (place / ".v.npy.parts/job.json").write_text("{")
    refused(halbert("embed", "m", "--input", "texts.txt", "--output", "v.npy"), "job.json", "is not valid JSON")
    assert halbert("embed", "m", "--input", "texts.txt", "--output", "v.npy", "--overwrite").status == 0


def test_two_at_once(place, halbert):
    (place / ".v.npy.parts").mkdir()
    with hold(place / ".v.npy.parts/lock", "x"):
        refused(halbert("embed", "m", "the cat", "--output", "v.npy"), "v.npy: another process is writing it")
        assert not (place / "v.npy").exists()
    assert halbert("embed", "m", "the cat", "--output", "v.npy").status == 0


@pytest.mark.parametrize("out", ["thesis", ".", ".."])
def test_an_audit_replaces_reports_only(place, halbert, monkeypatch, out):
    (place / "thesis").mkdir()
    (place / "thesis/thesis.txt").write_text("years of work")
    monkeypatch.chdir(place / "thesis" if out == ".." else place)
    prefix = "../" if out == ".." else ""
    told = halbert("audit", f"{prefix}m", f"{prefix}other", "--only", "size", "--overwrite", "--out", out)
    refused(told, f"{out}: ", "holds something else" if out == "thesis" else "the folder this was called in")
    assert (place / "thesis/thesis.txt").read_text() == "years of work"


def test_a_report_made_again_keeps_its_samples(place, halbert):
    audit = ("audit", "m", "other", "--only", "size", "--out", "report")
    assert halbert(*audit).status == 0
    before = {p.name: p.read_bytes() for p in (place / "report/samples").iterdir()}
    assert (
        before
        and halbert("audit", "--report-only", "report/results.json", "--out", "report", "--overwrite").status == 0
    )
    assert {p.name: p.read_bytes() for p in (place / "report/samples").iterdir()} == before
    assert halbert(*audit, "--resume").status == 0


def test_an_audit_of_what_is_no_classification(place, halbert):
    (place / "rows.csv").write_text("text,score\na,1\n")
    told = halbert("audit", "m", "other", "--task", "regress", "--data", "rows.csv", "--out", "report")
    refused(told, "--task regress: an audit's tasks are classifications")
    told = halbert("audit", "m", "other", "--data", "rows.csv", "--out", "report")
    refused(told, "0 --task for 1 --data; expected one for each")


@pytest.mark.parametrize("out", ["s3://bucket/x", "file:///tmp/x"])
@pytest.mark.parametrize(
    "words",
    [
        ("convert", "m"),
        ("finetune", "m", "--train", "rows.csv", "--dev", "rows.csv", "--out"),
        ("pretrain", "albert-mini", "--tokenizer", "m", "--set", "corpus=c", "--out"),
    ],
    ids=lambda words: words[0],
)
def test_folders_are_not_written_to_addresses(place, halbert, words, out):
    """Not to a folder of the address's name either."""
    (place / "rows.csv").write_text("text,label\nthe cat,yes\na mat,no\n")
    assert halbert("corpus", "texts.txt", "--tokenizer", "m", "--out", "c").status == 0
    before = sorted(os.listdir(place))
    refused(halbert(*words, out), f"{Path(out)}: is an address; expected the name of a folder on this machine")
    assert sorted(os.listdir(place)) == before


def test_files_whose_names_are_not_utf8(place):
    """Systems allow any bytes in a name: they are printed as they are, and recorded with a question mark."""
    source = place / os.fsdecode(b"\xff.txt")
    source.write_text("the cat sat\n")
    for words in (
        ["embed", "m", "--input", source, "--output", os.fsdecode(b"\xfe.npy")],
        ["corpus", source, "--tokenizer", "m", "--out", "corpus"],
        ["audit", "m", "other", "--only", "size", "--quiet", "--out", os.fsdecode(b"\xfd")],
    ):
        done = subprocess.run([sys.executable, "-m", "halbert", *map(str, words)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Report: \xfd/index.html" in done.stdout
    assert json.loads((place / "corpus" / "manifest.json").read_text())["inputs"][0]["name"] == "?.txt"
