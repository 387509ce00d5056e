from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halbert.errors import InputError
from halbert.spec import TextSpec
from halbert.text import unigram
from halbert.text.unigram import SPACE, Unigram, prepare, prepare_located
from tests import tiny
from tests.text.made import learnt

SWITCHES = [(lower, strip) for lower in (True, False) for strip in (True, False)]


@pytest.fixture(scope="module")
def model(shared_data):
    data = (shared_data / "vocab" / "albert-v1-30k-spiece.model").read_bytes()
    assert hashlib.sha256(data).hexdigest().startswith("fefb02b667a6c5c2fe27602d28e5fb34")
    return data


def official(model: bytes, **switches) -> Unigram:
    return Unigram(model, TextSpec(kind="unigram", **switches))


def test_the_official_model(model):
    tokenizer = official(model)
    assert tokenizer.vocab[:5] == ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    assert (tokenizer.vocab_size, tokenizer.vocab[-1]) == (30_000, "▁eloquent")
    assert tokenizer.bulk(["This is a test"]) == [[48, 25, 21, 1289]]


def test_digits_before_a_comma_and_an_accent(model):
    """transformers' own ALBERT test; Google's rule cuts "92000," before the comma."""
    text = "I was born in 92000, and this is falsé."
    kept = official(model, strip_accents=False)
    ids = [31, 23, 386, 19, 561, 3050, 15, 17, 48, 25, 8256, 18, 1, 9]
    pieces = kept.pieces(text)
    assert [piece.id for piece in pieces] == ids == kept.bulk([text])[0]
    shown = "▁i ▁was ▁born ▁in ▁9 2000 , ▁and ▁this ▁is ▁fal s <unk> ."
    assert " ".join(kept.vocab[i] for i in ids) == shown
    assert " ".join(text[start:end] for _, start, end in pieces) == "I was born in 9 2000 , and this is fal s é ."
    assert 1 not in official(model).bulk([text])[0]


@pytest.mark.parametrize("text", ["1,000,000, 7, 2000, and 12,5", "in 92000, and", "x9, 10,", "(1995,", "3,,4"])
def test_spans_around_the_digit_comma_rule(model, text):
    tokenizer = official(model)
    pieces = tokenizer.pieces(text)
    assert "".join(text[start:end] for _, start, end in pieces) == text.replace(" ", "")
    assert not any(len(t := tokenizer.vocab[p.id]) > 1 and t[-1] == "," and t[-2].isdigit() for p in pieces)
    assert tokenizer.bulk([text]) == [[piece.id for piece in pieces]]


@pytest.mark.parametrize(
    ("text", "lower", "strip", "expected"),
    [
        ("  A  b\t\nc ", True, True, "a b c"),
        ("``x'' `y'", True, True, '"x" `y\''),
        ("'''", True, True, "\"'"),
        ("Élan ﬁne ½", True, True, "elan fine 1⁄2"),
        ("Élan ﬁne", False, True, "Elan fine"),
        ("Élan", True, False, "élan"),
        ("Élan", False, False, "Élan"),
        ("ΟΔΟΣ", True, True, "οδος"),
        ("İ", True, True, "i"),
        ("İ", True, False, "i̇"),
        ("\ud55c", True, True, "\u1112\u1161\u11ab"),
        ("\u3000a\u00a0b\u0085c\u001cd", True, True, "a b c d"),
        ("   ", True, True, ""),
    ],
)
def test_preparation(text, lower, strip, expected):
    spec = TextSpec(kind="unigram", lower_case=lower, strip_accents=strip)
    assert " ".join(prepare(chunk, spec) for chunk in text.split()) == expected
    for chunk in text.split():
        prepared, origin = prepare_located(chunk, spec)
        assert prepared == prepare(chunk, spec)
        assert len(origin) == len(prepared)
        assert all(0 <= start < end <= len(chunk) for start, end in origin)


PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="`'"))


@given(PLAIN)
@example("That nation, conceived in Liberty;  10,000 heard it (in 1863).")
def test_spans_show_the_piece(text):
    """Where nothing is folded, the characters of the span are the piece."""
    tokenizer = learnt("unigram", lower=False, strip=False)
    covered = ""
    for i, start, end in tokenizer.pieces(text):
        if i != tokenizer.special_ids["unk"]:
            assert text[start:end] == tokenizer.vocab[i].replace(SPACE, "")
        covered += text[start:end]
    assert covered == text.replace(" ", "")


