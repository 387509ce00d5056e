"""Rows as a model reads them, kept as a few long arrays, and how much of the texts had to be cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from halbert.data.column import Column
from halbert.data.labelled import batches_of
from halbert.data.readers import Example
from halbert.errors import InputError
from halbert.text import Tokenizer

NONE = -100  # a piece without a tag, a row without a class; torch's own default for what is not to be learnt


class Cut(NamedTuple):
    """How many rows lost pieces at their end, how many pieces in all, and how long the longest row was."""

    rows: int = 0
    pieces: int = 0
    longest: int = 0


class Features:
    """Encoded rows, one after the other, and what is to be learnt of them.

    ``pieces`` (T,) are the ids of all rows; row r has ``starts_R[r]`` to ``starts_R[r + 1]``, and its second text begins at
    ``second[r]`` of the row. Example e has the rows ``examples[e]`` to ``examples[e + 1]``: one, or as many as it has
    candidates, texts or windows. ``target`` has a row for each example or, for ``answer``, each row; ``tags`` (T,) has a
    class for each piece that is to be learnt. ``places`` (T,) says which word a piece answers for, or -1; ``spans``
    (T, 2) which characters it stands for.
    """

    def __init__(self) -> None:
        self.columns: dict[str, Column] = {"pieces": Column(np.uint32)}
        self.second, self.examples = Column(np.int32), Column(np.int64)
        self.rows = 0
        self._lengths = Column(np.int32)
        self.target: np.ndarray = np.zeros(0)
        self.cut = Cut()
        self.longest = 0

    def add(self, ids: Sequence[int], second: int, **others: Any) -> None:
        """Append a row; ``others`` have a value for each of its pieces."""
        self.columns["pieces"].extend(ids)
        for name, values in others.items():
            if name not in self.columns:
                self.columns[name] = Column(np.int32)
            self.columns[name].extend(values)
        self._lengths.extend([len(ids)])
        self.second.extend([second])
        self.longest = max(self.longest, len(ids))
        self.rows += 1

    def end(self) -> None:
        """The example is complete: the rows added since the last one are its."""
        self.examples.extend([self.rows])

    def lost(self, whole: int, kept: int) -> None:
        """A row of ``whole`` pieces has only ``kept`` left."""
        if whole > kept:
            self.cut = Cut(self.cut.rows + 1, self.cut.pieces + whole - kept, max(self.cut.longest, whole))

    def done(self, target: Any = None) -> Features:
        """All rows are there; from here on everything is an array."""
        self.lengths = self._lengths.array()
        self.starts_R = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        self.second_R = self.second.array()
        self.examples_E = np.concatenate([[0], self.examples.array()])
        self.arrays = {name: column.array() for name, column in self.columns.items()}
        if target is not None:
            self.target = target
        return self

    def __len__(self) -> int:
        return len(self.examples_E) - 1

    def row(self, r: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids, segments) of a row."""
        ids = self.arrays["pieces"][self.starts_R[r] : self.starts_R[r + 1]]
        return ids, (np.arange(len(ids)) >= self.second_R[r]).astype(np.int64)

    def of(self, name: str, r: int) -> np.ndarray:
        """What ``tags``, ``places`` or ``spans`` say of a row's pieces."""
        width = 2 if name == "spans" else 1
        found = self.arrays[name][width * self.starts_R[r] : width * self.starts_R[r + 1]]
        return found.reshape(-1, 2) if width == 2 else found

    @property
    def encoded(self) -> list[tuple[list[int], list[int]]]:
        """All rows as lists."""
        rows = (self.row(r) for r in range(self.rows))
        return [(ids.tolist(), segments.tolist()) for ids, segments in rows]

    @property
    def widths(self) -> np.ndarray:
        """Pieces of each example's longest row (E,)."""
        if len(self) == self.rows:
            return np.asarray(self.lengths)
        return np.maximum.reduceat(self.lengths, self.examples_E[:-1]) if len(self) else self.lengths


