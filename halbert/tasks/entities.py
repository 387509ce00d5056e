"""Tags to entities, as conlleval and seqeval read them (IOB1, IOB2, BIOES alike), and how many were found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Entity(NamedTuple):
    """Words ``start`` to ``end`` (the last excluded) are one entity of this kind."""

    kind: str
    start: int
    end: int


def spans(tags: Sequence[str]) -> list[Entity]:
    """The entities in a list of tags.

    ``B-`` and ``S-`` begin one; ``I-`` and ``E-`` go on with one of the same kind or begin one; ``E-`` and ``S-`` end it.
    Every other tag is outside.
    """
    found: list[Entity] = []
    start, kind, last = 0, "", "O"
    for i, tag in enumerate([*tags, "O"]):
        prefix, own = (tag[0], tag[2:] or "_") if tag[:1] in "BIES" and tag[1:2] in ("-", "") and tag else ("O", "")
        inside = prefix in "IE" and last in "BI" and own == kind
        if last in "BI" and not inside:
            found.append(Entity(kind, start, i))
        if prefix != "O" and not inside:
            start = i
        if prefix in "ES":
            found.append(Entity(own, start if inside else i, i + 1))
        kind, last = own, prefix
    return found


def counts(truth: Any, guess: Any) -> np.ndarray:
    """Entities found rightly, found, and to be found (N, 3), of lists of tags."""
    table = np.zeros((len(truth), 3))
    for row, t, g in zip(table, truth, guess, strict=True):
        there, said = set(spans(t)), set(spans(g))
        row[:] = len(there & said), len(said), len(there)
    return table


def by_kind(truth: Any, guess: Any) -> dict[str, tuple[int, int, int]]:
    """The same counts over all texts, for each kind of entity."""
    found: dict[str, list[int]] = {}
    for t, g in zip(truth, guess, strict=True):
        there, said = set(spans(t)), set(spans(g))
        for column, some in enumerate((there & said, said, there)):
            for entity in some:
                found.setdefault(entity.kind, [0, 0, 0])[column] += 1
    return {kind: (row[0], row[1], row[2]) for kind, row in sorted(found.items())}


def scheme(labels: Sequence[str]) -> str:
    """What a set of tags is written in: ``BIOES``, ``IOB2`` (every entity begins with B-), ``IOB1`` or ``plain``.

    IOB1 and IOB2 have the same tags where every kind has both prefixes; they are told apart by use, not by name, and
    :func:`spans` reads both.
    """
    prefixes = {label[0] for label in labels if label[1:2] == "-" and label[0] in "BIES"}
    if not prefixes:
        return "plain"
    if prefixes & {"E", "S"}:
        return "BIOES"
    return "IOB1" if "B" not in prefixes else "IOB2"
