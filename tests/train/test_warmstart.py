from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from halbert.data.corpus import build_corpus
from halbert.errors import InputError
from halbert.train import warmstart
from halbert.train.warmstart import SPREAD, WINDOW, document_counts, neighbour_counts, piece_embeddings
from tests import tiny
from tests.data.made import DOCUMENTS, words

SPEECHES = [tiny.SPEECH, DOCUMENTS[0] + DOCUMENTS[3]]


def slow_counts(documents, tokenizer):
    counts = np.zeros((tokenizer.vocab_size, tokenizer.vocab_size))
    for document in documents:
        ids = [piece.id for paragraph in document for piece in tokenizer.pieces(paragraph)]
        for i, a in enumerate(ids):
            for j, b in enumerate(ids):
                if 0 < abs(i - j) <= WINDOW:
                    counts[a, b] += 1 / abs(i - j)
    return counts


@pytest.mark.parametrize("shard_tokens", [1 << 24, 60])
def test_counts_are_those_of_two_loops(tmp_path, shard_tokens):
    corpus = build_corpus(DOCUMENTS, words(), tmp_path / "c", shard_tokens=shard_tokens)
    assert (len(corpus) > 2) == (shard_tokens == 60)
    counts = neighbour_counts(corpus).toarray()
    np.testing.assert_allclose(counts, slow_counts(DOCUMENTS, words()), rtol=1e-12)
    np.testing.assert_allclose(counts, counts.T, rtol=1e-12)
    assert WINDOW == 5


