"""A measurement is a type: samples, unit, interval and how it was made. A bare float cannot enter a report."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from halbert.errors import HalbertError

RESAMPLES = 4000
Statistic = Literal["exact", "mean", "p50", "p95"]

_STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exact": lambda x: x[..., 0],
    "mean": lambda x: x.mean(-1),
    "p50": lambda x: np.percentile(x, 50, axis=-1),
    "p95": lambda x: np.percentile(x, 95, axis=-1),
}


class Quantity(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured: its unit, how samples become a value, which direction is better, and in words how it is made."""

    name: str
    title: str
    unit: str
    statistic: Statistic
    better: Literal["lower", "higher", "neither"]
    how: str


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity of one subject. ``value`` is ``statistic`` of ``samples``; ``low`` and ``high`` bound it at 95 %.

    ``items`` holds, where a run judges many examples, the per-example results of each run: comparisons pair them.
    An undefined value is ``None``, with the reason in ``why``.
    """

    probe: str
    subject: str
    name: str
    title: str
    unit: str
    statistic: Statistic
    better: str
    samples: list[float]
    value: float | None
    low: float | None
    high: float | None
    how: str
    command: str
    why: str | None = None
    items: list[list[float]] | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """b minus a for one quantity, with a 95 % interval, and whether it stands after correction for all comparisons."""

    a: str
    b: str
    name: str
    unit: str
    difference: float
    low: float
    high: float
    significant: bool
    equal_in: list[str]
    better: str | None = None


def measured(
    quantity: Quantity, probe: str, subject: str, samples: Sequence[float], command: str, items: Any = None
) -> Measurement:
    """A measurement out of its samples. Raises :class:`HalbertError` when there are none or one is not finite."""
    array = np.asarray(samples, np.float64)
    if not len(array) or not np.isfinite(array).all():
        raise HalbertError(f"probe {probe} of {subject}: {quantity.name} has no samples, or one that is not finite")
    value = float(_STATISTICS[quantity.statistic](array))
    if quantity.statistic == "exact":
        if (array != array[0]).any():
            raise HalbertError(f"probe {probe} of {subject}: {quantity.name} is exact, but its samples differ")
        low = high = value
    else:
        drawn = _resampled(quantity.statistic, array, items, np.random.default_rng(0))
        low, high = (float(x) for x in np.percentile(drawn, [2.5, 97.5]))
    return Measurement(
        probe=probe, subject=subject, name=quantity.name, title=quantity.title, unit=quantity.unit,
        statistic=quantity.statistic, better=quantity.better, samples=[float(x) for x in array], value=value,
        low=low, high=high, how=quantity.how, command=command,
        items=None if items is None else [[float(x) for x in row] for row in items],
    )  # fmt: skip


def undefined(quantity: Quantity, probe: str, subject: str, command: str, why: str) -> Measurement:
    """A measurement that cannot be made, with the reason."""
    return Measurement(
        probe=probe, subject=subject, name=quantity.name, title=quantity.title, unit=quantity.unit,
        statistic=quantity.statistic, better=quantity.better, samples=[], value=None, low=None, high=None,
        how=quantity.how, command=command, why=why,
    )  # fmt: skip


def _resampled(statistic: Statistic, samples: np.ndarray, items: Any, rng: np.random.Generator) -> np.ndarray:
    """The statistic of resampled runs and, inside a run, of resampled examples (the same ones for every run)."""
    if items is None:
        rows = rng.integers(0, len(samples), (RESAMPLES, len(samples)))
        return _STATISTICS[statistic](samples[rows])
    table = np.asarray(items, np.float64)
    runs = rng.integers(0, len(table), (RESAMPLES, len(table)))
    result = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        examples = rng.integers(0, table.shape[1], table.shape[1])
        result[i] = table[:, examples].mean(1)[runs[i]].mean()
    return result


def compare_pair(a: Measurement, b: Measurement, level: float, equal_in: list[str]) -> Comparison | None:
    """b minus a, or ``None`` when either is undefined.

    Samples taken in the same round are resampled together (the schedule interleaves subjects), and so are examples;
    seeds are not paired, so runs with examples draw their seeds independently. ``level`` is the share of error one
    comparison may have after correction.
    """
    if a.value is None or b.value is None:
        return None
    difference = b.value - a.value
    if a.statistic == "exact":
        low = high = difference
        significant = difference != 0
    else:
        drawn = _resampled_difference(a, b)
        low, high = (float(x) for x in np.percentile(drawn, [2.5, 97.5]))
        bounds = np.percentile(drawn, [100 * level / 2, 100 * (1 - level / 2)])
        significant = bool(bounds[0] > 0 or bounds[1] < 0)
    better = None
    if significant and a.better != "neither":
        better = b.subject if (difference < 0) == (a.better == "lower") else a.subject
    return Comparison(
        a=a.subject, b=b.subject, name=a.name, unit=a.unit, difference=difference, low=low, high=high,
        significant=significant, equal_in=equal_in, better=better,
    )  # fmt: skip


def _resampled_difference(a: Measurement, b: Measurement) -> np.ndarray:
    rng = np.random.default_rng(0)
    statistic = _STATISTICS[a.statistic]
    if a.items is not None and b.items is not None and len(a.items[0]) == len(b.items[0]):
        table_a, table_b = np.asarray(a.items), np.asarray(b.items)
        runs_a = rng.integers(0, len(table_a), (RESAMPLES, len(table_a)))
        runs_b = rng.integers(0, len(table_b), (RESAMPLES, len(table_b)))
        result = np.empty(RESAMPLES)
        for i in range(RESAMPLES):
            examples = rng.integers(0, table_a.shape[1], table_a.shape[1])
            result[i] = table_b[:, examples].mean(1)[runs_b[i]].mean() - table_a[:, examples].mean(1)[runs_a[i]].mean()
        return result
    x, y = np.asarray(a.samples), np.asarray(b.samples)
    rows = rng.integers(0, len(x), (RESAMPLES, len(x)))
    other = rows if len(x) == len(y) else rng.integers(0, len(y), (RESAMPLES, len(y)))
    return statistic(y[other]) - statistic(x[rows])


def compare_all(
    measurements: Sequence[Measurement],
    equal_in: Callable[[str, str], list[str]],
    comparable: Callable[[str, str, str], bool],
) -> list[Comparison]:
    """Every pair of subjects in every quantity; the 5 % of error is divided by the number of inexact comparisons."""
    tables: dict[str, dict[str, Measurement]] = {}
    for m in measurements:
        tables.setdefault(m.name, {})[m.subject] = m
    pairs = [
        (a, b)
        for table in tables.values()
        for a, b in itertools.combinations(table.values(), 2)
        if comparable(a.name, a.subject, b.subject)
    ]
    uncertain = sum(a.statistic != "exact" and a.value is not None and b.value is not None for a, b in pairs)
    level = 0.05 / max(1, uncertain)
    found = (compare_pair(a, b, level, equal_in(a.subject, b.subject)) for a, b in pairs)
    return [comparison for comparison in found if comparison is not None]
