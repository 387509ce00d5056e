"""Whether a model gives the same answer again: a second time, beside other texts, and by the reference's arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.run.predictor import Predictor, load

TEXTS = 96


class AgreementProbe:
    """Vectors of real texts, made in several ways."""

    name = "agreement"
    title = "Reproducibility"
    rounds = 1

    def __init__(
        self, predictors: dict[str, Predictor], texts: Sequence[str], where: str, threads: int | None = None
    ) -> None:
        self.threads = threads
        self.predictors = predictors
        self.texts = list(texts)[:TEXTS]
        precision = next(iter(predictors.values())).backend.describe()["precision"]
        made = f"mean vectors of {len(self.texts)} texts of {where}"
        self.quantities = [
            Quantity(name="differs_again", title="Difference when run again", unit="ratio", statistic="exact",
                     better="neither", how=f"{made}, all at once, twice in {precision}: largest length of the difference, "
                                         "relative to the vector's"),
            Quantity(name="differs_alone", title="Difference alone or among others", unit="ratio", statistic="exact",
                     better="neither", how=f"{made}, all at once and each by itself in {precision}: largest length of the "
                                         "difference, relative to the vector's"),
            Quantity(name="likeness_to_torch", title=f"Likeness of {precision} to PyTorch in fp32", unit="cosine",
                     statistic="mean", better="neither",
                     how=f"{made}: cosine of the engine's vector ({precision}) and PyTorch's in fp32, one sample a text"),
        ]  # fmt: skip

    def refuse(self, subject: Subject) -> str | None:
        """Every model answers."""
        return None

    def prepare(self, subject: Subject) -> Predictor:
        """The reference."""
        return load(subject.bundle, precision="fp32", backend="torch", threads=self.threads)

    def sample(self, subject: Subject, prepared: Predictor, round_number: int) -> Sample:
        """Three ways of making the same vectors."""
        predictor = self.predictors[subject.name]
        first, again = (predictor.embed(self.texts, pooling="mean") for _ in range(2))
        alone = np.concatenate([predictor.embed([text], pooling="mean") for text in self.texts])
        reference = prepared.embed(self.texts, pooling="mean")
        return {
            "differs_again": _apart(first, again),
            "differs_alone": _apart(first, alone),
            "likeness_to_torch": [
                float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
                for a, b in zip(first.astype(np.float64), reference.astype(np.float64), strict=True)
            ],
        }


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Largest length of the difference of two rows, relative to the first's."""
    return float((np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(a, axis=1), 1e-12)).max(initial=0.0))
