"""What both kinds share: special tokens, segments, pairs, truncation, masks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.errors import InputError
from tests.text.made import KINDS, learnt

TEXT, PAIR = "our fathers brought forth a new nation", "we are met on a great field"


def slow_truncation(first: list, second: list | None, room: int) -> tuple[list, list | None]:
    """google-research/bert, ``_truncate_seq_pair``: a piece at a time from the longer one, the second when equal."""
    first, second = list(first), None if second is None else list(second)
    while len(first) + len(second or []) > room:
        (first if second is None or len(first) > len(second) else second).pop()
    return first, second


@pytest.mark.parametrize("kind", KINDS)
def test_one_text(kind):
    tokenizer = learnt(kind)
    cls, sep = tokenizer.special_ids["cls"], tokenizer.special_ids["sep"]
    found, pieces = tokenizer.encode(TEXT), tokenizer.pieces(TEXT)
    assert found.ids == [cls, *(p.id for p in pieces), sep]
    assert found.spans == [None, *((p.start, p.end) for p in pieces), None]
    assert found.segments == [0] * len(found.ids)
    assert found.tokens == [tokenizer.vocab[i] for i in found.ids]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair(kind):
    tokenizer = learnt(kind)
    cls, sep = tokenizer.special_ids["cls"], tokenizer.special_ids["sep"]
    found, first, second = tokenizer.encode(TEXT, PAIR), tokenizer.pieces(TEXT), tokenizer.pieces(PAIR)
    assert found.ids == [cls, *(p.id for p in first), sep, *(p.id for p in second), sep]
    assert found.segments == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert found.spans == [None, *((p.start, p.end) for p in first), None, *((p.start, p.end) for p in second), None]


@pytest.mark.parametrize("kind", KINDS)
def test_empty_texts(kind):
    tokenizer = learnt(kind)
    cls, sep = tokenizer.special_ids["cls"], tokenizer.special_ids["sep"]
    assert tokenizer.encode("").ids == tokenizer.encode(" \n").ids == [cls, sep]
    assert tokenizer.encode("", "").ids == [cls, sep, sep] and tokenizer.encode("", "").segments == [0, 0, 1]
    assert tokenizer.encode_batch([]) == []


@pytest.mark.parametrize("kind", KINDS)
@given(
    first=st.text("ab cdé,", max_size=24), second=st.none() | st.text("ab cdé,", max_size=24), length=st.integers(3, 30)
)
def test_truncation_is_the_slow_loop(kind, first, second, length):
    tokenizer = learnt(kind)
    room = length - (2 if second is None else 3)
    a, b = slow_truncation(tokenizer.pieces(first), None if second is None else tokenizer.pieces(second), room)
    found = tokenizer.encode(first, second, max_length=length)
    spans = [None, *((p.start, p.end) for p in a), None]
    if b is not None:
        spans += [*((p.start, p.end) for p in b), None]
    assert found.spans == spans and len(found.ids) <= length
    assert tokenizer.encode_batch([first], None if second is None else [second], max_length=length) == [
        (found.ids, found.segments)
    ]


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [
        ((5, 2), 6, (4, 2)), ((2, 5), 6, (2, 4)), ((5, 5), 6, (3, 3)), ((5, 5), 7, (4, 3)), ((4, 6), 7, (4, 3)),
        ((6, 4), 7, (4, 3)), ((9, 0), 4, (4, 0)), ((0, 9), 4, (0, 4)), ((3, 3), 6, (3, 3)), ((3, 3), 0, (0, 0)),
    ],
)  # fmt: skip
def test_truncation_by_hand(tiny_tokenizer, lengths, room, kept):
    found = tiny_tokenizer.encode("cat " * lengths[0], "dog " * lengths[1], max_length=room + 3)
    assert (found.tokens.count("cat"), found.tokens.count("dog")) == kept


@pytest.mark.parametrize(("pair", "length"), [(None, 1), (None, -5), ("a", 2)])
def test_no_room(tiny_tokenizer, pair, length):
    with pytest.raises(InputError, match=f"max_length {length} leaves no room"):
        tiny_tokenizer.encode("cat", pair, max_length=length)
    with pytest.raises(InputError, match=f"max_length {length} leaves no room"):
        tiny_tokenizer.encode_batch(["cat"], None if pair is None else [pair], max_length=length)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_only_when_they_are_asked_for(kind):
    tokenizer = learnt(kind)
    mask = tokenizer.special_ids["mask"]
    text = "the [MASK] of this[MASK] nation"
    plain, masked = tokenizer.encode(text), tokenizer.encode(text, masks=True)
    assert mask not in plain.ids and masked.ids.count(mask) == 2
    places = [text[span[0] : span[1]] for i, span in zip(masked.ids, masked.spans, strict=True) if i == mask]
    assert places == ["[MASK]", "[MASK]"]
    spans = [span for span in masked.spans if span]
    assert spans == sorted(spans)
    rest = [text[a:b] for a, b in spans if text[a:b] != "[MASK]"]
    assert "".join(rest) == "theofthisnation"
    assert tokenizer.encode(PAIR, masks=True) == tokenizer.encode(PAIR)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_in_the_second_text(kind):
    tokenizer = learnt(kind)
    found = tokenizer.encode("we", "[MASK]", masks=True)
    assert found.ids[-2] == tokenizer.special_ids["mask"] and found.segments[-2] == 1 and found.spans[-2] == (0, 6)


def test_fingerprints_tell_rules_and_vocabularies_apart():
    made = [learnt("wordpiece"), learnt("wordpiece", 100), learnt("wordpiece", lower=False), learnt("unigram")]
    assert len({tokenizer.fingerprint for tokenizer in made}) == 4
