"""Examples to what a model reads, and how much of them had to be cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from halbert.data.readers import Example
from halbert.errors import InputError
from halbert.text import Tokenizer


class Features(NamedTuple):
    """Encoded rows (ids, segments), class numbers (-1: none), and how many rows were cut to the length."""

    encoded: list[tuple[list[int], list[int]]]
    classes: list[int]
    cut: int


def encode_examples(
    examples: Sequence[Example], tokenizer: Tokenizer, length: int, labels: Sequence[str] | None = None
) -> Features:
    """Encode examples to at most ``length`` pieces; ``labels`` gives the class numbers.

    Raises :class:`InputError` for a label that is not among ``labels``.
    """
    pairs = [e.pair for e in examples]
    texts = [e.text for e in examples]
    if any(p is None for p in pairs) and any(p is not None for p in pairs):
        raise InputError("some examples are pairs and some are not; a task has one form")
    seconds = None if not pairs or pairs[0] is None else [p or "" for p in pairs]
    encoded = tokenizer.encode_batch(texts, seconds, max_length=length)
    full = [i for i, (ids, _) in enumerate(encoded) if len(ids) == length]
    whole = tokenizer.encode_batch([texts[i] for i in full], None if seconds is None else [seconds[i] for i in full])
    cut = sum(len(ids) > length for ids, _ in whole)
    numbers = {label: i for i, label in enumerate(labels or ())}
    if labels is not None:
        check_labels(examples, labels, "data")
    classes = [numbers.get(example.label or "", -1) for example in examples]
    return Features(encoded, classes, cut)


def check_labels(examples: Sequence[Example], labels: Sequence[str], where: str) -> None:
    """Raise :class:`InputError` when an example's label is not among ``labels``."""
    known = set(labels)
    for example in examples:
        if example.label is not None and example.label not in known:
            shown = ", ".join(labels[:6]) + (", …" if len(labels) > 6 else "")
            raise InputError(
                f"{where}: the label {example.label!r} is not among the {len(labels)} labels of the training data ({shown})"
            )


def label_order(examples: Sequence[Example], where: str) -> tuple[str, ...]:
    """The classes of a training file in the order they are saved in: numbers by size, else by first appearance.

    Raises :class:`InputError` when there is only one class: nothing could be learnt.
    """
    seen = list(dict.fromkeys(e.label for e in examples if e.label is not None))
    if len(seen) < 2:
        found = repr(seen[0]) if seen else "none"
        raise InputError(f"{where}: all rows have one label ({found}); a classifier needs at least two classes")
    if all(re.fullmatch(r"-?\d{1,18}", label) for label in seen):
        seen.sort(key=int)
    return tuple(seen)
