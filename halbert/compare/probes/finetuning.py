"""A task learnt from labelled text, with several seeds, scored on text that was not trained on, as it is and made harder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from halbert.compare.jackknife import expected_error_by_example, macro_f1_by_example
from halbert.compare.measurement import Quantity
from halbert.compare.noise import NOISES, negated
from halbert.compare.probes.learnt import Learnt
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.readers import Example
from halbert.run.evaluation import class_chances
from halbert.run.predictor import BackendName, Predictor, load
from halbert.tasks.table import TASKS
from halbert.train.finetuning import finetune_once
from halbert.train.recipe import FinetuneRecipe


class Tuned(Learnt):
    """A probe that fine-tunes by a recipe; every seed starts from the subject's own weights."""

    recipe: FinetuneRecipe

    def refuse(self, subject: Subject) -> str | None:
        """A model with fewer positions than the recipe's length cannot be trained with it."""
        positions = subject.bundle.spec.encoder.max_position_embeddings
        short = f"the model has only {positions} positions" if positions < self.recipe.length else None
        return super().refuse(subject) or short


class FinetuningProbe(Tuned):
    """One round is one seed: fine-tune, then predict the test rows with the CPU engine.

    With ``noises`` also the same rows made harder (:mod:`halbert.compare.noise`); rows ``abroad`` are of languages it was
    not trained in.
    """

    def __init__(
        self, task: str, train: Sequence[Example], test: Sequence[Example], where: str, recipe: FinetuneRecipe,
        *, seeds: int = 3, precision: str = "auto", noises: bool = False, abroad: Sequence[Example] = (),
        report: Callable[[dict[str, Any]], None] | None = None, backend: BackendName = "auto",
        threads: int | None = None,
    ) -> None:  # fmt: skip
        self.engine: Any = {"precision": precision, "backend": backend, "threads": threads}
        self.name = f"finetuning:{task}"
        self.title = f"Fine-tuning: {task}"
        self.rounds = seeds
        self.train, self.test = list(train), list(test)
        self.noises = NOISES if noises else ()
        changed = ((e, negated(e.text)) for e in self.test if noises)
        self.negated = [(e, msgspec.structs.replace(e, text=text)) for e, text in changed if text is not None]
        self.abroad = sorted(abroad, key=lambda e: e.language or "")
        self.tongues = sorted({e.language or "" for e in self.abroad})
        self.recipe = recipe
        self.report = report
        self.task = task
        classes = len({e.label for e in self.train})
        blind = commonest(self.test)
        made = (
            f"{len(self.train):,} labelled texts of {where} ({classes} classes), {recipe.epochs} epochs, learning rate "
            f"{recipe.learning_rate:g}, batch {recipe.batch_size}; {seeds} seeds; scored on {len(self.test):,} others, of which "
            f"the commonest class has {100 * blind:.1f} %"
        )
        self.quantities = [
            Quantity(name=f"{task}_accuracy", title=f"{task}: accuracy", unit="share", statistic="mean", better="higher",
                     how=f"{made}; mean over seeds, interval over seeds and texts", floor=blind),
            Quantity(name=f"{task}_macro_f1", title=f"{task}: macro F1", unit="share", statistic="mean", better="higher",
                     how=f"{made}; F1 of each class averaged, mean over seeds, interval over seeds and texts"),
            Quantity(name=f"{task}_seconds", title=f"{task}: time to fine-tune", unit="s", statistic="p50", better="lower",
                     how=f"{made}; wall time of one seed's training, median"),
            Quantity(name=f"{task}_calibration", title=f"{task}: calibration error", unit="share", statistic="mean",
                     better="lower",
                     how=f"{made}; gap between how sure and how often right, over ten bins weighted by their answers "
                         "(expected calibration error, Guo et al. 2017); mean over seeds, interval over seeds and texts"),
            *(
                Quantity(name=f"{task}_under_{noise.name}", title=f"{task}: accuracy, {noise.title}", unit="share",
                         statistic="mean", better="higher",
                         how=f"{made}, which were made harder: {noise.title}, the same for every model; mean over seeds, "
                             "interval over seeds and texts", floor=blind)
                for noise in self.noises
            ),
            *(
                [Quantity(name=f"{task}_moved_by_not", title=f"{task}: answers that a \"not\" changes", unit="share",
                          statistic="mean", better="neither",
                          how=f"{made}; of the {len(self.negated):,} with an English auxiliary verb, the share whose answer changes "
                              "when a \"not\" is put after the first (or taken from there); whether it should depends on the "
                              "task: sentiment mostly, topic hardly; mean over seeds, interval over seeds and texts")]
                if self.negated else []
            ),
            *(self._transfers(made) if self.abroad else []),
        ]  # fmt: skip

    def _transfers(self, made: str) -> list[Quantity]:
        told = f"{made}; then, without further training, on {len(self.abroad):,} texts of {len(self.tongues)} other languages"
        return [
            Quantity(name=f"{self.task}_transfer", title=f"{self.task}: accuracy in other languages", unit="share",
                     statistic="mean", better="higher", how=f"{told}; mean over seeds, interval over seeds and texts",
                     floor=commonest(self.abroad)),
            Quantity(name=f"{self.task}_by_language", title=f"{self.task}: accuracy by language", unit="share",
                     statistic="mean", better="neither", labels=self.tongues,
                     how=f"{told}; one sample a language and seed, interval over them"),
        ]  # fmt: skip

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One seed."""
        recipe = msgspec.structs.replace(self.recipe, seed=self.recipe.seed + round_number)
        run = finetune_once(subject.bundle, TASKS["classify"], self.train, [], recipe, report=self.report)
        predictor = load(run.bundle, **self.engine)
        truth, chances = judged_classes(predictor, self.test, recipe.length)
        guesses = chances.argmax(1)
        right = (truth == guesses).astype(float)
        f1, f1_parts = macro_f1_by_example(truth, guesses)
        error, error_parts = expected_error_by_example(chances.max(1), right)
        taken: Sample = {
            f"{self.task}_accuracy": (float(right.mean()), right.tolist()),
            f"{self.task}_macro_f1": (f1, f1_parts.round(6).tolist()),
            f"{self.task}_seconds": run.summary["seconds"],
            f"{self.task}_calibration": (error, error_parts.round(6).tolist()),
        }
        for noise in self.noises:
            truth, chances = judged_classes(predictor, noise.disturbed(self.test), recipe.length)
            right = (truth == chances.argmax(1)).astype(float)
            taken[f"{self.task}_under_{noise.name}"] = (float(right.mean()), right.tolist())
        if self.negated:
            before, after = (
                judged_classes(predictor, [pair[side] for pair in self.negated], recipe.length)[1].argmax(1)
                for side in (0, 1)
            )
            moved = (before != after).astype(float)
            taken[f"{self.task}_moved_by_not"] = (float(moved.mean()), moved.tolist())
        if self.abroad:
            truth, chances = judged_classes(predictor, self.abroad, recipe.length)
            right = (truth == chances.argmax(1)).astype(float)
            where = np.array([e.language for e in self.abroad])
            taken[f"{self.task}_transfer"] = (float(right.mean()), right.tolist())
            taken[f"{self.task}_by_language"] = [float(right[where == tongue].mean()) for tongue in self.tongues]
        return taken


def commonest(test: Sequence[Example]) -> float:
    """The share of the commonest class: what is right of always giving that."""
    counts = Counter(e.label for e in test)
    return max(counts.values(), default=0) / max(1, len(test))


def judged_classes(predictor: Predictor, test: list[Example], length: int) -> tuple[np.ndarray, np.ndarray]:
    """(class numbers, -1 for a class that was not learnt; probabilities (N, C)) of labelled examples."""
    numbers = {label: i for i, label in enumerate(predictor.bundle.heads["label"].labels)}
    truth = np.array([numbers.get(e.label or "", -1) for e in test])
    return truth, class_chances(predictor, test, length)
