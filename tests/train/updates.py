"""The four optimisers written out over one numpy array, with the mistakes one could make."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

MISTAKES = ("eps inside", "other correction", "coupled decay", "other ratio")


def updates(
    kind: str, w: np.ndarray, gradient: Callable[[np.ndarray], np.ndarray], rate: float, decay: float,
    excluded: bool = False, mistake: str = "",
) -> Iterator[tuple[np.ndarray, float]]:  # fmt: skip
    """(weights, trust ratio) after every step. An ``excluded`` tensor is a bias or belongs to a LayerNorm."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    decay = 0.0 if excluded else decay
    correct = (kind in ("adamw", "lamb")) != (mistake == "other correction")
    step = 0
    while True:
        step += 1
        g = gradient(w) + (decay * w if mistake == "coupled decay" else 0)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        m_, v_ = (m / (1 - 0.9**step), v / (1 - 0.999**step)) if correct else (m, v)
        u = m_ / np.sqrt(v_ + 1e-6) if mistake == "eps inside" else m_ / (np.sqrt(v_) + 1e-6)
        if mistake != "coupled decay":
            u = u + decay * w
        ratio = 1.0
        if kind.startswith("lamb") != (mistake == "other ratio") and not excluded:
            lengths = np.linalg.norm(w), np.linalg.norm(u)
            ratio = lengths[0] / lengths[1] if min(lengths) > 0 else 1.0
        w = w - rate * ratio * u
        yield w, ratio
