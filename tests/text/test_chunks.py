"""The memory of chunks: bounded, safe under threads, and never visible in the result."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.text import chunks
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
    tokenizer._chunks._most = 5_000  # forgets all the time
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
