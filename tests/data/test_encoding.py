"""Corpora of files: the same bytes for any number of workers and after any number of kills, every format, every fault."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import lzma
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.data import blocks, documents, duplicates
from halbert.data.corpus import Corpus, build_corpus, merge_corpora, read_documents
from halbert.data.documents import Documents, Part
from halbert.data.encoding import encode_files
from halbert.data.manifest import Cuts, Dropped, Share, input_names
from halbert.data.plan import Plan
from halbert.errors import InputError, MissingExtra
from halbert.spec import PretrainSpec
from tests import tiny
from tests.data.test_corpus import read_back

VOCABULARY = tiny.tokenizer()


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of some hundred bytes; only the process that cuts has to know."""
    monkeypatch.setattr(blocks, "SHARD_BYTES", 400)
    monkeypatch.setattr(blocks, "SLACK", 200)


def text(documents: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    words = ["the cat sat", "un want.", "A dog!", "Dr. the on", "世界。猫", "12 mat?", "x"]
    made = ["\n".join(" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 3)))]
    made += [
        "\n".join(" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 3)))
        for _ in range(documents - 1)
    ]
    return "\n\n".join(made) + "\n"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def bytes_of(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


@pytest.fixture
def files(tmp_path) -> list[str]:
    write(tmp_path / "in" / "a.txt", text(40, 1))
    write(tmp_path / "in" / "b" / "a.txt.gz", gzip.compress(text(30, 2).encode()))
    write(tmp_path / "in" / "c.txt", text(1, 3))
    return [str(tmp_path / "in" / name) for name in ("a.txt", "b/a.txt.gz")] + [f"de={tmp_path / 'in' / 'c.txt'}"]


@pytest.mark.parametrize("dedupe", [False, True])
def test_any_number_of_workers_gives_the_same_bytes(tmp_path, files, small_blocks, dedupe):
    found = [
        bytes_of(encode_files(files, VOCABULARY, tmp_path / str(n), workers=n, dedupe=dedupe).folder) for n in (1, 2, 3)
    ]
    assert len(found[0]) > 20 and found[0] == found[1] == found[2]
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "3", "in"]


def test_blocks_change_nothing_but_where_shards_end(tmp_path, files, small_blocks):
    corpus = encode_files(files[:2], VOCABULARY, tmp_path / "c", workers=1)
    documents = [d for file in files[:2] for d in read_documents(file)]
    wanted = build_corpus(documents, VOCABULARY, tmp_path / "d")
    assert len(corpus) > 5 and read_back(corpus) == read_back(wanted)
    m, w = corpus.manifest, wanted.manifest
    for name in ("documents", "sentences", "tokens", "characters", "bytes", "unknown"):
        assert getattr(m, name) == getattr(w, name) > 0, name
    assert m.cut == Cuts()


def test_what_the_manifest_says(tmp_path, files):
    corpus = encode_files(
        files, VOCABULARY, tmp_path / "c", workers=1, language="en", licence="CC0", note="n", command="halbert corpus"
    )
    m = corpus.manifest
    assert [(s.name, s.language) for s in m.inputs] == [("a.txt", "en"), ("b/a.txt.gz", "en"), ("c.txt", "de")]
    for source, file in zip(m.inputs, files):
        data = Path(file.removeprefix("de=")).read_bytes()
        assert (source.sha256, source.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert [s.language for s in m.shards] == ["en", "de"] and set(m.languages) == {"en", "de"}
    for shard in m.shards:
        assert m.languages[shard.language] == Share(
            documents=shard.documents, sentences=shard.sentences, tokens=shard.tokens, bytes=shard.bytes
        )
    told = (tmp_path / "c" / "manifest.json").read_text()
    assert str(tmp_path) not in told and (m.licence, m.note, m.format) == ("CC0", "n", 2)


KILLED = """
import sys
from halbert.data import blocks
from halbert.data.encoding import encode_files
from tests import tiny
if __name__ == "__main__":
    blocks.SHARD_BYTES, blocks.SLACK = 3000, 400
    encode_files(sys.argv[2:], tiny.tokenizer(), sys.argv[1], workers=2, dedupe=True)
"""


def test_killed_at_any_moment_it_goes_on(tmp_path, monkeypatch):
    source = str(write(tmp_path / "in" / "a.txt", text(9000)))
    packed = str(write(tmp_path / "in" / "b.txt.gz", gzip.compress(text(900, 1).encode())))
    monkeypatch.setattr(blocks, "SHARD_BYTES", 3000)
    monkeypatch.setattr(blocks, "SLACK", 400)
    wanted = bytes_of(encode_files([source, packed], VOCABULARY, tmp_path / "whole", workers=1, dedupe=True).folder)
    out, part = tmp_path / "out", tmp_path / ".out.part"
    rng = random.Random(5)
    kills = 0
    for _ in range(3):
        run = subprocess.Popen([sys.executable, "-c", KILLED, str(out), source, packed], stderr=subprocess.DEVNULL)
        before = len(list(part.glob("ids-*"))) if part.exists() else 0
        target = before + rng.randint(1, 40)
        while run.poll() is None and not (part.exists() and len(list(part.glob("ids-*"))) >= target):
            time.sleep(0.005)
        if run.poll() is None:
            workers = psutil.Process(run.pid).children(recursive=True)
            run.send_signal(signal.SIGKILL)
            run.wait()
            psutil.wait_procs(workers, timeout=10)
            kills += 1
            assert not out.exists()
    assert kills >= 2
    # What is finished and whole is not done again; what is damaged is.
    finished = sorted(part.glob("ids-*"))
    spoilt, kept = finished[0], finished[1]
    stamp = kept.stat().st_mtime_ns
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"\x07")
    with (part / "finished.jsonl").open("ab") as stream:
        stream.write(b'{"number": 1, "key')
    asked = []
    monkeypatch.setattr("halbert.data.encoding.ShardWriter.save", counting(asked))
    monkeypatch.setattr("halbert.data.encoding._place", looking(kept, stamp))
    assert bytes_of(encode_files([source, packed], VOCABULARY, out, workers=1, dedupe=True).folder) == wanted
    assert 0 in asked and 1 not in asked and len(asked) < len(wanted) / 3
    assert sorted(os.listdir(tmp_path)) == ["in", "out", "whole"]


def counting(asked):
    from halbert.data.shards import ShardWriter

    real = ShardWriter.save

    def save(self, folder, number, language=""):
        asked.append(number)
        return real(self, folder, number, language)

    return save


def looking(kept, stamp):
    from halbert.data import encoding

    real = encoding._place

    def place(*values):
        assert kept.stat().st_mtime_ns == stamp
        return real(*values)

    return place


def test_a_changed_input_or_another_way_is_begun_anew(tmp_path, small_blocks):
    good, bad = write(tmp_path / "in" / "a.txt", text(40)), write(tmp_path / "in" / "b.txt", b"ok\n\xff\n")
    out = tmp_path / "out"
    with pytest.raises(InputError, match="line 2 is not UTF-8"):
        encode_files([good, bad], VOCABULARY, out, workers=1)
    assert len(list((tmp_path / ".out.part").glob("ids-*"))) > 3
    write(good, text(40, 9))
    write(bad, "fine now\n")
    with pytest.raises(
        InputError, match=r"another command has finished \(\d+ block\(s\); another input, tokenizer.*--overwrite"
    ):
        encode_files([good, bad], VOCABULARY, out, workers=1, dedupe=True)
    assert len(list((tmp_path / ".out.part").glob("ids-*"))) > 3  # nothing was dropped
    found = bytes_of(encode_files([good, bad], VOCABULARY, out, workers=1, dedupe=True, overwrite=True).folder)
    assert found == bytes_of(encode_files([good, bad], VOCABULARY, tmp_path / "two", workers=1, dedupe=True).folder)


def test_only_a_corpus_is_replaced(tmp_path, files):
    out = tmp_path / "c"
    encode_files(files, VOCABULARY, out, workers=1)
    before = bytes_of(out)
    with pytest.raises(InputError, match="exists and is not empty"):
        encode_files(files[:1], VOCABULARY, out, workers=1)
    assert (
        bytes_of(out) == before != bytes_of(encode_files(files[:1], VOCABULARY, out, workers=1, overwrite=True).folder)
    )
    write(tmp_path / "diary" / "monday.txt", "mine")
    for replaced in (encode_files, merge_corpora):
        with pytest.raises(InputError, match="is no corpus"):
            replaced([out], *([VOCABULARY] if replaced is encode_files else []), tmp_path / "diary", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["c", "diary", "in"]
    merged = merge_corpora([out, out], out, overwrite=True)
    assert len(merged) == 2


def test_two_runs_cannot_write_one_corpus(tmp_path, files, monkeypatch):
    def again(*values):
        with pytest.raises(InputError, match="another process is building this corpus"):
            encode_files(files, VOCABULARY, tmp_path / "c", workers=1)
        raise InputError("enough")

    monkeypatch.setattr("halbert.data.encoding._encode_all", again)
    with pytest.raises(InputError, match="enough"):
        encode_files(files, VOCABULARY, tmp_path / "c", workers=1)
    assert os.listdir(tmp_path) == ["in"]


ROWS = ["the cat.\nA dog!\n\nun want.", "世界。猫", "the \u2028 mat"]


def zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def jsonl(rows) -> bytes:
    return "".join(json.dumps({"id": i, "text": row}) + "\n" for i, row in enumerate(rows)).encode()


def parquet(rows, path: Path, name: str = "text") -> Path:
    pyarrow.parquet.write_table(pyarrow.table({"id": range(len(rows)), name: rows}), path, row_group_size=2)
    return path


PLAIN = "\ufeffthe cat.\r\nA dog!\r\n\r\nun want.\n \n\nthe \u2028 mat".encode()
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
def test_formats(tmp_path, kind, packing):
    data = PLAIN if kind == ".txt" else b"\xef\xbb\xbf" + jsonl(ROWS) + b"\n"
    file = write(tmp_path / f"x{kind}{packing}", PACKERS[packing](data))
    documents = [["the cat.", "A dog!"], ["un want."], ["the mat"]]
    if kind == ".jsonl":
        documents = [["the cat.", "A dog!", "un want."], ["世界。猫"], ["the mat"]]
    wanted = read_back(build_corpus(documents, VOCABULARY, tmp_path / "d"))
    corpus = encode_files([file], VOCABULARY, tmp_path / "c", workers=1)
    assert read_back(corpus) == wanted
    if packing in (".gz", ".zst", ".xz"):  # several packed parts one after the other
        write(file, PACKERS[packing](data[:20]) + PACKERS[packing](data[20:]))
        assert read_back(encode_files([file], VOCABULARY, tmp_path / "e", workers=1)) == wanted


def test_parquet(tmp_path):
    file = parquet(ROWS * 20, tmp_path / "x.parquet")
    wanted = encode_files([write(tmp_path / "x.jsonl", jsonl(ROWS * 20))], VOCABULARY, tmp_path / "d", workers=1)
    corpus = encode_files([file], VOCABULARY, tmp_path / "c", workers=1)
    assert read_back(corpus) == read_back(wanted)
    assert corpus.manifest.inputs[0].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_addresses_and_folders(tmp_path, monkeypatch):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/in/a.txt.gz", gzip.compress(text(5).encode()))
    pyarrow.parquet.write_table(pyarrow.table({"text": ROWS}), memory.open("/in/b.parquet", "wb"))
    for name, content in (("b.txt", text(5, 2)), ("a/c.txt", text(5, 1)), (".hidden", "no")):
        write(tmp_path / "in" / name, content)
    corpus = encode_files(
        ["memory://in/a.txt.gz", "sw=memory://in/b.parquet", tmp_path / "in"],
        VOCABULARY, tmp_path / "c", workers=1,
    )  # fmt: skip
    names = [source.name for source in corpus.manifest.inputs]
    assert names == ["memory://in/a.txt.gz", "b.txt", "a/c.txt", "memory://in/b.parquet"]
    assert corpus.manifest.documents == 5 + 5 + 5 + 3 and corpus.manifest.languages["sw"].documents == 3
    with pytest.raises(InputError, match=r"memory://in/none.txt: cannot be opened"):
        encode_files(["memory://in/none.txt"], VOCABULARY, tmp_path / "d")
    with pytest.raises(InputError, match=r"nonsense://x.txt: cannot be opened: Protocol not known"):
        encode_files(["nonsense://x.txt"], VOCABULARY, tmp_path / "d")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingExtra, match=r"https://example.org/x.txt: .*pip install 'halbert\[io\]'"):
        encode_files(["https://example.org/x.txt"], VOCABULARY, tmp_path / "d")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'halbert\[io\]'"):
        encode_files(["https://example.org/x.txt"], VOCABULARY, tmp_path / "d")
    for name in ("x.parquet", "x.txt.zst"):
        with pytest.raises(MissingExtra, match=r"pyarrow.*pip install 'halbert\[io\]'"):
            encode_files([write(tmp_path / name, "x")], VOCABULARY, tmp_path / "d")


def bad_files(folder: Path) -> list[tuple[Path, str]]:
    packed = {end: PACKERS[end](text(400).encode()) for end in (".gz", ".xz", ".zst")}
    lines = jsonl(ROWS)
    return [
        (write(folder / "utf.txt", b"ok\n\nfine\nb\xe4d\n"), "line 4 is not UTF-8"),
        (write(folder / "half.txt", b"ok\n\xe4\xb8"), "line 2 is not UTF-8"),
        (write(folder / "empty.txt", b""), "is empty"),
        (folder / "none.txt", "no such file"),
        *((write(folder / f"cut.txt{end}", data[:-9]), r"cannot be unpacked after line \d+") for end, data in packed.items()),
        (write(folder / "no.txt.gz", b"no gzip"), "cannot be unpacked after line 1"),
        (write(folder / "field.jsonl", lines + b'{"txt": "a"}\n'), "line 4 has no text: .*missing required field `text`"),
        (write(folder / "number.jsonl", lines + b'\n{"text": 5}\n'), "line 5 has no text: Expected `str`, got `int`"),
        (write(folder / "json.jsonl", b'{"text": "a"\n'), "line 1 is not valid JSON"),
        (write(folder / "deep.jsonl", b'{"x": ' + b"[" * 9999 + b"\n"), "line 1 is not valid JSON"),
        (write(folder / "utf.jsonl", b'{"x": "\xff", "text": "a"}\n'), "line 1 is not UTF-8"),
        (write(folder / "no.parquet", b"nothing"), "is not a readable Parquet file"),
        (parquet(ROWS, folder / "column.parquet", "txt"), "has no column 'text'; did you mean 'txt'.; found id, txt"),
        (parquet([1, 2], folder / "kind.parquet"), "the column 'text' holds int64"),
        (parquet(["a", "b", None], folder / "null.parquet"), "row 3 has no text"),
    ]  # fmt: skip


def test_texts_in_a_field_of_another_name(tmp_path):
    """The same shards, whatever field or column the texts are in; what was begun of one is not gone on with for another."""
    rows = [{"body": row, "text": f"not {row}"} for row in ROWS]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    files = [write(tmp_path / "a.jsonl", lines.encode()), parquet(ROWS, tmp_path / "b.parquet", "body")]
    alone = encode_files(
        [write(tmp_path / "c.jsonl", jsonl(ROWS)), parquet(ROWS, tmp_path / "d.parquet")],
        VOCABULARY,
        tmp_path / "x",
        workers=1,
    )
    found = encode_files(files, VOCABULARY, tmp_path / "y", workers=1, column="body")
    assert read_back(found) == read_back(alone)
    assert read_back(encode_files(files[:1], VOCABULARY, tmp_path / "z", workers=1)) != read_back(
        encode_files(files[:1], VOCABULARY, tmp_path / "w", workers=1, column="body")
    )
    with pytest.raises(
        InputError, match=r"line 1 has no text: .*`bodi`.* \(--column text=NAME says which field it is\)"
    ):
        encode_files(files[:1], VOCABULARY, tmp_path / "v", workers=1, column="bodi")
    with pytest.raises(InputError, match=r"has no column 'bodi'; did you mean 'body'.*--column text=NAME"):
        encode_files(files[1:], VOCABULARY, tmp_path / "v", workers=1, column="bodi")


def test_bad_files_are_named_and_can_be_skipped(tmp_path):
    bad = bad_files(tmp_path / "in")
    for file, message in bad:
        with pytest.raises(InputError, match=f"{file.name}: {message}"):
            encode_files([file], VOCABULARY, tmp_path / "c", workers=1)
        assert os.listdir(tmp_path) == ["in"], file
    good = write(tmp_path / "in" / "good.txt", text(9))
    given = [file for file, _ in bad[:9]] + [good] + [file for file, _ in bad[9:]]
    corpus = encode_files(given, VOCABULARY, tmp_path / "c", workers=1, skip_bad=True)
    assert [source.name for source in corpus.manifest.inputs] == ["good.txt"]
    assert read_back(corpus) == read_back(encode_files([good], VOCABULARY, tmp_path / "d", workers=1))
    assert [skipped.name for skipped in corpus.manifest.skipped] == [file.name for file, _ in bad]
    assert str(tmp_path) not in (corpus.folder / "manifest.json").read_text()
    with pytest.raises(InputError, match=f"holds no text.*; left out: {bad[0][0].name}: {bad[0][1]}"):
        encode_files(given[:2], VOCABULARY, tmp_path / "e", workers=1, skip_bad=True)
    other = encode_files(
        [good, write(tmp_path / "in" / "x.json", "{}")], VOCABULARY, tmp_path / "f", workers=1, skip_bad=True
    )
    assert [(s.name, "ends in .json" in s.reason) for s in other.manifest.skipped] == [("x.json", True)]
    assert str(tmp_path) not in other.manifest.skipped[0].reason
    for name in ("x.json", "x.csv", "x.tsv.gz", "x.pdf", "x.tar.gz", "x.parquet.gz"):
        with pytest.raises(InputError, match=rf"{name}: ends in .*expected plain text, .jsonl"):
            encode_files([tmp_path / name], VOCABULARY, tmp_path / "e")


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_lines_are_left_out_and_listed(tmp_path, small_blocks, monkeypatch, workers):
    """What is left is as if they had never been there, but that in plain text a document ends where one was."""
    monkeypatch.setattr(blocks, "SLACK", 2000)  # no document is cut, wherever blocks end
    lines = [line.encode() for line in text(60).split("\n")]
    rows = [json.dumps({"text": f"the cat sat on mat {i}"}).encode() for i in range(60)]
    texts: list[str | None] = [f"the dog sat on mat {i}" for i in range(60)]
    places = (0, 7, 8, len(lines) - 1)
    for at in places:
        lines[at] = b"caf\xe9 " + lines[at]
    rows[3], rows[20], rows[41] = b'{"text": "the cat', b'{"text": null}', b'{"text": "\xff"}'
    texts[5] = texts[59] = None
    files, good = [], []
    for where, to in (("in", files), ("clean", good)):
        clean = where == "clean"
        to.append(
            write(
                tmp_path / where / "a.txt", b"\n".join(b"" if clean and i in places else x for i, x in enumerate(lines))
            )
        )
        kept = [row for i, row in enumerate(rows) if not clean or i not in (3, 20, 41)]
        to.append(write(tmp_path / where / "b.jsonl", b"\n".join(kept)))
        column = pyarrow.array([x for x in texts if x is not None or not clean], pyarrow.string())
        to.append(tmp_path / where / "c.parquet")
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), to[-1])
    told = []
    made = encode_files(
        files, VOCABULARY, tmp_path / "made", workers=workers, skip_bad=True, progress=lambda *each: told.append(each)
    )
    size = sum(file.stat().st_size for file in files)
    assert told == sorted(told) and {total for _, total in told} == {2 * size}
    assert {size, 2 * size} <= {done for done, _ in told}  # they are read to be checked, and again
    wanted = encode_files(good, VOCABULARY, tmp_path / "wanted", workers=1)
    assert read_back(made) == read_back(wanted) and len(made) > 1
    found = {skipped.name: skipped for skipped in made.manifest.skipped}
    assert {name: skipped.rows for name, skipped in found.items()} == {"a.txt": 4, "b.jsonl": 3, "c.parquet": 2}
    assert re.fullmatch(
        r"a.txt: line 1 is not UTF-8; .*; a.txt: line 8 is not UTF-8; .*; a.txt: line 9 is not UTF-8; .*",
        found["a.txt"].reason,
    )
    assert re.match(r"b.jsonl: line 4 is not valid JSON.*b.jsonl: line 21 has no text", found["b.jsonl"].reason)
    assert found["c.parquet"].reason.startswith("c.parquet: row 6 has no text")
    assert str(tmp_path) not in (made.folder / "manifest.json").read_text()
    assert [source.name for source in made.manifest.inputs] == ["a.txt", "b.jsonl", "c.parquet"]


def test_a_file_of_which_too_many_lines_are_bad_is_no_text(tmp_path):
    good = write(tmp_path / "in" / "good.txt", text(9))
    latin = write(tmp_path / "in" / "latin.txt", b"\n".join([b"caf\xe9", *[b"the cat sat"] * 8]))
    made = encode_files([good, latin], VOCABULARY, tmp_path / "c", workers=1, skip_bad=True)
    (skipped,) = made.manifest.skipped
    assert (skipped.name, skipped.rows) == ("latin.txt", 0)
    assert "line 1 is not UTF-8" in skipped.reason and "1 of its lines are at fault, too many" in skipped.reason
    assert read_back(made) == read_back(encode_files([good], VOCABULARY, tmp_path / "d", workers=1))


@given(st.lists(st.binary(max_size=6).filter(lambda b: b"\n" not in b), max_size=9), st.integers(1, 99))
def test_lines_that_are_no_text_are_empty(lines, number):
    found = Documents(Part("", 0, 0, "text", "x.txt", number, False, lenient=True))
    read = found._decoded(b"\n".join(lines), number)

    def plain(line):
        with contextlib.suppress(UnicodeDecodeError):
            return line.decode()

    wanted = [plain(line) for line in lines]
    assert read == "\n".join(line or "" for line in wanted)
    bad = [number + i for i, line in enumerate(wanted) if line is None]
    assert found.bad == len(bad) and [int(re.search(r"line (\d+)", told)[1]) for told in found.told] == bad[:3]


def test_long_lines_and_documents_are_cut_and_counted(tmp_path, monkeypatch, small_blocks):
    monkeypatch.setattr(documents, "LONGEST_LINE", 50)
    monkeypatch.setattr(documents, "_NEAR", 20)
    words = "the cat sat. A dog un want. " * 200
    one_line = encode_files([write(tmp_path / "line.txt", words)], VOCABULARY, tmp_path / "a", workers=1)
    no_seam = encode_files([write(tmp_path / "no.txt", "世" * 3000)], VOCABULARY, tmp_path / "b", workers=1)
    document = "\n".join(["the cat sat. A dog."] * 300)
    one_document = encode_files([write(tmp_path / "d.txt", document)], VOCABULARY, tmp_path / "c", workers=1)
    assert all(len(corpus) > 5 for corpus in (one_line, no_seam, one_document))
    whole = build_corpus([[words]], VOCABULARY, tmp_path / "e")
    joined = [ids for corpus in (one_line, whole) for ids in [[i for d in read_back(corpus) for s in d for i in s]]]
    assert joined[0] == joined[1]  # nothing is lost, and nothing but a blank was cut
    assert 0 <= one_line.manifest.sentences - whole.manifest.sentences <= one_line.manifest.cut.lines / 2
    assert one_line.manifest.cut.lines > 100 and one_line.manifest.cut.documents == len(one_line) - 1
    assert no_seam.manifest.characters == 3000
    assert one_document.manifest.cut == Cuts(lines=0, documents=len(one_document) - 1)
    assert one_document.manifest.sentences == 600
    rows = encode_files([write(tmp_path / "x.jsonl", jsonl([words]))], VOCABULARY, tmp_path / "f", workers=1)
    assert rows.manifest.documents == 1 and rows.manifest.cut.lines > 100 and rows.manifest.cut.documents == 0
    monkeypatch.setattr(documents, "LONGEST_ROW", 500)
    with pytest.raises(InputError, match=r"x.jsonl: line 1 is longer than"):
        encode_files([tmp_path / "x.jsonl"], VOCABULARY, tmp_path / "g", workers=1)


def test_duplicates_are_dropped(tmp_path, monkeypatch, small_blocks):
    monkeypatch.setattr(duplicates, "TOGETHER", 3)  # many ranges of hashes
    paragraphs = ["The cat sat.", "A dog, 12 mat!", "un want", "the  cat sat", "a dog 98 mat", "...", "...", "Un wänt"]
    rng = random.Random(1)
    documents = [[rng.choice(paragraphs) for _ in range(rng.randint(1, 4))] for _ in range(150)]
    file = write(tmp_path / "x.txt", "\n\n".join("\n".join(d) for d in documents))
    corpus = encode_files([file], VOCABULARY, tmp_path / "c", workers=1, dedupe=True)
    seen: set[int] = set()
    kept, dropped = [], []
    for document in documents:
        left = []
        for paragraph in document:
            key = duplicates.paragraph_key(paragraph)
            (dropped if key in seen else left).append(paragraph)
            if key:
                seen.add(key)
        kept.append(left)
    wanted = build_corpus([d for d in kept if d], VOCABULARY, tmp_path / "d")
    assert read_back(corpus) == read_back(wanted) and len(seen) == 3
    m, w = corpus.manifest, wanted.manifest
    for name in ("documents", "sentences", "tokens", "characters", "bytes", "unknown"):
        assert getattr(m, name) == getattr(w, name) > 0, name
    size = sum(len(" ".join(p.split()).encode()) for p in dropped)
    assert m.duplicates == Dropped(paragraphs=len(dropped), bytes=size)
    for number in range(len(corpus)):
        corpus.shard(number)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Page 12, the end.", "page 99 THE END", True),
        ("Élan vital", "elan-vital", True),
        ("the cat", "the cats", False),
        ("की", "का", False),
        ("世界。", "世界", True),
        ("", "…!", True),
    ],
)
def test_what_counts_as_a_duplicate(a, b, same):
    assert (duplicates.paragraph_key(a) == duplicates.paragraph_key(b)) == same
    assert (duplicates.paragraph_key("!") == 0) and duplicates.paragraph_key("x")


