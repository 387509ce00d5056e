"""What is noticed while a model is fine-tuned: whether it learns at all, and when it was best.

A run has diverged when, after its warm-up, its loss is not below that of a predictor that reads nothing, when it gives
every text the same answer, when its gradient is a thousand times what it was, or when a number is not finite. (Of questions that
may have no answer: also when it answers no better than by silence, see :func:`halbert.train.prepared.silent`.)
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from halbert.errors import Diverged
from halbert.model import Model
from halbert.train.loop import Outcome, Run
from halbert.train.recipe import FinetuneRecipe

WINDOW = 50  # steps whose mean loss is compared with the trivial predictor's
EXPLODED = 1000.0  # times the usual norm of the gradient, in half of the window's steps
FLOOR = 0.1  # a norm below which nothing is usual yet
CLEARLY = 1.1  # times the trivial loss: no later step is waited for
BARELY = 0.99  # times the trivial loss: at the end a run has to be below
# Standard errors by which it has to be above: at the end, and before, where it is asked at each step.
SURE, VERY_SURE = 2.0, 3.0


class Found(NamedTuple):
    """What an evaluation came to: the first metric's value, None where undefined, and whether all answers were the same."""

    value: float | None
    uniform: bool


class Best:
    """The best weights so far: beside the run's checkpoints where it has such, else in memory."""

    def __init__(self, place: Path | None) -> None:
        self.file = None if place is None else place / "best.safetensors"
        self._memory: dict[str, Tensor] = {}

    def keep(self, model: Model) -> None:
        """Remember the weights as they are."""
        weights = {name: p.detach().to("cpu", copy=True).contiguous() for name, p in model.named_parameters()}
        if self.file is None:
            self._memory = weights
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        save_file(weights, part)
        part.replace(self.file)

    def restore(self, model: Model) -> None:
        """Give the model the weights that were kept."""
        kept = self._memory if self.file is None else load_file(self.file)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(kept[name])


class Watch:
    """Told of every step of a run; evaluates, keeps the best weights, ends the run early, and raises :class:`Diverged`.

    ``trivial`` is the loss of the best predictor that reads nothing (None: not known). What has to be remembered is in
    the run's progress, so that a resumed run sees what the first saw.
    """

    def __init__(
        self,
        recipe: FinetuneRecipe,
        trivial: float | None,
        evaluate: Callable[[], Found] | None,
        every: int,
        best: Best,
    ) -> None:
        self.recipe, self.trivial, self.evaluate, self.every, self.best = recipe, trivial, evaluate, every, best

    def __call__(self, run: Run, found: Outcome) -> bool:
        """One step was taken; True: the run is to end."""
        state: dict[str, Any] = run.progress.watched
        norms, losses = state.setdefault("norms", []), state.setdefault("losses", [])
        losses.append(found.parts.get("loss", found.loss))
        norms.append(run.norm if math.isfinite(run.norm) else sys.float_info.max)  # in fp16 a step may overflow
        if "usual_norm" not in state and len(norms) == WINDOW:
            state["usual_norm"] = max(FLOOR, statistics.median(norms))
        del losses[:-WINDOW], norms[:-WINDOW]
        step, last = run.progress.step, run.progress.step == run.steps
        ended = False
        if self.evaluate is not None and (step % self.every == 0 or last):
            ended = self._judge(run, state)
        if self.recipe.on_divergence != "ignore" and step >= run.warmup + WINDOW:
            reason = self._wrong(state, run, last or ended)
            if reason:
                raise Diverged(f"step {step:,} of {run.steps:,}: {reason}")
        return ended

    def _judge(self, run: Run, state: dict[str, Any]) -> bool:
        assert self.evaluate is not None
        found = self.evaluate()
        state["uniform"] = run.progress.step if found.uniform else 0
        state.setdefault("evaluations", []).append([run.progress.step, found.value])
        value = -math.inf if found.value is None else found.value
        if "best" not in state or value > (-math.inf if state["best"][1] is None else state["best"][1]):
            state["best"], state["worse"] = [run.progress.step, found.value], 0
            if self.recipe.keep == "best":
                self.best.keep(run.model)
        else:
            state["worse"] += 1
        return bool(self.recipe.patience and state["worse"] >= self.recipe.patience)

    def _wrong(self, state: dict[str, Any], run: Run, last: bool) -> str:
        losses, norms = state["losses"], state["norms"]
        usual = state.get("usual_norm")
        if usual and sum(norm > EXPLODED * usual for norm in norms) > WINDOW / 2:
            return f"the gradient's norm has risen to {statistics.median(norms):.3g}, from {usual:.3g}"
        mean = sum(losses) / len(losses)
        doubt = statistics.stdev(losses) / math.sqrt(len(losses))  # standard error of the mean
        least = mean - (SURE if last else VERY_SURE) * doubt  # of rare classes batches differ a lot
        if self.trivial is not None and least > (BARELY if last else CLEARLY) * self.trivial:
            return (
                f"the loss is {mean:.3f} (mean of {len(losses)} steps), not below the {self.trivial:.3f} of a predictor "
                "that reads nothing"
            )
        if state.get("uniform", 0) > run.steps / 2 and mean > 0.9 * (self.trivial or mean):
            return "every text of the evaluation gets the same answer"
        return ""

    def finish(self, run: Run) -> int:
        """Restore the best weights if the recipe wants them; the step they are of."""
        best = run.progress.watched.get("best")
        if self.recipe.keep == "last" or best is None:
            return run.progress.step
        if best[0] != run.progress.step:
            self.best.restore(run.model)
        return int(best[0])