def test_of_a_large_corpus_every_shard_is_counted_in_part(tmp_path, monkeypatch):
    """As many pieces as are allowed, the same share of each shard; a corpus that is small enough is counted whole."""
    corpus = build_corpus(DOCUMENTS, words(), tmp_path / "c", shard_tokens=60)
    whole, pieces = neighbour_counts(corpus).sum(), corpus.manifest.tokens
    shards = [np.asarray(corpus.shard(number).ids) for number in range(len(corpus))]
    for most in (pieces // 2, pieces // 3, 1, pieces, 2 * pieces):
        monkeypatch.setattr(warmstart, "MOST", most)
        share = min(1, most / pieces)
        kept = np.zeros((200, 200))
        for number, ids in enumerate(shards):
            shard = corpus.shard(number)
            edges = np.asarray(shard.sentences)[np.asarray(shard.documents)]
            end = math.ceil(share * len(ids))
            for begin, until in itertools.pairwise(edges.tolist()):
                part = ids[begin : min(until, end)].tolist()
                for i, a in enumerate(part):
                    for j, b in enumerate(part):
                        kept[a, b] += 1 / abs(i - j) if 0 < abs(i - j) <= WINDOW else 0
        np.testing.assert_allclose(neighbour_counts(corpus).toarray(), kept, rtol=1e-12)
        assert (kept.sum() == pytest.approx(whole)) == (most >= pieces)


def test_neighbours_in_different_documents_are_not_counted(tmp_path):
    documents = [["the cat sat"], ["dog eat"], ["un"], ["want 1 2"]]
    tokenizer = tiny.tokenizer()
    together = build_corpus(documents, tokenizer, tmp_path / "c")
    assert len(together) == 1
    counts = neighbour_counts(together).toarray()
    number = {word: tokenizer.vocab.index(word) for document in documents for word in document[0].split()}
    home = {word: d for d, document in enumerate(documents) for word in document[0].split()}
    for a in number:
        for b in number:
            assert (counts[number[a], number[b]] > 0) == (a != b and home[a] == home[b]), (a, b)
    assert counts[number["the"], number["sat"]] == 0.5
    # In one document all would be neighbours.
    joined = build_corpus([[" ".join(d[0] for d in documents)]], tokenizer, tmp_path / "one")
    assert neighbour_counts(joined).toarray()[number["sat"], number["dog"]] == 1


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_corpus(SPEECHES, words(), tmp_path_factory.mktemp("warm") / "c")


@pytest.mark.parametrize("width", [4, 16])
def test_the_table(corpus, width):
    table = piece_embeddings(corpus, width, 3)
    assert table.shape == (200, width) and table.dtype == np.float32 and np.isfinite(table).all()
    np.testing.assert_allclose(table.mean(0), 0, atol=1e-7)
    assert table.std() == pytest.approx(SPREAD, rel=1e-4) and SPREAD == 0.05
    np.testing.assert_array_equal(table, piece_embeddings(corpus, width, 3))
    # The seed only starts the search for one and the same decomposition.
    np.testing.assert_allclose(table, piece_embeddings(corpus, width, 4), atol=1e-4)


def test_pieces_that_never_occur_share_one_row(corpus):
    seen = np.unique(corpus.shard(0).ids)
    unseen = np.setdiff1d(np.arange(200), seen)
    assert {0, 2, 3, 4} < set(unseen.tolist())  # the special ones but the unknown piece
    table = piece_embeddings(corpus, 8, 0)
    np.testing.assert_allclose(table[unseen], np.broadcast_to(table[0], (len(unseen), 8)), atol=1e-7)
    assert table[seen].std(0).min() > 1e-3


def test_the_table_is_the_decomposition_numpy_finds(corpus):
    counts = slow_counts(SPEECHES, words())
    piece = counts.sum(1) / counts.sum()
    context = piece**0.75 / (piece**0.75).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(counts / counts.sum() / np.outer(piece, context))
    pmi[~np.isfinite(pmi) | (pmi < 0)] = 0
    left, values, _ = np.linalg.svd(pmi)
    expected = left[:, :6] * np.sqrt(values[:6])
    expected *= np.sign(expected[np.abs(expected).argmax(0), range(6)])
    expected -= expected.mean(0)
    np.testing.assert_allclose(piece_embeddings(corpus, 6, 0), expected * (0.05 / expected.std()), atol=1e-5)


def test_documents_of_several_languages_bring_their_words_together(tmp_path):
    # "cat" and "dog" never stand near each other, and translate each other.
    tokenizer = tiny.tokenizer()
    number = {word: tokenizer.vocab.index(word) for word in ("the", "cat", "sat", "dog", "eat", "want", "1", "2")}
    alone = [["the cat sat"], ["1 dog 2"], ["want eat want"], ["sat the"], ["2 1"]]
    corpus = build_corpus(alone, tokenizer, tmp_path / "c")
    parallel = build_corpus(
        [["cat", "dog"], ["the", "1"], ["sat", "2"], ["eat"]], tokenizer, tmp_path / "p", shard_tokens=2
    )
    assert len(parallel) > 1
    counts = document_counts(parallel).toarray()
    assert counts.shape == (tokenizer.vocab_size, 4) and counts.sum() == 7
    assert counts[number["cat"]].tolist() == counts[number["dog"]].tolist() == [1, 0, 0, 0]

    def likeness(table, a, b):
        x, y = table[number[a]], table[number[b]]
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    with_it, without = piece_embeddings(corpus, 6, 0, parallel), piece_embeddings(corpus, 6, 0)
    assert likeness(with_it, "cat", "dog") > 0.3 + likeness(without, "cat", "dog")
    assert likeness(with_it, "cat", "eat") < likeness(with_it, "cat", "dog")
    with pytest.raises(InputError, match="another tokenizer"):
        piece_embeddings(corpus, 2, 0, build_corpus(alone, words(), tmp_path / "q"))


def test_too_little_text(tmp_path):
    lonely = build_corpus([["cat"], ["dog"]], tiny.tokenizer(), tmp_path / "c")
    with pytest.raises(InputError, match="too little text, or too few pieces, for a pmi-svd start of width 2"):
        piece_embeddings(lonely, 2, 0)
    fine = build_corpus([tiny.SPEECH], tiny.tokenizer(), tmp_path / "d")
    with pytest.raises(InputError, match="too few pieces"):
        piece_embeddings(fine, tiny.tokenizer().vocab_size, 0)


def test_pairs_that_are_remembered_are_bounded(tmp_path, monkeypatch):
    """The strongest stay, as they are in all; what is within the bound is not touched."""
    corpus = build_corpus(DOCUMENTS, words(), tmp_path / "c", shard_tokens=60)
    every = neighbour_counts(corpus)
    monkeypatch.setattr(warmstart, "MOST_PAIRS", every.nnz)
    assert (neighbour_counts(corpus) != every).nnz == 0
    seen, strongest = [], warmstart._strongest

    def watched(counts, most):
        found = strongest(counts, most)
        seen.append(found.nnz)
        return found

    monkeypatch.setattr(warmstart, "_strongest", watched)
    monkeypatch.setattr(warmstart, "MOST_PAIRS", every.nnz // 4)
    few = neighbour_counts(corpus)
    assert 0 < few.nnz <= 2 * (every.nnz // 4) and max(seen) <= every.nnz // 4
    kept = few.tocoo()
    assert (kept.data <= every.tocsr()[kept.row, kept.col].A1 + 1e-9).all()  # may have been forgotten once
    assert kept.data.mean() > every.data.mean()


def test_slices_are_the_whole(tmp_path, monkeypatch):
    counts = neighbour_counts(build_corpus(DOCUMENTS, words(), tmp_path / "c"))
    whole = warmstart.positive_pmi(counts)
    for size in (1, 37):
        monkeypatch.setattr(warmstart, "_SLICE", size)
        assert (warmstart.positive_pmi(counts) != whole).nnz == 0
