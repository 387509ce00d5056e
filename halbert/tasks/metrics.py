"""Scores and their intervals: one row a metric, each equal to the reference it names."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from halbert.errors import InputError, missing_extra, nearest
from halbert.tasks import answers, entities, ranking
from halbert.tasks.undefined import Undefined

try:
    from scipy import stats
    from sklearn import metrics as reference
except ImportError:
    raise missing_extra("scikit-learn", "evaluate", "scoring") from None

AT_ONCE = 4_000_000  # row numbers drawn at a time: a resample of many examples needs no more memory than of few


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A score with its 95 % bootstrap interval over ``n`` examples; ``None`` and a reason where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None
    n: int = 0


class Metric(NamedTuple):
    """A row: the value of parallel truths and guesses, and the values (R,) of R resamples, given as row numbers (R, N).

    ``value`` raises :class:`Undefined`; resamples are NaN there.
    """

    value: Callable[[Any, Any], float]
    resampled: Callable[[Any, Any, np.ndarray], np.ndarray]


def accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    """Share of rows whose class was found."""
    return float((np.asarray(truth) == np.asarray(guess)).mean())


def macro_f1(truth: np.ndarray, guess: np.ndarray) -> float:
    """F1 of each class that occurs in either array, averaged with equal weight (0 where a class is never right)."""
    return float(reference.f1_score(truth, guess, average="macro", zero_division=0.0))


def binary_f1(truth: np.ndarray, guess: np.ndarray) -> float:
    """F1 of class 1 (GLUE's MRPC and QQP). Raises :class:`Undefined` where nobody says 1."""
    if not (np.asarray(truth) == 1).any() and not (np.asarray(guess) == 1).any():
        raise Undefined("class 1 occurs neither in the data nor in the answers")
    return float(reference.f1_score(np.asarray(truth) == 1, np.asarray(guess) == 1, zero_division=0.0))


def matthews(truth: np.ndarray, guess: np.ndarray) -> float:
    """Matthews correlation (GLUE's CoLA). Raises :class:`Undefined` where one side is a single class: 0 / 0."""
    for what, side in (("data", truth), ("answers", guess)):
        if len(set(np.asarray(side).tolist())) < 2:
            raise Undefined(f"all {what} are of one class")
    return float(reference.matthews_corrcoef(truth, guess))


def spearman(truth: np.ndarray, guess: np.ndarray) -> float:
    """Rank correlation of two lists of numbers, ties by their mean rank; 0 where one of them is constant."""
    if np.ptp(truth) == 0 or np.ptp(guess) == 0:
        return 0.0
    return float(stats.spearmanr(truth, guess).statistic)


def _correlation(of: Callable[[Any, Any], Any], truth: Any, guess: Any) -> float:
    t, g = np.asarray(truth, float), np.asarray(guess, float)
    if len(t) < 2 or np.ptp(t) == 0 or np.ptp(g) == 0:
        raise Undefined("fewer than two examples" if len(t) < 2 else "all numbers of one side are equal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly constant numbers: scipy warns and answers
        value = float(of(t, g).statistic)
    if np.isnan(value):
        raise Undefined("the numbers of one side are too close to each other")
    return value


def _correlations(ranked: bool, truth: Any, guess: Any, rows: np.ndarray) -> np.ndarray:
    t, g = np.asarray(truth, float)[rows], np.asarray(guess, float)[rows]
    if ranked:
        t, g = stats.rankdata(t, axis=1), stats.rankdata(g, axis=1)
    t, g = t - t.mean(1, keepdims=True), g - g.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (t * g).sum(1) / np.sqrt((t * t).sum(1) * (g * g).sum(1))


def _confusions(truth: Any, guess: Any, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Confusion counts of each resample, by ``bincount`` instead of a library call each."""
    classes, coded = np.unique(np.concatenate([np.asarray(truth), np.asarray(guess)]), return_inverse=True)
    k = len(classes)
    cell = coded[: len(truth)] * k + coded[len(truth) :]
    for chosen in rows:
        yield np.bincount(cell[chosen], minlength=k * k).reshape(k, k).astype(float)


def _macro_f1_of_samples(truth: Any, guess: Any, rows: np.ndarray) -> np.ndarray:
    scores = np.empty(len(rows))
    for i, matrix in enumerate(_confusions(truth, guess, rows)):
        hit, seen = np.diag(matrix), matrix.sum(0) + matrix.sum(1)
        scores[i] = (2 * hit[seen > 0] / seen[seen > 0]).mean()
    return scores


def _matthews_of_samples(truth: Any, guess: Any, rows: np.ndarray) -> np.ndarray:
    scores = np.empty(len(rows))
    for i, matrix in enumerate(_confusions(truth, guess, rows)):
        there, said, n = matrix.sum(1), matrix.sum(0), matrix.sum()
        below = (n * n - said @ said) * (n * n - there @ there)
        scores[i] = (np.trace(matrix) * n - there @ said) / np.sqrt(below) if below else np.nan
    return scores


def _shared(of: Callable[[Any, Any], np.ndarray]) -> Metric:
    """A metric that is the mean of a number an example."""

    def resampled(truth: Any, guess: Any, rows: np.ndarray) -> np.ndarray:
        return np.asarray(of(truth, guess)[rows].mean(1))

    return Metric(lambda truth, guess: float(of(truth, guess).mean()), resampled)


def _summed(counts: Callable[[Any, Any], np.ndarray], of: Callable[[np.ndarray], np.ndarray], reason: str) -> Metric:
    """A metric of the sums (…, K) of counts an example (N, K)."""

    def value(truth: Any, guess: Any) -> float:
        found = float(of(counts(truth, guess).sum(0)))
        if np.isnan(found):
            raise Undefined(reason)
        return found

    def resampled(truth: Any, guess: Any, rows: np.ndarray) -> np.ndarray:
        table = counts(truth, guess).astype(np.float64)
        return np.asarray(of(np.stack([table[:, k][rows].sum(1) for k in range(table.shape[1])], 1)))

    return Metric(value, resampled)


def _macro(counts: Callable[[Any, Any], np.ndarray], reason: str) -> Metric:
    """F1 of each class averaged, out of hits, guesses and truths of every class, an example (N, 3 C).

    A class that nobody names counts 0, as in scikit-learn; one that only a resample lacks is left out of that.
    """

    def scored(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hit, said, there = np.split(sums, 3, -1)
        whole = said + there
        return 2 * hit / np.maximum(whole, 1), whole > 0

    def value(truth: Any, guess: Any) -> float:
        found, _ = scored(counts(truth, guess).sum(0))
        if not found.size:
            raise Undefined(reason)
        return float(found.mean())

    def resampled(truth: Any, guess: Any, rows: np.ndarray) -> np.ndarray:
        table = counts(truth, guess).astype(np.float64)
        found, named = scored(np.stack([table[:, k][rows].sum(1) for k in range(table.shape[1])], 1))
        counted = named | ~scored(table.sum(0))[1]
        return _share((found * counted).sum(1), counted.sum(1))

    return Metric(value, resampled)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part / whole)


def _right(truth: Any, guess: Any) -> np.ndarray:
    return (np.asarray(truth) == np.asarray(guess)).astype(float)


def _binary_counts(truth: Any, guess: Any) -> np.ndarray:
    t, g = np.asarray(truth) == 1, np.asarray(guess) == 1
    return np.stack([t & g, g, t], 1).astype(float)


def _set_counts(truth: Any, guess: Any) -> np.ndarray:
    """Hits, guesses and truths of each example (N, 3), out of 0/1 tables (N, C)."""
    t, g = np.asarray(truth) > 0, np.asarray(guess) > 0
    return np.stack([(t & g).sum(1), g.sum(1), t.sum(1)], 1).astype(float)


def _set_class_counts(truth: Any, guess: Any) -> np.ndarray:
    t, g = np.asarray(truth) > 0, np.asarray(guess) > 0
    return np.concatenate([t & g, g, t], 1).astype(float)


def _f1(sums: np.ndarray) -> np.ndarray:
    return _share(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _set_right(truth: Any, guess: Any) -> np.ndarray:
    return ((np.asarray(truth) > 0) == (np.asarray(guess) > 0)).all(1).astype(float)


def _tag_counts(truth: Any, guess: Any) -> np.ndarray:
    pairs = [(sum(a == b for a, b in zip(t, g, strict=True)), len(t)) for t, g in zip(truth, guess, strict=True)]
    return np.array(pairs, float).reshape(-1, 2)


def _tag_classes(truth: Any, guess: Any) -> np.ndarray:
    """Hits, guesses and truths of every tag that occurs, an example (N, 3 C)."""
    known = sorted({tag for side in (truth, guess) for tags in side for tag in tags})
    number = {tag: i for i, tag in enumerate(known)}
    table = np.zeros((len(truth), 3, len(known)))
    for row, t, g in zip(table, truth, guess, strict=True):
        for a, b in zip(t, g, strict=True):
            row[2, number[a]] += 1
            row[1, number[b]] += 1
            row[0, number[a]] += a == b
    return table.reshape(len(truth), -1)


_NONE = "there is no entity in the data or in the answers"
# Right pieces, or nats, over hidden pieces: a pair a text.
_A_PIECE = _summed(
    lambda truth, guess: np.stack([guess, truth], 1), lambda s: _share(s[..., 0], s[..., 1]), "nothing was masked"
)
METRICS: dict[str, Metric] = {
    # Class numbers: scikit-learn.
    "accuracy": _shared(_right),
    "macro_f1": Metric(macro_f1, _macro_f1_of_samples),
    "f1": _summed(_binary_counts, _f1, "class 1 occurs neither in the data nor in the answers"),
    "mcc": Metric(matthews, _matthews_of_samples),
    # Several labels a text, as 0/1 tables (N, C): scikit-learn.
    "micro_f1": _summed(_set_counts, _f1, "no label occurs in the data or in the answers"),
    "set_macro_f1": _macro(_set_class_counts, "there are no classes"),
    "set_accuracy": _shared(_set_right),
    # Numbers: scipy.
    "pearson": Metric(
        functools.partial(_correlation, stats.pearsonr), functools.partial(_correlations, False)
    ),
    "spearman": Metric(
        functools.partial(_correlation, stats.spearmanr), functools.partial(_correlations, True)
    ),
    # Lists of tags, a list a text: seqeval for entities.
    "entity_f1": _summed(entities.counts, _f1, _NONE),
    "entity_precision": _summed(entities.counts, lambda s: _share(s[..., 0], s[..., 1]), "no entity was found"),
    "entity_recall": _summed(entities.counts, lambda s: _share(s[..., 0], s[..., 2]), "there is no entity in the data"),
    "tag_accuracy": _summed(_tag_counts, lambda s: _share(s[..., 0], s[..., 1]), "there are no words"),
    "macro_tag_f1": _macro(_tag_classes, "there are no words"),
    # Accepted answers (a tuple of texts, empty: there is none) and the answer given ("": none): SQuAD.
    "exact_match": _shared(answers.exact),
    "answer_f1": _shared(answers.f1),
    # Relevance (K,) of the candidates and their scores (K,), a pair a query.
    "mrr": _shared(ranking.reciprocal_rank),
    "recall_at_1": _shared(functools.partial(ranking.recall, at=1)),
    "recall_at_10": _shared(functools.partial(ranking.recall, at=10)),
    "ndcg_at_10": _shared(functools.partial(ranking.ndcg, at=10)),
    "masked_accuracy": _A_PIECE,
    "masked_loss": _A_PIECE,
}  # fmt: skip


def score(name: str, truth: Sequence[Any], guess: Sequence[Any], *, resamples: int = 1000, seed: int = 0) -> Score:
    """A metric over parallel truths and guesses, with a percentile bootstrap over examples.

    Resamples in which the metric is undefined are left out. Raises :class:`InputError` for an unknown metric or unequal
    lengths. No examples, or an undefined value: ``None``, with the reason.
    """
    if name not in METRICS:
        raise InputError(f"no metric is called {name!r}{nearest(name, METRICS)}; known: {', '.join(METRICS)}")
    if len(truth) != len(guess):
        raise InputError(f"{len(truth)} labels and {len(guess)} predictions; expected as many of both")
    n, metric = len(truth), METRICS[name]
    if not n:
        return Score(value=None, low=None, high=None, reason="no examples")
    try:
        value = metric.value(truth, guess)
    except Undefined as reason:
        return Score(value=None, low=None, high=None, reason=str(reason), n=n)
    rng = np.random.default_rng(seed)
    step = max(1, AT_ONCE // n)
    drawn = [
        metric.resampled(truth, guess, rng.integers(0, n, (min(step, resamples - start), n)))
        for start in range(0, resamples, step)
    ]
    samples = np.concatenate(drawn)
    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return Score(value=value, low=None, high=None, reason="too few examples for an interval", n=n)
    low, high = np.percentile(samples, [2.5, 97.5])
    return Score(value=value, low=float(low), high=float(high), n=n)
