"""Whole audits of models that are made up of real samples: what is equal comes out equal, what differs is found.

Timings and answers are drawn from those of a real audit (``tests/golden/audit.json``); they go through the real schedule,
and all comparisons of an audit are counted together.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from halbert.compare import measurement
from halbert.compare.measurement import compare_all
from halbert.compare.schedule import run_probe
from halbert.compare.verdict import judge
from tests.compare.made import quantity, subject
from tests.compare.sampled import GOLDEN, TIMED

SUBJECTS = [subject("a"), subject("b")]
SEEDS = 3


class Drawn:
    """A probe that draws its samples; ``b`` may be slower by a factor and better by a share of all answers."""

    name, title = "drawn", "Drawn"

    def __init__(self, seed: int, slower: float = 1.0, better: float = 0.0) -> None:
        self.told = json.loads(GOLDEN.read_text())
        self.rng = np.random.default_rng(seed)
        self.slower, self.better = slower, better
        self.rounds = len(self.told["timings"][TIMED[0]])
        runs = np.array([[int(c) for c in run] for run in self.told["answers"]])
        chosen = self.rng.integers(0, runs.shape[1], runs.shape[1])  # other examples of the same kind
        self.chances = np.clip(runs.mean(0)[chosen], 0.05, 0.95)  # how often each is answered right
        times = {"unit": "s", "statistic": "p50", "better": "lower"}
        self.quantities = [quantity(name, **times) for name in TIMED]

    def refuse(self, subject: Any) -> None:
        """All can be measured."""

    def prepare(self, subject: Any) -> None:
        """Nothing."""

    def sample(self, subject: Any, prepared: Any, number: int) -> dict[str, Any]:
        """One round: a real one's timing, drawn with its neighbour, as drifts come in runs."""
        factor = self.slower if subject.name == "b" else 1.0
        found = {}
        for name, samples in self.told["timings"].items():
            found[name] = factor * samples[int(self.rng.integers(0, len(samples)))]
        return found


class Answers(Drawn):
    """Answers to the same examples by models of other seeds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rounds = SEEDS
        self.quantities = [quantity("rows_accuracy", unit="share", statistic="mean", better="higher")]
        wrong = 1 - self.chances
        self.gain = self.better * len(wrong) * wrong / wrong.sum()  # more where more is to be gained

    def sample(self, subject: Any, prepared: Any, number: int) -> dict[str, Any]:
        """One seed."""
        chances = self.chances + (self.gain if subject.name == "b" else 0)
        right = (self.rng.random(len(chances)) < chances).astype(float)
        return {"rows_accuracy": (float(right.mean()), right.tolist())}


class Lying(Answers):
    """Says of ``b`` what is true of ``a``, whatever was planted."""

    def sample(self, subject: Any, prepared: Any, number: int) -> dict[str, Any]:
        return super().sample(SUBJECTS[0], prepared, number)


def audit(seed: int, answers: type[Answers] = Answers, **planted: float) -> set[str]:
    """The quantities in which a made-up audit finds a difference."""
    found = []
    for probe in (Drawn(seed, **planted), answers(seed + 10_000, **planted)):
        found += run_probe(probe, SUBJECTS, "halbert audit a b --out again")
    comparisons = compare_all(found, lambda a, b: [], lambda name, a, b: True)
    verdict = judge(found, comparisons, ["a", "b"])
    beyond = {c.name for c in comparisons if c.significant}
    said = {s.quantity for s in verdict.sentences if "no clear difference" not in s.text}
    assert beyond == said
    return beyond


def count(number: int, wanted: Any, **planted: Any) -> int:
    return sum(wanted(audit(seed, **planted)) for seed in range(number))


def check(number: int, least: int) -> None:
    assert count(number, lambda found: not found) >= least  # two copies of one model
    assert count(number, lambda found: found >= set(TIMED), slower=1.1) >= least
    assert count(number, lambda found: "rows_accuracy" in found, better=0.05) >= least
    assert count(number, lambda found: "rows_accuracy" in found, better=0.05, answers=Lying) <= number - least


def test_some_audits(monkeypatch):
    monkeypatch.setattr(measurement, "RESAMPLES", 2000)
    check(10, 9)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_audits():
    check(100, 95)
