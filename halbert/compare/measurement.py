"""A measurement is a type: samples, unit, interval and how it was made. A bare float cannot enter a report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from halbert.errors import HalbertError, missing_extra

try:
    from scipy.stats import norm as normal
    from scipy.stats import t as student
except ImportError:
    raise missing_extra("scipy", "evaluate", "intervals") from None

RESAMPLES = 10_000
FEW = 10  # runs, below which their spread is computed and not resampled: of three, resampled medians know no tail
PACED = ("s", "bytes", "texts/s")  # units of what a machine does: of several machines they are no figures of one thing
Statistic = Literal["exact", "mean", "p50", "p95", "p99"]

# Standard errors over that of a mean, of normal samples: sqrt(p (1 - p)) over the density at the quantile.
_ERRORS = {
    name: math.sqrt(p * (1 - p)) / normal.pdf(normal.ppf(p)) for name, p in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
} | {"mean": 1.0}
_STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exact": lambda x: x[..., 0],
    "mean": lambda x: x.mean(-1),
    "p50": lambda x: np.percentile(x, 50, axis=-1),
    "p95": lambda x: np.percentile(x, 95, axis=-1),
    "p99": lambda x: np.percentile(x, 99, axis=-1),
}


class Quantity(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured: its unit, how samples become a value, which direction is better, and in words how it is made.

    ``labels`` name a round's samples, where each is of something else (a language); ``calls`` is how many samples of one
    round belong together, since what disturbs a call disturbs those beside it. ``floor`` is what a predictor that reads
    nothing gets: a figure that is not above it says nothing of a model.
    """

    name: str
    title: str
    unit: str
    statistic: Statistic
    better: Literal["lower", "higher", "neither"]
    how: str
    labels: list[str] | None = None
    calls: int = 1
    floor: float | None = None


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity of one subject. ``value`` is ``statistic`` of ``samples``; ``low`` and ``high`` bound it at 95 %.

    ``items`` holds, where a run judges many examples, the per-example results of each run: comparisons pair them.
    ``labels`` name the samples, where each is of something else; ``calls`` in turn are of one round and drawn together.
    ``machine`` is what it was measured on; ``rounds_on`` says where each round was taken, if a cluster took them.
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
    labels: list[str] | None = None
    calls: int = 1
    floor: float | None = None
    machine: str = ""
    rounds_on: list[str] | None = None

    @property
    def learnt(self) -> bool:
        """Whether it is, beyond chance, above what a predictor that reads nothing gets; true where that is not known."""
        return self.floor is None or self.low is None or self.low > self.floor


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
    low: float | None
    high: float | None
    if quantity.statistic == "exact":
        if (array != array[0]).any():
            raise HalbertError(f"probe {probe} of {subject}: {quantity.name} is exact, but its samples differ")
        low = high = value
    else:
        low, high = _spread_of(quantity, array, items).bounds(0.05)
        if low is not None and high is not None and array.min() >= 0:  # no sizes, times or shares below 0
            low, high = max(0.0, low), min(1.0, high) if quantity.unit == "share" else high
    return Measurement(
        probe=probe, subject=subject, name=quantity.name, title=quantity.title, unit=quantity.unit,
        statistic=quantity.statistic, better=quantity.better, samples=[float(x) for x in array], value=value,
        low=low, high=high, how=quantity.how, command=command,
        items=None if items is None else [[float(x) for x in row] for row in items],
        labels=None if quantity.labels is None else [quantity.labels[i % len(quantity.labels)] for i in range(len(array))],
        calls=quantity.calls, floor=quantity.floor,
    )  # fmt: skip


def undefined(quantity: Quantity, probe: str, subject: str, command: str, why: str) -> Measurement:
    """A measurement that cannot be made, with the reason."""
    return Measurement(
        probe=probe, subject=subject, name=quantity.name, title=quantity.title, unit=quantity.unit,
        statistic=quantity.statistic, better=quantity.better, samples=[], value=None, low=None, high=None,
        how=quantity.how, command=command, why=why,
    )  # fmt: skip


