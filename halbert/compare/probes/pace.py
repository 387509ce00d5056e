"""How soon a model is as good as it gets at a task, and what memory its training takes: a fresh process every time."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from halbert.compare.measurement import Quantity
from halbert.compare.plan import TaskData
from halbert.compare.probes.finetuning import Tuned
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.readers import Example
from halbert.errors import HalbertError
from halbert.train.recipe import FinetuneRecipe

ENOUGH = 0.95  # of its best score
POINTS = 12  # scores on the way, evenly
SHOWN = (3, 6, 12)  # of them, with a figure of their own
ROWS = 200  # scored on the way

_PROGRAM = """
import json, sys
import msgspec
import torch
from halbert.compare.machine import peak_memory
from halbert.data.labelled import DataFile
from halbert.source import load_bundle
from halbert.tasks.table import get_task
from halbert.train.finetuning import finetune_once
from halbert.train.recipe import FinetuneRecipe
told = json.loads(sys.argv[1])
if told["threads"]:
    torch.set_num_threads(told["threads"])
recipe = msgspec.convert(told["recipe"], FinetuneRecipe)
task = get_task("classify")
files = (DataFile(told[part], task.form) for part in ("train", "dev"))
training = finetune_once(load_bundle(told["model"]), task, *files, recipe).bundle.provenance["training"]
print(json.dumps({
    "peak": peak_memory(), "evaluations": training["evaluations"],
    "seconds": {row["step"]: row["seconds"] for row in training["journal"] if "seconds" in row},
}))
"""


class PaceProbe(Tuned):
    """One round is one seed: a training that is scored on its way."""

    def __init__(
        self, task: str, train: Sequence[Example], test: Sequence[Example], where: str, recipe: FinetuneRecipe,
        *, seeds: int = 3, threads: int | None = None,
    ) -> None:  # fmt: skip
        self.threads = threads
        self.name = f"pace:{task}"
        self.title = f"Pace: {task}"
        self.rounds = seeds
        self.task = task
        self.data = TaskData(
            name=task, where=where, train=list(train), test=random.Random(0).sample(list(test), min(ROWS, len(test)))
        )
        steps = recipe.steps or recipe.epochs * -(-len(self.data.train) // recipe.batch_size)
        self.every = max(1, steps // POINTS)
        self.shown = {f"{task}_after_{n * self.every}_steps": n * self.every for n in SHOWN if n * self.every <= steps}
        # Whatever happens, it is trained to its end: what it came to is the figure.
        self.recipe = msgspec.structs.replace(
            recipe, steps=steps, evaluate_every=self.every, log_every=1, keep="last", on_divergence="ignore", patience=0
        )
        made = (
            f"{len(self.data.train):,} labelled texts of {where}, {recipe.epochs} epochs, learning rate {recipe.learning_rate:g}, "
            f"batch {recipe.batch_size}, in a process of its own; scored on {len(self.data.test)} others every {self.every} steps; "
            f"{seeds} seeds"
        )
        self.quantities = [
            *(
                Quantity(name=name, title=f"{task}: accuracy after {step} steps", unit="share", statistic="mean",
                         better="neither", how=f"{made}; mean over seeds")
                for name, step in self.shown.items()
            ),
            Quantity(name=f"{task}_time_to_{100 * ENOUGH:.0f}", title=f"{task}: training time to {100 * ENOUGH:.0f} % of its best",
                     unit="s", statistic="p50", better="neither",
                     how=f"{made}; seconds of training, scoring left out, until a score was at least {100 * ENOUGH:.0f} % of the "
                         "seed's best, however good that is (who learns nothing is soon there); median over seeds"),
            Quantity(name=f"{task}_training_memory", title=f"{task}: peak memory of training", unit="bytes", statistic="p50",
                     better="lower",
                     how=f"{made}; highest resident size of the whole process (Python and libraries included), median over seeds"),
        ]  # fmt: skip

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One process."""
        recipe = msgspec.structs.replace(self.recipe, seed=self.recipe.seed + round_number)
        with tempfile.TemporaryDirectory() as place:
            train, dev = self.data.write(Path(place))
            told = {
                "model": str(subject.folder.resolve()), "train": str(train), "dev": str(dev),
                "recipe": msgspec.to_builtins(recipe), "threads": self.threads,
            }  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, json.dumps(told)], capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise HalbertError(f"the pace probe's process failed for {subject.name}: {done.stderr.strip()[-500:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        scores = {step: value or 0.0 for step, value in found["evaluations"]}
        enough = next(step for step, value in scores.items() if value >= ENOUGH * max(scores.values()))
        return {
            f"{self.task}_time_to_{100 * ENOUGH:.0f}": found["seconds"][str(enough)],
            f"{self.task}_training_memory": found["peak"],
            **{name: scores[step] for name, step in self.shown.items()},
        }
