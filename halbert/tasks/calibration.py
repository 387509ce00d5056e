"""Whether a model is as often right as it says (Guo et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np

from halbert.tasks.metrics import Score

BINS = 10


def bin_numbers(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The bin of each confidence (N,), of ``bins`` of equal width: a bin holds its upper edge."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def bins_of(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """Answers by confidence in ``bins`` of equal width (a bin holds its upper edge): how many, how sure, how often right.

    Empty bins are left out.
    """
    number = bin_numbers(confidence, bins)
    return [
        {
            "from": b / bins, "to": (b + 1) / bins, "n": int((number == b).sum()),
            "confidence": float(confidence[number == b].mean()), "right": float(right[number == b].mean()),
        }
        for b in range(bins) if (number == b).any()
    ]  # fmt: skip


def expected_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: the mean gap of a bin, weighted by its answers."""
    rows = bins_of(confidence, right, bins)
    return sum(row["n"] * abs(row["confidence"] - row["right"]) for row in rows) / len(confidence)


def calibration_error(confidence: np.ndarray, right: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> Score:
    """The expected calibration error with its bootstrap interval. (A resample's gap is never below 0: of a perfectly
    calibrated model it lies above the value.)"""
    n = len(confidence)
    if not n:
        return Score(value=None, low=None, high=None, reason="no examples")
    rng = np.random.default_rng(seed)
    number = bin_numbers(confidence)
    gap, drawn = confidence - right, np.empty(resamples)
    for i in range(resamples):
        chosen = rng.integers(0, n, n)
        drawn[i] = np.abs(np.bincount(number[chosen], gap[chosen], BINS)).sum() / n
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Score(value=expected_error(confidence, right), low=float(low), high=float(high), n=n)
