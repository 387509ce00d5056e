from __future__ import annotations

from collections import Counter

import pytest

from halbert.errors import InputError
from halbert.processes import open_pool
from halbert.spec import TextSpec
from halbert.text import learn
from halbert.text.learn import SMALLEST, count_words, learn_from_counts, learn_vocabulary, report, weigh
from tests import tiny
from tests.text.made import KINDS, learnt


@pytest.mark.parametrize("kind", KINDS)
def test_same_text_same_vocabulary(kind):
    spec = TextSpec(kind=kind)
    first, second = (learn_vocabulary(iter(tiny.SPEECH), KINDS[kind], spec) for _ in range(2))
    assert first.vocab == second.vocab and first.fingerprint == second.fingerprint
    assert first.bulk(tiny.SPEECH) == second.bulk(tiny.SPEECH)
    assert first.spec == spec


@pytest.mark.parametrize("size", [64, 100, 150])
@pytest.mark.parametrize("kind", KINDS)
def test_at_most_the_size(kind, size):
    vocab = learnt(kind, size).vocab
    assert 0.8 * size <= len(vocab) <= size
    assert len(set(vocab)) == len(vocab)


@pytest.mark.parametrize("size", [SMALLEST, SMALLEST + 1, 40])
def test_the_smallest_wordpiece_vocabularies(size):
    assert len(learnt("wordpiece", size).vocab) == size


def test_ties_are_broken_by_the_letters_not_by_chance():
    """All words and letters equally frequent: nothing but their names can decide."""
    texts = [f"{a}{b}{c}" for a in "abcdefghijklm" for b in "nopqrstuvwxyz" for c in "éàüß"]
    spec = TextSpec(strip_accents=False)
    first, second = (learn_vocabulary(order, 60, spec).vocab for order in (texts, texts[::-1]))
    assert first == second


def test_special_tokens_come_first():
    assert learnt("wordpiece").vocab[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert learnt("unigram").vocab[:5] == ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]


@pytest.mark.parametrize("kind", KINDS)
def test_frequent_words_become_pieces(kind):
    tokenizer = learnt(kind, {"wordpiece": 400, "unigram": 150}[kind])
    unknown = tokenizer.special_ids["unk"]
    assert all(len(tokenizer.bulk([word])[0]) == 1 for word in ("the", "war"))
    assert sum(ids.count(unknown) for ids in tokenizer.bulk([line.lower() for line in tiny.SPEECH[:11]])) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_switches_are_obeyed(kind):
    folded, kept = learnt(kind), learnt(kind, lower=False, strip=False)
    assert not any(token.lower() != token for token in folded.vocab[5:])
    assert any(token.lower() != token for token in kept.vocab[5:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [-1, 0, 5, SMALLEST - 1])
def test_too_small(kind, size):
    with pytest.raises(InputError, match=f"a vocabulary of {size} pieces was asked for; expected at least {SMALLEST}"):
        learn_vocabulary(tiny.SPEECH, size, TextSpec(kind=kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], [""], ["", " \n\t "]], ids=["nothing", "empty", "blank"])
def test_no_text(kind, texts):
    with pytest.raises(InputError):
        learn_vocabulary(texts, 100, TextSpec(kind=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_text_gives_fewer_pieces_than_asked_for(kind):
    assert SMALLEST < learn_vocabulary(tiny.SPEECH, 5_000, TextSpec(kind=kind)).vocab_size < 5_000


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_texts_does_not_matter(kind):
    first, second = (
        learn_vocabulary(texts, KINDS[kind], TextSpec(kind=kind)) for texts in (tiny.SPEECH, tiny.SPEECH[::-1])
    )
    assert first.fingerprint == second.fingerprint


def test_rare_words_and_letters_are_left_out():
    spec = TextSpec()
    words = Counter({"common": 500, "letters": 400, "ж": 1, "rare": 2})
    assert "ж" in learn_from_counts(words, 60, spec, coverage=1.0).vocab
    assert "ж" not in learn_from_counts(words, 60, spec, coverage=0.999).vocab
    frequent = learn_from_counts(words, 200, spec, min_frequency=3)
    assert "common" in frequent.vocab and "rare" not in frequent.vocab and "ж" not in frequent.vocab
    with pytest.raises(InputError, match="no words to learn"):
        learn_from_counts(words, 60, spec, min_frequency=501)


@pytest.mark.parametrize("kind", KINDS)
def test_reserved_tokens(kind):
    words = count_words(tiny.SPEECH, TextSpec(kind=kind))
    tokenizer = learn_from_counts(words, 200, TextSpec(kind=kind), reserved=["[unused0]", "[E1]"])
    assert tokenizer.vocab[5:7] == ["[unused0]", "[E1]"]
    taken = {tokenizer.vocab.index(token) for token in ("[unused0]", "[E1]")}
    assert not taken & set(tokenizer.bulk(["[unused0] [E1] x"])[0])
    for reserved in (["a", "a"], ["[CLS]"]):
        with pytest.raises(InputError, match="reserved tokens must differ"):
            learn_from_counts(words, 200, TextSpec(kind=kind), reserved=reserved)


def test_languages_are_weighted():
    """A ratio of 1000 becomes 1000 ** 0.7 = 126 (FACTS: the README says about 100)."""
    languages = {"en": Counter({"the": 1_000_000}), "is": Counter({"og": 1_000})}
    found = weigh(languages, 0.7)
    assert found["the"] == 1_000_000 and round(found["the"] / found["og"]) == 126
    assert weigh(languages, 1.0) == Counter({"the": 1_000_000, "og": 1_000})
    equal = weigh(languages, 0.0)
    assert equal["the"] == equal["og"]


def test_a_report_on_other_text():
    tokenizer = learnt("wordpiece", 400)
    found = report(tokenizer, ["that nation", "жук"])
    assert (found.words, found.pieces) == (3, tokenizer.vocab_size)
    assert found.unknown == pytest.approx(1 / (found.pieces_per_word * 3)) and found.covered == pytest.approx(10 / 13)
    assert report(tokenizer, []).unknown is None


def test_rare_words_are_thinned_out_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(learn, "MOST_WORDS", 10)
    texts = ["often often", *(f"word{i}" for i in range(100)), "often often"]
    assert len(count_words(texts, TextSpec())) <= 11 and count_words(texts, TextSpec())["often"] >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_many_processes_count_what_one_counts(monkeypatch, kind):
    monkeypatch.setattr(learn, "BLOCK", 100)
    spec = TextSpec(kind=kind)
    expected = count_words(tiny.SPEECH, spec)
    with open_pool(2) as pool:
        assert list(count_words(iter(tiny.SPEECH), spec, pool).items()) == list(expected.items())
        monkeypatch.setattr(learn, "MOST_WORDS", 20)  # rare words go at the same places
        assert count_words(iter(tiny.SPEECH), spec, pool) == count_words(tiny.SPEECH, spec) != expected
