"""Real samples of one model, out of a real audit, and audits that are drawn from them.

python -m tests.compare.sampled RESULTS.json SUBJECT      writes tests/golden/audit-samples.json
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halbert.compare.measurement import Quantity, compare_all
from halbert.compare.plan import Depth
from halbert.compare.schedule import run_probe
from tests.compare.made import subject

FILE = Path(__file__).parent.parent / "golden" / "audit-samples.json"
SUBJECTS = [subject("a"), subject("b")]


def write(results: dict[str, Any], name: str) -> None:
    """Keep one subject's figures of speed and, of its first task, whether each row was right."""
    found = {m["name"]: m for m in results["measurements"] if m["subject"] == name}
    task = next(
        key.removesuffix("_accuracy") for key in found if key.endswith("_accuracy") and not key.startswith("masked")
    )
    kept = {
        "provenance": f"{name} of {results['command']}, {results['created']}, {results['machine']['processor']}, "
        f"{results['machine']['cores']} cores",
        "right": {
            key.removeprefix(f"{task}_"): ["".join(str(int(x)) for x in row) for row in found[key]["items"]]
            for key in found if key.startswith(task) and found[key].get("items")
        },
        "seconds": [round(x, 3) for x in found[f"{task}_seconds"]["samples"]],
        "latency": {key: [round(x, 9) for x in found[key]["samples"]] for key in found if key.endswith("_p50")},
        "throughput": [round(x, 3) for x in found["throughput"]["samples"]],
    }  # fmt: skip
    FILE.write_text(json.dumps(kept, indent=1) + "\n")


class Real(NamedTuple):
    """The samples as arrays: ``right`` by quantity (seeds, rows), the others (rounds,)."""

    right: dict[str, np.ndarray]
    seconds: np.ndarray
    latency: dict[str, np.ndarray]
    throughput: np.ndarray


def read() -> Real:
    """The kept samples."""
    kept = json.loads(FILE.read_text())
    return Real(
        {key: np.array([[int(x) for x in row] for row in rows], float) for key, rows in kept["right"].items()},
        np.array(kept["seconds"]), {key: np.array(row) for key, row in kept["latency"].items()},
        np.array(kept["throughput"]),
    )  # fmt: skip


class Tuned:
    """A task: rows drawn again, the same for both models, and seeds, for each; ``b`` loses ``points`` of its rows."""

    name, title = "finetuning:task", "Task"

    def __init__(self, real: Real, draw: random.Random, seeds: int, points: float, lie: float = 0.0) -> None:
        self.real, self.lie = real, lie
        self.rounds = seeds
        self.seeds = {name: [draw.randrange(len(real.seconds)) for _ in range(seeds)] for name in "ab"}
        rows = next(iter(real.right.values())).shape[1]
        self.rows = [draw.randrange(rows) for _ in range(rows)]
        right = real.right["accuracy"].mean()
        self.lost = np.array([draw.random() < points / right for _ in range(rows)])
        self.quantities = [
            *(Quantity(name=f"task_{key}", title=key, unit="share", statistic="mean", better="higher", how="drawn")
              for key in real.right),
            Quantity(name="task_seconds", title="seconds", unit="s", statistic="p50", better="lower", how="drawn"),
        ]  # fmt: skip

    def refuse(self, subject):
        return None

    def prepare(self, subject):
        return None

    def sample(self, subject, prepared, round_number):
        seed = self.seeds[subject.name][round_number]
        taken = {}
        for key, table in self.real.right.items():
            row = table[seed][self.rows]
            if subject.name == "b":
                row = np.where(self.lost, 0.0, row)
            value = float(row.mean()) + (self.lie if subject.name == "b" else 0.0)
            taken[f"task_{key}"] = (value, row.tolist())
        return {**taken, "task_seconds": float(self.real.seconds[seed])}


class Timed:
    """Speed: each round is a real one for one model and the next real one for the other; ``b`` is ``slower`` by a share."""

    def __init__(
        self, name: str, samples: dict[str, np.ndarray], draw: random.Random, rounds: int, slower: float, lie: bool
    ) -> None:
        self.name, self.title, self.rounds = name, name, rounds
        self.samples, self.slower, self.lie = samples, slower, lie
        most = len(next(iter(samples.values()))) - 1
        self.drawn = [draw.randrange(most) for _ in range(self.rounds)]
        self.turned = [draw.random() < 0.5 for _ in range(self.rounds)]
        better, unit = ("higher", "texts/s") if name == "throughput" else ("lower", "s")
        self.quantities = [
            Quantity(name=key.replace("p50", s), title=key, unit=unit, statistic=s, better=better, how="drawn")
            for key in samples for s in (("p50",) if name == "throughput" else ("p50", "p95"))
        ]  # fmt: skip

    def refuse(self, subject):
        return None

    def prepare(self, subject):
        return None

    def sample(self, subject, prepared, round_number):
        second = (subject.name == "b") != self.turned[round_number]
        taken = {}
        for key, samples in self.samples.items():
            value = float(samples[self.drawn[round_number] + second])
            if subject.name == "b":
                value *= 1 / (1 + self.slower) if self.name == "throughput" else 1 + self.slower
            if self.lie:  # says for everyone what the first one took
                value = float(samples[0])
            for q in self.quantities:
                if q.name.removesuffix("_p50").removesuffix("_p95") == key.removesuffix("_p50"):
                    taken[q.name] = value
        return taken


def audit(
    real: Real, number: int, depth: Depth, points: float = 0.0, slower: float = 0.0, lying: bool = False
) -> set[str]:
    """The quantities in which a drawn audit of this depth says that the two models differ."""
    draw = random.Random(number)
    probes = [
        Tuned(real, draw, depth.seeds, points, lie=0.05 if lying else 0.0),
        Timed("latency", real.latency, draw, depth.latency, slower, lying),
        Timed("throughput", {"throughput": real.throughput}, draw, depth.throughput, slower, lying),
    ]
    measurements = [m for probe in probes for m in run_probe(probe, SUBJECTS, "halbert audit a b")]
    comparisons = compare_all(measurements, lambda a, b: [], lambda name, a, b: True)
    return {c.name for c in comparisons if c.significant}


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