class Spread(NamedTuple):
    """What resampling says of a value: by how much it moves when runs, and when examples, are drawn again."""

    value: float
    runs: np.ndarray
    examples: np.ndarray | float
    freedom: float  # degrees of freedom of the runs

    @property
    def known(self) -> bool:
        """Whether anything moved: what never differed in a few runs says nothing of how much it may."""
        return isinstance(self.examples, np.ndarray) or bool(self.runs.any())

    def bounds(self, level: float) -> tuple[float, float] | tuple[None, None]:
        """The interval that leaves ``level`` outside; unknown when there was a single run.

        The runs' part is widened by what Student's t has over the normal distribution.
        """
        if self.freedom < 1:
            return None, None
        tail = level / 2
        widened = student.ppf(1 - tail, self.freedom) / normal.ppf(1 - tail)
        drawn = self.value + self.examples + widened * self.runs
        low, high = np.percentile(drawn, [100 * tail, 100 * (1 - tail)])
        return float(low), float(high)

    def differs(self, level: float) -> bool:
        """Whether 0 is beyond the interval that leaves ``level`` outside."""
        low, high = self.bounds(level)
        return self.known and low is not None and high is not None and (low > 0 or high < 0)


def shared_level(spreads: Sequence[Spread], error: float = 0.05) -> float:
    """The level of each of many comparisons at which all together err with a probability of at most ``error`` (Holm 1979):
    what differs at ``error / m`` is no longer counted among the m, and so on until nothing more differs."""
    found = 0
    while True:
        level = error / max(1, len(spreads) - found)
        now = sum(spread.differs(level) for spread in spreads)
        if now <= found:
            return level
        found = now


def _draws(count: int, calls: int, seed: int) -> np.ndarray:
    """Sample numbers (R, N) of rounds drawn again, each with all its ``calls``."""
    rounds = count // calls
    drawn = np.random.default_rng(seed).integers(0, rounds, (RESAMPLES, rounds, 1))
    return (drawn * calls + np.arange(calls)).reshape(RESAMPLES, rounds * calls)


def _spread_of(quantity: Quantity, samples: np.ndarray, items: Any) -> Spread:
    value = float(_STATISTICS[quantity.statistic](samples))
    runs, freedom = _moves(quantity.statistic, [samples], [1.0], quantity.calls)
    return Spread(value, runs, 0.0 if items is None else _example_moves(np.asarray(items).mean(0)), freedom)


