"""How well candidates are ranked for a query. Equal scores keep the candidates' order."""

from __future__ import annotations

from typing import Any

import numpy as np


def _ranked(truth: Any, guess: Any) -> list[np.ndarray]:
    """The relevance of each query's candidates, best score first."""
    return [
        np.asarray(relevance, float)[np.argsort(-np.asarray(scores, float), kind="stable")]
        for relevance, scores in zip(truth, guess, strict=True)
    ]


def reciprocal_rank(truth: Any, guess: Any) -> np.ndarray:
    """1 over the rank of the first relevant candidate (N,); 0 where there is none."""
    found = np.zeros(len(truth))
    for i, row in enumerate(_ranked(truth, guess)):
        places = np.flatnonzero(row > 0)
        found[i] = 1 / (places[0] + 1) if len(places) else 0.0
    return found


def recall(truth: Any, guess: Any, at: int) -> np.ndarray:
    """Share of a query's relevant candidates among its first ``at`` (N,); 0 where there is none."""
    return np.array([
        (row[:at] > 0).sum() / (row > 0).sum() if (row > 0).any() else 0.0 for row in _ranked(truth, guess)
    ])  # fmt: skip


def ndcg(truth: Any, guess: Any, at: int) -> np.ndarray:
    """Discounted gain of the first ``at`` candidates over that of the best order (N,); 0 where nothing is relevant.

    Järvelin and Kekäläinen 2002, with the gain itself and log2(rank + 1), as in scikit-learn.
    """
    found = np.zeros(len(truth))
    for i, row in enumerate(_ranked(truth, guess)):
        discount = 1 / np.log2(np.arange(2, len(row) + 2))
        discount[at:] = 0
        best = float(np.sort(row)[::-1] @ discount)
        found[i] = float(row @ discount) / best if best > 0 else 0.0
    return found
