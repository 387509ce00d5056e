"""One text at a time: how long a forward pass takes, by length."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.batches import Rows
from halbert.run.predictor import Predictor

LENGTHS = (8, 32, 128)


class LatencyProbe:
    """Batch of one, ids at hand, all last states wanted."""

    name = "latency"
    title = "Latency"
    narrow = 0.01

    def __init__(self, predictors: dict[str, Predictor], rounds: int = 60, calls: int = 3) -> None:
        self.predictors = predictors
        self.rounds = rounds
        self.calls = calls
        told = {name: p.backend.describe() for name, p in predictors.items()}
        first = next(iter(told.values()))
        made = (
            f"{first['engine']} {first['precision']}, {first['threads']} threads, batch 1, every piece real; each of "
            f"at most {rounds} rounds takes the median of {calls} calls, subjects in turn, until every median is known to 1 %"
        )
        self.quantities = [
            Quantity(name=f"latency_{length}_{statistic}", title=f"Latency, {length} pieces, {statistic}", unit="s",
                     statistic=statistic, better="lower", how=made)
            for length in LENGTHS for statistic in ("p50", "p95")
        ]  # fmt: skip

    def refuse(self, subject: Subject) -> str | None:
        """Models with fewer positions than the longest text are not measured."""
        positions = subject.bundle.spec.encoder.max_position_embeddings
        return f"the model has only {positions} positions" if positions < max(LENGTHS) else None

    def prepare(self, subject: Subject) -> dict[int, Rows]:
        """Batches by length, and warm-up calls."""
        rng = np.random.default_rng(0)
        batches = {}
        for length in LENGTHS:
            ids = rng.integers(5, subject.bundle.tokenizer.vocab_size, (1, length))
            batches[length] = Rows(ids, np.ones_like(ids), np.zeros_like(ids))
            for _ in range(5):
                self._call(subject, batches[length])
        return batches

    def _call(self, subject: Subject, batch: Rows) -> float:
        backend: Any = self.predictors[subject.name].backend
        began = time.perf_counter()
        backend.forward(batch, ["last"])
        return time.perf_counter() - began

    def sample(self, subject: Subject, prepared: dict[int, Rows], round_number: int) -> Sample:
        """One sample a length."""
        taken: Sample = {}
        for length, batch in prepared.items():
            seconds = float(np.median([self._call(subject, batch) for _ in range(self.calls)]))
            taken[f"latency_{length}_p50"] = taken[f"latency_{length}_p95"] = seconds
        return taken
