"""Every code point, in both modes, against its oracle; and the list of differences between the modes."""

from __future__ import annotations

import functools
import itertools
import os
import sys
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from halbert.spec import TextSpec
from halbert.text import characters
from halbert.text.characters import category
from halbert.text.wordpiece import WordPiece
from tests import tiny
from tests.text import google

GOLDEN = Path(__file__).parent.parent / "golden" / "text" / "modes.txt"
SWITCHES = [(lower, strip, chinese) for lower in (True, False) for strip in (True, False) for chinese in (True, False)]
# Seconds each: two in every run, the others with the slow tests.
SOME = [
    pytest.param(switches, marks=() if switches == (True, True, True) else pytest.mark.slow) for switches in SWITCHES
]
ALL = [chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i <= 0xDFFF]

on_unicode_14 = pytest.mark.skipif(
    unicodedata.unidata_version != "14.0.0", reason="the oracle is Python's own table, which is another version here"
)


@functools.cache
def made(compat: str, lower: bool, strip: bool, chinese: bool) -> WordPiece:
    spec = TextSpec(compat=compat, lower_case=lower, strip_accents=strip, chinese_chars=chinese)  # type: ignore[arg-type]
    return WordPiece([*tiny.SPECIALS, *tiny.WORDS], spec)


def ours(tokenizer: WordPiece, text: str) -> list[str]:
    """The words a text falls into."""
    return [word for chunk in characters.JOINERS.sub("", text).split() for word in tokenizer._characters.split(chunk)]


def theirs(compat: str, lower: bool, strip: bool, chinese: bool):
    if compat == "google":
        return lambda text: google.basic(text, lower, strip, chinese)
    normal = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip, lowercase=lower
    )
    split = pre_tokenizers.BertPreTokenizer()
    return lambda text: [word for word, _ in split.pre_tokenize_str(normal.normalize_str(text))]


@on_unicode_14
def test_the_pinned_table():
    kinds = {"Cc": "C", "Cf": "C", "Zs": "Z", "Mn": "M", "Cn": "U"}
    for c in ALL:
        kind = unicodedata.category(c)
        assert category(c) == (kinds.get(kind) or ("P" if kind[0] == "P" else "-")), hex(ord(c))


@on_unicode_14
def test_the_characters_that_nfd_sorts():
    for c in ALL:
        sorts = any(
            unicodedata.combining(p) and unicodedata.category(p) != "Mn" for p in unicodedata.normalize("NFD", c)
        )
        assert characters.SORTED.search(c) or not sorts, hex(ord(c))


@pytest.mark.parametrize("compat", [pytest.param("google", marks=on_unicode_14), "transformers"])
@pytest.mark.parametrize("switches", SOME)
def test_every_code_point_alone_and_between_letters(compat, switches):
    tokenizer, oracle = made(compat, *switches), theirs(compat, *switches)
    for start in range(0, len(ALL), 64):
        # Joined by a word of letters, so that what a character does to its neighbours shows as well.
        text = "a".join(ALL[start : start + 64])
        if ours(tokenizer, text) != oracle(text):
            for c in ALL[start : start + 64]:
                assert ours(tokenizer, f"xA{c}By") == oracle(f"xA{c}By"), hex(ord(c))
            raise AssertionError(f"{start:x}: together, not alone")


# Letters whose neighbours matter, marks, signs, spaces of every kind.
STRANGE = "\u03a3\u03c3\u03c2\u0130\u0149\u1e9e\u0345\u0301\u0327\u302e\u302f\U0001d165\U0001d15e\u1b44\u0e33\u200d\ufe0f\u2028"
STRANGE += "\x0b\x0c\x1c\x1f\x85\xa0\u3000\u00ad\ufeff\ue000\U0010fffd\u0378\u4e2d\uf900\U0002f800\ud55c\u1112#'`.\u2019\u00bf aAzZ09"
TEXT = st.text(st.one_of(st.sampled_from(STRANGE), st.characters(exclude_categories=["Cs"])), max_size=40)


@pytest.mark.parametrize("compat", [pytest.param("google", marks=on_unicode_14), "transformers"])
@pytest.mark.parametrize("switches", SWITCHES)
@settings(max_examples=100)
@given(text=TEXT)
@example("ὈΔΥΣΣΕΎΣ ΣΑΣ. aΣ\u0301 Σ\u0301a A\u302eΣ\u0301")
def test_any_text(compat, switches, text):
    assert ours(made(compat, *switches), text) == theirs(compat, *switches)(text)


@given(text=TEXT)
def test_spans_of_any_text(text):
    for compat in ("google", "transformers"):
        for switches in ((True, True, True), (False, False, True)):
            tokenizer = made(compat, *switches)
            pieces = tokenizer.pieces(text)
            assert [p.id for p in pieces] == tokenizer.bulk([text])[0]
            assert all(0 <= p.start < p.end <= len(text) for p in pieces)
            assert all(a.start <= b.start for a, b in itertools.pairwise(pieces))
            for p in pieces:  # a span holds the source of its piece, nothing else
                token = tokenizer.vocab[p.id].removeprefix("##")
                if token != "[UNK]":
                    assert token in "".join(ours(tokenizer, text[p.start : p.end])).replace("\u03c2", "\u03c3")


def ranges(points: list[int]) -> list[str]:
    found: list[list[int]] = []
    for n in points:
        if found and n == found[-1][1] + 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return [f"{a:04X}" if a == b else f"{a:04X}-{b:04X}" for a, b in found]


@on_unicode_14
def test_the_differences_between_the_modes_are_known():
    """``HALBERT_WRITE_GOLDEN=1`` writes the list anew."""
    lines = [
        "# Where WordPiece's two modes differ, character by character, lower-cased and stripped of accents:",
        "# what Google's rules make of the characters, and what transformers' make of them. Besides: the longest word is",
        "# 200 characters for Google, 100 for transformers; and a capital sigma at the end of a word is \u03c2 for Google.",
        f"# tokenizers {tokenizers.__version__}, Unicode {unicodedata.unidata_version}.",
    ]
    a, b = (made(compat, True, True, True) for compat in ("google", "transformers"))
    kinds: dict[str, list[int]] = {}
    for c in ALL:
        one, other = a._characters.become(c), b._characters.become(c)
        if one.split(" ") != other.split(" "):
            what = [
                "removed" if not x else "white space" if x == " " else "a word of its own" if x == f" {c} "
                else "kept" if x == c else "changed" for x in (one, other)
            ]  # fmt: skip
            kinds.setdefault(f"{what[0]} | {what[1]}", []).append(ord(c))
    for kind in sorted(kinds):
        lines.append(f"{kind}: {len(kinds[kind]):,} characters: {' '.join(ranges(kinds[kind]))}")
    text = "\n".join(lines) + "\n"
    if os.environ.get("HALBERT_WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(parents=True, exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text("utf-8")
