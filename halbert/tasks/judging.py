"""What a model put out for features, as guesses, and what was to be guessed: the same for every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from halbert.data.features import Features
from halbert.data.readers import Example
from halbert.heads import HeadSpec
from halbert.tasks.decoding import Window, decode_answer, sigmoid, softmax

Values = Sequence[np.ndarray]  # a row's output of the head, padding cut off: (C,), (S, C) or (H,)


class Judged(NamedTuple):
    """Truths and guesses as the metrics take them, one a text, and how sure each guess was (N,); None: not said.

    Of questions alone: ``leads`` (N,) is how much more likely "no answer" was held, ``given`` the best answers all the same.
    Of hidden pieces alone: ``losses`` (N,), the sum of their cross entropies in nats.
    """

    truth: Any
    guess: Any
    confidence: np.ndarray | None = None
    leads: np.ndarray | None = None
    given: list[str] | None = None
    losses: np.ndarray | None = None

    def above(self, at: float) -> Judged:
        """The same with no answer where "no answer" leads by more than ``at``."""
        assert self.leads is not None and self.given is not None
        guess = ["" if lead > at else text for lead, text in zip(self.leads, self.given, strict=True)]
        return self._replace(guess=guess)

    @property
    def uniform(self) -> bool:
        """Whether every text got one and the same answer although not all truths are the same."""
        said, there = ({str(x) for x in side} for side in (self.guess, self.truth))
        return len(self.guess) > 1 and len(said) == 1 and len(there) > 1


def _labelled(head: HeadSpec, values: Values, features: Features, examples: Sequence[Example]) -> Judged:
    table = np.stack(values) if len(values) else np.zeros((0, len(head.labels)))
    if head.several:
        return Judged(np.asarray(features.target), (sigmoid(table) > 0.5).astype(np.int8))
    return Judged(np.asarray(features.target), table.argmax(1), softmax(table).max(1) if len(table) else np.zeros(0))


def _scored(head: HeadSpec, values: Values, features: Features, examples: Sequence[Example]) -> Judged:
    return Judged(np.asarray(features.target), np.array([float(row[0]) for row in values]))


def _choices(head: HeadSpec, values: Values, features: Features, examples: Sequence[Example]) -> Judged:
    scores = np.array([float(row[0]) for row in values])
    found = [softmax(part) for part in np.split(scores, features.examples_E[1:-1])] if len(features) else []
    return Judged(
        np.asarray(features.target),
        np.array([int(p.argmax()) for p in found]),
        np.array([float(p.max()) for p in found]),
    )


def _tagged(head: HeadSpec, values: Values, features: Features, examples: Sequence[Example]) -> Judged:
    """A word's tag is that of its first piece, in the window that answers for it."""
    truth, guess = [], []
    for e, example in enumerate(examples):
        tags = ["O"] * len(example.words)
        for r in range(features.examples_E[e], features.examples_E[e + 1]):
            for place, best in zip(features.of("places", r), values[r].argmax(-1), strict=True):
                if place >= 0:
                    tags[place] = head.labels[int(best)]
        truth.append(list(example.tags))
        guess.append(tags)
    return Judged(truth, guess)


def answers_of(
    head: HeadSpec, values: Values, features: Features, examples: Sequence[Example], best: int = 1
) -> Iterator[dict[str, Any]]:
    """The decoded answer to each question; see :func:`decode_answer`."""
    for e, example in enumerate(examples):
        windows = [
            Window(values[r], features.of("spans", r), features.of("places", r) == 1)
            for r in range(features.examples_E[e], features.examples_E[e + 1])
        ]
        yield decode_answer(windows, example.pair or "", head.none_above, best=best)


def _questions(head: HeadSpec, values: Values, features: Features, examples: Sequence[Example]) -> Judged:
    always = msgspec.structs.replace(head, none_above=None)
    found = list(answers_of(always, values, features, examples))
    given = [row["answer"]["text"] if row["answer"] else "" for row in found]
    judged = Judged(
        [tuple(text for _, text in e.answers or ()) for e in examples],
        given,
        np.array([row["answer"]["probability"] if row["answer"] else np.nan for row in found]),
        np.array([0.0 if row["lead"] is None else row["lead"] for row in found]),
        given,
    )
    return judged if head.none_above is None else judged.above(head.none_above)


def _pairs(head: HeadSpec | None, values: Values, features: Features, examples: Sequence[Example]) -> Judged:
    """With scores: the cosines of pairs. Without: for each first text the second texts, ranked by cosine.

    A query's row ends with its own second text (or one that is equal), which is where every measure is decided.
    """
    table = np.stack(values).astype(np.float64) if len(values) else np.zeros((0, 1))
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    first, second = table[features.examples_E[:-1]], table[features.examples_E[:-1] + 1]
    if len(features) and not np.isnan(features.target).any():
        return Judged(np.asarray(features.target), (first * second).sum(1))
    codes = np.unique([e.pair or "" for e in examples], return_inverse=True)[1]
    places = np.unique(codes, return_index=True)[1]  # each different second text is one candidate
    candidates = second[places]
    truth, guess = [], []
    for start in range(0, len(first), 256):
        near = first[start : start + 256] @ candidates.T
        for row, own in zip(near, codes[start : start + 256], strict=True):
            ahead = (row > row[own]) | ((row == row[own]) & (np.arange(len(row)) < own))  # of equals the first leads
            better = np.sort(row[ahead])[::-1]
            truth.append(np.append(np.zeros(len(better)), 1.0))
            guess.append(np.append(better, row[own]))
    return Judged(truth, guess)


JUDGES: dict[str, Callable[[Any, Values, Features, Sequence[Example]], Judged]] = {
    "labelled": _labelled, "scored": _scored, "choices": _choices, "tagged": _tagged, "questions": _questions,
    "pairs": _pairs,
}  # fmt: skip


def judged(form: str, head: HeadSpec | None, values: Values, features: Features, examples: Sequence[Example]) -> Judged:
    """What was to be found and what was, for features of one form and the examples they were made of."""
    return JUDGES[form](head, values, features, examples)


def metrics_of(metrics: tuple[str, ...], form: str, features: Features) -> tuple[str, ...]:
    """The metrics that fit the data: pairs with scores are judged by correlation, without by what is found."""
    if form == "pairs" and len(features) and not np.isnan(features.target).any():
        return ("spearman", "pearson")
    return metrics