def encode_examples(
    examples: Iterable[Example], tokenizer: Tokenizer, length: int, labels: Sequence[str] | None = None
) -> Features:
    """Texts or pairs, a row each of at most ``length`` pieces; ``labels`` gives the class numbers (-100: none).

    Raises :class:`InputError` for a label that is not among ``labels``.
    """
    numbers = {label: i for i, label in enumerate(labels or ())}
    found, classes = Features(), Column(np.int64)
    for part in batches_of(examples):
        if labels is not None:
            check_labels(part, labels, "data")
        add_texts(found, [e.text for e in part], seconds_of(part), tokenizer, length)
        classes.extend([numbers.get(e.label or "", NONE) for e in part])
    return found.done(classes.array())


def seconds_of(part: Sequence[Example]) -> list[str] | None:
    """The second texts of pairs; None for single texts. Raises :class:`InputError` where there are both."""
    pairs = [e.pair for e in part]
    if any(p is None for p in pairs) and any(p is not None for p in pairs):
        raise InputError("some examples are pairs and some are not; a task has one form")
    return None if not pairs or pairs[0] is None else [p or "" for p in pairs]


def add_texts(
    found: Features,
    texts: Sequence[str],
    seconds: Sequence[str] | None,
    tokenizer: Tokenizer,
    length: int,
    end: bool = True,
) -> None:
    """Append a row a text or pair, of at most ``length`` pieces; with ``end`` each is an example."""
    whole = tokenizer.encode_batch(texts, seconds)
    long = [i for i, (ids, _) in enumerate(whole) if len(ids) > length]
    short = tokenizer.encode_batch(
        [texts[i] for i in long], None if seconds is None else [seconds[i] for i in long], max_length=length
    )
    for i, kept in zip(long, short, strict=True):
        found.lost(len(whole[i][0]), len(kept[0]))
        whole[i] = kept
    for ids, segments in whole:
        found.add(ids, len(segments) - sum(segments))
        if end:
            found.end()


def classes_of(example: Example) -> tuple[str, ...]:
    """All classes of an example, whether its file has one or several."""
    return example.labels or (() if example.label is None else (example.label,))


def check_labels(examples: Iterable[Example], labels: Sequence[str], where: str) -> None:
    """Raise :class:`InputError` when an example's label is not among ``labels``."""
    known = set(labels)
    for example in examples:
        for label in classes_of(example):
            if label not in known:
                shown = ", ".join(labels[:6]) + (", …" if len(labels) > 6 else "")
                raise InputError(
                    f"{where}: the label {label!r} is not among the {len(labels)} labels of the training data ({shown})"
                )


def check_tags(examples: Iterable[Example], labels: Sequence[str], where: str) -> None:
    """The same for the tags of words, naming the word."""
    known = set(labels)
    for example in examples:
        for word, tag in zip(example.words, example.tags, strict=False):
            if tag not in known:
                shown = ", ".join(labels[:6]) + (", …" if len(labels) > 6 else "")
                raise InputError(
                    f"{where}: the tag {tag!r} of the word {word!r} is not among the {len(labels)} tags of the training "
                    f"data ({shown})"
                )


def label_order(examples: Iterable[Example], where: str) -> tuple[str, ...]:
    """The classes of training examples in the order they are saved in; see :func:`ordered`."""
    return ordered((e.label for e in examples if e.label is not None), where)


def ordered(labels: Iterable[str], where: str, several: bool = False) -> tuple[str, ...]:
    """Labels in the order they are saved in: numbers by size, else by first appearance.

    Raises :class:`InputError` when there is only one class: nothing could be learnt.
    """
    seen = list(dict.fromkeys(labels))
    if len(seen) < 2:
        found = repr(seen[0]) if seen else "none"
        raise InputError(f"{where}: all rows have one label ({found}); a classifier needs at least two classes")
    if all(re.fullmatch(r"-?\d{1,18}", label) for label in seen):
        seen.sort(key=int)
    return tuple(seen)
