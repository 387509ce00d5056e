"""A labelled file of any form, read as often as it is needed and never held in memory; and what is to be known of it."""

from __future__ import annotations

import collections
import itertools
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from halbert.data.choices import read_choices
from halbert.data.questions import read_questions
from halbert.data.readers import Example, iter_examples
from halbert.data.tagged import read_tagged
from halbert.errors import InputError

JSON = (".json", ".json.gz")


class DataFile:
    """The examples of a file; every iteration reads it anew. ``form`` is a task's, ``columns`` what the file calls them."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        form: str = "labelled",
        *,
        columns: Mapping[str, Any] | None = None,
        header: bool = True,
        labelled: bool = True,
    ) -> None:
        self.path, self.form, self.columns = Path(path), form, dict(columns or {})
        self.header, self.labelled = header, labelled

    def __iter__(self) -> Iterator[Example]:
        path, told = self.path, self.columns
        match self.form:
            case "tagged":
                return read_tagged(path, columns=told, labelled=self.labelled)
            case "questions":
                if not path.name.endswith(JSON) and not self.labelled:
                    return iter_examples(path, labelled=False, columns=told)
                return read_questions(path, labelled=self.labelled)
            case "choices":
                return read_choices(path, columns=told, labelled=self.labelled, header=self.header)
            case "scored":
                return iter_examples(path, labelled=self.labelled, column="score", columns=told, header=self.header)
            case "pairs":
                return self._pairs()
            case "texts":
                return iter_examples(path, labelled=False, columns=told, header=self.header)
            case _:
                return iter_examples(path, labelled=self.labelled, columns=told, header=self.header)

    def _pairs(self) -> Iterator[Example]:
        """Pairs, with their scores where the file has them."""
        scored = self.columns.get("score", "score") in _names(self.path, self.header)
        rows = iter_examples(self.path, labelled=scored, column="score", columns=self.columns, header=self.header)
        for example in rows:
            if example.pair is None:
                raise InputError(f"{self.path}: has single texts; expected pairs in the columns text_a and text_b")
            yield example


def _names(path: Path, header: bool) -> set[str]:
    from halbert.data.readers import read_rows

    return set(next(read_rows(path, header), {}))


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What one reading of a training file tells: how many examples, each label's count, numbers' mean and variance."""

    count: int
    labels: dict[str, int]
    several: bool = False
    mean: float = 0.0
    variance: float = 0.0
    unanswerable: int = 0
    candidates: int = 0
    overlap: int = 0


def key_of(example: Example) -> int:
    """A number for the example's texts; equal texts have equal numbers in one process."""
    return hash((example.text, example.pair, example.choices))


def survey(examples: Iterable[Example], where: str, dev: Iterable[Example] = ()) -> Survey:
    """Read all examples once. ``overlap`` counts those whose texts are in ``dev`` too.

    Raises :class:`InputError` for ids that occur twice.
    """
    known = {key_of(example) for example in dev if example.text.strip()}  # blank lines are no texts
    labels: collections.Counter[str] = collections.Counter()
    ids, count, several, none, most, overlap = array("q"), 0, False, 0, 0, 0
    total = square = 0.0
    for example in examples:
        count += 1
        labels.update(example.tags or example.labels or ((example.label,) if example.label is not None else ()))
        several |= example.labels is not None
        none += example.answers == ()
        most = max(most, len(example.choices))
        if example.score is not None:
            total, square = total + example.score, square + example.score**2
        if example.id is not None:
            ids.append(hash(example.id))
        overlap += bool(known) and key_of(example) in known
    check_ids(np.frombuffer(ids, np.int64), examples, where)
    mean = total / max(count, 1)
    return Survey(
        count=count, labels=dict(labels), several=several, mean=mean, variance=max(0.0, square / max(count, 1) - mean**2),
        unanswerable=none, candidates=most, overlap=overlap,
    )  # fmt: skip


def check_ids(hashes: np.ndarray, examples: Iterable[Example], where: str) -> None:
    """Raise :class:`InputError` when ids (given as hashes, in order) occur twice."""
    values, counts = np.unique(hashes, return_counts=True)
    twice = set(values[counts > 1].tolist())
    if not twice:
        return
    found: collections.Counter[str] = collections.Counter()
    for example in examples:
        if example.id is not None and hash(example.id) in twice:
            found[example.id] += 1
            if found[example.id] > 1:
                break
    name = next((key for key, n in found.items() if n > 1), None)
    if name is not None:
        raise InputError(
            f"{where}: {len(twice)} ids occur more than once, for example {name!r}; predictions could not be told apart"
        )


def batches_of(examples: Iterable[Example], size: int = 1024) -> Iterator[list[Example]]:
    """Examples in lists of ``size``."""
    rows = iter(examples)
    while part := list(itertools.islice(rows, size)):
        yield part
