"""About 200 strings nobody likes: pinned for both modes, equal to the oracles, with sound spans, in linear time."""

from __future__ import annotations

import json
import os
import time
from itertools import pairwise
from pathlib import Path

import pytest

from halbert.errors import InputError
from tests.text.made import learnt
from tests.text.test_characters import made, on_unicode_14, ours, theirs

GOLDEN = Path(__file__).parent.parent / "golden" / "text" / "hostile.jsonl"
ON = (True, True, True)


def strings() -> list[str]:
    """Every string, in the order of the file; add one with ``{"text": …}`` and write the words anew."""
    return [json.loads(line)["text"] for line in GOLDEN.read_text().splitlines()]


@on_unicode_14
def test_the_words_are_pinned():
    lines = [
        json.dumps({"text": text, **{compat: ours(made(compat, *ON), text) for compat in ("google", "transformers")}})
        for text in strings()
    ]
    if os.environ.get("HALBERT_WRITE_GOLDEN"):
        GOLDEN.write_text("\n".join(lines) + "\n")
    assert lines == GOLDEN.read_text().splitlines()
    assert len(lines) >= 200


@pytest.mark.parametrize("compat", [pytest.param("google", marks=on_unicode_14), "transformers"])
@pytest.mark.parametrize("switches", [ON, (False, False, True), (True, False, False)])
def test_the_words_are_the_oracles(compat, switches):
    oracle, tokenizer = theirs(compat, *switches), made(compat, *switches)
    for text in strings():
        assert ours(tokenizer, text) == oracle(text), repr(text)


@pytest.mark.parametrize("kind", ["google", "transformers", "unigram"])
def test_spans_and_bulk(kind):
    tokenizer = learnt("unigram") if kind == "unigram" else made(kind, *ON)
    for text in strings():
        found = tokenizer.encode(text)
        assert found.ids[1:-1] == tokenizer.bulk([text])[0]
        assert (
            len(
                {
                    len(part)
                    for part in (found.ids, found.tokens, found.segments, found.spans, found.words, found.special)
                }
            )
            == 1
        )
        assert all(span is None or 0 <= span[0] <= span[1] <= len(text) for span in found.spans)


@pytest.mark.parametrize("kind", ["google", "transformers", "unigram"])
@pytest.mark.parametrize("text", ["\ud800", "ab\udfffcd", "x \udc80 y"])
def test_half_characters_are_refused(kind, text):
    tokenizer = learnt("unigram") if kind == "unigram" else made(kind, *ON)
    for read in (tokenizer.encode, lambda t: tokenizer.bulk([t])):
        with pytest.raises(InputError, match="holds a lone surrogate"):
            read(text)


UNITS = {
    "one word": "a",
    "Thai": "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22",
    "Chinese": "\u4f60\u597d\u4e16\u754c",
    "marks": "e\u0301\u0323",
    "spaces": " ",
    "emoji": "\U0001f469\U0001f3fd\u200d\U0001f4bb",
    "punctuation": ".-",
    "a,1,": "a,1,",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["google", "transformers", "unigram"])
@pytest.mark.parametrize("unit", UNITS)
def test_time_is_linear(kind, unit):
    """Twice the text takes at most 2.3 times as long, for 1, 2 and 4 MB without a space that could be a seam."""

    sizes = (1, 2, 4)
    texts = [UNITS[unit] * (size * 1_000_000 // len(UNITS[unit].encode())) for size in sizes]
    best = [float("inf")] * 3
    for _ in range(5):  # in turn, so that a slow moment of the machine meets all of them
        for i, text in enumerate(texts):
            tokenizer = learnt("unigram") if kind == "unigram" else made(kind, *ON)
            start = time.process_time()
            tokenizer.bulk([text])
            best[i] = min(best[i], time.process_time() - start)
    assert all(twice <= 2.3 * once + 0.02 for once, twice in pairwise(best)), best


@pytest.mark.parametrize("kind", ["google", "transformers"])
@pytest.mark.parametrize("unit", ["a", "a,", ".", "ab \n", "\u4f60a", "e\u0301,", "\u03a3a,"])
def test_long_texts_are_read_in_slices(monkeypatch, kind, unit):
    """No seam shows: words, punctuation and white space may stand across it."""
    from halbert.text import wordpiece

    text = unit * 500
    expected = made(kind, *ON).bulk([text])
    for size in (64, 65, 66, 67):
        monkeypatch.setattr(wordpiece, "SLICE", size)
        tokenizer = made(kind, *ON)
        assert tokenizer.bulk([text]) == expected
