"""Scores and their intervals, on scikit-learn's metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from halbert.errors import InputError, missing_extra, nearest

try:
    from scipy import stats
    from sklearn import metrics as reference
except ImportError:
    raise missing_extra("scikit-learn", "evaluate", "scoring") from None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A score between 0 and 1 with its 95 % bootstrap interval; ``None`` and a reason where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None


def accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    """Share of rows whose class was found."""
    return float((truth == guess).mean())


def macro_f1(truth: np.ndarray, guess: np.ndarray) -> float:
    """F1 of each class that occurs in either array, averaged with equal weight (0 where a class is never right)."""
    return float(reference.f1_score(truth, guess, average="macro", zero_division=0.0))


def spearman(truth: np.ndarray, guess: np.ndarray) -> float:
    """Rank correlation of two lists of numbers, ties by their mean rank; 0 where one of them is constant."""
    if np.ptp(truth) == 0 or np.ptp(guess) == 0:
        return 0.0
    return float(stats.spearmanr(truth, guess).statistic)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"accuracy": accuracy, "macro_f1": macro_f1}


def _macro_f1_of_samples(truth: np.ndarray, guess: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Macro F1 of many resamples at once: confusion counts by ``bincount`` instead of one library call each."""
    classes, coded = np.unique(np.concatenate([truth, guess]), return_inverse=True)
    k = len(classes)
    t, g = coded[: len(truth)], coded[len(truth) :]
    scores = np.empty(len(rows))
    for i, chosen in enumerate(rows):
        matrix = np.bincount(t[chosen] * k + g[chosen], minlength=k * k).reshape(k, k)
        hit = np.diag(matrix).astype(float)
        seen = matrix.sum(0) + matrix.sum(1)
        scores[i] = (2 * hit[seen > 0] / seen[seen > 0]).mean()
    return scores


def score(name: str, truth: Sequence[int], guess: Sequence[int], *, resamples: int = 1000, seed: int = 0) -> Score:
    """A metric over parallel class numbers, with a percentile bootstrap over examples.

    Raises :class:`InputError` for an unknown metric or unequal lengths. No examples: ``None``, with the reason.
    """
    if name not in METRICS:
        raise InputError(f"no metric is called {name!r}{nearest(name, METRICS)}; known: {', '.join(METRICS)}")
    if len(truth) != len(guess):
        raise InputError(f"{len(truth)} labels and {len(guess)} predictions; expected as many of both")
    t, g = np.asarray(truth), np.asarray(guess)
    if not len(t):
        return Score(value=None, low=None, high=None, reason="no examples")
    rows = np.random.default_rng(seed).integers(0, len(t), (resamples, len(t)))
    if name == "accuracy":
        samples = (t == g)[rows].mean(1)
    else:
        samples = _macro_f1_of_samples(t, g, rows)
    low, high = np.percentile(samples, [2.5, 97.5])
    return Score(value=METRICS[name](t, g), low=float(low), high=float(high))
