"""Score a fine-tuned model on a labelled file."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import numpy as np

from halbert.data.features import check_labels
from halbert.data.readers import Example, read_examples
from halbert.errors import InputError
from halbert.run.predictor import Predictor
from halbert.tasks.metrics import score
from halbert.tasks.table import TASKS


def guess_classes(predictor: Predictor, examples: list[Example], max_length: int | None = None) -> list[int]:
    """The class number the model gives each example."""
    pairs = [e.pair or "" for e in examples] if examples and examples[0].pair is not None else None
    table = predictor.logits([e.text for e in examples], pairs, max_length=max_length)
    return [int(i) for i in np.argmax(table, axis=1)]


def evaluate(predictor: Predictor, data: str | os.PathLike[str], max_length: int | None = None) -> dict[str, Any]:
    """``{"task", "n", "metrics": {NAME: {"value", "low", "high"}}}`` of a classifier on a labelled file.

    Raises :class:`InputError` when the model has no class labels, or the file holds one it does not know.
    """
    name, head = predictor.bundle.head(predictor.head)
    task = next((t for t in TASKS.values() if t.head == head.kind), None)
    if task is None:
        raise InputError(f"head {name!r} is of kind {head.kind}, which has no task to be scored by yet")
    examples = read_examples(data)
    check_labels(examples, head.labels, str(data))
    numbers = {label: i for i, label in enumerate(head.labels)}
    truth = [numbers[e.label or ""] for e in examples]
    guesses = guess_classes(predictor, examples, max_length)
    scores = {metric: score(metric, truth, guesses) for metric in task.metrics}
    return {"task": task.kind, "n": len(examples), "metrics": {k: msgspec.to_builtins(v) for k, v in scores.items()}}
