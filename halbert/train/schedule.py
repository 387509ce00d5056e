"""The learning rate by step.

Every function takes ``step`` counting from 0 and gives the rate that this step uses, ``peak``, the number of warm-up
``steps`` and the number of steps in all (over all phases of a recipe). They differ in two things:

* ``google`` is what both original programs do, and what the released models were trained with: step 0 has rate 0 (it
  only fills the optimiser's moments), step ``warmup`` has not ``peak`` but ``peak * (1 - warmup / steps)``, because
  their decay runs from step 0: a jump down at the end of the warm-up.
* the others waste no step and have no jump: step 0 has ``peak / warmup``, step ``warmup - 1`` and step ``warmup`` both
  ``peak``. During the warm-up they are one step ahead of transformers' schedules (whose step 0 has rate 0 as well);
  from the end of the warm-up on they are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halbert.train.recipe import FinetuneRecipe, PretrainRecipe, Schedule


def linear(step: int, peak: float, warmup: int, steps: int) -> float:
    """Linear warm-up to ``peak`` over ``warmup`` steps, then linear decay to 0 at ``steps`` (BERT paper A.2)."""
    return polynomial(step, peak, warmup, steps, 1.0)


def polynomial(step: int, peak: float, warmup: int, steps: int, power: float) -> float:
    """Linear warm-up, then ``peak`` times the ``power`` of the share of steps left."""
    if step < warmup:
        return peak * (step + 1) / warmup
    left = max(0.0, (steps - step) / max(1, steps - warmup))
    return peak * left**power


def constant(step: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then ``peak`` for ever."""
    return peak * (step + 1) / warmup if step < warmup else peak


def google(step: int, peak: float, warmup: int, steps: int) -> float:
    """google-research/bert and albert, ``optimization.py``: ``peak * step / warmup``, then ``peak * (1 - step / steps)``."""
    return peak * step / warmup if step < warmup else peak * max(0, steps - step) / steps


def rate_at(schedule: Schedule, step: int, peak: float, warmup: int, steps: int, power: float = 1.0) -> float:
    """The rate of one step of the schedule of this name."""
    match schedule:
        case "linear":
            return linear(step, peak, warmup, steps)
        case "google":
            return google(step, peak, warmup, steps)
        case "constant":
            return constant(step, peak, warmup)
        case "polynomial":
            return polynomial(step, peak, warmup, steps, power)


def learning_rate(step: int, recipe: PretrainRecipe | FinetuneRecipe, steps: int | None = None) -> float:
    """The rate that ``step`` of a recipe (from 0) uses.

    ``steps`` in all has to be given for a fine-tuning, where it depends on how many examples there are.
    """
    total = recipe.total_steps(steps)
    return rate_at(recipe.schedule, step, recipe.learning_rate, recipe.warmup_of(total), total, recipe.power)