def test_parts_made_elsewhere_make_one_corpus(tmp_path, files, small_blocks):
    parts = [encode_files([file], VOCABULARY, tmp_path / str(i), workers=1) for i, file in enumerate(files)]
    merged = merge_corpora([part.folder for part in parts], tmp_path / "m")
    assert read_back(merged) == [d for part in parts for d in read_back(part)]
    assert read_back(merged) == read_back(encode_files(files, VOCABULARY, tmp_path / "w", workers=1))
    assert sum(s.tokens for s in merged.manifest.languages.values()) == merged.manifest.tokens


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is asked of Linux")
def test_memory_does_not_follow_the_input(tmp_path):
    """One line of 12 and of 36 MB, in blocks of 4: 24 MB more in memory would show."""
    program = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from halbert.data.encoding import encode_files\n"
        "from halbert.data import blocks\n"
        "from halbert.spec import TextSpec\n"
        "from halbert.text.wordpiece import WordPiece\n"
        "blocks.SHARD_BYTES, blocks.SLACK = 4 << 20, 1 << 20\n"
        "words = WordPiece('[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat .'.split(), TextSpec())\n"
        "encode_files(sys.argv[2:], words, sys.argv[1], workers=1)\n"
        "print(re.search('VmHWM: *(.*) kB', Path('/proc/self/status').read_text())[1])"
    )
    peaks = []
    for size in (12_000_000, 36_000_000):
        line = write(tmp_path / "line.txt", b"the cat sat on a mat. " * (size // 22))
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / str(size)), str(line)],
            capture_output=True,
            check=True,
            text=True,
        )
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < peaks[0] + 12, peaks


