"""The loss of the best predictor that reads nothing: what a model that learns has to be below."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from halbert.data.features import Features
from halbert.data.labelled import Survey
from halbert.heads import HeadSpec


def entropy(counts: Mapping[str, int] | np.ndarray) -> float:
    """Of the distribution that counts tell, in nats."""
    values = np.array(list(counts.values()) if isinstance(counts, Mapping) else counts, float)
    shares = values[values > 0] / max(values.sum(), 1)
    return float(-(shares * np.log(shares)).sum())


def trivial_loss(
    form: str, head: HeadSpec | None, found: Survey, features: Features, balanced: bool, batch_size: int,
    special: Collection[int] = (),
) -> float | None:  # fmt: skip
    """In the unit of the task's loss; None where it is not known.

    Classes: the entropy of their frequencies (with balanced weights, of equal ones). Numbers: their variance. Candidates:
    equal chances. Places of answers: the share of windows that have none, and equal chances among the others' pieces.
    Pairs: equal chances among a batch's second and third texts. Masked pieces: the entropy of the text's pieces, without the
    ``special`` ones, which are never hidden.
    """
    if form == "labelled" and head is not None and head.several:
        shares = np.asarray(features.target, float).mean(0)
        return float(np.mean([entropy(np.array([p, 1 - p])) for p in shares])) if not balanced else None
    if form in ("labelled", "tagged"):
        return math.log(len(found.labels)) if balanced else entropy(found.labels)
    if form == "scored":
        return found.variance
    if form == "choices":
        return float(np.log(np.diff(features.examples_E)).mean())
    if form == "questions":
        there = features.target[:, 0] > 0
        pieces = np.maximum(1, (np.asarray(features.lengths) - np.asarray(features.second_R))[there])
        return entropy(np.bincount(there.astype(int))) + float(np.log(pieces).sum()) / len(there)
    if form == "pairs":
        size, texts = min(batch_size, len(features)), float(np.diff(features.examples_E).mean())
        return None if not np.isnan(features.target).any() else math.log(size * (texts - 1))
    counts = np.bincount(features.arrays["pieces"][:1_000_000])
    counts[[number for number in special if number < len(counts)]] = 0
    return entropy(counts)
