"""A task learnt from labelled text, with several seeds, scored on text that was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.readers import Example
from halbert.run.evaluation import guess_classes
from halbert.run.predictor import load
from halbert.tasks.metrics import macro_f1
from halbert.tasks.table import TASKS
from halbert.train.finetuning import finetune_once
from halbert.train.recipe import FinetuneRecipe


class FinetuningProbe:
    """One round is one seed: fine-tune, then predict the test rows with the CPU engine."""

    def __init__(
        self, task: str, train: Sequence[Example], test: Sequence[Example], where: str, recipe: FinetuneRecipe,
        *, seeds: int = 3, precision: str = "auto", report: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:  # fmt: skip
        self.name = f"finetuning:{task}"
        self.title = f"Fine-tuning: {task}"
        self.rounds = seeds
        self.train, self.test = list(train), list(test)
        self.recipe = recipe
        self.precision: Any = precision
        self.report = report
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
        ]  # fmt: skip

    def refuse(self, subject: Subject) -> str | None:
        """Random weights have no quality; a model with fewer positions than the recipe's length cannot be trained with it."""
        if subject.random:
            return "the weights are random"
        positions = subject.bundle.spec.encoder.max_position_embeddings
        return f"the model has only {positions} positions" if positions < self.recipe.length else None

    def prepare(self, subject: Subject) -> None:
        """Nothing: every seed starts from the subject's own weights."""

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One seed."""
        recipe = msgspec.structs.replace(self.recipe, seed=self.recipe.seed + round_number)
        run = finetune_once(subject.bundle, TASKS["classify"], self.train, [], recipe, report=self.report)
        head = run.bundle.heads["label"]
        numbers = {label: i for i, label in enumerate(head.labels)}
        truth = np.array([numbers[e.label or ""] for e in self.test])
        guesses = np.array(guess_classes(load(run.bundle, precision=self.precision), self.test, recipe.length))
        right = (truth == guesses).astype(float)
        task = self.name.partition(":")[2]
        return {
            f"{task}_accuracy": (float(right.mean()), right.tolist()),
            f"{task}_macro_f1": macro_f1(truth, guesses),
            f"{task}_seconds": run.summary["seconds"],
        }
