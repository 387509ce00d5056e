"""The memory of chunks: bounded, safe under threads, and never visible in the result."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.text import bulk, chunks
from halbert.text.chunks import Remembered, as_array, as_text
from tests import tiny
from tests.text.made import KINDS, learnt


@given(st.lists(st.integers(0, 0x10FFFF)))
def test_ids_as_text_and_back(ids):
    assert as_array(as_text(ids)).tolist() == ids


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


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_every_length_around_the_seams(kind):
    texts = ["", " ", "the", " the ", "", "the war\n", "\tthat", "x" * 100, "", "a\u2003nation", "\u00a0"]
    for size in range(len(texts)):
        expected = [[p.id for p in learnt(kind).pieces(text)] for text in texts[size:] + texts[:size]]
        assert learnt(kind).bulk(texts[size:] + texts[:size]) == expected
