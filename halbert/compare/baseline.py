"""Results read back: a report without measuring, and what got worse than it was."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from halbert.compare.machine import named_machine
from halbert.compare.measurement import Comparison, Measurement, compare_pair, shared_level, spread_of_difference
from halbert.compare.plan import rests_on
from halbert.compare.verdict import interval, show
from halbert.errors import InputError
from halbert.files import read_json

SCHEMA = "halbert-results-1"
LARGEST = 1 << 30  # bytes: whether each of a million test rows was right, with every seed
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
    found = read_json(file, LARGEST)
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
    """The measurements as such, with their machine, which those of older audits do not name themselves.

    Raises :class:`InputError` where they are none.
    """
    try:
        found = msgspec.convert(results["measurements"], list[Measurement])
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: measurements: {error}") from None
    home = {name: part["machine"] for part in results.get("merged", ()) for name in part["subjects"]}
    return [
        m if m.machine or m.value is None
        else msgspec.structs.replace(m, machine=named_machine(home.get(m.subject, results["machine"])))
        for m in found
    ]  # fmt: skip


def other_grounds(a: Measurement, b: Measurement, of_a: Mapping[str, Any], of_b: Mapping[str, Any]) -> str | None:
    """Why figures of two results cannot be compared, or ``None`` where they were made alike, of the same data."""
    if (a.how, a.unit, a.statistic) != (b.how, b.unit, b.statistic):
        return f"made otherwise now ({b.how}; then: {a.how})"
    one, two = of_a.get("data", {}), of_b.get("data", {})
    for told in sorted(one.keys() & two.keys()):
        if rests_on(a.how, told) and one[told] != two[told]:
            return f"of other data now, under the same name ({told.removesuffix(': ')})"
    cut = [{s["name"]: s.get("tokenizer") for s in r["subjects"]}.get(m.subject) for r, m in ((of_a, a), (of_b, b))]
    if a.name.startswith("masked_") and None not in cut and cut[0] != cut[1]:
        return "of another tokenizer now, whose pieces are other questions"
    return None


MARGIN = 0.05  # of a time, a rate or a number of bytes: two runs differ by as much on one machine


class Judged(NamedTuple):
    """A line for every quantity that is worse, how many were compared, and what could not be."""

    worse: list[str]
    compared: int
    left_out: list[str]


def regressions(old: Mapping[str, Any], new: Mapping[str, Any]) -> Judged:
    """What of a subject of both is worse than it was, beyond chance, and by more than 5 % where it is no share or count.

    Only figures made alike are compared (``how``). The 5 % of error are shared out among all that is compared (Holm 1979). Samples of
    two runs belong to no common rounds, so they are resampled apart; what two runs differ by as a whole (another clock
    rate, neighbours) no sample of either shows, and the margin is for that.
    """
    before = {(m.name, m.subject): m for m in measurements_of(old) if m.value is not None and m.better != "neither"}
    after = {(m.name, m.subject): m for m in measurements_of(new)}
    pairs, left_out = [], []
    for key, a in before.items():
        b = after.get(key)
        what = f"{a.subject}, {a.title}"
        if b is None or b.value is None:
            left_out.append(f"{what}: {'not measured now' if b is None or not b.why else b.why}")
        elif other := other_grounds(a, b, old, new):
            left_out.append(f"{what}: {other}")
        elif a.statistic != "exact" and (a.low is None or b.low is None):
            left_out.append(f"{what}: one run, no interval")
        else:
            pairs.append((a, b))
    level = shared_level([spread_of_difference(a, b, False) for a, b in pairs if a.statistic != "exact"])
    worse = []
    for a, b in pairs:
        c = compare_pair(a, b, level, [], paired=False)
        assert c is not None and a.value is not None and b.value is not None
        if not c.significant or (c.difference > 0) == (a.better == "higher"):
            continue
        if a.statistic != "exact" and a.unit != "share" and abs(c.difference) <= MARGIN * abs(a.value):
            continue
        worse.append(
            f"{b.subject}, {b.title}: {show(b.value, b.unit)}, was {show(a.value, a.unit)} (difference {interval(c)})"
        )
    return Judged(worse, len(pairs), left_out)
