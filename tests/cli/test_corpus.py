"""``halbert corpus``: what it says, what it refuses, and its other two trades: putting together and checking."""

from __future__ import annotations

import json

import pytest

from halbert.data.corpus import Corpus
from tests import tiny
from tests.cli.test_bad_input import refused
from tests.cli.test_verbs import ok


def corpus(halbert, world, out, *more, files=("docs.txt",)):
    return halbert("corpus", *(world / file for file in files), "--tokenizer", world / "model", "--out", out, *more)


def test_what_is_told(halbert, world, tmp_path, monkeypatch):
    source = tmp_path / "texts"
    source.mkdir()
    (source / "x.txt").write_text("\n\n".join([*tiny.SPEECH, *tiny.SPEECH]) + "\n")
    (source / "y.jsonl").write_text(json.dumps({"text": "un want."}) + "\n")
    (source / "z.jsonl").write_text('{"txt": 1}\n')
    monkeypatch.setattr("halbert.data.documents.LONGEST_LINE", 60)
    done = ok(
        halbert("corpus", source, f"de={source / 'y.jsonl'}", "--language", "en", "--tokenizer", world / "model", "--out",
                tmp_path / "c", "--dedupe", "--skip-bad", "--licence", "CC0", "--workers", 1)
    )  # fmt: skip
    m = Corpus(tmp_path / "c").manifest
    assert [(source.name, source.language) for source in m.inputs] == [
        ("x.txt", "en"),
        ("y.jsonl", "en"),
        ("y.jsonl", "de"),
    ]
    assert (m.licence, m.command) == (
        "CC0", "halbert corpus FILES… --tokenizer model --language en --licence CC0 --dedupe --skip-bad"
    )  # fmt: skip
    assert m.duplicates.paragraphs > 0 and m.cut.lines > 0 and len(m.skipped) == 1
    assert f"dropped as duplicates: {m.duplicates.paragraphs} paragraphs" in done.err
    assert f"lines at {m.cut.lines:,} places" in done.err
    assert "1 file(s) were left out; the manifest lists them:\n  z.jsonl: line 1 has no text" in done.err
    assert (
        f"Encoding: 0.0 of 0.0 MB, {done.err.split(' MB, ')[1].split(' MB/s')[0]} MB/s" in done.err and done.out == ""
    )
    assert "Encoding" not in ok(corpus(halbert, world, tmp_path / "q", "--quiet")).err


def test_put_together_and_checked(halbert, world, tmp_path):
    for name in "ab":
        ok(corpus(halbert, world, tmp_path / name))
    parts = [tmp_path / name for name in "ab"]
    done = ok(halbert("corpus", *parts, "--merge", "--out", tmp_path / "c"))
    assert "4 documents" in done.err and len(Corpus(tmp_path / "c")) == 2
    assert "all 2 shard(s) are what was written" in ok(halbert("corpus", tmp_path / "c", "--verify")).err
    path = tmp_path / "c" / "ids-00001.npy"
    data = path.read_bytes()
    path.unlink()  # a link: the part it came from stays as it is
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(halbert("corpus", tmp_path / "c", "--verify"), "ids-00001.npy", "is damaged")
    refused(halbert("corpus", world, "--verify"), "is no corpus")
    ok(halbert("corpus", *parts, "--verify", "--quiet"))


@pytest.mark.parametrize(
    ("arguments", "option"), [((), "--out"), (("--merge",), "--out"), (("--out", "c"), "--tokenizer")]
)
def test_what_is_missing_is_named(halbert, world, tmp_path, monkeypatch, arguments, option):
    monkeypatch.chdir(tmp_path)
    done = halbert("corpus", world / "docs.txt", *arguments)
    assert done.status == 2 and option in done.err and not list(tmp_path.iterdir())


def test_languages_have_codes(halbert, world, tmp_path):
    refused(corpus(halbert, world, tmp_path / "c", "--language", "English"), "'English'", "such as de or zh-Hant")
    refused(
        halbert("corpus", "de=nowhere.txt", "--tokenizer", world / "model", "--out", tmp_path / "c"),
        "nowhere.txt: no such",
    )


def test_sigterm_is_a_stop_that_can_be_resumed(halbert, world, tmp_path, monkeypatch):
    def stopped(*values, **named):
        raise SystemExit(143)

    monkeypatch.setattr("halbert.data.encoding._encode_all", stopped)
    done = corpus(halbert, world, tmp_path / "c")
    assert done.status == 75 and "give the same command again" in done.err
