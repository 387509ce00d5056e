from __future__ import annotations

import numpy as np
import pytest
import torch

from halbert.data.corpus import Corpus, build_corpus
from halbert.data.encoding import encode_files
from halbert.errors import InputError
from halbert.train import translations
from halbert.train.translations import Translations, bring_together, ranking_loss
from tests import tiny

DOCUMENTS = [["the cat", "1 dog"], ["want"], ["cat sat", "dog 2", "dog eat"], ["sat", "2"], ["the sat", "1 2"]]


@pytest.fixture(scope="module")
def parallel(tmp_path_factory):
    return build_corpus(DOCUMENTS, tiny.tokenizer(), tmp_path_factory.mktemp("parallel") / "p", shard_tokens=4)


def test_a_text_is_drawn_beside_a_translation(parallel):
    texts, vocab = Translations(parallel), tiny.tokenizer().vocab
    assert len(parallel) > 2 and len(texts) == 5 and len(texts.documents) == 4
    seen = set()
    for seed in range(60):
        for pair in zip(*texts.draw(np.random.default_rng(seed), 4), strict=True):
            seen.add(tuple(" ".join(vocab[i] for i in pieces) for pieces in pair))
    assert seen == {(first, other) for first, *others in DOCUMENTS for other in others}


def test_texts_of_several_sentences_stay_whole(tmp_path):
    """By command: a document of two texts of two sentences is one pair, not three false ones."""
    (tmp_path / "texts.txt").write_text("The cat sat. A dog ran.\n  1 want.   2 eat.\n\nthe dog\ncat\n")
    for whole, count in ((True, 2), (False, 4)):
        corpus = encode_files([tmp_path / "texts.txt"], tiny.tokenizer(), tmp_path / str(whole), whole=whole, workers=1)
        assert len(Translations(corpus)) == count and corpus.manifest.documents == 2
    firsts, others = Translations(Corpus(tmp_path / "True")).draw(np.random.default_rng(0), 2)
    split = tiny.tokenizer().arrays(["The cat sat. A dog ran.", "1 want. 2 eat."])
    assert any(np.array_equal(a, split[0]) and np.array_equal(b, split[1]) for a, b in zip(firsts, others, strict=True))
    made = build_corpus(
        [["The cat sat. A dog ran.", "1 want. 2 eat."]], tiny.tokenizer(), tmp_path / "made", whole=True
    )
    assert made.manifest.sentences == 2


def test_long_texts_are_cut(parallel, monkeypatch):
    monkeypatch.setattr(translations, "LONGEST", 1)
    firsts, others = Translations(parallel).draw(np.random.default_rng(0), 4)
    assert {len(pieces) for pieces in (*firsts, *others)} == {1}


def test_the_loss_is_that_of_two_loops():
    draw = torch.Generator().manual_seed(1)
    a, b = (torch.randn(5, 3, generator=draw) for _ in range(2))
    same = torch.eye(5, dtype=torch.bool)
    same[1, 3] = same[3, 1] = True
    expected = 0.0
    for x, y in ((a, b), (b, a)):
        for i in range(5):
            scores = [20 * float(x[i] @ y[j] / x[i].norm() / y[j].norm()) for j in range(5) if j == i or not same[i, j]]
            right = 20 * float(x[i] @ y[i] / x[i].norm() / y[i].norm())
            expected += (np.log(np.sum(np.exp(scores))) - right) / 10
    assert float(ranking_loss(a, b, same)) == pytest.approx(expected, abs=1e-5)
    assert float(ranking_loss(a, b, torch.eye(5, dtype=torch.bool))) > expected + 1e-3


def test_words_of_one_meaning_come_together(parallel, monkeypatch):
    tokenizer = tiny.tokenizer()
    table = (np.random.default_rng(0).standard_normal((tokenizer.vocab_size, 8)) * 0.05).astype(np.float32)
    monkeypatch.setattr(translations, "PASSES", 80)
    found = bring_together(table, parallel, 3)
    assert found.shape == table.shape and found.dtype == np.float32
    assert found.std() == pytest.approx(table.std(), rel=1e-4)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    np.testing.assert_array_equal(found, bring_together(table, parallel, 3))
    assert np.abs(found - bring_together(table, parallel, 4)).max() > 1e-4

    def likeness(table, a, b):
        x, y = (table[tokenizer.vocab.index(word)] for word in (a, b))
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    for a, b, other in (("cat", "dog", "2"), ("sat", "2", "dog"), ("the", "1", "dog")):
        assert likeness(found, a, b) > 0.5 > likeness(table, a, b)
        assert likeness(found, a, b) > 0.3 + likeness(found, a, other)


def test_a_corpus_without_translations_is_refused(tmp_path):
    alone = build_corpus([["the cat"], ["dog"], ["eat"]], tiny.tokenizer(), tmp_path / "c")
    with pytest.raises(InputError, match="holds no texts in several languages"):
        bring_together(np.zeros((tiny.tokenizer().vocab_size, 4), np.float32), alone, 0)
