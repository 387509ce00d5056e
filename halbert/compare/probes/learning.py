"""How a model learns a task: from how many labels, at which learning rates, and how often not at all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.probes.finetuning import Tuned, commonest, judged_classes
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.readers import Example
from halbert.run.predictor import BackendName, load
from halbert.tasks.table import TASKS
from halbert.train.finetuning import finetune_once
from halbert.train.recipe import FinetuneRecipe

RATES = (0.25, 1.0, 4.0)  # times the recipe's learning rate, and
HIGHEST = 9.0  # no recipe has more
# With few labels more epochs, so that it is labels that are few and not steps; and a training that fails is noticed after
# its warm-up and 50 steps (halbert/train/watch.py).
_LEAST_STEPS = 60


def label_counts(rows: int) -> list[int]:
    """16, 64, 256, … labels, as long as they are fewer than three quarters of the rows."""
    counts = [16]
    while counts[-1] * 4 < 0.75 * rows:
        counts.append(counts[-1] * 4)
    return [n for n in counts if n < 0.75 * rows]


class LearningProbe(Tuned):
    """One round is one seed: a training from each number of labels, and one at each learning rate."""

    def __init__(
        self, task: str, train: Sequence[Example], test: Sequence[Example], where: str, recipe: FinetuneRecipe,
        *, seeds: int = 3, precision: str = "auto", backend: BackendName = "auto", threads: int | None = None,
    ) -> None:  # fmt: skip
        self.engine: Any = {"precision": precision, "backend": backend, "threads": threads}
        self.name = f"learning:{task}"
        self.title = f"Learning: {task}"
        self.rounds = seeds
        self.task, self.recipe = task, recipe
        self.train, self.test = list(train), list(test)
        self.counts = label_counts(len(self.train))
        self.rates = [min(recipe.learning_rate * times, HIGHEST) for times in RATES]
        self.some = self.counts[-1] if self.counts else 0
        drawn = f"labelled texts of {where}, drawn anew with each of {seeds} seeds, the same for every model"
        told = f"at least {_LEAST_STEPS} steps of {recipe.batch_size}; scored on {len(self.test):,} others"
        self.quantities = [
            *(
                Quantity(name=f"{task}_from_{n}_labels", title=f"{task}: accuracy from {n} labels", unit="share",
                         statistic="mean", better="higher",
                         how=f"{n} {drawn}; {told}; mean over seeds, interval over seeds and texts",
                         floor=commonest(self.test))
                for n in self.counts
            ),
            Quantity(name=f"{task}_any_rate", title=f"{task}: accuracy over learning rates", unit="share",
                     statistic="mean", better="higher",
                     how=f"{self.some} {drawn}; learning rates {self._rates()}; {told}; mean over rates and seeds (the "
                         "area under accuracy over the logarithm of the rate), interval over seeds and texts"),
            Quantity(name=f"{task}_failed", title=f"{task}: trainings that failed", unit="share", statistic="mean",
                     better="lower",
                     how=f"{self.some} {drawn}; share of the {len(RATES)} rates' trainings whose loss did not come below that of a "
                         "predictor that reads nothing, that gave one answer to everything, or whose gradient exploded; mean over seeds"),
        ]  # fmt: skip

    def _rates(self) -> str:
        return ", ".join(f"{rate:g}" for rate in self.rates)

    def refuse(self, subject: Subject) -> str | None:
        """Fewer rows than labels to begin with are no curve."""
        few = None if self.counts else f"{len(self.train)} rows are too few for a curve"
        return super().refuse(subject) or few

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One seed."""
        order = random.Random(f"{self.task} {round_number}").sample(self.train, len(self.train))
        seed = self.recipe.seed + round_number
        taken: Sample = {}
        for n in self.counts:
            accuracy, right, _ = self._learn(subject, order[:n], self.recipe.learning_rate, seed)
            taken[f"{self.task}_from_{n}_labels"] = (accuracy, right)
        tried = [self._learn(subject, order[: self.some], rate, seed) for rate in self.rates]
        over = np.mean([right for _, right, _ in tried], 0)
        taken[f"{self.task}_any_rate"] = (float(over.mean()), over.tolist())
        taken[f"{self.task}_failed"] = sum(failed for _, _, failed in tried) / len(tried)
        return taken

    def _learn(self, subject: Subject, rows: list[Example], rate: float, seed: int) -> tuple[float, list[float], bool]:
        """Accuracy, whether each test row was right, and whether the training failed."""
        if len({e.label for e in rows}) < 2:
            right = [float(e.label == rows[0].label) for e in self.test]
            return sum(right) / len(right), right, True
        epochs = max(self.recipe.epochs, -(-_LEAST_STEPS * self.recipe.batch_size // len(rows)))
        recipe = msgspec.structs.replace(
            self.recipe, learning_rate=rate, seed=seed, epochs=epochs, on_divergence="stop"
        )
        run = finetune_once(subject.bundle, TASKS["classify"], rows, [], recipe)
        truth, chances = judged_classes(load(run.bundle, **self.engine), self.test, recipe.length)
        right = (truth == chances.argmax(1)).astype(float)
        return float(right.mean()), right.tolist(), bool(run.failure)
