"""The memory of chunks: bounded, safe under threads, and never visible in the result."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halbert.errors import InputError
from halbert.text import bulk, chunks
from halbert.text.chunks import Remembered, as_array
from tests import tiny
from tests.text.made import KINDS, learnt


@given(st.lists(st.integers(0, 0x10FFFF)))
def test_ids_as_text_and_back(ids):
    assert as_array("".join(map(chr, ids))).tolist() == ids


def test_memory_is_bounded():
    made: list[str] = []
    memory: Remembered[str] = Remembered(lambda chunk: made.append(chunk) or chunk * 2, most_bytes=10_000)
    for i in range(10_000):
        assert memory[f"chunk{i}"] == f"chunk{i}" * 2
    assert len(memory) < 60 and len(made) == 10_000
    memory["kept"], memory["kept"]
    assert made[10_000:] == ["kept"]
    long = "x" * (chunks.LONGEST + 1)
    assert memory[long] == memory[long] == long * 2 and made[-2:] == [long, long]


@pytest.mark.parametrize("kind", KINDS)
def test_many_threads_give_what_one_gives(kind):
    texts = [f"{line} {i}" for i in range(40) for line in tiny.SPEECH]
    expected = learnt(kind).bulk(texts)
    tokenizer = type(learnt(kind))(*_parts(learnt(kind)))
    tokenizer._bulk._most = 500  # forgets all the time
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            if tokenizer.bulk(texts) != expected or tokenizer.encode(texts[number]).ids[1:-1] != expected[number]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_for_another_process(kind):
    tokenizer = learnt(kind)
    there = pickle.loads(pickle.dumps(tokenizer))
    there.remember_less(50)
    assert there.fingerprint == tokenizer.fingerprint
    texts = [f"{line} {i} {i * i}" for i in range(300) for line in tiny.SPEECH]
    assert there.bulk(texts) == tokenizer.bulk(texts)
    assert there._bulk._count < tokenizer._bulk._count  # it has forgotten


def _parts(tokenizer):
    return (getattr(tokenizer, "_model", None) or tokenizer.vocab, tokenizer.spec)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_longer_than_a_batch(kind):
    """Cut at white space, or not at all: the same ids as in pieces."""
    tokenizer = learnt(kind)
    line = " ".join(tiny.SPEECH)
    one = tokenizer.bulk([line])[0]
    times = 2 * bulk._BATCH // len(line) + 2
    assert tokenizer.bulk([" \n".join([line] * times)])[0] == one * times
    endless = "," * (bulk._BATCH + 10)
    assert tokenizer.bulk([endless + " the", "the", endless])[1:] == [
        tokenizer.bulk(["the"])[0],
        tokenizer.bulk([endless])[0],
    ]
    assert tokenizer.bulk([endless + " the"])[0][-1:] == tokenizer.bulk(["the"])[0]


@given(st.lists(st.binary(max_size=20).filter(lambda chunk: chunk and not set(chunk) & set(b"\t\n\r ")), unique=True))
@example([b"a", b"a\0", b"a\0\0"])  # what is missing counts as zero
@example([bytes([97] * 15 + [i]) for i in range(33, 255)])  # the last byte is where the length of others stands
@example([b"abcdefgh" + bytes([i]) * 8 for i in range(33, 255)])
def test_every_chunk_has_a_key_of_its_own(chunks):
    ends = np.cumsum([len(chunk) + 1 for chunk in chunks], dtype=np.int64) - 1
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(chunks)]
    first, second = bulk._keys(b"\n".join(chunks), starts, ends)
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == len(chunks)


def test_rows_that_want_the_same_place():
    """Whatever the order and however full the table: every chunk gives what was learnt for it."""

    def make(lines: str) -> tuple[np.ndarray, np.ndarray]:
        return np.array([len(line) % 3 for line in lines.split("\n")]), as_array(
            "".join(line[: len(line) % 3] for line in lines.split("\n"))
        )

    table = bulk.Bulk(make)
    table._home = lambda first, second: np.zeros(len(first), np.int64)  # the worst that can happen
    words = [f"{'x' * (i % 70)}{i}" for i in range(300)]
    for texts in (words, words[::-1], [" ".join(words)] * 2):
        expected = ["".join(word[: len(word) % 3] for word in text.split()) for text in texts]
        assert ["".join(map(chr, ids.tolist())) for ids in table.arrays(texts)] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_is_not_remembered(kind):
    tokenizer = learnt(kind)
    before = tokenizer.bulk(["the war"])
    for text in ("zz\ud800", "\udfff", "zz " + "y" * 100 + "\udfff"):
        with pytest.raises(InputError, match="lone surrogate"):
            tokenizer.bulk(["the zz", text])
    assert tokenizer.bulk(["the war", "zz"]) == [before[0], [p.id for p in tokenizer.pieces("zz")]]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_every_length_around_the_seams(kind):
    texts = ["", " ", "the", " the ", "", "the war\n", "\tthat", "x" * 100, "", "a\u2003nation", "\u00a0"]
    for size in range(len(texts)):
        expected = [[p.id for p in learnt(kind).pieces(text)] for text in texts[size:] + texts[:size]]
        assert learnt(kind).bulk(texts[size:] + texts[:size]) == expected
