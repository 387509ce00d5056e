"""Interleaving: A B C, B C A, C A B … so that a drift of the machine meets every subject alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from halbert.compare.measurement import Measurement, Quantity, measured, undefined
from halbert.compare.subject import Subject

# One round's result: samples by quantity; a list is several samples, a tuple (sample, items) one with its examples.
Sample = dict[str, Any]


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


def run_probe(
    probe: Probe, subjects: Sequence[Subject], command: str, progress: Callable[[str], None] = lambda what: None
) -> list[Measurement]:
    """All measurements of one probe, subject by subject in the order given."""
    refused = {s.name: probe.refuse(s) for s in subjects}
    able = [s for s in subjects if refused[s.name] is None]
    prepared = {s.name: probe.prepare(s) for s in able}
    samples: dict[str, dict[str, list[float]]] = {s.name: {} for s in able}
    items: dict[str, dict[str, list[Any]]] = {s.name: {} for s in able}
    for number in range(probe.rounds):
        shift = number % max(1, len(able))
        for subject in able[shift:] + able[:shift]:
            for name, value in probe.sample(subject, prepared[subject.name], number).items():
                collected = samples[subject.name].setdefault(name, [])
                if isinstance(value, list):
                    collected += value
                elif isinstance(value, tuple):
                    collected.append(value[0])
                    items[subject.name].setdefault(name, []).append(value[1])
                else:
                    collected.append(value)
            progress(subject.name)
    results = []
    for subject in subjects:
        for quantity in probe.quantities:
            why = refused[subject.name]
            if why is not None:
                results.append(undefined(quantity, probe.name, subject.name, command, why))
            else:
                results.append(
                    measured(
                        quantity, probe.name, subject.name, samples[subject.name][quantity.name], command,
                        items[subject.name].get(quantity.name),
                    )
                )  # fmt: skip
    return results
