"""Logits to answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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


class Window(NamedTuple):
    """A part of a text as a model saw it: start and end logits (S, 2), the characters (S, 2) each piece stands for (-1:
    it is not of the text), and whether the piece may begin an answer here (S,), which it may in one window only."""

    logits: np.ndarray
    spans: np.ndarray
    begins: np.ndarray


MOST = 30  # pieces of an answer, as in both original programs


def decode_answer(
    windows: Sequence[Window], text: str, none_above: float | None = 0.0, most: int = MOST, best: int = 1
) -> dict[str, Any]:
    """The best answer to a question in a text, out of all its windows; at most ``most`` pieces long.

    ``answer`` has the characters, the text and the probability among all answers and none; it is None where "no answer"
    leads by more than ``none_above`` (``lead`` says by how much; the score of none is that of [CLS] in the window where
    it is lowest). With ``best`` above 1 ``candidates`` has so many, the likeliest first.
    Source: google-research/bert ``run_squad.py``, ``write_predictions``.
    """
    none = min((float(w.logits[0].astype(np.float64).sum()) for w in windows), default=0.0)
    found: list[tuple[float, int, int]] = []
    scores: list[np.ndarray] = []
    for window in windows:
        start, end = window.logits.astype(np.float64).T
        inside = window.spans[:, 0] >= 0
        first = np.where(inside & window.begins, start, -np.inf)
        last = np.where(inside, end, -np.inf)
        n = len(first)
        table = np.full((min(most, n), n), -np.inf)  # by how many pieces are added to the first, and the first
        for ahead in range(len(table)):
            table[ahead, : n - ahead] = first[: n - ahead] + last[ahead:]
        flat = table.reshape(-1)
        chosen = np.argsort(-flat, kind="stable")[:best] if best > 1 else [int(flat.argmax())] if n else []
        for place in chosen:
            ahead, begin = divmod(int(place), n)
            if np.isfinite(flat[place]):
                found.append((float(flat[place]), int(window.spans[begin, 0]), int(window.spans[begin + ahead, 1])))
        scores.append(flat[np.isfinite(flat)])
    if not found:
        return {"answer": None, "lead": None, **({"candidates": []} if best > 1 else {})}
    found.sort(key=lambda row: -row[0])
    every = np.concatenate([*scores, [none]])
    below = float(np.exp(every - every.max()).sum())

    def told(row: tuple[float, int, int]) -> dict[str, Any]:
        probability = float(np.exp(row[0] - every.max()) / below)
        return {"start": row[1], "end": row[2], "text": text[row[1] : row[2]], "probability": probability}

    lead = none - found[0][0]
    answer = None if none_above is not None and lead > none_above else told(found[0])
    return {"answer": answer, "lead": lead, **({"candidates": [told(r) for r in found[:best]]} if best > 1 else {})}


def decode_span(
    logits: np.ndarray,
    spans: Sequence[tuple[int, int] | None],
    segments: Sequence[int],
    text: str,
    most: int = MOST,
    none_above: float | None = 0.0,
) -> dict[str, Any]:
    """The best answer in the second text of one row, out of its start and end logits (S, 2); see :func:`decode_answer`."""
    places = np.array(
        [(-1, -1) if s is None or segment != 1 else s for s, segment in zip(spans, segments, strict=True)]
    )
    window = Window(logits, places.reshape(-1, 2), np.ones(len(places), bool))
    return {"answer": decode_answer([window], text, none_above, most)["answer"]}
