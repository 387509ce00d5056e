from __future__ import annotations

import pytest

from halbert.errors import InputError
from halbert.spec import TextSpec
from halbert.text.learn import SMALLEST, learn_vocabulary
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
