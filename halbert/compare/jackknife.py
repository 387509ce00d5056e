"""What each example adds to a score that is no mean over examples, so that models are compared example by example.

A pseudo-value of example i of n is ``n * score - (n - 1) * score without i``; their spread over the examples is the score's
(Tukey 1958; Efron and Tibshirani 1993, section 11.5). They are shifted so that their mean is the score itself.
"""

from __future__ import annotations

import numpy as np

from halbert.tasks.calibration import BINS, bin_numbers


def _shifted(without: np.ndarray, score: float) -> np.ndarray:
    values = -(len(without) - 1) * without
    return values - values.mean() + score


def macro_f1_by_example(truth: np.ndarray, guess: np.ndarray) -> tuple[float, np.ndarray]:
    """Macro F1 of class numbers (N,) and each example's part of it (N,); the classes stay those of all examples."""
    classes, coded = np.unique(np.concatenate([truth, guess]), return_inverse=True)
    k, n = len(classes), len(truth)
    cells, which = np.unique(coded[:n] * k + coded[n:], return_inverse=True)
    counts = np.zeros((k, k))
    counts.flat[cells] = np.bincount(which)

    def score(counts: np.ndarray) -> float:
        hit, seen = np.diag(counts), counts.sum(0) + counts.sum(1)
        return float((2 * hit / np.maximum(seen, 1)).mean())

    without = np.empty(len(cells))
    for i, cell in enumerate(cells):  # examples of one cell are alike
        fewer = counts.copy()
        fewer.flat[cell] -= 1
        without[i] = score(fewer)
    whole = score(counts)
    return whole, _shifted(without[which], whole)


def expected_error_by_example(confidence: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray]:
    """The expected calibration error of N answers and each answer's part of it (N,)."""
    n, number, gap = len(right), bin_numbers(confidence), confidence - right
    sums = np.bincount(number, gap, BINS)
    whole = np.abs(sums).sum()
    others = whole - np.abs(sums[number]) + np.abs(sums[number] - gap)
    return float(whole / n), _shifted(others / max(1, n - 1), float(whole / n))