def _moves(
    statistic: Statistic, groups: Sequence[np.ndarray], signs: Sequence[float], calls: int = 1
) -> tuple[np.ndarray, float]:
    """How a sum of statistics of independent groups of runs moves when all are drawn again, and its degrees of freedom
    (Welch 1947).

    Of many runs by resampling, which understates the spread of n by sqrt((n - 1) / n); of a few by their standard error,
    since of three runs a resampled median moves no farther than to the next of them.
    """
    rounds = [len(x) // calls for x in groups]
    least = min(rounds)
    if least < 2:
        return np.zeros(RESAMPLES), least - 1
    # Calls of one round are not independent: as if there were one, which varies as calls do, or as rounds, if that is more.
    shares = [
        max(x.var(ddof=1), x.reshape(n, calls).mean(1).var(ddof=1)) / n for x, n in zip(groups, rounds, strict=True)
    ]
    below = sum(share**2 / (n - 1) for share, n in zip(shares, rounds, strict=True))
    freedom = sum(shares) ** 2 / below if below else least - 1
    if least < FEW:
        error = math.sqrt(sum(shares)) * (1.0 if statistic == "p50" and least == 2 else _ERRORS[statistic])
        drawn = np.random.default_rng(0).permutation(normal.ppf((np.arange(RESAMPLES) + 0.5) / RESAMPLES))
        return error * drawn, freedom
    of, moves = _STATISTICS[statistic], np.zeros(RESAMPLES)
    for seed, (x, n, sign) in enumerate(zip(groups, rounds, signs, strict=True)):
        moves += sign * math.sqrt(n / (n - 1)) * (of(x[_draws(len(x), calls, seed + 2)]) - of(x))
    return moves, freedom


def _example_moves(means: np.ndarray) -> np.ndarray:
    """How the mean over examples moves when they are drawn again; ``means`` (N,) are each example's over the runs."""
    rng = np.random.default_rng(1)
    return np.array([means[rng.integers(0, len(means), len(means))].mean() for _ in range(RESAMPLES)]) - means.mean()


def compare_pair(
    a: Measurement, b: Measurement, level: float, equal_in: list[str], *, paired: bool = True
) -> Comparison | None:
    """b minus a, or ``None`` when either is undefined or was run only once.

    Samples taken in the same round are resampled together (the schedule interleaves subjects), and so are examples;
    seeds are not paired, so runs with examples draw their seeds independently. Rounds of two runs are not ``paired``.
    ``level`` is the share of error one comparison may have after correction.
    """
    if a.value is None or b.value is None:
        return None
    return _compared(a, b, None if a.statistic == "exact" else spread_of_difference(a, b, paired), level, equal_in)


def _compared(
    a: Measurement, b: Measurement, spread: Spread | None, level: float, equal_in: list[str]
) -> Comparison | None:
    assert a.value is not None and b.value is not None
    difference = b.value - a.value
    low: float | None
    high: float | None
    if spread is None:
        low = high = difference
        significant = difference != 0
    else:
        low, high = spread.bounds(0.05)
        if low is None or high is None:
            return None
        significant = spread.differs(level)
    better = None
    if significant and a.better != "neither":
        better = b.subject if (difference < 0) == (a.better == "lower") else a.subject
    return Comparison(
        a=a.subject, b=b.subject, name=a.name, unit=a.unit, difference=difference, low=low, high=high,
        significant=significant, equal_in=equal_in, better=better,
    )  # fmt: skip


def spread_of_difference(a: Measurement, b: Measurement, paired: bool) -> Spread:
    """By how much b minus a, of an inexact quantity, moves when it is measured again."""
    of = _STATISTICS[a.statistic]
    x, y = np.asarray(a.samples), np.asarray(b.samples)
    difference = float(of(y) - of(x))
    if a.items is not None and b.items is not None and len(a.items[0]) == len(b.items[0]):
        # The same examples, other seeds.
        moves = _example_moves(np.asarray(b.items).mean(0) - np.asarray(a.items).mean(0))
        runs, freedom = _moves(a.statistic, [y, x], [1.0, -1.0])
        return Spread(difference, runs, moves, freedom)
    rounds = len(x) // a.calls
    if not (paired and len(x) == len(y) and a.calls == b.calls):
        runs, freedom = _moves(a.statistic, [y, x], [1.0, -1.0], a.calls)
    elif rounds < FEW:
        runs, freedom = _moves(a.statistic, [y - x], [1.0], a.calls)
    else:
        rows = _draws(len(x), a.calls, 0)
        runs = math.sqrt(rounds / (rounds - 1)) * (of(y[rows]) - of(x[rows]) - difference)
        freedom = rounds - 1
    return Spread(difference, runs, 0.0, freedom)


def compare_all(
    measurements: Sequence[Measurement],
    equal_in: Callable[[str, str], list[str]],
    comparable: Callable[[str, str, str], bool],
    paired: Callable[[str, str], bool] = lambda a, b: True,
) -> list[Comparison]:
    """Every pair of subjects in every quantity of which one can have better, rounds ``paired`` where they belong together.

    The 5 % of error is shared out among the inexact comparisons (:func:`shared_level`).
    """
    tables: dict[str, dict[str, Measurement]] = {}
    for m in measurements:
        tables.setdefault(m.name, {})[m.subject] = m
    pairs = [
        (a, b)
        for table in tables.values()
        for a, b in itertools.combinations(table.values(), 2)
        if a.better != "neither" and comparable(a.name, a.subject, b.subject) and None not in (a.value, b.value)
    ]
    spreads = [
        None if a.statistic == "exact" else spread_of_difference(a, b, paired(a.subject, b.subject)) for a, b in pairs
    ]
    level = shared_level([spread for spread in spreads if spread is not None])
    found = (
        _compared(a, b, spread, level, equal_in(a.subject, b.subject))
        for (a, b), spread in zip(pairs, spreads, strict=True)
    )
    return [comparison for comparison in found if comparison is not None]
