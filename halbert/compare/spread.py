"""Rounds of an audit taken by the workers of a cluster, where what is measured does not depend on the machine's pace."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from halbert.cluster import Cluster, here
from halbert.compare.battery import build_probes
from halbert.compare.measurement import PACED
from halbert.compare.plan import Plan
from halbert.compare.schedule import PLACE, Probe, Sample

# The others measure time or memory, and do that on one machine by itself; or are counted in no time.
SPREAD = frozenset(("finetuning", "learning", "layers", "masked", "masked-languages", "retrieval", "inside"))
WHY = "the rounds were taken by several machines; without --engine ray it is measured"
Item = tuple[int, int]  # round, number of the subject


class Worker:
    """Takes samples of one probe, somewhere."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan, self.place = plan, tempfile.TemporaryDirectory()
        only = msgspec.structs.replace(plan, probes=(name.partition(":")[0],), threads=1)
        self.probe = next(probe for probe in build_probes(only, Path(self.place.name)) if probe.name == name)
        self.prepared: dict[int, Any] = {}
        self.node = here().node

    def __call__(self, item: Item) -> tuple[Item, Sample]:
        """One round of one subject."""
        number, place = item
        subject = self.plan.subjects[place]
        if place not in self.prepared:
            self.prepared[place] = self.probe.prepare(subject)
        return item, {**self.probe.sample(subject, self.prepared[place], number), PLACE: self.node}

    def named(self, item: Item) -> str:
        """What an item is, for people."""
        number, place = item
        return f"round {number + 1} of {self.plan.subjects[place].name} ({self.probe.title.lower()})"


class Spread:
    """Takes rounds of a plan's probes by a cluster that is connected (:class:`halbert.compare.schedule.Elsewhere`)."""

    paced: Sequence[str] = PACED
    why = WHY

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self.cluster, self.plan = cluster, plan
        self.nodes = cluster.nodes()  # as many as there were: one may be lost
        self.taken: list[str] = []

    def takes(self, probe: Probe) -> bool:
        """Whether a probe's rounds can be taken anywhere."""
        return probe.name.partition(":")[0] in SPREAD

    def rounds(self, probe: Probe, able: Sequence[str], numbers: Sequence[int]) -> Generator[dict[str, Sample]]:
        """Those rounds, whole and in their order: by subject, a sample."""
        self.taken += [probe.title] if numbers else []
        names = [subject.name for subject in self.plan.subjects]
        items = [(number, names.index(name)) for number in numbers for name in able]
        waiting: dict[int, dict[str, Sample]] = {number: {} for number in numbers}
        following = iter(numbers)
        number = next(following, None)
        found = self.cluster.stream(items.__iter__, Worker, (self.plan, probe.name), workers=len(items), alike=True)
        with contextlib.closing(found):
            for (which, place), sample in found:
                waiting[which][names[place]] = sample
                while number is not None and len(waiting[number]) == len(able):
                    yield {name: waiting[number][name] for name in able}
                    number = next(following, None)

    def alone(self, probe: Probe) -> contextlib.AbstractContextManager[None]:
        """This machine for a probe that times or weighs, with nothing of the cluster's beside it (:meth:`Cluster.alone`)."""
        paced = any(quantity.unit in PACED for quantity in probe.quantities)
        return self.cluster.alone() if paced else contextlib.nullcontext()

    def note(self) -> str:
        """For the report."""
        nodes, told = self.nodes, ", ".join(title.lower() for title in self.taken)
        others = f"Samples of {told} were taken by" if told else "No samples were taken by the workers of"
        return (
            f"{others} a cluster of {len(nodes)} machine(s) with {sum(nodes)} cores, a core each; speed and memory by the machine "
            "that is named below, by itself, of which the cluster had no core meanwhile."
        )
