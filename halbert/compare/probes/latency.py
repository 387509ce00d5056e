"""How long a forward pass takes: one text, by length, and several together."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from halbert.compare.measurement import Quantity, Statistic
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.batches import Rows
from halbert.run.predictor import Predictor

LENGTHS = (8, 32, 128)  # and
LONG = 512  # where every model has so many positions
SEVERAL = (16, 32)  # texts of so many pieces
STATISTICS: tuple[Statistic, ...] = ("p50", "p95", "p99")


class LatencyProbe:
    """Ids at hand, all last states wanted. ``longest`` is what every model can read."""

    name = "latency"
    title = "Latency"
    narrow = 0.01

    def __init__(self, predictors: dict[str, Predictor], rounds: int = 60, calls: int = 3, longest: int = 0) -> None:
        self.predictors = predictors
        self.shapes = {f"{length}": (1, length) for length in (*LENGTHS, *([LONG] if longest >= LONG else []))}
        self.shapes["x".join(map(str, SEVERAL))] = SEVERAL
        self.rounds = rounds
        self.calls = calls
        told = {name: p.backend.describe() for name, p in predictors.items()}
        first = next(iter(told.values()))
        made = f"{first['engine']} {first['precision']}, {first['threads']} threads, every piece real"
        turns = f"at most {rounds} rounds, subjects in turn, until every median is known to 1 %"
        how = {
            "p50": f"{made}; each of {turns}, takes the median of {calls} calls after one that is not counted",
            "p95": f"{made}; every one of {calls} calls, after one that is not counted, in each of {turns}",
        }
        self.quantities = [
            Quantity(name=f"latency_{shape}_{statistic}",
                     title=f"Latency, {f'{batch} texts of ' if batch > 1 else ''}{length} pieces, {statistic}", unit="s",
                     statistic=statistic, better="neither" if statistic == "p99" else "lower",
                     how=how["p50" if statistic == "p50" else "p95"], calls=1 if statistic == "p50" else calls)
            for shape, (batch, length) in self.shapes.items() for statistic in STATISTICS
        ]  # fmt: skip

    def refuse(self, subject: Subject) -> str | None:
        """Models with fewer positions than the longest text are not measured."""
        positions = subject.bundle.spec.encoder.max_position_embeddings
        return f"the model has only {positions} positions" if positions < max(LENGTHS) else None

    def prepare(self, subject: Subject) -> dict[str, Rows]:
        """Batches by shape, and warm-up calls."""
        rng = np.random.default_rng(0)
        batches = {}
        for shape, size in self.shapes.items():
            ids = rng.integers(5, subject.bundle.tokenizer.vocab_size, size)
            batches[shape] = Rows(ids, np.ones_like(ids), np.zeros_like(ids))
            for _ in range(5):
                self._call(subject, batches[shape])
        return batches

    def _call(self, subject: Subject, batch: Rows) -> float:
        backend: Any = self.predictors[subject.name].backend
        began = time.perf_counter()
        backend.forward(batch, ["last"])
        return time.perf_counter() - began

    def sample(self, subject: Subject, prepared: dict[str, Rows], round_number: int) -> Sample:
        """One median a shape, and every call; before them one that finds the caches as another model or shape left them."""
        taken: Sample = {}
        for shape, batch in prepared.items():
            self._call(subject, batch)
            calls = [self._call(subject, batch) for _ in range(self.calls)]
            taken[f"latency_{shape}_p50"] = float(np.median(calls))
            taken[f"latency_{shape}_p95"] = taken[f"latency_{shape}_p99"] = calls
        return taken
