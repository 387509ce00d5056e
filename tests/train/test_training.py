"""The loop learns, repeats itself, and says where it failed; pre-training and fine-tuning through the public functions."""

from __future__ import annotations

import itertools
import json

import msgspec
import numpy as np
import pytest
import torch

from halbert.data.corpus import build_corpus
from halbert.errors import HalbertError, InputError, SpecError
from halbert.heads import HeadSpec
from halbert.model import Model
from halbert.model.arrays import model_of
from halbert.processes import gains_by_bf16
from halbert.run.evaluation import evaluate
from halbert.run.predictor import load
from halbert.source import load_bundle
from halbert.train.finetuning import finetune
from halbert.train.journal import Journal
from halbert.train.loop import choose_precision
from halbert.train.objectives import Loss
from halbert.train.prepared import start_model
from halbert.train.pretraining import held_out_batches, masked_scores, pretrain
from halbert.train.recipe import FinetuneRecipe, PretrainRecipe
from tests import small, tiny
from tests.train import made
from tests.train.made import run_steps

# Sentences in which every word tells the next: hidden pieces can be found from their neighbours.
LEARNABLE = [
    [" ".join(["the cat sat on a mat .", "un ##want want dog eat 1 2 ."][(i + k) % 2] for k in range(4))]
    for i in range(60)
]
RECIPE = PretrainRecipe(
    steps=200, length=24, long_sentences="cut", batch_tokens=256, learning_rate=1e-2, warmup_steps=10, precision="fp32",
    encoder={"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
             "max_position_embeddings": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    pretraining={"sentence_objective": "sop"},
)  # fmt: skip
TUNING = FinetuneRecipe(epochs=12, batch_size=16, learning_rate=5e-3, length=16, precision="fp32")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_corpus(LEARNABLE, tiny.tokenizer(), tmp_path_factory.mktemp("data") / "toy").folder


def recipe(corpus, **changes):
    return msgspec.structs.replace(RECIPE, corpus=str(corpus), **changes)


@pytest.mark.parametrize("design", ["bert", "albert"])
def test_pre_training_learns(corpus, tmp_path, design):
    encoder = RECIPE.encoder | ({"embedding_size": 12, "num_hidden_groups": 1} if design == "albert" else {})
    seen = []
    bundle = pretrain(recipe(corpus, encoder=encoder), tiny.tokenizer(), tmp_path / "out", report=seen.append)
    assert seen[0]["masked_loss"] > 2 * seen[-1]["masked_loss"] and seen[-1]["masked_loss"] < 1.3  # ln 32 is 3.47
    assert seen[-1]["masked_accuracy"] > 0.6
    assert [entry["step"] for entry in seen] == list(range(10, 201, 10)) and seen[-1]["steps"] == 200
    training = bundle.provenance["training"]
    assert (training["kind"], training["steps"], training["precision"]) == ("pretraining", 200, "fp32")
    assert training["tokens"] == seen[-1]["tokens"] > 200 * 100 and training["recipe"]["corpus"] == "toy"
    # What was saved is what was trained: its score on the corpus is as good.
    saved = load_bundle(tmp_path / "out")
    from halbert.data.corpus import Corpus

    batches = held_out_batches(Corpus(corpus), saved.tokenizer, 24, 256, 0)
    scores = masked_scores(model_of(saved.spec.encoder, saved.heads, saved.arrays).eval(), batches)
    assert np.average(scores.losses, weights=scores.counts) < 1.4
    assert np.average(scores.accuracies, weights=scores.counts) > 0.6
    assert sum(scores.counts) == sum(len(b.positions) for b in batches) > 100
    filled = load(saved, precision="fp32").fill("the cat [MASK] on a mat .", top=1)
    assert filled[0][0]["piece"] == "sat"


@pytest.mark.parametrize("start", ["random", "pmi-svd"])
def test_the_same_seed_gives_the_same_weights(corpus, start):
    made = [
        pretrain(recipe(corpus, steps=6, warmup_steps=1, seed=seed, start=start), tiny.tokenizer()).arrays
        for seed in (0, 0, 1)
    ]
    assert made[0].keys() == made[1].keys()
    for name in made[0]:
        np.testing.assert_array_equal(made[0][name], made[1][name])
    assert any((made[0][name] != made[2][name]).any() for name in made[0])


def test_a_corpus_of_another_tokenizer(corpus, tmp_path):
    with pytest.raises(InputError, match="made with another tokenizer"):
        pretrain(recipe(corpus), tiny.tokenizer(lower_case=False), tmp_path / "out")
    assert small.left_in(tmp_path) == []


def test_pre_training_refuses_before_it_begins(corpus, tmp_path):
    with pytest.raises(SpecError, match="names no corpus"):
        pretrain(recipe(""), tiny.tokenizer(), tmp_path / "out")
    with pytest.raises(SpecError, match="length 64 exceeds max_position_embeddings 32"):
        pretrain(recipe(corpus, length=64), tiny.tokenizer(), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        pretrain(recipe(corpus), tiny.tokenizer(), tmp_path / "full")
    assert small.left_in(tmp_path) == ["full", "full/x"]


def test_pre_training_that_fails_leaves_nothing(corpus, tmp_path):
    with pytest.raises(HalbertError, match=r"step \d+: the loss or its gradient is not finite"):
        pretrain(
            recipe(corpus, encoder=RECIPE.encoder | {"initializer_range": 1e30}), tiny.tokenizer(), tmp_path / "out"
        )
    assert small.left_in(tmp_path) == []


def toy(values):
    """A model and a loss that takes these values, one a step."""
    model = Model(small.encoder(), {"label": HeadSpec(kind="label", labels=tiny.LABELS)}).initialize(0)
    numbers = iter(values)

    def loss_of(model, batch):
        total = sum(p.sum() for p in model.parameters()) * 0.0 + next(numbers)
        return Loss(total, {"loss": total.detach()})

    return model, loss_of


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_names_its_step(bad):
    model, loss_of = toy([1.0, 2.0, bad])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(HalbertError, match=r"^step 3: .*not finite.* a lower learning_rate \(0.01\)"):
        run_steps(model, itertools.repeat(made.batch(torch.zeros(1))), loss_of, msgspec.structs.replace(RECIPE, weight_decay=0.0),
                  steps=5, warmup=0, journal=Journal(), seed=0)  # fmt: skip
    for name, p in model.named_parameters():
        assert torch.isfinite(p).all() and torch.equal(p, before[name])  # the bad step was not taken


def test_the_journal_means_what_it_says(tmp_path):
    model, loss_of = toy([float(i) for i in range(25)])
    journal, shown = Journal(tmp_path / "journal.jsonl"), []
    journal.report = shown.append
    summary = run_steps(
        model,
        itertools.repeat(made.batch(torch.zeros(1), 7)),
        loss_of,
        msgspec.structs.replace(RECIPE, spike_factor=1e6),
        steps=25,
        warmup=5,
        journal=journal,
        seed=0,
    )
    assert [e["step"] for e in journal.entries] == [10, 20, 25]
    assert [e["loss"] for e in journal.entries] == [4.5, 14.5, 22.0]
    assert [e["tokens"] for e in journal.entries] == [70, 140, 175]
    assert journal.entries[0]["learning_rate"] == pytest.approx(1e-2 * (25 - 9) / 20)
    assert (summary["steps"], summary["tokens"], summary["precision"]) == (25, 175, "fp32")
    assert shown == journal.entries
    assert [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()] == journal.entries
    assert not model.training


def test_precision():
    cpu = torch.device("cpu")
    capable = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    assert choose_precision("fp32", cpu) == "fp32"
    assert choose_precision("auto", cpu) == ("bf16" if capable and gains_by_bf16() else "fp32")
    if capable:
        assert choose_precision("bf16", cpu) == "bf16"
    else:
        with pytest.raises(InputError, match="cannot multiply bfloat16"):
            choose_precision("bf16", cpu)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    place = tmp_path_factory.mktemp("files")
    around = [(before, after) for before in ("", "1 a", "2") for after in ("", "the .")]
    small.write_csv(
        place / "train.csv", [(f"{b} {text} {a}", label) for b, a in around for text, label in small.rows(54)]
    )
    small.write_csv(place / "dev.csv", [(f"2 {text} on", label) for text, label in small.rows(60)])
    return place


@pytest.mark.parametrize("design", ["bert", "albert", "without a pooler"])
def test_a_classifier_learns(files, tmp_path, design):
    albert = {**small.ALBERT, "embedding_size": 16}
    changes = {"bert": {}, "albert": albert, "without a pooler": {"pooler": "none"}}[design]
    changes = {"hidden_size": 32, "embedding_size": 32, "intermediate_size": 48, **changes}
    start = small.bundle(("mlm",) if design == "without a pooler" else ("mlm", "pair"), **changes)
    (run,) = finetune(start, train=files / "train.csv", dev=files / "dev.csv", out=tmp_path / "out", recipe=TUNING)
    assert run.scores["accuracy"].value > 0.9 and run.scores["macro_f1"].value > 0.9
    assert run.cut.rows == 0 and run.summary["steps"] == 12 * 21
    saved = load_bundle(tmp_path / "out")
    assert (saved.heads["label"].labels, set(saved.heads)) == (("red", "green", "blue"), {"label"})
    # The saved model scores the same through the other engine.
    again = evaluate(load(saved, precision="fp32"), files / "dev.csv", TUNING.length)
    assert again["metrics"]["accuracy"]["value"] == pytest.approx(run.scores["accuracy"].value, abs=1 / 60 + 1e-9)
    training = saved.provenance["training"]
    assert (training["kind"], training["task"], training["examples"]) == ("finetuning", "classify", 324)
    assert training["dev"]["accuracy"]["value"] == run.scores["accuracy"].value


def test_fine_tuning_repeats_itself_and_the_median_seed_is_kept(files, tmp_path):
    quick = msgspec.structs.replace(TUNING, epochs=2, learning_rate=3e-3)
    runs = finetune(
        small.bundle(), train=files / "train.csv", dev=files / "dev.csv", out=tmp_path / "a", recipe=quick, seeds=3
    )
    (again,) = finetune(
        small.bundle(), train=files / "train.csv", dev=files / "dev.csv", out=tmp_path / "b", recipe=quick
    )
    for name, array in runs[0].bundle.arrays.items():
        np.testing.assert_array_equal(array, again.bundle.arrays[name])
    assert any((runs[0].bundle.arrays[n] != runs[1].bundle.arrays[n]).any() for n in runs[0].bundle.arrays)
    values = [run.scores["accuracy"].value for run in runs]
    saved = load_bundle(tmp_path / "a").provenance["training"]
    assert saved["dev"]["accuracy"]["value"] == sorted(values)[1]
    assert saved["recipe"]["seed"] in (0, 1, 2) and values[saved["recipe"]["seed"]] == sorted(values)[1]


def test_where_fine_tuning_starts():
    bundle = small.bundle()
    model = start_model(bundle, HeadSpec(kind="label", labels=("x", "y")), 0)
    own = dict(model.named_parameters())
    for name, array in bundle.arrays.items():
        if name.startswith("encoder."):
            np.testing.assert_array_equal(own[name].detach().numpy(), array)
    assert set(own) - set(bundle.arrays) == {"heads.label.dense.weight", "heads.label.dense.bias"}
    with torch.no_grad():
        own["encoder.embeddings.piece.weight"].zero_()
    assert np.asarray(bundle.arrays["encoder.embeddings.piece.weight"]).any()  # the bundle keeps its own


def test_long_rows_are_cut_and_counted(files, tmp_path):
    table = [("the cat " * 30, "red"), ("a mat", "green")] * 10
    file = small.write_csv(tmp_path / "long.csv", table)
    (run,) = finetune(
        small.bundle(), train=file, dev=file, out=tmp_path / "out", recipe=msgspec.structs.replace(TUNING, epochs=1)
    )
    assert run.cut.rows == 10


def test_as_long_as_an_odd_number_of_positions(files, tmp_path):
    """9 positions are no multiple of 8; nothing may be rounded up beyond them."""
    table = [("the cat " * 30, "red"), ("a mat", "green")] * 10
    file = small.write_csv(tmp_path / "long.csv", table)
    bundle = small.bundle(max_position_embeddings=9)
    (run,) = finetune(
        bundle, train=file, dev=file, out=tmp_path / "out", recipe=msgspec.structs.replace(TUNING, epochs=1, length=9)
    )
    assert run.cut.rows == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": "gone.csv"}, "no such file"),
        ({"dev": "gone.csv"}, "no such file"),
        ({"task": "regres"}, "no task is called 'regres'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"recipe": msgspec.structs.replace(TUNING, length=4000)}, "length 4000 exceeds this model's 130 positions"),
    ],
)
def test_fine_tuning_refuses_and_leaves_nothing(files, tmp_path, change, message):
    how = {"train": files / "train.csv", "dev": files / "dev.csv", "recipe": TUNING, **change}
    with pytest.raises(InputError, match=message):
        finetune(small.bundle(), out=tmp_path / "out", **how)
    assert small.left_in(tmp_path) == []


@pytest.mark.parametrize("when", ["second seed", "saving"])
def test_fine_tuning_that_fails_late_keeps_what_is_finished(files, tmp_path, monkeypatch, when):
    from halbert.train import finetuning

    if when == "saving":
        monkeypatch.setattr("halbert.weights.huggingface.save_tensors", lambda *_: 1 / 0)
    else:
        once = finetuning.finetune_once

        def fail(bundle, task, train, dev, recipe, **how):
            if recipe.seed:
                raise ZeroDivisionError
            return once(bundle, task, train, dev, recipe, **how)

        monkeypatch.setattr(finetuning, "finetune_once", fail)
    quick = msgspec.structs.replace(TUNING, epochs=1)
    how = {"train": files / "train.csv", "dev": files / "dev.csv", "out": tmp_path / "out", "recipe": quick, "seeds": 2}
    with pytest.raises(ZeroDivisionError):
        finetune(small.bundle(), **how)
    assert not (tmp_path / "out").exists()
    if when == "saving":  # of the first seed, which has neither an end nor a checkpoint
        assert small.left_in(tmp_path) == []
        return
    assert (tmp_path / "out.training/seed-0/run.json").exists()
    monkeypatch.undo()
    assert len(finetune(small.bundle(), **how, resume=True)) == 2
    assert (tmp_path / "out").exists() and not (tmp_path / "out.training").exists()