def test_names_tell_inputs_apart_and_nothing_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    absolute = str(tmp_path / "b" / "x.txt")
    assert input_names(["a/x.txt", absolute, "b/../c.txt"]) == ["a/x.txt", "b/x.txt", "c.txt"]
    assert input_names(["in-b/x.txt", "in/x.txt"]) == ["in-b/x.txt", "in/x.txt"]
    assert input_names([absolute]) == ["x.txt"] and input_names([]) == []
    address = "https://me:secret@example.org/a/x.txt?token=1#y"
    assert input_names([address, "a/x.txt"]) == ["https://example.org/a/x.txt", "x.txt"]


def test_languages_are_drawn_from_a_corpus_of_several(tmp_path, small_blocks):
    """Twenty to one; a fifth power of that is 1.8."""
    write(tmp_path / "en.txt", text(400, 1))
    write(tmp_path / "de.txt", text(20, 2))
    corpus = encode_files(
        [f"en={tmp_path / 'en.txt'}", f"de={tmp_path / 'de.txt'}"], VOCABULARY, tmp_path / "c", workers=1
    )
    shares = corpus.manifest.languages
    wanted = (shares["en"].tokens / shares["de"].tokens) ** 0.2
    plan = Plan(corpus, VOCABULARY, PretrainSpec(), length=32, batch_tokens=320, seed=0, language_exponent=0.2)
    read = dict.fromkeys(("en", "de"), 0)
    for epoch in range(60):
        for number in (i for window in plan.windows(epoch) for i in window):
            read[corpus.manifest.shards[number].language] += corpus.manifest.shards[number].tokens
    assert shares["en"].tokens > 15 * shares["de"].tokens and wanted < 2
    assert read["en"] / read["de"] == pytest.approx(wanted, rel=0.05)
    assert next(plan.batches())[0].masked > 0


