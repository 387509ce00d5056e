from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from halbert.errors import SpecError
from halbert.train.recipe import FinetuneRecipe, Phase, PretrainRecipe
from halbert.train.schedule import constant, google, learning_rate, linear, polynomial

BERT = {"steps": 1_000_000, "warmup_steps": 10_000, "learning_rate": 1e-4}
ALBERT = {"steps": 125_000, "warmup_steps": 3_125, "learning_rate": 0.00176}


def test_by_hand():
    rates = [linear(step, 1.0, 4, 10) for step in range(11)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])
    rates = [google(step, 1.0, 4, 10) for step in range(12)]
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0, 0])
    assert [constant(step, 1.0, 4) for step in range(7)] == [0.25, 0.5, 0.75, 1, 1, 1, 1]
    rates = [polynomial(step, 1.0, 4, 10, 0.5) for step in range(3, 12)]
    assert rates == pytest.approx([1, *(math.sqrt(left / 6) for left in (6, 5, 4, 3, 2, 1, 0, 0))])


@given(st.floats(1e-6, 1), st.integers(0, 50), st.integers(1, 200))
def test_up_then_down(peak, warmup, more):
    steps = warmup + more
    rates = [linear(step, peak, warmup, steps) for step in range(steps + 1)]
    assert min(rates[:-1]) > 0 and rates[-1] == 0
    assert rates[warmup] == peak and max(rates) == pytest.approx(peak, rel=1e-12)
    assert rates[:warmup] == sorted(rates[:warmup]) and rates[warmup:] == sorted(rates[warmup:], reverse=True)
    # Continuous: no step is larger than one of warm-up's or of decay's.
    jumps = [abs(a - b) for a, b in itertools.pairwise(rates)]
    assert max(jumps) <= peak * max(1 / max(1, warmup), 1 / more) * (1 + 1e-9)
    # Google's is not: it falls from almost the peak to the line that began at step 0.
    rates = [google(step, peak, warmup, steps) for step in range(steps + 1)]
    assert rates[warmup] == pytest.approx(peak * more / steps) and rates[-1] == 0
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_all_warm_up():
    assert [linear(step, 1.0, 4, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert linear(4, 1.0, 4, 4) == 0


@pytest.mark.parametrize(
    ("fields", "rates"),
    [
        (BERT, {0: 0, 1: 1e-8, 9_999: 9.999e-5, 10_000: 9.9e-5, 500_000: 5e-5, 999_999: 1e-10, 1_000_000: 0}),
        (ALBERT, {0: 0, 1: 5.632e-7, 3_124: 0.0017594368, 3_125: 0.001716, 62_500: 0.00088, 124_999: 1.408e-8}),
    ],
    ids=["bert", "albert"],
)
def test_googles_rates(fields, rates):
    """FACTS 5.4. Its steps count as ours do, from 0: step 1 is the second."""
    recipe = PretrainRecipe(schedule="google", **fields)
    for step, rate in rates.items():
        assert learning_rate(step, recipe) == pytest.approx(rate, rel=1e-12, abs=0), step
    # The continuous schedule misses them at the end of the warm-up and after.
    other = PretrainRecipe(schedule="linear", **fields)
    assert learning_rate(fields["warmup_steps"], other) > 1.009 * rates[fields["warmup_steps"]]


@pytest.mark.parametrize("fields", [BERT, ALBERT, {"steps": 50, "warmup_steps": 0, "learning_rate": 1e-3}], ids=str)
@pytest.mark.parametrize("schedule", ["linear", "constant", "polynomial"])
def test_from_the_end_of_the_warm_up_on_they_are_transformers_schedules(fields, schedule):
    """5.0505e-5 at half of BERT's million steps and 9.0256e-4 at half of ALBERT's (FACTS 5.4); a step ahead before."""
    import transformers

    recipe = PretrainRecipe(schedule=schedule, power=0.5, **fields)
    steps, warmup = recipe.steps, recipe.warmup_steps
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    theirs = {
        "linear": lambda: transformers.get_linear_schedule_with_warmup(optimizer, warmup, steps),
        "constant": lambda: transformers.get_constant_schedule_with_warmup(optimizer, warmup),
        "polynomial": lambda: transformers.get_polynomial_decay_schedule_with_warmup(
            optimizer, warmup, steps, lr_end=0.0, power=0.5
        ),
    }[schedule]().lr_lambdas[0]
    for step in {0, 1, warmup // 2, warmup - 1, warmup, warmup + 1, steps // 2, steps - 1, steps}:
        if step >= 0:
            rate = recipe.learning_rate * theirs(step + 1 if step < warmup else step)
            assert learning_rate(step, recipe) == pytest.approx(rate, rel=1e-12), step
    if schedule == "linear" and warmup:
        half = {1_000_000: 5.0505e-5, 125_000: 9.0256e-4}[steps]
        assert learning_rate(steps // 2, recipe) == pytest.approx(half, rel=1e-4)


def test_fine_tuning_is_told_how_many_steps():
    recipe = FinetuneRecipe(learning_rate=3e-5, warmup_share=0.1)
    assert [learning_rate(step, recipe, 105) for step in (0, 9, 10, 105)] == pytest.approx([3e-6, 3e-5, 3e-5, 0])
    with pytest.raises(SpecError, match="number of steps"):
        learning_rate(0, recipe)


def test_a_schedule_spans_all_phases():
    whole = PretrainRecipe(steps=100, warmup_steps=5)
    parts = PretrainRecipe(steps=100, warmup_steps=5, phases=(Phase(length=16, share=0.9), Phase(length=32, share=0.1)))
    assert [learning_rate(s, whole) for s in range(101)] == [learning_rate(s, parts) for s in range(101)]
