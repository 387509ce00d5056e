"""Texts made harder: the same for every model, in the strength that was asked for, and nothing else changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from halbert.compare.noise import NOISES, negated
from halbert.data.readers import Example

BY_NAME = {noise.name: noise for noise in NOISES}
WORDS = [f"word{i}able" for i in range(2000)]
TEXT = " ".join(WORDS)


def test_typing_errors_come_in_the_share_that_was_asked_for():
    for name, share in (("typos_10", 0.1), ("typos_30", 0.3)):
        found = BY_NAME[name].disturb(TEXT, 0).split()
        assert len(found) == len(WORDS)
        changed = sum(a != b for a, b in zip(WORDS, found, strict=True)) / len(WORDS)
        # A slip may hit the letter itself or swap equal ones, so a few show nothing.
        assert share * 0.7 < changed < share * 1.2
        assert all(a[0] == b[0] and abs(len(a) - len(b)) <= 1 for a, b in zip(WORDS, found, strict=True))
    assert BY_NAME["typos_30"].disturb("a in the", 0) == "a in the"  # too short to be mistyped


def test_strangers_come_between_and_nothing_is_lost():
    found = BY_NAME["strangers"].disturb(TEXT, 0).split()
    assert [word for word in found if word in set(WORDS)] == WORDS
    assert 0.25 < (len(found) - len(WORDS)) / len(WORDS) < 0.35
    new = {word for word in found if word not in set(WORDS)}
    assert any(word.isascii() and word[0].isupper() for word in new) and any(not word.isascii() for word in new)


def test_disorder_stays_within_three_words():
    found = BY_NAME["disorder"].disturb(TEXT, 0).split()
    assert found != WORDS
    for start in range(0, len(WORDS), 3):
        assert sorted(found[start : start + 3]) == sorted(WORDS[start : start + 3])


def test_the_first_half():
    assert BY_NAME["first_half"].disturb("a b c", 0) == "a b" and BY_NAME["first_half"].disturb("", 0) == ""


def test_a_not_is_put_in_or_taken_away():
    assert negated("The film IS good and was long") == "The film IS not good and was long"
    assert negated("it was not bad") == "it was bad"
    assert negated("a fine film") is None and negated("") is None
    assert negated("who knows what it is") == "who knows what it is not"


def test_capitals():
    assert BY_NAME["capitals"].disturb("Der große Hund", 5) == "DER GROSSE HUND"


def test_a_text_is_drawn_by_its_number_alone():
    for noise in NOISES:
        assert noise.disturb(TEXT, 3) == noise.disturb(TEXT, 3)
        if noise.name not in ("capitals", "first_half"):
            assert noise.disturb(TEXT, 3) != noise.disturb(TEXT, 4)


def test_both_texts_of_a_pair_are_disturbed_and_the_rest_is_kept():
    rows = [Example(text="the one", pair="the other", label="yes"), Example(text="alone", label="no")]
    a, b = BY_NAME["capitals"].disturbed(rows)
    assert (a.text, a.pair, a.label) == ("THE ONE", "THE OTHER", "yes")
    assert (b.text, b.pair, b.label) == ("ALONE", None, "no")


@given(st.text(), st.integers())
def test_any_text_can_be_disturbed(text, index):
    for noise in NOISES:
        found = noise.disturb(text, index)
        if noise.name != "strangers":
            assert len(found.split()) <= max(1, len(text.split())) * 2 and bool(found) == bool(text.split())
