"""Which run is kept, and what fine-tuning makes of a bundle. That it learns and fails well is in ``test_training``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from halbert.data.batches import pad_rows
from halbert.data.features import encode_examples
from halbert.data.readers import Example, read_examples
from halbert.errors import InputError, SpecError
from halbert.heads import HeadSpec
from halbert.source import load_bundle
from halbert.tasks.metrics import Score
from halbert.tasks.table import get_task
from halbert.train import finetuning
from halbert.train.finetuning import FinetuneRun, finetune, finetune_once
from halbert.train.portions import outputs
from halbert.train.prepared import start_model
from tests import small, tiny
from tests.train import made


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("rows")
    small.write_csv(place / "train.csv", small.rows(24))
    small.write_csv(place / "dev.csv", small.rows(12))
    return place


@pytest.mark.parametrize(
    ("values", "kept"),
    [([0.9, 0.5, 0.7], 2), ([0.5], 0), ([0.1, 0.9, 0.5, 0.7], 2), ([0.2, 0.8], 0), ([0.6, 0.6, 0.6], 0)],
)
def test_the_run_in_the_middle_is_kept(files, tmp_path, monkeypatch, values, kept):
    """By the first metric; of an even number the lower of the two in the middle; of equals the first seed."""
    heads = {"label": tiny.HEADS["label"]}

    def once(bundle, task, train, dev, recipe, **others):
        value = values[recipe.seed - 40]
        scores = {
            "accuracy": Score(value=value, low=0.0, high=1.0),
            "macro_f1": Score(value=1 - value, low=0.0, high=1.0),
        }
        tuned = tiny.bundle(heads=heads, seed=recipe.seed, provenance={"seed": recipe.seed})
        return FinetuneRun(bundle=tuned, scores=scores, summary={})

    monkeypatch.setattr(finetuning, "finetune_once", once)
    runs = finetune(
        small.bundle(), train=files / "train.csv", dev=files / "dev.csv", out=tmp_path / "out",
        recipe=made.tuning(seed=40), seeds=len(values),
    )  # fmt: skip
    assert [run.bundle.provenance["seed"] for run in runs] == [40 + i for i in range(len(values))]
    saved = load_bundle(tmp_path / "out")
    assert saved.provenance["seed"] == 40 + kept
    np.testing.assert_array_equal(
        saved.arrays["heads.label.dense.weight"], runs[kept].bundle.arrays["heads.label.dense.weight"]
    )


def test_provenance_says_what_was_done_but_not_where(files, tmp_path):
    base = small.bundle().replace(provenance={"source": "somewhere", "training": {"journal": ["long"]}})
    (run,) = finetune(
        base, train=files / "train.csv", dev=files / "dev.csv", out=tmp_path / "out", recipe=made.tuning()
    )
    found = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert found["base"] == {"name": "tiny", "source": "somewhere"}
    training = found["training"]
    assert (training["kind"], training["task"], training["examples"], training["cut"]) == (
        "finetuning",
        "classify",
        24,
        0,
    )
    assert training["recipe"]["epochs"] == 1 and training["steps"] == 3
    assert training["dev"]["accuracy"]["value"] == run.scores["accuracy"].value
    text = b"".join(f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file()).decode("latin-1")
    for folder in (tmp_path, files, Path.home(), Path.cwd()):
        assert len(folder.parts) == 1 or str(folder) not in text


def test_the_score_is_that_of_the_saved_model(files, tmp_path):
    (run,) = finetune(
        small.bundle(), train=files / "train.csv", dev=files / "dev.csv", out=tmp_path / "out", recipe=made.tuning()
    )
    saved = load_bundle(tmp_path / "out")
    head = saved.heads["label"]
    model = start_model(saved, head, 0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(saved.arrays[name].copy()))
    dev = read_examples(files / "dev.csv")
    features = encode_examples(dev, saved.tokenizer, 16, head.labels)
    guesses = [row.argmax() for row in outputs(model, "label", features, 0)]
    right = np.mean([head.labels[g] == e.label for g, e in zip(guesses, dev, strict=True)])
    assert run.scores["accuracy"].value == pytest.approx(right)


@pytest.mark.parametrize("tokens", [8, 60, 4096])
def test_outputs_are_in_order_whatever_the_batches(tokens):
    texts = [text + " dog" * (i % 5) for i, (text, _) in enumerate(small.rows(40))]
    bundle = small.bundle(("label",), seed=3)
    head = tiny.HEADS["label"]
    model = start_model(bundle, head, 0).eval()
    features = encode_examples([Example(text=t) for t in texts], bundle.tokenizer, 16)
    model.train()
    found = outputs(model, "label", features, 0, tokens)
    assert model.training
    model.eval()
    for encoded, row in zip(features.encoded, found, strict=True):
        ids, mask, segments = (torch.from_numpy(array) for array in pad_rows([encoded], 0, 1))
        alone = model.answer("label", model(ids, mask, segments)).detach().numpy()[0]
        np.testing.assert_allclose(row, alone, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fresh_head_comes_from_the_seed(seed):
    head = HeadSpec(kind="label", labels=("x", "y"))
    a, b = (start_model(small.bundle(), head, seed).heads["label"].dense.weight for _ in range(2))
    other = start_model(small.bundle(), head, seed + 1).heads["label"].dense.weight
    assert torch.equal(a, b) and not torch.equal(a, other)


def test_an_encoder_without_a_pooler_gets_one_and_a_head_that_needs_none_drops_it():
    label, tag = tiny.HEADS["label"], tiny.HEADS["tag"]
    grown = start_model(small.bundle(("mlm",), pooler="none"), label, 0)
    assert grown.spec.pooler == "tanh" and grown.encoder.pooler is not None
    assert start_model(small.bundle(), tag, 0).encoder.pooler is None


def test_the_base_is_left_as_it_was(files, tmp_path):
    base = small.bundle()
    before = {name: array.copy() for name, array in base.arrays.items()}
    (run,) = finetune(
        base, train=files / "train.csv", dev=files / "dev.csv", out=tmp_path / "out", recipe=made.tuning()
    )
    for name, array in base.arrays.items():
        np.testing.assert_array_equal(array, before[name])
    assert any((run.bundle.arrays[n] != base.arrays[n]).any() for n in run.bundle.arrays if n.startswith("encoder."))
    assert set(base.heads) == {"mlm", "pair"} and set(run.bundle.heads) == {"label"}


BAD = {
    "one class": ([("a", "x"), ("b", "x")], [("a", "x")], r"train\.csv: all rows have one label \('x'\)"),
    "unknown in dev": ([("a", "x"), ("b", "y")], [("a", "z")], r"dev\.csv: the label 'z' is not among the 2 labels"),
    "no label in dev": ([("a", "x"), ("b", "y")], [("a", "")], "row 1 has no text in column 'label'"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_cannot_be_used_are_refused_before_anything_is_trained(tmp_path, monkeypatch, case):
    train, dev, said = BAD[case]
    small.write_csv(tmp_path / "train.csv", train)
    small.write_csv(tmp_path / "dev.csv", dev)
    monkeypatch.setattr(finetuning, "Run", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(InputError, match=said):
        finetune(small.bundle(), train=tmp_path / "train.csv", dev=tmp_path / "dev.csv", out=tmp_path / "deep" / "out")
    assert small.left_in(tmp_path) == ["dev.csv", "train.csv"]


def test_a_full_folder_is_left_alone(files, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        finetune(small.bundle(), train=files / "train.csv", dev=files / "dev.csv", out=tmp_path)
    assert small.left_in(tmp_path) == ["mine.txt"]


def test_pairs_are_trained_as_pairs(files, tmp_path):
    """The class is told by the second text alone."""
    rows = [("the on", small.TOLD[label], label) for label in tiny.LABELS * 20]
    file = small.write_csv(tmp_path / "pairs.csv", rows, ("text_a", "text_b", "label"))
    examples = read_examples(file)
    recipe = made.tuning(epochs=30, batch_size=12, learning_rate=1e-2)
    run = finetune_once(small.bundle(), get_task("classify"), examples, examples, recipe)
    assert run.scores["accuracy"].value == 1


def test_longer_than_the_positions(files):
    rows = read_examples(files / "train.csv")
    with pytest.raises(SpecError, match="length 131 exceeds this model's 130 positions"):
        finetune_once(small.bundle(), get_task("classify"), rows, rows, made.tuning(length=131))
