"""Logits to answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from halbert.errors import HalbertError
from halbert.heads import HeadSpec


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, in double precision."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    exp = np.exp(shifted)
    return exp / exp.sum(-1, keepdims=True)


def check_finite(values: np.ndarray, rows: np.ndarray, what: str) -> None:
    """Raise naming the text (``rows`` has their numbers) when a value of it is not finite: no such result is given out."""
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
    if bad.any():
        raise HalbertError(f"text {int(rows[bad.argmax()])}: the model's {what} is not finite; no result is given")


def decode_label(logits: np.ndarray, head: HeadSpec) -> dict[str, Any]:
    """The most probable class and all probabilities, out of one row of logits (C,)."""
    probabilities = softmax(logits)
    return {
        "label": head.labels[int(probabilities.argmax())],
        "probabilities": {label: float(p) for label, p in zip(head.labels, probabilities, strict=True)},
    }


def decode_score(logits: np.ndarray) -> dict[str, Any]:
    """The number out of one row of logits (1,)."""
    return {"score": float(logits[0])}
