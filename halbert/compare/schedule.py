"""Interleaving: A B C, B C A, C A B … so that a drift of the machine meets every subject alike."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from halbert.compare.kept import Kept
from halbert.compare.measurement import Measurement, Quantity, measured, undefined
from halbert.compare.subject import Subject

# One round's result: samples by quantity; a list is several samples, a tuple (sample, items) one with its examples. Where
# it was not taken here, ``PLACE`` says where.
Sample = dict[str, Any]
PLACE = "place"
LEAST = 20  # rounds before a median's interval is looked at


class Probe(Protocol):
    """One thing that is measured. ``prepare`` may take its time; ``sample`` is what is interleaved."""

    name: str
    title: str
    rounds: int
    quantities: list[Quantity]

    def refuse(self, subject: Subject) -> str | None:
        """Why this subject cannot be measured, or ``None``."""
        ...

    def prepare(self, subject: Subject) -> Any:
        """Whatever ``sample`` needs, warmed up."""
        ...

    def sample(self, subject: Subject, prepared: Any, round_number: int) -> Sample:
        """One round for one subject."""
        ...


class Elsewhere(Protocol):
    """Who takes rounds on other machines; ``paced`` are the units of what then is no figure, and ``why`` not."""

    paced: Sequence[str]
    why: str

    def takes(self, probe: Probe) -> bool:
        """Whether a probe's rounds can be taken anywhere."""
        ...

    def rounds(self, probe: Probe, able: Sequence[str], numbers: Sequence[int]) -> Generator[dict[str, Sample]]:
        """Those rounds, whole and in their order: by subject, a sample."""
        ...

    def alone(self, probe: Probe) -> contextlib.AbstractContextManager[None]:
        """This machine for a probe whose rounds are taken here, with nothing beside it where it measures that."""
        ...


class Budget:
    """Seconds shared out among the probes that are still to come; without a number there is no end.

    A probe that has had its share stops after the round it is in, but not before ``fewest`` rounds: without two there is
    no interval.
    """

    def __init__(self, seconds: float | None, probes: int, fewest: int = 2) -> None:
        self.ends = math.inf if seconds is None else time.monotonic() + seconds
        self.left = probes
        self.fewest = fewest
        self.until = math.inf

    def begin(self) -> None:
        """The next probe."""
        now = time.monotonic()
        self.until = now + max(0.0, self.ends - now) / max(1, self.left)
        self.left -= 1

    def spent(self, rounds: int) -> bool:
        """Whether the probe has to stop after so many rounds."""
        return rounds >= self.fewest and time.monotonic() >= self.until


def run_probe(
    probe: Probe,
    subjects: Sequence[Subject],
    command: str,
    progress: Callable[[str], None] = lambda what: None,
    *,
    kept: Kept | None = None,
    budget: Budget | None = None,
    elsewhere: Elsewhere | None = None,
) -> list[Measurement]:
    """All measurements of one probe, subject by subject in the order given; rounds that can be are taken ``elsewhere``.

    Rounds that were ``kept`` are not taken again. A probe that says ``narrow`` (a share) stops before its ``rounds`` once
    every median is known to within that share of itself; one whose ``budget`` is spent stops too.
    """
    refused = {s.name: probe.refuse(s) for s in subjects}
    able = [s for s in subjects if refused[s.name] is None]
    budget = budget or Budget(None, 1)
    budget.begin()
    rounds = kept.rounds(probe.name) if kept else []
    for _ in rounds[: probe.rounds]:
        for subject in able:
            progress(subject.name)
    away = elsewhere is not None and elsewhere.takes(probe) and bool(able)
    if elsewhere is not None and away:
        left = range(len(rounds), probe.rounds)
        with contextlib.closing(elsewhere.rounds(probe, [s.name for s in able], left)) as found:
            for taken in found if left else ():
                rounds.append(taken)
                for name in taken:
                    progress(name)
                if kept:
                    kept.keep(probe.name, taken)
                if budget.spent(len(rounds)):
                    break

    def wanted() -> bool:
        return len(rounds) < probe.rounds and not (rounds and (budget.spent(len(rounds)) or _narrow(probe, rounds)))

    if able and wanted():
        with contextlib.nullcontext() if elsewhere is None else elsewhere.alone(probe):
            prepared = {s.name: probe.prepare(s) for s in able}
            while wanted():
                number, taken = len(rounds), {}
                shift = number % len(able)
                for subject in able[shift:] + able[:shift]:
                    taken[subject.name] = probe.sample(subject, prepared[subject.name], number)
                    progress(subject.name)
                rounds.append(taken)
                if kept:
                    kept.keep(probe.name, taken)
    results = []
    for subject in subjects:
        for quantity in probe.quantities:
            why = refused[subject.name]
            if elsewhere is not None and away and quantity.unit in elsewhere.paced:
                why = why or elsewhere.why
            if why is not None:
                results.append(undefined(quantity, probe.name, subject.name, command, why))
            else:
                samples, items = _collected(rounds, subject.name, quantity.name)
                found_here = measured(quantity, probe.name, subject.name, samples, command, items or None)
                places = [taken[subject.name].get(PLACE, "") for taken in rounds]
                results.append(msgspec.structs.replace(found_here, rounds_on=places) if any(places) else found_here)
    return results


def _collected(rounds: Sequence[dict[str, Sample]], subject: str, quantity: str) -> tuple[list[float], list[Any]]:
    """Samples and items of one quantity of one subject."""
    samples: list[float] = []
    items: list[Any] = []
    for taken in rounds:
        value = taken[subject][quantity]
        if isinstance(value, list):
            samples += value
        elif isinstance(value, tuple):
            samples.append(value[0])
            items.append(value[1])
        else:
            samples.append(value)
    return samples, items


def _narrow(probe: Probe, rounds: Sequence[dict[str, Sample]]) -> bool:
    """Whether every median is known well enough: its interval by order statistics, which needs no resampling."""
    width = getattr(probe, "narrow", None)
    if width is None or len(rounds) < LEAST or len(rounds) % 10:
        return False
    n = len(rounds)
    reach = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    for quantity in probe.quantities:
        if quantity.statistic != "p50":
            continue
        for subject in rounds[0]:
            samples = np.sort([taken[subject][quantity.name] for taken in rounds])
            if samples[high] - samples[low] > 2 * width * samples[n // 2]:
                return False
    return True
