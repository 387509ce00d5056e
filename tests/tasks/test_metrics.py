from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from halbert.errors import InputError
from halbert.tasks.metrics import METRICS, _macro_f1_of_samples, macro_f1, score
from halbert.tasks.named import NAMED
from halbert.tasks.table import TASKS, get_task
from halbert.train.recipe import FinetuneRecipe

CLASSES = ("accuracy", "macro_f1")


def cases():
    """1,000 pairs of arrays: any size, any number of classes, all equal, disjoint, one class, far-apart numbers."""
    rng = np.random.default_rng(0)
    for i in range(1000):
        n, k = int(rng.integers(1, 40)), int(rng.integers(1, 7))
        truth, guess = rng.integers(0, k, n), rng.integers(0, k, n)
        match i % 10:
            case 0:
                guess = truth.copy()
            case 1:
                guess = truth + k
            case 2:
                truth = np.zeros(n, int)
            case 3:
                guess = np.full(n, k - 1)
            case 4:
                truth, guess = truth * 1000 - 7, guess * 1000 - 7
            case 5:
                truth, guess = truth[:1], guess[:1]
        yield truth, guess


def test_equal_to_scikit_learn():
    for truth, guess in cases():
        f1 = reference.f1_score(truth, guess, average="macro", zero_division=0.0)
        found = {name: score(name, truth, guess, resamples=2) for name in CLASSES}
        assert found["accuracy"].value == pytest.approx(reference.accuracy_score(truth, guess), abs=1e-12)
        assert found["macro_f1"].value == pytest.approx(f1, abs=1e-12)
        everyone = np.arange(len(truth))[None]
        assert _macro_f1_of_samples(truth, guess, everyone)[0] == pytest.approx(f1, abs=1e-12)


def test_the_fast_bootstrap_equals_the_slow_one():
    for i, (truth, guess) in enumerate(cases()):
        if i % 8:
            continue
        rows = np.random.default_rng(i).integers(0, len(truth), (5, len(truth)))
        slow = [macro_f1(truth[chosen], guess[chosen]) for chosen in rows]
        np.testing.assert_allclose(_macro_f1_of_samples(truth, guess, rows), slow, atol=1e-12)


def test_the_interval_is_the_percentile_bootstrap():
    rng = np.random.default_rng(1)
    truth, guess = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    rows = np.random.default_rng(7).integers(0, 60, (300, 60))
    for name in CLASSES:
        drawn = [METRICS[name].value(truth[chosen], guess[chosen]) for chosen in rows]
        found = score(name, truth, guess, resamples=300, seed=7)
        assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
        assert found == score(name, truth, guess, resamples=300, seed=7)
        assert found != score(name, truth, guess, resamples=300, seed=8)


@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_the_interval_covers_the_true_accuracy(rate):
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        right = rng.random(120) < rate
        found = score("accuracy", np.zeros(120, int), np.where(right, 0, 1), resamples=200)
        covered += found.low <= rate <= found.high
    assert 0.88 <= covered / 200 <= 0.99  # 95 % were promised; 0.88 is 4.5 standard errors below


def test_certain_scores_have_no_width():
    found = score("accuracy", [1, 2, 3], [1, 2, 3])
    assert (found.value, found.low, found.high, found.reason) == (1, 1, 1, None)


@pytest.mark.parametrize("name", METRICS)
def test_undefined_is_none_with_a_reason(name):
    found = score(name, [], [])
    assert (found.value, found.low, found.high, found.reason) == (None, None, None, "no examples")


def test_refusals():
    with pytest.raises(InputError, match="did you mean 'macro_f1'"):
        score("macro_f2", [1], [1])
    with pytest.raises(InputError, match="2 labels and 1 predictions"):
        score("accuracy", [1, 2], [1])


def test_tasks():
    for kind, task in TASKS.items():
        assert get_task(kind) is task and task.kind == kind == task.title and set(task.metrics) <= set(METRICS)
    with pytest.raises(InputError, match="did you mean 'classify'"):
        get_task("clasify")


def test_named_tasks():
    assert {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"} <= set(NAMED)  # GLUE's nine
    assert {"squad1", "squad2", "swag", "race", "xnli", "paws-x", "conll2003"} <= set(NAMED)
    for name, task in NAMED.items():
        kind = TASKS[task.kind]
        assert get_task(name.upper()) is task and task.title == name and not set(NAMED) & set(TASKS)
        assert (task.form, task.head) == (kind.form, kind.head) and set(task.metrics) <= set(METRICS)
        for row in task.published:
            assert 0 < row.value < 100 and row.source and row.metric in task.metrics
        for settings in (task.usual, task.shared):  # are fields of a recipe, with values it takes
            FinetuneRecipe(**settings)


def test_published_scores():
    """Some of them again, typed from the papers: BERT's table 1 and ALBERT's tables 2 and 9."""

    def of(task, model, split, metric):
        (found,) = [p.value for p in NAMED[task].published if (p.model, p.split, p.metric) == (model, split, metric)]
        return found

    assert of("cola", "bert-large", "test", "mcc") == 60.5
    assert of("rte", "bert-base", "test", "accuracy") == 66.4
    assert of("stsb", "albert-xxlarge", "dev", "spearman") == 93.0
    assert of("squad1", "albert-base", "dev", "answer_f1") == 89.3
    assert of("squad2", "bert-large", "test", "exact_match") == 80.0
    assert of("conll2003", "bert-large", "test", "entity_f1") == 92.8


def test_table_14():
    """ALBERT's settings: steps and warm-up come out as printed."""
    printed = {
        "cola": (5336, 320),
        "sst2": (20935, 1256),
        "mnli": (10000, 1000),
        "squad1": (3649, 365),
        "race": (12000, 1000),
    }
    for name, (steps, warmup) in printed.items():
        recipe = FinetuneRecipe(**NAMED[name].shared)
        assert (recipe.steps, recipe.warmup_of(steps)) == (steps, warmup), name


def test_a_class_that_only_a_resample_lacks_does_not_count_0():
    """Twenty classes, once each, all found: 1.0, whichever are drawn again (counted as 0, the interval was 0.5 to 0.75)."""
    table = np.eye(20, dtype=int)
    tags = [[f"tag{i}"] for i in range(20)]
    for name, side in (("set_macro_f1", table), ("macro_tag_f1", tags), ("macro_f1", np.arange(20))):
        found = score(name, side, side)
        assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0), name
    nobody = np.concatenate([table, np.zeros((20, 20), int)], 1)  # classes that nobody names count 0, in resamples too
    found = score("set_macro_f1", nobody, nobody)
    assert found.value == 0.5 and 0.3 < found.low < found.high < 0.5