def test_many_small_files(tmp_path):
    for i in range(300):
        write(tmp_path / "in" / f"{i:03d}.txt", f"the cat {i}.\n")
    corpus = encode_files([tmp_path / "in"], VOCABULARY, tmp_path / "c", workers=2)
    assert len(corpus) == 1 and corpus.manifest.documents == len(corpus.manifest.inputs) == 300
    assert np.diff(corpus.shard(0).documents).tolist() == [1] * 300


def test_progress_and_where_nothing_can_be_written(tmp_path, files):
    told: list[tuple[int, int]] = []
    encode_files(files, VOCABULARY, tmp_path / "c", workers=1, progress=lambda done, total: told.append((done, total)))
    size = sum(os.path.getsize(file.removeprefix("de=")) for file in files)
    assert told[-1] == (size, size) and [d for d, _ in told] == sorted(d for d, _ in told)
    with pytest.raises(InputError, match="not empty"):
        encode_files(files, VOCABULARY, tmp_path / "c", workers=1)
    with pytest.raises(InputError, match="cannot be written"):
        encode_files(files, VOCABULARY, tmp_path / "in" / "a.txt" / "c", workers=1)
    assert isinstance(Corpus(tmp_path / "c").manifest.inputs, list)


def test_what_was_made_of_other_inputs_is_not_dropped(tmp_path, small_blocks):
    good, bad = write(tmp_path / "in" / "a.txt", text(40)), write(tmp_path / "in" / "b.txt", b"ok\n\xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        encode_files([good, bad], VOCABULARY, tmp_path / "out", workers=1)
    before = sorted(os.listdir(tmp_path / ".out.part"))
    other = write(tmp_path / "in" / "c.txt", text(3))
    with pytest.raises(InputError, match=r"has finished \(\d+ block\(s\); another input.*--overwrite drops it"):
        encode_files([other], VOCABULARY, tmp_path / "out", workers=1)
    assert sorted(os.listdir(tmp_path / ".out.part")) == before
    assert len(encode_files([other], VOCABULARY, tmp_path / "out", workers=1, overwrite=True)) == 1


def test_what_is_no_text_is_refused(tmp_path):
    program = write(tmp_path / "in" / "prog.exe", b"MZ\x90\0\0 the cat sat on the mat")
    wide = write(tmp_path / "in" / "wide.txt", "the cat".encode("utf-16-le"))
    for file in (program, wide):
        with pytest.raises(InputError, match=f"{file.name}: begins with bytes that no UTF-8 text has"):
            encode_files([file], VOCABULARY, tmp_path / "c", workers=1)
    late = write(
        tmp_path / "in" / "late.txt", "the cat. " * 500 + "\0 the mat"
    )  # one in the middle is dropped, as by BERT
    assert len(encode_files([late], VOCABULARY, tmp_path / "c", workers=1)) == 1


def test_a_full_disk_says_so(tmp_path, files, monkeypatch):
    """numpy's own error says how much it could write, and not why."""

    def save(*_, **__):
        raise OSError("5370485 requested and 3108800 written")

    monkeypatch.setattr("halbert.data.shards.np.save", save)
    with pytest.raises(OSError, match=r"No space left on device: .*ids-00000\.npy") as told:
        encode_files(files, VOCABULARY, tmp_path / "c", workers=1)
    assert told.value.errno == errno.ENOSPC


def test_a_first_line_without_end_begins_once(tmp_path, monkeypatch):
    """Where it is cut, a NUL or a mark of byte order is in the middle of a text."""
    monkeypatch.setattr(documents, "LONGEST_LINE", 40)
    monkeypatch.setattr(documents, "_NEAR", 20)
    sentence = "the cat sat on a mat. un want 1 2 mat. "  # 39 bytes: the next is read from its end
    corpus = encode_files(
        [write(tmp_path / "a.txt", f"{sentence * 3}\0{sentence}")], VOCABULARY, tmp_path / "c", workers=1
    )
    plain = encode_files([write(tmp_path / "b.txt", sentence * 4)], VOCABULARY, tmp_path / "d", workers=1)
    assert corpus.manifest.tokens == plain.manifest.tokens


def test_what_is_no_language_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("One. Two.\n")
    with pytest.raises(InputError, match=r"english=a.txt: what stands before = is no code .* en=a.txt"):
        encode_files(["english=a.txt"], tiny.tokenizer(), tmp_path / "out")
