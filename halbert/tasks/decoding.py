"""Logits to answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from halbert.errors import HalbertError
from halbert.heads import HeadSpec


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, in double precision."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    exp = np.exp(shifted)
    return exp / exp.sum(-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """A probability for each logit by itself, in double precision."""
    exp = np.exp(-np.abs(logits.astype(np.float64)))
    return np.where(logits >= 0, 1 / (1 + exp), exp / (1 + exp))


def check_finite(values: np.ndarray, rows: np.ndarray, what: str) -> None:
    """Raise naming the text (``rows`` has their numbers) when a value of it is not finite: no such result is given out."""
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
    if bad.any():
        raise HalbertError(f"text {int(rows[bad.argmax()])}: the model's {what} is not finite; no result is given")


def decode_label(logits: np.ndarray, head: HeadSpec) -> dict[str, Any]:
    """The most probable class and all probabilities, out of one row of logits (C,).

    With classes that do not exclude each other: ``labels``, those more likely than not, each with its own probability.
    """
    if head.several:
        probabilities = sigmoid(logits)
        told = {label: float(p) for label, p in zip(head.labels, probabilities, strict=True)}
        return {"labels": [label for label, p in told.items() if p > 0.5], "probabilities": told}
    probabilities = softmax(logits)
    return {
        "label": head.labels[int(probabilities.argmax())],
        "probabilities": {label: float(p) for label, p in zip(head.labels, probabilities, strict=True)},
    }


def decode_score(logits: np.ndarray) -> dict[str, Any]:
    """The number out of one row of logits (1,)."""
    return {"score": float(logits[0])}


def decode_tags(
    logits: np.ndarray,
    spans: Sequence[tuple[int, int] | None],
    words: Sequence[int | None],
    head: HeadSpec,
    text: str,
) -> dict[str, Any]:
    """The entities of a text, out of its rows of logits (S, C).

    A word has the label of its first piece. ``B-X`` and ``S-X`` begin an entity, ``I-X`` and ``E-X`` go on with one of the
    same kind or begin one; ``O`` is none. Labels without such a prefix (parts of speech) make every word its own.
    """
    entities: list[dict[str, Any]] = []
    follows = False
    seen = -1
    for row, span, word in zip(logits, spans, words, strict=False):
        if span is None or word is None:
            continue
        if word == seen:
            if follows or (entities and entities[-1]["word"] == word):
                entities[-1]["end"] = span[1]
            continue
        seen = word
        label = head.labels[int(row.argmax())]
        if label == "O":
            follows = False
            continue
        prefix, kind = label.split("-", 1) if label[:2] in ("B-", "I-", "E-", "S-") else ("S", label)
        if not (follows and prefix in "IE" and entities[-1]["label"] == kind):
            entities.append({"start": span[0], "end": span[1], "label": kind, "word": word})
        else:
            entities[-1] |= {"end": span[1], "word": word}
        follows = prefix in "BI"
    return {
        "entities": [
            {k: e[k] for k in ("start", "end", "label")} | {"text": text[e["start"] : e["end"]]} for e in entities
        ]
    }


def decode_span(
    logits: np.ndarray, spans: Sequence[tuple[int, int] | None], segments: Sequence[int], text: str, most: int = 30
) -> dict[str, Any]:
    """The best answer in the second text, out of its rows of start and end logits (S, 2); at most ``most`` pieces long.

    ``None`` where [CLS] as the start and end, which is how SQuAD 2.0 says that there is no answer, is more probable.
    """
    inside = np.array([span is not None and segment == 1 for span, segment in zip(spans, segments, strict=True)])
    if not inside.any():
        return {"answer": None}
    start, end = logits[:, 0].astype(np.float64), logits[:, 1].astype(np.float64)
    allowed = inside[:, None] & inside[None, :]
    places = np.arange(len(inside))
    ahead = places[None, :] - places[:, None]
    allowed &= (ahead >= 0) & (ahead < most)
    scores = np.where(allowed, start[:, None] + end[None, :], -np.inf)
    first, last = divmod(int(scores.argmax()), len(scores))
    every = np.append(scores[allowed], start[0] + end[0])
    probability = float(1 / np.exp(every - scores[first, last]).sum())
    if start[0] + end[0] > scores[first, last]:
        return {"answer": None}
    begin, stop = spans[first], spans[last]
    assert begin is not None and stop is not None
    return {"answer": {"start": begin[0], "end": stop[1], "text": text[begin[0] : stop[1]], "probability": probability}}