@pytest.mark.parametrize(("lower", "strip"), SWITCHES)
@given(text=st.text())
@example(text="İstanbul ΟΔΟΣ ﬁn é e\u0301 한국어 \u0005x\ue000y ẞ ½ ㍿ \u0301 ``''`'")
@example(text="\u0301")
@example(text=" a\u0301 \u0301\u0301 ﷺ")
def test_spans_lie_in_the_text(lower, strip, text):
    last = 0
    for _, start, end in learnt("unigram", lower=lower, strip=strip).pieces(text):
        assert last <= start <= end <= len(text)
        last = start


def test_spans_of_folded_text():
    text = "  We  ``HÁVE''\tﬁnal  nations "
    pieces = learnt("unigram").pieces(text)
    shown = [text[start:end] for _, start, end in pieces]
    assert "".join(shown) == "We``HÁVE''ﬁnalnations"
    assert all(part.strip() == part for part in shown)


@pytest.mark.parametrize(("lower", "strip"), SWITCHES)
@given(texts=st.lists(st.text(), max_size=3))
@example(texts=["In 1863, 10,000 heard it, 5,"])
def test_bulk_gives_the_ids_of_pieces(lower, strip, texts):
    tokenizer = learnt("unigram", lower=lower, strip=strip)
    assert tokenizer.bulk(texts) == [[piece.id for piece in tokenizer.pieces(text)] for text in texts]


@pytest.mark.parametrize("text", [line.lower() for line in tiny.SPEECH[:5]])
def test_decode_inverts_clean_text(text):
    tokenizer = learnt("unigram")
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_decode_leaves_special_tokens_out_but_shows_masks():
    tokenizer = learnt("unigram")
    ids = [*tokenizer.encode("the [MASK]nation", "dead", masks=True).ids, tokenizer.special_ids["pad"]]
    assert tokenizer.decode(ids) == "the [MASK] nation dead"
    for bad in (-1, tokenizer.vocab_size):
        with pytest.raises(InputError, match=f"id {bad} is outside the vocabulary"):
            tokenizer.decode([bad])


def test_starts_word():
    tokenizer = learnt("unigram")
    assert {t for t, starts in zip(tokenizer.vocab, tokenizer.starts_word, strict=True) if starts} == {
        t for t in tokenizer.vocab if t.startswith("▁")
    }
    assert 0 < tokenizer.starts_word.sum() < tokenizer.vocab_size


@pytest.mark.parametrize("data", [b"", b"no model", b"\x0a\xff"])
def test_a_damaged_model(data):
    with pytest.raises(InputError, match=r"spiece\.model"):
        Unigram(data, TextSpec(kind="unigram"), "spiece.model")


@pytest.mark.parametrize("size", [100, 128, 333])
def test_a_chunk_without_end_is_cut_as_a_whole(monkeypatch, size):
    """Slices leave no trace in real words; ids and places agree in any text."""
    tokenizer = learnt("unigram", 150)
    words = "".join(tiny.SPEECH * 3).replace(" ", "")
    whole = tokenizer.pieces(words)
    assert len(words) > 1_000
    monkeypatch.setattr(unigram, "SLICE", size)
    monkeypatch.setattr(unigram, "_SHARED", 64)
    fresh = Unigram(tokenizer._model, tokenizer.spec)
    assert fresh.pieces(words) == whole
    assert fresh.bulk([words, "x " + words + " y"])[0] == [piece.id for piece in whole]


@pytest.mark.parametrize(
    "unit", ["a", "aa", "the", "日本", "\u200b", "a,1,", "日the", "\u200b" * 200 + "the" * 70, "é1,"]
)
def test_odd_chunks_without_end(monkeypatch, unit):
    monkeypatch.setattr(unigram, "SLICE", 150)
    monkeypatch.setattr(unigram, "_SHARED", 64)
    tokenizer = Unigram(learnt("unigram")._model, learnt("unigram").spec)
    for times in (1, 150 // len(unit) + 1, 1_000 // len(unit) + 3):
        text = unit * times
        pieces = tokenizer.pieces(text)
        assert [piece.id for piece in pieces] == tokenizer.bulk([text])[0]
        places = [(piece.start, piece.end) for piece in pieces]
        assert all(before[1] <= after[0] for before, after in pairwise(places))
        assert not pieces or ((pieces[0].start == 0 or unit[0] == "\u200b") and pieces[-1].end == len(text))
