"""Every metric is what its reference computes, run here on a thousand generated predictions."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from halbert.tasks import answers, entities
from halbert.tasks.metrics import METRICS, score
from halbert.tasks.undefined import Undefined

MANY = 1000
EXACT = 1e-12


def value(name, truth, guess):
    try:
        return METRICS[name].value(truth, guess)
    except Undefined:
        return None


def test_classes():
    rng = np.random.default_rng(0)
    undefined = 0
    for i in range(MANY):
        n, k = int(rng.integers(1, 40)), int(rng.integers(1, 5))
        truth, guess = rng.integers(0, k, n), rng.integers(0, k, n)
        if i % 5 == 0:
            guess = np.full(n, k - 1)
        found = value("mcc", truth, guess)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert (found or 0.0) == pytest.approx(sklearn.matthews_corrcoef(truth, guess), abs=EXACT)
            wanted = sklearn.f1_score(truth == 1, guess == 1, zero_division=0.0)
        undefined += found is None
        assert (value("f1", truth, guess) or 0.0) == pytest.approx(wanted, abs=EXACT)
    assert 100 < undefined < 600  # 0 by convention there, which is no value


def test_several_labels():
    rng = np.random.default_rng(1)
    for _ in range(MANY):
        shape = int(rng.integers(1, 20)), int(rng.integers(2, 6))
        truth, guess = (rng.random((2, *shape)) < rng.random()).astype(int)
        for name, average in (("micro_f1", "micro"), ("set_macro_f1", "macro")):
            wanted = sklearn.f1_score(truth, guess, average=average, zero_division=0.0)
            assert (value(name, truth, guess) or 0.0) == pytest.approx(wanted, abs=EXACT)
        assert value("set_accuracy", truth, guess) == pytest.approx(sklearn.accuracy_score(truth, guess), abs=EXACT)


def test_numbers():
    rng = np.random.default_rng(2)
    for i in range(MANY):
        n = int(rng.integers(2, 30))
        truth, guess = rng.normal(size=(2, n))
        if i % 3 == 0:
            truth, guess = truth.round(), guess.round()  # ties
        for name, of in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wanted = of(truth, guess).statistic
            found = value(name, truth, guess)
            assert (found is None) == bool(np.isnan(wanted))
            assert found is None or found == pytest.approx(wanted, abs=EXACT)


KINDS = ("PER", "LOC", "new-work", "é")


def tags(rng: random.Random, prefixes: str) -> list[str]:
    return [rng.choice(["O", *(f"{p}-{rng.choice(KINDS)}" for p in prefixes)]) for _ in range(rng.randint(0, 12))]


@pytest.mark.parametrize("prefixes", ["BI", "I", "BIES"])
def test_entities(prefixes):
    from seqeval import metrics as seqeval
    from seqeval.metrics.sequence_labeling import get_entities

    rng = random.Random(3)
    for _ in range(MANY):
        truth = [tags(rng, prefixes) for _ in range(rng.randint(1, 4))]
        guess = [
            [tag if rng.random() < 0.7 else rng.choice(tags(rng, prefixes) or ["O"]) for tag in row] for row in truth
        ]
        for row in truth:
            assert entities.spans(row) == [(k, a, b + 1) for k, a, b in get_entities(row)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = {
                "entity_f1": seqeval.f1_score(truth, guess), "entity_precision": seqeval.precision_score(truth, guess),
                "entity_recall": seqeval.recall_score(truth, guess),
            }  # fmt: skip
        for name, number in wanted.items():
            assert (value(name, truth, guess) or 0.0) == pytest.approx(number, abs=EXACT)
        if any(truth):
            assert value("tag_accuracy", truth, guess) == pytest.approx(seqeval.accuracy_score(truth, guess), abs=EXACT)
            flat = [[tag for row in side for tag in row] for side in (truth, guess)]
            wanted_f1 = sklearn.f1_score(*flat, average="macro", zero_division=0.0)
            assert value("macro_tag_f1", truth, guess) == pytest.approx(wanted_f1, abs=EXACT)


WORDS = (
    "the",
    "The",
    "a",
    "Ann",
    "ann,",
    "“Ann”",
    "12.5",
    "é",
    "İ",
    "ﬁ",
    "世界",
    "-",
    "an",
    "\u00a0",
    "\u200b",
    "...",
    "",
)


def text(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(0, 5)))


def test_answers():
    """SQuAD 1.1: torchmetrics, its single-precision divisions done in double."""
    import torch
    from torchmetrics.functional.text.squad import _squad_compute, _squad_input_check, _squad_update

    rng = random.Random(4)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for _ in range(MANY):
            n = rng.randint(1, 3)
            truth = [
                tuple(t for t in (text(rng) for _ in range(3)) if answers.normalize(t)) or ("Ann",) for _ in range(n)
            ]
            guess = [rng.choice([text(rng), rng.choice(some), f"the {some[0]}!"]) for some in truth]
            told, target = _squad_input_check(
                [{"prediction_text": g, "id": str(i)} for i, g in enumerate(guess)],
                [
                    {"answers": {"answer_start": [0] * len(t), "text": list(t)}, "id": str(i)}
                    for i, t in enumerate(truth)
                ],
            )
            f1, exact, total = _squad_update(told, target)
            wanted = _squad_compute(f1, exact, total)
            assert 100 * value("exact_match", truth, guess) == pytest.approx(float(wanted["exact_match"]), abs=1e-10)
            assert 100 * value("answer_f1", truth, guess) == pytest.approx(float(wanted["f1"]), abs=1e-10)
    finally:
        torch.set_default_dtype(before)


def official(truth, guess, leads):
    """SQuAD 2.0's rules, question by question and threshold by threshold, as its paper's program states them."""
    best = 0.0
    for at in [min(leads) - 1, *leads]:
        given = ["" if lead > at else g for g, lead in zip(guess, leads, strict=True)]
        best = max(best, np.mean([max(answers.overlap(t, g) for t in some or ("",)) for some, g in zip(truth, given)]))
    return best


def test_answers_that_may_be_none():
    """An unanswerable question is right when nothing is answered; the best threshold is the best of all there are."""
    rng = random.Random(5)
    for _ in range(MANY):
        n = rng.randint(1, 12)
        truth = [rng.choice([(), ("Ann Bell",), ("12.5", "twelve")]) for _ in range(n)]
        guess = [rng.choice(["", "Ann", "12.5", "ann bell"]) for _ in range(n)]
        leads = np.array([rng.choice([-1.5, 0.0, 0.25, 3.0]) for _ in range(n)])
        for some, g, exact, f1 in zip(truth, guess, answers.exact(truth, guess), answers.f1(truth, guess), strict=True):
            if not some:
                assert exact == f1 == float(g == "")
        gains = answers.f1(truth, guess)
        has = np.array([bool(some) for some in truth])
        found = answers.best_threshold(has, gains, leads)
        given = ["" if lead > found.at else g for g, lead in zip(guess, leads, strict=True)]
        assert answers.f1(truth, given).mean() == pytest.approx(found.score, abs=EXACT)
        assert found.score == pytest.approx(official(truth, guess, leads.tolist()), abs=EXACT)


def test_rankings():
    import torch
    from torchmetrics.functional import retrieval

    rng = np.random.default_rng(6)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for _ in range(MANY):
            k = int(rng.integers(2, 30))
            truth, guess = (rng.random(k) < 0.2).astype(int), rng.permutation(k) + 1.0
            t, g = torch.tensor(truth), torch.tensor(guess)
            for name, of in (
                ("mrr", retrieval.retrieval_reciprocal_rank), ("recall_at_1", lambda p, q: retrieval.retrieval_recall(p, q, top_k=1)),
                ("recall_at_10", lambda p, q: retrieval.retrieval_recall(p, q, top_k=10)),
            ):  # fmt: skip
                assert value(name, [truth], [guess]) == pytest.approx(
                    float(of(g, t)), abs=1e-7
                )  # it divides in float32
            for at in (1, 10):
                first = np.zeros(k, int)
                first[np.argsort(-guess)[:at]] = 1
                wanted = sklearn.recall_score(truth, first, zero_division=0.0)
                assert value(f"recall_at_{at}", [truth], [guess]) == pytest.approx(wanted, abs=EXACT)
            only = np.eye(k, dtype=int)[:1]  # with one relevant candidate the reciprocal rank is the average precision
            wanted = sklearn.label_ranking_average_precision_score(only, [guess])
            assert value("mrr", only, [guess]) == pytest.approx(wanted, abs=EXACT)
            wanted = sklearn.ndcg_score([truth], [guess], k=10)
            assert value("ndcg_at_10", [truth], [guess]) == pytest.approx(wanted, abs=EXACT)
    finally:
        torch.set_default_dtype(before)


def test_of_equal_scores_the_first_candidate_leads():
    assert value("mrr", [[0, 1, 0]], [[1.0, 1.0, 1.0]]) == 0.5


EXAMPLES = {
    "accuracy": ([0, 1, 1, 2] * 9, [0, 1, 2, 2] * 9),
    "macro_f1": ([0, 1, 1, 2] * 9, [0, 1, 2, 2] * 9),
    "f1": ([0, 1, 1, 0] * 9, [0, 1, 0, 1] * 9),
    "mcc": ([0, 1, 1, 0] * 9, [0, 1, 0, 0] * 9),
    "micro_f1": (np.array([[1, 0], [1, 1], [0, 0]] * 9), np.array([[1, 1], [0, 1], [0, 0]] * 9)),
    "set_macro_f1": (np.array([[1, 0], [1, 1], [0, 0]] * 9), np.array([[1, 1], [0, 1], [0, 0]] * 9)),
    "set_accuracy": (np.array([[1, 0], [1, 1], [0, 0]] * 9), np.array([[1, 1], [0, 1], [0, 0]] * 9)),
    "pearson": ([1.0, 2.0, 4.0, 4.0] * 9, [1.5, 1.0, 3.0, 9.0] * 9),
    "spearman": ([1.0, 2.0, 4.0, 4.0] * 9, [1.5, 1.0, 3.0, 9.0] * 9),
    "exact_match": ([("a b",), (), ("c",)] * 9, ["a b", "x", "d"] * 9),
    "answer_f1": ([("a b",), (), ("c",)] * 9, ["b", "", "d"] * 9),
    "mrr": ([[1, 0, 0], [0, 1, 0]] * 9, [[3.0, 2.0, 1.0]] * 18),
    "recall_at_1": ([[1, 0, 0], [0, 1, 0]] * 9, [[3.0, 2.0, 1.0]] * 18),
    "recall_at_10": ([[1, 0, 0], [0, 1, 0]] * 9, [[3.0, 2.0, 1.0]] * 18),
    "ndcg_at_10": ([[1, 0, 0], [0, 1, 0]] * 9, [[3.0, 2.0, 1.0]] * 18),
    "masked_accuracy": ([4, 5, 2] * 9, [1, 5, 0] * 9),
    "masked_loss": ([4, 5, 2] * 9, [7.5, 31.0, 2.25] * 9),
    **dict.fromkeys(
        ("entity_f1", "entity_precision", "entity_recall", "tag_accuracy", "macro_tag_f1"),
        ([["B-X", "I-X", "O"], ["O", "B-Y"]] * 9, [["B-X", "O", "O"], ["O", "B-Y"]] * 9),
    ),
}


def test_every_metric_is_tried_here():
    assert set(EXAMPLES) == set(METRICS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_interval_is_that_of_resampled_examples(name):
    truth, guess = EXAMPLES[name]
    n = len(truth)
    rows = np.random.default_rng(7).integers(0, n, (60, n))
    slow = []
    for chosen in rows:
        some = [truth[i] for i in chosen], [guess[i] for i in chosen]
        slow.append(value(name, *(np.array(side) if isinstance(truth, np.ndarray) else side for side in some)))
    assert all(number is not None for number in slow)
    np.testing.assert_allclose(METRICS[name].resampled(truth, guess, rows), slow, atol=1e-12)
    found = score(name, truth, guess, resamples=60, seed=7)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=1e-12)
    assert found.n == n and found.value == pytest.approx(value(name, truth, guess))


@pytest.mark.parametrize(
    ("name", "truth", "guess", "said"),
    [
        ("mcc", [0, 1, 1], [1, 1, 1], "all answers are of one class"),
        ("mcc", [1, 1, 1], [0, 1, 1], "all data are of one class"),
        ("f1", [0, 2], [2, 0], "class 1 occurs neither"),
        ("pearson", [1, 1, 1], [1, 2, 3], "all numbers of one side are equal"),
        ("spearman", [1], [1], "fewer than two"),
        ("entity_f1", [["O"]], [["O"]], "no entity"),
        ("entity_precision", [["B-X"]], [["O"]], "no entity was found"),
        ("masked_accuracy", [0], [0], "nothing was masked"),
    ],
)
def test_what_is_undefined_says_why(name, truth, guess, said):
    found = score(name, truth, guess, resamples=10)
    assert (found.value, found.low, found.high, found.n) == (None, None, None, len(truth))
    assert said in found.reason


def test_resamples_in_which_nothing_is_defined_are_left_out():
    found = score("mcc", [0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1])
    assert found.value == found.low == found.high == 1
