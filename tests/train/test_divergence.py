"""A run that does not learn says so and is tried again; one that learns is left alone."""

from __future__ import annotations

import math
import types

import numpy as np
import pytest

from halbert.data.features import Features
from halbert.data.forms import encode
from halbert.data.labelled import survey
from halbert.data.readers import Example
from halbert.errors import Diverged, InputError
from halbert.heads import HeadSpec
from halbert.source import load_bundle
from halbert.tasks.judging import Judged
from halbert.tasks.table import get_task
from halbert.train import finetuning, watch
from halbert.train.finetuning import finetune, finetune_once, second_try, spread
from halbert.train.loop import Outcome, Progress
from halbert.train.prepared import silent
from halbert.train.trivial import entropy, trivial_loss
from halbert.train.watch import WINDOW, Best, Found, Watch
from tests import small, tiny
from tests.train import made

# Large enough that a rate of 1e-2 ruins it, as it does the released models.
DEEP = {"hidden_size": 128, "embedding_size": 128, "intermediate_size": 512, "num_hidden_layers": 6, "num_hidden_groups": 6,
        "num_attention_heads": 4}  # fmt: skip
TRAIN = [Example(text=text, label=label) for text, label in small.rows(240)]
DEV = [Example(text=f"2 {text}", label=label) for text, label in small.rows(48)]


def once(seed: int, rate: float, **changes):
    recipe = made.tuning(steps=110, batch_size=16, learning_rate=rate, seed=seed, **changes)
    return finetune_once(small.bundle(("mlm",), seed=seed, **DEEP), get_task("classify"), TRAIN, DEV, recipe)


def check(runs, failed: bool) -> None:
    assert [bool(run.failure) for run in runs] == [failed] * len(runs)
    for run in runs:
        if failed:
            assert "of a predictor that reads nothing" in run.failure or "the same answer" in run.failure
        else:
            assert run.scores["accuracy"].value > 0.9


