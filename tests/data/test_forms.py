"""Every form of data as rows: nothing lost, nothing out of place, whatever the length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.data.forms import encode
from halbert.data.readers import Example
from halbert.errors import InputError
from halbert.heads import HeadSpec
from tests import tiny

TOKENIZER = tiny.tokenizer()
WORD = st.sampled_from(["the", "cat", "runn", "wanted", "zzz", ".", "é", "\u200b", "mats"])
TAGS = ("O", "B-X", "I-X")
SPAN, TAG = HeadSpec(kind="span"), HeadSpec(kind="tag", labels=TAGS)


@given(st.lists(st.lists(st.tuples(WORD, st.sampled_from(TAGS)), min_size=1, max_size=30), max_size=4), st.integers(4, 20),
       st.integers(0, 30))  # fmt: skip
def test_every_word_is_answered_once(sentences, length, stride):
    rows = [
        Example(text=" ".join(w for w, _ in s), words=tuple(w for w, _ in s), tags=tuple(t for _, t in s))
        for s in sentences
    ]
    found = encode("tagged", rows, TOKENIZER, length, TAG, stride)
    assert len(found) == len(rows) and found.longest <= length
    for e, example in enumerate(rows):
        seen = {}
        for r in range(found.examples_E[e], found.examples_E[e + 1]):
            ids, segments = found.row(r)
            assert len(ids) <= length and not segments.any()
            for piece, place, tag in zip(ids, found.of("places", r), found.of("tags", r), strict=True):
                assert (place >= 0) == (tag >= 0)
                if place >= 0:
                    assert place not in seen
                    seen[place] = TAGS[tag]
                    word = TOKENIZER.bulk([example.words[place]])[0]
                    assert piece == (word[0] if word else TOKENIZER.special_ids["unk"])
        assert [seen[i] for i in range(len(example.words))] == list(example.tags)


@given(st.lists(WORD, max_size=40), st.lists(WORD, max_size=12), st.integers(12, 40), st.integers(0, 30), st.data())
def test_answers_are_found_again(words, question, length, stride, data):
    text = " ".join(words)
    answers: tuple[tuple[int, str], ...] = ()
    if words:
        i = data.draw(st.integers(0, len(words) - 1))
        k = data.draw(st.integers(i, min(len(words) - 1, i + 2)))
        start = len(" ".join(words[:i])) + (i > 0)
        answers = ((start, " ".join(words[i : k + 1])),)
    example = Example(text=" ".join(question), pair=text, answers=answers, id="1")
    found = encode(
        "questions", [example, Example(text="the cat", pair=text, answers=(), id="2")], TOKENIZER, length, SPAN, stride
    )
    assert len(found) == 2 and found.longest <= length
    owned = {}
    for r in range(found.examples_E[0], found.examples_E[1]):
        segments = found.row(r)[1]
        spans, places = found.of("spans", r), found.of("places", r)
        assert ((spans[:, 0] >= 0) <= (segments == 1)).all()
        for i, (span, place) in enumerate(zip(spans.tolist(), places, strict=True)):
            if place == 1:
                assert tuple(span) not in owned or span[0] == span[1]
                owned[tuple(span)] = i
        first, last = found.target[r]
        if first:
            assert first <= last and spans[first, 0] >= 0 and spans[last, 0] >= 0
            start, answer = answers[0]
            shown = text[spans[first, 0] : spans[last, 1]]
            assert shown == answer or not all(TOKENIZER.pieces(w) for w in answer.split()) or "##" not in answer
            assert spans[first, 1] > start and spans[last, 0] < start + len(answer)
    assert {tuple(p[1:]) for p in TOKENIZER.pieces(text)} == set(owned)
    assert (found.target[found.examples_E[1] :] == 0).all()


def test_a_question_may_be_cut_and_is_counted():
    example = Example(text="the cat " * 30, pair="a mat", answers=((0, "a"),), id="1")
    found = encode("questions", [example], TOKENIZER, 20, SPAN, 4)
    assert found.cut == (1, 52, 60) and found.target.tolist() == [[10, 10]]


def test_candidates_are_rows_of_one_example():
    rows = [
        Example(text="the", choices=("cat", "a mat"), label="1"),
        Example(text="a", choices=("1", "2", "3"), label="0"),
    ]
    found = encode("choices", rows, TOKENIZER, 16, HeadSpec(kind="choice"))
    assert found.examples_E.tolist() == [0, 2, 5] and found.target.tolist() == [1, 0]
    assert found.encoded[1] == TOKENIZER.encode_batch(["the"], ["a mat"])[0]
    assert found.widths.tolist() == [6, 5]


def test_scores_pairs_and_sets():
    scored = encode("scored", [Example(text="a", pair="the", score=2.5)], TOKENIZER, 16, HeadSpec(kind="score"))
    assert scored.target.tolist() == [2.5] and scored.encoded == TOKENIZER.encode_batch(["a"], ["the"])
    near = [Example(text="a", pair="the", third="cat"), Example(text="mat", pair="1", score=0.5)]
    found = encode("pairs", near, TOKENIZER, 16, None)
    assert found.examples_E.tolist() == [0, 3, 5] and found.encoded == TOKENIZER.encode_batch(
        ["a", "the", "cat", "mat", "1"]
    )
    assert np.isnan(found.target[0]) and found.target[1] == 0.5
    head = HeadSpec(kind="label", labels=("x", "y", "z"), several=True)
    sets = encode("labelled", [Example(text="a", labels=("z", "x")), Example(text="b", labels=())], TOKENIZER, 9, head)
    assert sets.target.tolist() == [[1, 0, 1], [0, 0, 0]]
    with pytest.raises(InputError, match="'w' is not among the 3 labels"):
        encode("labelled", [Example(text="a", labels=("w",))], TOKENIZER, 9, head)
    with pytest.raises(InputError, match="the tag 'B-Y' of the word 'cat' is not among the 3 tags"):
        encode("tagged", [Example(text="cat", words=("cat",), tags=("B-Y",))], TOKENIZER, 9, TAG)


@given(st.lists(st.lists(WORD, max_size=40).map(" ".join), max_size=4), st.integers(4, 16))
def test_long_texts_are_several_rows(texts, length):
    found = encode("texts", [Example(text=t) for t in texts], TOKENIZER, length, None)
    inside = [i for ids, _ in found.encoded for i in ids[1:-1]]
    assert inside == [i for ids in TOKENIZER.bulk(texts) for i in ids]
    assert found.longest <= length and found.cut == (0, 0, 0)
