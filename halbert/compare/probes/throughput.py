"""Many real texts of mixed length, tokenisation included."""

from __future__ import annotations

import time
from collections.abc import Sequence

from halbert.compare.measurement import Quantity
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.run.predictor import Predictor


class ThroughputProbe:
    """Texts a second through ``embed``."""

    name = "throughput"
    title = "Throughput"
    narrow = 0.01

    def __init__(self, predictors: dict[str, Predictor], texts: Sequence[str], where: str, rounds: int = 7) -> None:
        self.predictors = predictors
        self.texts = list(texts)
        self.rounds = rounds
        first = next(iter(predictors.values())).backend.describe()
        self.quantities = [
            Quantity(name="throughput", title="Throughput, mixed lengths", unit="texts/s", statistic="p50", better="higher",
                     how=f"{len(self.texts)} texts of {where}, one embedding each, tokenisation included, sorted by length "
                         f"and batched by tokens; {first['engine']} {first['precision']}, {first['threads']} threads; "
                         f"at most {rounds} rounds, subjects in turn, until every median is known to 1 %; median"),
        ]  # fmt: skip

    def refuse(self, subject: Subject) -> str | None:
        """Every model can embed."""
        return None

    def prepare(self, subject: Subject) -> None:
        """One warm-up round."""
        self.predictors[subject.name].embed(self.texts)

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One pass over all texts."""
        began = time.perf_counter()
        self.predictors[subject.name].embed(self.texts)
        return {"throughput": len(self.texts) / (time.perf_counter() - began)}
