"""A task learnt from labelled text, with several seeds, scored on text that was not trained on, as it is and made harder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.noise import NOISES
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.readers import Example
from halbert.run.evaluation import class_chances
from halbert.run.predictor import Predictor, load
from halbert.tasks.calibration import expected_error
from halbert.tasks.metrics import macro_f1
from halbert.tasks.table import TASKS
from halbert.train.finetuning import finetune_once
from halbert.train.recipe import FinetuneRecipe


class FinetuningProbe:
    """One round is one seed: fine-tune, then predict the test rows with the CPU engine.

    With ``noises`` also the same rows made harder (:mod:`halbert.compare.noise`).
    """

    def __init__(
        self, task: str, train: Sequence[Example], test: Sequence[Example], where: str, recipe: FinetuneRecipe,
        *, seeds: int = 3, precision: str = "auto", noises: bool = False,
        report: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:  # fmt: skip
        self.name = f"finetuning:{task}"
        self.title = f"Fine-tuning: {task}"
        self.rounds = seeds
        self.train, self.test = list(train), list(test)
        self.noises = NOISES if noises else ()
        self.recipe = recipe
        self.precision: Any = precision
        self.report = report
        self.task = task
        classes = len({e.label for e in self.train})
        made = (
            f"{len(self.train):,} labelled texts of {where} ({classes} classes), {recipe.epochs} epochs, learning rate "
            f"{recipe.learning_rate:g}, batch {recipe.batch_size}; {seeds} seeds; scored on {len(self.test):,} others"
        )
        self.quantities = [
            Quantity(name=f"{task}_accuracy", title=f"{task}: accuracy", unit="share", statistic="mean", better="higher",
                     how=f"{made}; mean over seeds, interval over seeds and texts"),
            Quantity(name=f"{task}_macro_f1", title=f"{task}: macro F1", unit="share", statistic="mean", better="higher",
                     how=f"{made}; F1 of each class averaged, mean over seeds, interval over seeds"),
            Quantity(name=f"{task}_seconds", title=f"{task}: time to fine-tune", unit="s", statistic="p50", better="lower",
                     how=f"{made}; wall time of one seed's training, median"),
            Quantity(name=f"{task}_calibration", title=f"{task}: calibration error", unit="share", statistic="mean",
                     better="lower",
                     how=f"{made}; gap between how sure and how often right, over ten bins weighted by their answers "
                         "(expected calibration error, Guo et al. 2017); mean over seeds, interval over seeds"),
            *(
                Quantity(name=f"{task}_under_{noise.name}", title=f"{task}: accuracy, {noise.title}", unit="share",
                         statistic="mean", better="higher",
                         how=f"{made}, which were made harder: {noise.title}, the same for every model; mean over seeds, "
                             "interval over seeds and texts")
                for noise in self.noises
            ),
        ]  # fmt: skip

    def refuse(self, subject: Subject) -> str | None:
        """Random weights have no quality; a model with fewer positions than the recipe's length cannot be trained with it."""
        return refused(subject, self.recipe)

    def prepare(self, subject: Subject) -> None:
        """Nothing: every seed starts from the subject's own weights."""

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One seed."""
        recipe = msgspec.structs.replace(self.recipe, seed=self.recipe.seed + round_number)
        run = finetune_once(subject.bundle, TASKS["classify"], self.train, [], recipe, report=self.report)
        predictor = load(run.bundle, precision=self.precision)
        truth, chances = judged_classes(predictor, self.test, recipe.length)
        guesses = chances.argmax(1)
        right = (truth == guesses).astype(float)
        taken: Sample = {
            f"{self.task}_accuracy": (float(right.mean()), right.tolist()),
            f"{self.task}_macro_f1": macro_f1(truth, guesses),
            f"{self.task}_seconds": run.summary["seconds"],
            f"{self.task}_calibration": expected_error(chances.max(1), right),
        }
        for noise in self.noises:
            truth, chances = judged_classes(predictor, noise.disturbed(self.test), recipe.length)
            right = (truth == chances.argmax(1)).astype(float)
            taken[f"{self.task}_under_{noise.name}"] = (float(right.mean()), right.tolist())
        return taken


def refused(subject: Subject, recipe: FinetuneRecipe) -> str | None:
    """Why a subject cannot learn a task with this recipe, or ``None``."""
    if subject.random:
        return "the weights are random"
    positions = subject.bundle.spec.encoder.max_position_embeddings
    return f"the model has only {positions} positions" if positions < recipe.length else None


def judged_classes(predictor: Predictor, test: list[Example], length: int) -> tuple[np.ndarray, np.ndarray]:
    """(class numbers, -1 for a class that was not learnt; probabilities (N, C)) of labelled examples."""
    numbers = {label: i for i, label in enumerate(predictor.bundle.heads["label"].labels)}
    truth = np.array([numbers.get(e.label or "", -1) for e in test])
    return truth, class_chances(predictor, test, length)
