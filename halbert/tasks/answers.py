"""Answers out of a text, judged as SQuAD's official programs do (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halbert.files import write_json

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, white space as single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def accepted(texts: Sequence[str]) -> tuple[str, ...]:
    """The answers that count: those that something is left of, or the empty one, which says that there is none."""
    return tuple(text for text in texts if normalize(text)) or ("",)


def exact(truth: Any, guess: Any) -> np.ndarray:
    """1 where the answer equals an accepted one (N,), both normalised."""
    rows = zip(truth, guess, strict=True)
    return np.array([float(any(normalize(g) == normalize(t) for t in accepted(some))) for some, g in rows])


def overlap(truth: str, guess: str) -> float:
    """F1 of two answers as bags of words; where one is empty, 1 when both are."""
    t, g = normalize(truth).split(), normalize(guess).split()
    if not t or not g:
        return float(t == g)
    same = sum((collections.Counter(t) & collections.Counter(g)).values())
    if not same:
        return 0.0
    precision, recall = same / len(g), same / len(t)
    return 2 * precision * recall / (precision + recall)


def f1(truth: Any, guess: Any) -> np.ndarray:
    """The best F1 with an accepted answer (N,)."""
    rows = zip(truth, guess, strict=True)
    return np.array([max(overlap(t, g) for t in accepted(some)) for some, g in rows])


class Threshold(NamedTuple):
    """Above which lead of "no answer" over the best answer none is given, and the score this has on the data it was
    chosen on."""

    at: float
    score: float


def best_threshold(answerable: np.ndarray, gains: np.ndarray, leads: np.ndarray) -> Threshold:
    """The threshold with the best mean score, among the leads there are (SQuAD 2.0's ``find_best_thresh``).

    ``gains`` (N,) are the scores of the answers if they are given, ``leads`` (N,) how much more likely "no answer" was
    held. An unanswerable question is right where the lead is above the threshold.
    """
    order = np.argsort(leads, kind="stable")
    gained = np.where(answerable, gains, -1.0)[order]  # an answer given where there is none costs what was right
    gained[(~answerable[order]) & (gains[order] > 0)] = 0.0  # the answer itself was empty: right either way
    right = float((~answerable).sum())
    running = right + np.cumsum(gained)
    # Questions of equal leads are answered together.
    last = np.append(leads[order][1:] != leads[order][:-1], True)
    places = np.flatnonzero(last)
    if not len(places) or running[places].max() <= right:
        return Threshold(float(leads.min() - 1) if len(leads) else 0.0, right / max(1, len(leads)))
    place = places[int(running[places].argmax())]
    return Threshold(float(leads[order][place]), float(running[place] / len(leads)))


def divided(truth: Any, values: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | None]]:
    """Means of ``values`` (N,) over the questions that have an answer, and over those that have none."""
    has = np.array([accepted(some) != ("",) for some in truth], bool)
    return {
        part: {name: float(v[chosen].mean()) if chosen.any() else None for name, v in values.items()}
        for part, chosen in (("answerable", has), ("unanswerable", ~has))
    }


def write_predictions(path: Path, found: Mapping[str, str]) -> None:
    """The file SQuAD's programs read: answer by question id, "" for none."""
    write_json(path, dict(found))


def write_leads(path: Path, found: Mapping[str, float]) -> None:
    """SQuAD 2.0's ``--na-prob-file``: how much speaks for "no answer", by question id."""
    write_json(path, dict(found))
