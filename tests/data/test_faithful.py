"""Google's generators, draw for draw: FACTS 5.7, recorded from their unmodified code."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from halbert.data.faithful import Generator, generate, read_documents
from halbert.data.masking import mask_batch
from halbert.data.pairs import draw_pairs
from halbert.spec import PretrainSpec, TextSpec
from halbert.text.tokenizer import open_tokenizer
from tests.data.shards import Shard

GOLDENS = [
    # objective, masking, length, predictions, passes; instances, tokens, masked, second labels, sum
    ("nsp", "piece", 128, 20, 5, 60, 6207, 922, 32, "b0cbd199af2fedc8495d61244f581af6847894158f99682a91e8df36fc5bcaab"),
    ("nsp", "word", 128, 20, 5, 64, 6567, 978, 37, "e3accf7977d8d9dba7667d2eb71dafc8cb6fde4d8ae74ae4924b9f5ccd7b7c9f"),
    ("nsp", "piece", 512, 77, 5, 38, 8520, 1277, 29, "e0a365c37cecf2e30991b006b9f5776801c9a5a73594e2019ea74efe17c355e8"),
    ("nsp", "piece", 128, 20, 1, 11, 1213, 180, 6, "6ec79d04523ef4d9414c70f0fc53e79a7298cad25fb3105c270079dfaa84f7f8"),
    ("nsp", "piece", 64, 10, 10, 190, 11479, 1777, 126, "c13086301ed99a0574a9fc9cded2547447be0e39638ecb17ed3904b6c67b9009"),
    ("sop", "ngram", 128, 20, 5, 44, 4483, 669, 24, "0e5885a5789d97d80d7b931c3aeb7de021586ed4e431954be19dcd6ddb979661"),
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(shared_data):
    vocab = shared_data / "vocab" / "bert-base-uncased-vocab.txt"
    return open_tokenizer(vocab, TextSpec(compat="google"))


@pytest.fixture(scope="module")
def documents(shared_data, tokenizer):
    text = (shared_data / "sample" / "sample_text.txt").read_text(encoding="utf-8")
    return read_documents(text.splitlines(), tokenizer)


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda g: f"{g[0]}-{g[1]}-{g[2]}-{g[4]}")
def test_the_generators_instances(documents, tokenizer, golden):
    objective, masking, length, predictions, passes, *counts, wanted = golden
    found = generate(
        documents, tokenizer.vocab, objective, masking, length=length, predictions=predictions, duplicates=passes
    )
    assert [
        len(found),
        sum(len(x.tokens) for x in found),
        sum(len(x.positions) for x in found),
        sum(x.second for x in found),
    ] == counts
    assert hashlib.sha256("\n".join(map(str, found)).encode()).hexdigest() == wanted


def test_what_became_of_the_hidden_pieces(documents, tokenizer):
    found = generate(documents, tokenizer.vocab, "nsp", "piece", length=128, predictions=20, duplicates=5)
    now = [(x.tokens[i], label) for x in found for i, label in zip(x.positions, x.labels, strict=True)]
    masked = sum(token == "[MASK]" for token, _ in now)
    same = sum(token == label for token, label in now)
    assert (masked, same, len(now) - masked - same) == (722, 96, 104)


def test_numpys_seed_decides_about_ngrams_alone(documents, tokenizer):
    a, b = (
        generate(documents, tokenizer.vocab, "sop", "ngram", length=128, predictions=20, duplicates=5, numpy_seed=seed)
        for seed in (1, 2)
    )
    assert list(map(str, a)) != list(map(str, b))
    assert [len(a), sum(len(x.positions) for x in a)] == [len(b), sum(len(x.positions) for x in b)] == [44, 669]


def statistics_of_slow(documents, tokenizer, spec: PretrainSpec, length: int, seed: int) -> list[float]:
    generator = Generator(spec, tokenizer.vocab, length=length, predictions=length, seed=seed, numpy_seed=seed)
    found = generator.instances(documents, 1)
    lengths = np.array([len(x.tokens) for x in found])
    firsts = np.array([x.segments.index(1) - 2 for x in found])
    now = [(x.tokens[i], label) for x in found for i, label in zip(x.positions, x.labels, strict=True)]
    runs = [sum(np.diff(x.positions, prepend=-9) > 1) for x in found]
    return [
        len(found), lengths.mean(), lengths.std(), (lengths == length).mean(), np.mean([x.second for x in found]),
        (firsts / (lengths - 3)).mean(), len(now) / lengths.sum(), np.mean([t == "[MASK]" for t, _ in now]),
        np.mean([t == label for t, label in now]), sum(runs) / len(now),
    ]  # fmt: skip


def statistics_of_fast(text: Shard, tokenizer, spec: PretrainSpec, length: int, seed: int) -> list[float]:
    pairs = draw_pairs(text, spec.sentence_objective, length, (seed,), spec.short_prob, faithful=spec.faithful)
    lengths, a = pairs.lengths, pairs.a_end - pairs.a_start
    ids = np.zeros((len(lengths), length), np.int64)
    may = np.zeros(ids.shape, bool)
    for row, (a0, a1, b0, b1, _) in enumerate(zip(*pairs)):
        second = [text.ids[b0:b1], [0]] if b1 > b0 else []
        whole = np.concatenate([[0], text.ids[a0:a1], [0], *second])
        ids[row, : len(whole)], may[row, : len(whole)] = whole, whole > 0
    rng = np.random.default_rng(seed)
    masked = mask_batch(
        ids, may, tokenizer.starts_word, spec, tokenizer.special_ids["mask"], tokenizer.vocab_size, rng, lengths=lengths
    )
    now = masked.ids.reshape(-1)[masked.positions]
    runs = np.sum(np.diff(masked.positions, prepend=-9) > 1)
    return [
        len(lengths), lengths.mean(), lengths.std(), (lengths == length).mean(), (pairs.label == 1).mean(),
        (a / (lengths - 3)).mean(), len(now) / lengths.sum(), (now == tokenizer.special_ids["mask"]).mean(),
        (now == masked.labels).mean(), runs / len(now),
    ]  # fmt: skip


NAMES = ["instances", "length", "its spread", "full", "second", "cut", "masked", "hidden", "same", "runs"]


def deviations(slow: list[list[float]], fast: list[list[float]]) -> dict[str, float]:
    """Differences of the means in standard errors."""
    a, b = np.array(slow), np.array(fast)
    error = np.sqrt(a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b))
    return dict(zip(NAMES, np.abs(a.mean(0) - b.mean(0)) / np.maximum(error, 1e-12), strict=True))


CASES = [("nsp", "piece", 128), ("nsp", "word", 64), ("sop", "ngram", 128), ("nsp", "piece", 512)]


def compared(documents, tokenizer, case, seeds: int, **changes) -> dict[str, float]:
    objective, masking, length = case
    spec = PretrainSpec(sentence_objective=objective, masking=masking, faithful=True)
    number = {token: i for i, token in enumerate(tokenizer.vocab)}
    sentences = [np.array([number[t] for t in sentence]) for document in documents for sentence in document]
    text = Shard(
        np.concatenate(sentences),
        np.concatenate([[0], np.cumsum([len(s) for s in sentences])]),
        np.concatenate([[0], np.cumsum([len(d) for d in documents])]),
    )
    fast = PretrainSpec(**{**{f: getattr(spec, f) for f in spec.__struct_fields__}, **changes})
    return deviations(
        [statistics_of_slow(documents, tokenizer, spec, length, seed) for seed in range(seeds)],
        [statistics_of_fast(text, tokenizer, fast, length, seed) for seed in range(seeds)],
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
def test_the_fast_path_draws_alike(documents, tokenizer, case):
    found = compared(documents, tokenizer, case, 200)
    assert max(found.values()) < 3, found


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
def test_the_fast_path_draws_alike_over_many_seeds(documents, tokenizer, case):
    found = compared(documents, tokenizer, case, 3000)
    assert max(found.values()) < 4, found


@pytest.mark.parametrize(
    ("case", "changes", "seen"),
    [
        (("nsp", "piece", 512), {"faithful": False}, "second"),
        (("sop", "ngram", 64), {"faithful": False}, "second"),
        (("nsp", "piece", 64), {"short_prob": 0.5}, "length"),
        (("sop", "ngram", 128), {"masking": "word"}, "runs"),
        (("sop", "ngram", 128), {"max_ngram": 2}, "runs"),
        (("nsp", "piece", 128), {"masking_prob": 0.16}, "masked"),
    ],
)
def test_another_draw_is_seen(documents, tokenizer, case, changes, seen):
    found = compared(documents, tokenizer, case, 200, **changes)
    assert found[seen] > 6, found


def test_a_generator_is_a_function_of_its_seeds(documents, tokenizer):
    spec = PretrainSpec(faithful=True)
    a, b = (Generator(spec, tokenizer.vocab, length=64, predictions=10).instances(documents, 2) for _ in range(2))
    assert a == b and math.isclose(len(a), 38, abs_tol=10)
