"""Results read back: a report without measuring, and what got worse than it was."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from halbert.compare.measurement import Comparison, Measurement, compare_pair
from halbert.compare.verdict import interval, show
from halbert.errors import InputError
from halbert.files import read_json

SCHEMA = "halbert-results-1"
_NEEDED = (
    "created",
    "machine",
    "subjects",
    "differences",
    "measurements",
    "comparisons",
    "verdict",
    "claims",
    "notes",
    "command",
)


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What an audit wrote: ``results.json``, or the folder it lies in.

    Raises :class:`InputError` for a file that no audit of this version wrote.
    """
    file = Path(path) / "results.json" if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise InputError(f"{path}: no such results; expected the results.json of an audit, or its folder")
    found = read_json(file)
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        told = found.get("schema") if isinstance(found, dict) else None
        raise InputError(f"{file}: has the schema {told!r}; expected {SCHEMA!r}, as halbert audit writes it")
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise InputError(f"{file}: lacks {', '.join(missing)}; it was cut or changed since an audit wrote it")
    measurements_of(found, str(file))
    try:
        msgspec.convert(found["comparisons"], list[Comparison])
    except msgspec.ValidationError as error:
        raise InputError(f"{file}: comparisons: {error}") from None
    return found


def measurements_of(results: Mapping[str, Any], where: str = "results") -> list[Measurement]:
    """The measurements as such. Raises :class:`InputError` where they are none."""
    try:
        return msgspec.convert(results["measurements"], list[Measurement])
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: measurements: {error}") from None


def regressions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for every quantity of a subject of both that is worse than it was, beyond chance.

    The 5 % of error are shared out among all that is compared. Samples of two runs belong to no common rounds, so they
    are resampled apart.
    """
    before = {(m.name, m.subject): m for m in measurements_of(old)}
    pairs = [(before[m.name, m.subject], m) for m in measurements_of(new) if (m.name, m.subject) in before]
    pairs = [(a, b) for a, b in pairs if a.better != "neither" and a.unit == b.unit and a.statistic == b.statistic]
    level = 0.05 / max(1, sum(a.statistic != "exact" for a, _ in pairs))
    found = []
    for a, b in pairs:
        c = compare_pair(a, b, level, [], paired=False)
        if c is None or not c.significant or (c.difference > 0) == (a.better == "higher"):
            continue
        assert a.value is not None and b.value is not None
        found.append(
            f"{b.subject}, {b.title}: {show(b.value, b.unit)}, was {show(a.value, a.unit)} (difference {interval(c)})"
        )
    return found