def test_a_rate_that_ruins_is_noticed_and_a_healthy_one_is_not():
    check([once(seed, 1e-2, on_divergence="stop") for seed in range(2)], True)
    check([once(seed, 1e-3, on_divergence="stop") for seed in range(2)], False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_runs_that_are_ruined_and_twenty_that_are_not():
    check([once(seed, 1e-2, on_divergence="stop") for seed in range(20)], True)
    check([once(seed, 1e-3, on_divergence="stop") for seed in range(20)], False)


def test_a_ruined_run_is_tried_again_with_a_lower_rate(monkeypatch):
    monkeypatch.setattr(finetuning, "usual_rate", lambda spec: 1e-3)
    run = once(0, 1e-2)
    assert not run.failure and run.scores["accuracy"].value > 0.9
    (given_up,) = run.restarts
    assert given_up["learning_rate"] == 1e-2 and given_up["reason"].startswith("step ")
    training = run.bundle.provenance["training"]
    assert training["restarts"] == [given_up]
    assert (training["recipe"]["learning_rate"], training["recipe"]["warmup_share"]) == (1e-3, 0.2)


def test_questions_that_are_answered_no_better_than_by_silence(monkeypatch):
    truth = [("a b",) if i % 2 else () for i in range(200)]
    head = HeadSpec(kind="span", none_above=0.0)

    def said(right, wrong):
        """So many of the hundred questions that have an answer get it, and so many of the others one as well."""
        given = [(i % 2 == 1 and i // 2 < right) or (i % 2 == 0 and i // 2 < wrong) for i in range(200)]
        return Judged(truth, ["a b" if g else "" for g in given])

    assert "no better than giving none, which has 0.500" in silent(head, said(0, 0))
    assert silent(head, said(8, 6)) and not silent(head, said(9, 0)) and not silent(head, said(50, 40))
    few = Judged([("a b",)] * 29 + [()] * 200, [""] * 229)
    every = Judged([("a b",)] * 200, [""] * 200)
    rare = Judged([("a b",)] * 31 + [()] * 2000, ["a b"] * 31 + [""] * 2000)  # all right
    for fine in (few, every, rare):
        assert not silent(head, fine)
    assert not silent(HeadSpec(kind="span", none_above=None), said(0, 0))

    tries = iter(["nothing learnt", ""])
    monkeypatch.setattr(finetuning, "silent", lambda *_: next(tries))
    run = once(0, 1e-3)
    assert not run.failure and run.restarts[0]["reason"] == "step 110 of 110: nothing learnt"


def test_how_a_run_is_tried_again():
    spec = small.encoder()  # 3e-4 is usual for its width
    assert second_try(made.tuning(learning_rate=1e-2, warmup_share=0.1), spec).learning_rate == 3e-4
    again = second_try(made.tuning(learning_rate=9e-5, warmup_share=0.4), spec)
    assert (again.learning_rate, again.warmup_share) == (pytest.approx(3e-5), 0.5)


@pytest.fixture
def files(tmp_path):
    return {
        name: small.write_csv(tmp_path / f"{name}.csv", [(e.text, e.label) for e in rows])
        for name, rows in (("train", TRAIN), ("dev", DEV))
    }


def diverging(failing):
    """A watch that finds these seeds ruined, at each try."""

    class Told(watch.Watch):
        def __call__(self, run, found):
            if run.seed in failing and run.progress.step == 3:
                raise Diverged("step 3 of 9: made up")
            return super().__call__(run, found)

    return Told


def test_seeds_that_failed_are_counted_and_not_kept(files, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuning, "Watch", diverging({0, 2}))
    runs = finetune(small.bundle(), **files, out=tmp_path / "out", recipe=made.tuning(), seeds=4)
    assert [run.failure for run in runs] == ["step 3 of 9: made up", "", "step 3 of 9: made up", ""]
    assert all(len(run.restarts) == bool(run.failure) for run in runs)
    told = spread(runs)
    assert (told["failed"], told["restarted"]) == (0.5, 2)
    assert told["low"] == min(runs[i].scores["accuracy"].value for i in (1, 3))
    assert load_bundle(tmp_path / "out").provenance["training"]["recipe"]["seed"] in (1, 3)


@pytest.mark.parametrize("how", ["restart", "stop"])
def test_nothing_is_written_when_every_seed_fails(files, tmp_path, monkeypatch, how):
    monkeypatch.setattr(finetuning, "Watch", diverging({0, 1}))
    with pytest.raises(
        Diverged, match=r"2 of 2 runs did not learn, and no model was written\. step 3 of 9: made up"
    ) as caught:
        finetune(small.bundle(), **files, out=tmp_path / "out", recipe=made.tuning(on_divergence=how), seeds=2)
    assert ("then, restarted" in str(caught.value)) == (how == "restart")
    assert "another learning_rate than 0.005 (lower for a large model; several times higher for a narrow" in str(
        caught.value
    )
    assert small.left_in(tmp_path) == ["dev.csv", "train.csv"]


class Fake:
    """As much of a run as a watch looks at."""

    def __init__(self, steps=400, warmup=20):
        self.progress, self.steps, self.warmup, self.norm, self.model = Progress(), steps, warmup, 1.0, None

    def follow(self, watch, losses, norms=None):
        """Steps with these losses; the message of the end, and its step."""
        for i, loss in enumerate(losses):
            self.progress.step = i + 1
            self.norm = 1.0 if norms is None else norms[i]
            try:
                if watch(self, Outcome({"loss": loss}, loss, False, False, [])):
                    return "ended", i + 1
            except Diverged as error:
                return str(error), i + 1
        return "", len(losses)


def watching(trivial=0.69, evaluations=(), **changes):
    given = iter(evaluations)
    evaluate = (lambda: next(given)) if evaluations else None
    return Watch(made.tuning(keep="last", **changes), trivial, evaluate, 100, Best(None))


@pytest.mark.parametrize(
    ("losses", "said", "step"),
    [
        ([0.9] * 400, "the loss is 0.900 (mean of 50 steps), not below the 0.690", 20 + WINDOW),
        ([0.7] * 400, "the loss is 0.700", 400),  # barely above: only the end decides
        ([0.686] * 400, "the loss is 0.686", 400),
        ([0.7] * 300 + [0.5] * 100, "", 400),
        ([9.0] * 20 + [0.5] * 380, "", 400),  # the warm-up may begin anywhere
        ([0.5] * 200 + [0.8] * 200, "the loss is 0.7", 243),
    ],
)
def test_losses(losses, said, step):
    found, at = Fake().follow(watching(), losses)
    assert said in found and at == pytest.approx(step, abs=10) and bool(found) == bool(said)
    assert Fake().follow(watching(on_divergence="ignore"), losses) == ("", 400)
    assert Fake().follow(watching(trivial=None), losses) == ("", 400)


def test_gradients_that_explode():
    norms = [2.0] * 100 + [3000.0] * 300
    found, at = Fake().follow(watching(), [0.5] * 400, norms)
    assert "the gradient's norm has risen to 3e+03, from 2" in found and at == 126
    assert Fake().follow(watching(), [0.5] * 400, [2.0] * 100 + [3000.0] * 20 + [2.0] * 280)[0] == ""  # spikes pass
    assert Fake().follow(watching(), [0.5] * 400, [0.001] * 100 + [50.0] * 300)[0] == ""  # hardly anything before


def test_one_answer_for_everything():
    same, other = Found(0.5, True), Found(0.6, False)
    assert (
        Fake()
        .follow(watching(evaluations=[same] * 4), [0.66] * 400)[0]
        .endswith("every text of the evaluation gets the same answer")
    )
    assert Fake().follow(watching(evaluations=[same, same, other, other]), [0.66] * 400)[0] == ""
    assert Fake().follow(watching(evaluations=[same] * 4), [0.4] * 400)[0] == ""  # it has learnt; the evaluation is odd
    assert Fake(steps=40).follow(watching(evaluations=[same] * 4), [0.7] * 40)[0] == ""  # too short to say


def test_patience():
    evaluations = [Found(0.5, False), Found(0.6, False), Found(None, False), Found(0.6, False)]
    assert Fake().follow(watching(evaluations=evaluations, patience=2), [0.5] * 400) == ("ended", 400)
    assert Fake(steps=900).follow(watching(evaluations=evaluations, patience=2), [0.5] * 400) == ("ended", 400)


def test_a_gradient_that_is_no_number_is_a_divergence(monkeypatch):
    def broken(wanted, model, batch):
        loss = sum(p.sum() for p in model.parameters()) * float("nan")
        return finetuning.task_loss.__globals__["Loss"](loss, {"loss": loss.detach()})

    monkeypatch.setitem(finetuning.task_loss.__globals__["_LOSSES"], "labelled", broken)
    run = finetune_once(small.bundle(), get_task("classify"), TRAIN, DEV, made.tuning())
    assert "not finite" in run.failure and len(run.restarts) == 1
    assert all(np.isfinite(array).all() for array in run.bundle.arrays.values())


def trivial(form, head, rows, balanced=False):
    features = encode(form, rows, tiny.tokenizer(), 16, head, 2)
    return trivial_loss(form, head, survey(rows, "x"), features, balanced, 8)


def test_the_loss_of_reading_nothing():
    label = HeadSpec(kind="label", labels=("x", "y"))
    rows = [Example(text="a", label="x")] * 3 + [Example(text="a", label="y")]
    assert trivial("labelled", label, rows) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert trivial("labelled", label, rows, balanced=True) == pytest.approx(math.log(2))
    several = HeadSpec(kind="label", labels=("x", "y"), several=True)
    sets = [Example(text="a", labels=("x",)), Example(text="a", labels=())]
    assert trivial("labelled", several, sets) == pytest.approx(math.log(2) / 2)
    scored = [Example(text="a", score=s) for s in (1.0, 2.0, 6.0)]
    assert trivial("scored", HeadSpec(kind="score"), scored) == pytest.approx(14 / 3)
    choices = [Example(text="a", choices=("1", "2"), label="0"), Example(text="a", choices=("1", "2", "."), label="0")]
    assert trivial("choices", HeadSpec(kind="choice"), choices) == pytest.approx((math.log(2) + math.log(3)) / 2)
    tags = [Example(text="a the", words=("a", "the", "cat", "1"), tags=("O", "O", "O", "B-X"))]
    assert trivial("tagged", HeadSpec(kind="tag", labels=("O", "B-X")), tags) == pytest.approx(
        -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    )
    asked = [
        Example(text="a", pair="the cat sat", answers=((4, "cat"),), id="1"),
        Example(text="a", pair="the cat sat", answers=(), id="2"),
    ]
    assert trivial("questions", HeadSpec(kind="span"), asked) == pytest.approx(math.log(2) + math.log(4) / 2)
    near = [Example(text="a", pair="the")] * 3
    assert trivial("pairs", None, near) == pytest.approx(math.log(3))
    assert trivial("pairs", None, [Example(text="a", pair="the", score=1.0)]) is None
    assert 0 < trivial("texts", None, [Example(text="the cat sat")]) < math.log(6)
    assert isinstance(encode("texts", [], tiny.tokenizer(), 8, None), Features)


def test_no_examples(tmp_path):
    with pytest.raises(InputError, match="holds no rows"):
        finetune(
            small.bundle(), train=small.write_csv(tmp_path / "a.csv", []), dev=tmp_path / "a.csv", out=tmp_path / "out"
        )


def test_rare_classes_are_not_taken_for_a_divergence():
    """Of 1 % positives the mean of fifty batches of 32 is a fifth away from what it is of all."""
    drawn = np.random.default_rng(0)
    share, steps = 0.01, 300
    loss = -(share * math.log(share) + (1 - share) * math.log(1 - share))

    def ended(factor):
        watch = Watch(made.tuning(keep="last"), loss, None, 10, Best(None))
        run = types.SimpleNamespace(progress=Progress(), steps=steps, warmup=10, norm=1.0, model=None)
        for step in range(1, steps + 1):
            run.progress.step = step
            positives = drawn.binomial(32, share)
            batch = (positives * -math.log(share) + (32 - positives) * -math.log(1 - share)) / 32
            try:
                watch(run, Outcome({"loss": factor * batch}, factor * batch, False, False, []))
            except Diverged:
                return True
        return False

    assert sum(ended(0.9) for _ in range(40)) <= 4  # learns, if little
    assert all(ended(3.0) for _ in range(10))


def test_special_pieces_are_not_hidden_and_so_not_in_the_loss_of_reading_nothing():
    tokenizer = tiny.tokenizer()
    features = encode("texts", [Example(text="the cat sat"), Example(text="the mat")], tokenizer, 16, None, 2)
    special = [tokenizer.special_ids[name] for name in ("cls", "sep")]
    bare = trivial_loss("texts", None, None, features, False, 8, special)
    counts = np.bincount(np.concatenate(tokenizer.arrays(["the cat sat", "the mat"])))
    assert bare == pytest.approx(entropy(counts)) and bare != pytest.approx(
        trivial_loss("texts", None, None, features, False, 8)
    )


def test_third_texts_are_wrong_answers_too():
    rows = [Example(text="a", pair="the", third="cat"), Example(text="the", pair="mat", third="sat")]
    features = encode("pairs", rows, tiny.tokenizer(), 16, None, 2)
    assert trivial_loss("pairs", None, None, features, False, 8) == pytest.approx(math.log(4))
    assert trivial_loss("pairs", None, None, features, False, 1) == pytest.approx(math.log(2))
