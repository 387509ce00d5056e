"""Every kind of task is learnt from a file and answered by the saved model; runs go on exactly; layers have their rates."""

from __future__ import annotations

import json
import random

import msgspec
import numpy as np
import pytest

from halbert.data.labelled import DataFile
from halbert.errors import InputError, SpecError, Stopped
from halbert.run.predictor import load
from halbert.source import load_bundle
from halbert.spec import EncoderSpec
from halbert.tasks.table import get_task
from halbert.train import watch
from halbert.train.checkpoints import Checkpoints
from halbert.train.finetuning import finetune, spread, usual_recipe
from halbert.train.optimizers import make_optimizer
from halbert.train.prepared import start_model
from tests import small, tiny
from tests.train import made

WIDE = {"hidden_size": 32, "embedding_size": 32, "intermediate_size": 48}
NAMES, PLACES, OTHERS = ("cat", "dog"), ("mat", "world"), ("the", "sat", "on", "a", "1", "2")


def texts(rng: random.Random, count: int) -> list[list[str]]:
    found = []
    for _ in range(count):
        words = [rng.choice(OTHERS) for _ in range(rng.randint(3, 6))]
        words.insert(rng.randint(0, len(words)), rng.choice(NAMES))
        words.insert(rng.randint(0, len(words)), rng.choice(PLACES))
        found.append(words)
    return found


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def squad(rng: random.Random, count: int) -> str:
    paragraphs = []
    for i, words in enumerate(texts(rng, count)):
        text, (asked, among) = " ".join(words), rng.choice([("the cat", NAMES), ("a mat", PLACES), ("1", ())])
        answer = next((w for w in words if w in among), "")
        place = (
            {"answer_start": len(" ".join(words[: words.index(answer)])) + (words[0] != answer), "text": answer}
            if among
            else {}
        )
        qa = {"id": f"q{i}", "question": asked, "answers": [place] if among else [], "is_impossible": not among}
        paragraphs.append({"context": text, "qas": [qa]})
    return json.dumps({"data": [{"paragraphs": paragraphs}]})


def write(kind: str, rng: random.Random, count: int) -> tuple[str, str]:
    """(file name, content): what is to be found can be found from one or two words."""
    rows = texts(rng, count)
    told = (
        [next(w for w in words if w in NAMES) for words in rows],
        [next(w for w in words if w in PLACES) for words in rows],
    )
    match kind:
        case "several":
            table = [
                {"text": " ".join(w), "labels": [n] * (n == "cat") + [p]} for w, n, p in zip(rows, *told, strict=True)
            ]
            return "a.jsonl", lines(table)
        case "regress":
            return "a.jsonl", lines(
                {"text": " ".join(w), "score": 2.0 * (n == "cat") - 1} for w, n in zip(rows, told[0], strict=True)
            )
        case "choose":
            return "a.jsonl", lines(
                {
                    "text": "the",
                    "choices": (c := rng.sample(["cat sat", "dog on", "1 a"], 3)),
                    "label": c.index("cat sat"),
                }
                for _ in rows
            )
        case "tag":
            tag = dict.fromkeys(NAMES, "B-NAME") | dict.fromkeys(PLACES, "B-PLACE")
            return "a.conll", "\n".join("".join(f"{w}\t{tag.get(w, 'O')}\n" for w in words) for words in rows)
        case "answer":
            return "a.json", squad(rng, count)
        case "embed":
            return "a.jsonl", lines(
                {"text_a": f"the {w[0]} {w[1]} {w[2]}", "text_b": f"{w[2]} {w[1]} {w[0]}"} for w in rows
            )
        case _:
            return "a.txt", "".join(
                "the cat sat on a mat .\n" if i % 2 else "wanted dog eat 1 2 !\n" for i in range(count)
            )


# Kind: steps, the first metric's least value, and by how much the file is known to begin lower.
LEARNT = {"several": 200, "regress": 200, "choose": 120, "tag": 150, "answer": 700, "embed": 200, "fill": 200}
TASK = {"several": "classify"}


@pytest.mark.parametrize("kind", LEARNT)
def test_it_is_learnt_and_saved(kind, tmp_path):
    rng = random.Random(1)
    files = []
    for part, count in (("train", 240), ("dev", 40)):
        name, content = write(kind, rng, count)
        files.append(tmp_path / f"{part}{name[1:]}")
        files[-1].write_text(content)
    bundle = small.bundle(("mlm", "pair"), seed=1, **WIDE)
    recipe = made.tuning(steps=LEARNT[kind], learning_rate=3e-3, batch_size=16, length=32, stride=4, warmup_share=0.2)
    (run,) = finetune(
        bundle, train=files[0], dev=files[1], out=tmp_path / "out", task=TASK.get(kind, kind), recipe=recipe
    )
    first, found = next(iter(run.scores.items()))
    assert not run.failure and not run.restarts
    assert found.value > 0.85, (first, found)
    assert found.n == 40 and found.low <= found.value <= found.high
    saved = load_bundle(tmp_path / "out")
    training = saved.provenance["training"]
    assert training["task"] == TASK.get(kind, kind) and training["dev"][first]["value"] == found.value
    assert not (tmp_path / "out.training").exists()
    predictor = load(saved, precision="fp32")
    match kind:
        case "several":
            one, two = predictor.predict(["the cat on a mat", "a dog the world sat"])
            assert (set(one["labels"]), set(two["labels"])) == ({"cat", "mat"}, {"world"})
        case "regress":
            high, low = predictor.predict(["the cat on a mat", "a dog the world sat"])
            assert high["score"] > 0.5 > -0.5 > low["score"]
        case "choose":
            found = predictor.choose(["the"], [["dog on", "cat sat"]])
            assert found[0]["choice"] == 1
        case "tag":
            (found,) = predictor.predict(["the cat on a mat"])
            assert [(e["text"], e["label"]) for e in found["entities"]] == [("cat", "NAME"), ("mat", "PLACE")]
        case "answer":
            found = predictor.predict(["the cat", "a mat", "1"], ["sat on the dog a 1 world 2"] * 3)
            assert [row["answer"] and row["answer"]["text"] for row in found] == ["dog", "world", None]
            assert saved.heads["span"].none_above is not None
        case "embed":
            vectors = predictor.embed(["the 1 on sat", "sat on 1", "a 2 the"])
            assert saved.normalize and vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
        case "fill":
            assert predictor.fill("the cat [MASK] on a mat .", top=1)[0][0]["piece"] == "sat"


def test_scores_of_pairs_are_learnt_as_likeness(tmp_path):
    rng = random.Random(2)
    rows = [(rng.choice(NAMES), rng.choice(NAMES)) for _ in range(200)]
    table = [(f"the {a}", f"{b} sat", 4.0 * (a == b) + rng.random() / 100) for a, b in rows]
    file = small.write_csv(tmp_path / "near.csv", table, ("text_a", "text_b", "score"))
    (run,) = finetune(
        small.bundle(seed=1, **WIDE), train=file, dev=file, out=tmp_path / "out", task="embed",
        recipe=made.tuning(steps=120, learning_rate=3e-3, batch_size=16),
    )  # fmt: skip
    assert list(run.scores) == ["spearman", "pearson"] and run.scores["pearson"].value > 0.9
    assert run.notes == (
        f"200 examples of {file} are in {file} too: its scores are better than they would be on new texts",
    )


def test_pairs_that_are_all_alike_are_not_called_found():
    from halbert.data.forms import encode
    from halbert.data.readers import Example
    from halbert.tasks.judging import judged

    rows = [Example(text="the", pair=word) for word in ("cat", "dog", "mat", "cat")]
    features = encode("pairs", rows, tiny.tokenizer(), 16, None)
    found = judged("pairs", None, [np.ones(3)] * 8, features, rows)
    assert [len(row) for row in found.truth] == [1, 2, 3, 1]  # of equals the first leads: cat is the first candidate


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    place = tmp_path_factory.mktemp("rows")
    small.write_csv(place / "train.csv", small.rows(90))
    small.write_csv(place / "dev.csv", [(f"2 {text}", label) for text, label in small.rows(30)])
    return {"train": place / "train.csv", "dev": place / "dev.csv"}


@pytest.mark.parametrize("stopped_at", [7, 24])
def test_a_run_goes_on_exactly(files, tmp_path, monkeypatch, stopped_at):
    """Stopped in the middle of an epoch and at its end, with dropout, early stopping and the best weights in play."""
    recipe = made.tuning(epochs=4, patience=3, learning_rate=3e-3, dropout=0.1, checkpoint_every=5, layer_decay=0.8)
    bundle = small.bundle()
    (whole,) = finetune(bundle, **files, out=tmp_path / "whole", recipe=recipe)
    save, count = Checkpoints.save, [0]

    def once(self, step, found):
        save(self, step, found)
        if step >= stopped_at and not count[0]:
            count[0] = step
            raise Stopped("as after SIGTERM")

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", once)
        with pytest.raises(Stopped):
            finetune(bundle, **files, out=tmp_path / "again", recipe=recipe)
    assert not (tmp_path / "again").exists() and (tmp_path / "again.training").is_dir()
    with pytest.raises(InputError, match="holds a run already; go on with it by --resume"):
        finetune(bundle, **files, out=tmp_path / "again", recipe=recipe)
    other = msgspec.structs.replace(recipe, learning_rate=1e-3)
    with pytest.raises(InputError, match="other values of learning_rate"):
        finetune(bundle, **files, out=tmp_path / "again", recipe=other, resume=True)
    (again,) = finetune(bundle, **files, out=tmp_path / "again", recipe=recipe, resume=True)
    for name, array in whole.bundle.arrays.items():
        np.testing.assert_array_equal(array, again.bundle.arrays[name], err_msg=name)
    assert again.summary["evaluations"] == whole.summary["evaluations"] and again.scores == whole.scores
    told = [run.bundle.provenance["training"]["journal"] for run in (whole, again)]
    timing = ("seconds", "tokens_per_second", "waiting")
    told = [run.bundle.provenance["training"]["journal"] for run in (whole, again)]
    timing = ("seconds", "tokens_per_second", "waiting")
    timeless = [[{k: v for k, v in row.items() if k not in timing} for row in rows] for rows in told]
    assert timeless[0] == timeless[1]
    assert small.left_in(tmp_path / "again") == small.left_in(tmp_path / "whole")
    assert not (tmp_path / "again.training").exists()


def test_seeds_that_were_finished_are_not_trained_again(files, tmp_path, monkeypatch):
    recipe = made.tuning(checkpoint_every=5)
    whole = finetune(small.bundle(), **files, out=tmp_path / "whole", recipe=recipe, seeds=3)
    save = Checkpoints.save

    def fail(self, step, found):
        save(self, step, found)
        if "seed-2" in str(self.folder):
            raise Stopped("as after SIGTERM")

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", fail)
        with pytest.raises(Stopped):
            finetune(small.bundle(), **files, out=tmp_path / "again", recipe=recipe, seeds=3)
    again = finetune(small.bundle(), **files, out=tmp_path / "again", recipe=recipe, seeds=3, resume=True)
    for one, two in zip(whole, again, strict=True):
        assert one.scores == two.scores and one.cut == two.cut
        for name, array in one.bundle.arrays.items():
            np.testing.assert_array_equal(array, two.bundle.arrays[name])
    told = spread(again)
    values = sorted(run.scores["accuracy"].value for run in again)
    assert (told["median"], told["low"], told["high"], told["failed"]) == (values[1], values[0], values[2], 0)


def test_the_best_weights_are_kept_and_a_run_that_gets_worse_ends(files, tmp_path, monkeypatch):
    """Evaluations are made up: the second is the best, then three worse ones end the run."""
    values = iter([0.3, 0.9, 0.8, 0.8, 0.9, 0.1])
    seen = []

    class Told(watch.Watch):
        def _judge(self, run, state):
            self.evaluate = lambda: watch.Found(next(values), False)
            seen.append({name: p.detach().clone().numpy() for name, p in run.model.named_parameters()})
            return super()._judge(run, state)

    monkeypatch.setattr("halbert.train.finetuning.Watch", Told)
    recipe = made.tuning(epochs=9, patience=3)
    (run,) = finetune(small.bundle(), **files, out=tmp_path / "out", recipe=recipe)
    assert [value for _, value in run.summary["evaluations"]] == [0.3, 0.9, 0.8, 0.8, 0.9]
    assert run.summary["best_step"] == 24 and run.summary["steps"] == 60
    for name, array in run.bundle.arrays.items():
        np.testing.assert_array_equal(array, seen[1][name])
        assert (array != seen[4][name]).any() or "pooler" in name or array.ndim == 1
    values = iter([0.3, 0.9, 0.8, 0.8, 0.9, 0.1])
    (last,) = finetune(small.bundle(), **files, out=tmp_path / "last", recipe=made.tuning(epochs=3, keep="last"))
    assert last.summary["best_step"] == last.summary["steps"] == 36


def test_rates_fall_with_depth():
    recipe = made.tuning(layer_decay=0.5)
    model = start_model(small.bundle(), tiny.HEADS["label"], 0)
    scale = {
        name: group["scale"] for group in make_optimizer(model, recipe).param_groups for name in group["param_names"]
    }
    assert scale["heads.label.dense.weight"] == scale["encoder.pooler.weight"] == 1
    assert scale["encoder.attention.1.0.query.weight"] == scale["encoder.ffn.1.0.output.bias"] == 1
    assert scale["encoder.attention.0.0.query.weight"] == 0.5 and scale["encoder.embeddings.piece.weight"] == 0.25
    shared = start_model(small.bundle(**small.ALBERT), tiny.HEADS["label"], 0)
    scale = {
        name: group["scale"] for group in make_optimizer(shared, recipe).param_groups for name in group["param_names"]
    }
    assert scale["encoder.attention.0.0.query.weight"] == 1 and scale["encoder.projection.weight"] == 0.25
    assert len(scale) == len(dict(shared.named_parameters()))


def test_usual_settings():
    def encoder(**changes):
        return EncoderSpec(**{"vocab_size": 100, "num_hidden_layers": 12, "num_hidden_groups": 12, "num_attention_heads": 12,
                              "hidden_size": 768, "embedding_size": 768, "intermediate_size": 3072, **changes})  # fmt: skip

    cola = get_task("cola")
    assert usual_recipe(cola, encoder()).learning_rate == 5e-5 and usual_recipe(cola, encoder()).batch_size == 32
    shared = usual_recipe(cola, encoder(num_hidden_groups=1, embedding_size=128))
    assert (shared.learning_rate, shared.batch_size, shared.steps, shared.length) == (1e-5, 16, 5336, 512)
    narrow = encoder(num_hidden_groups=1, hidden_size=252, embedding_size=128)
    assert usual_recipe(cola, narrow) == usual_recipe(cola, encoder(hidden_size=252)) != shared
    assert usual_recipe(cola, narrow).learning_rate == 3e-4
    assert usual_recipe(cola, encoder(hidden_size=384)).learning_rate == 1e-4
    for kind, rates in {"answer": (5e-5, 3e-4, 1e-4, 5e-5), "embed": (2e-5, 1.2e-4, 4e-5, 2e-5)}.items():
        widths = (encoder(), narrow, encoder(hidden_size=384), encoder(hidden_size=1024, num_attention_heads=16))
        assert tuple(usual_recipe(get_task(kind), width).learning_rate for width in widths) == rates
    wide = encoder(hidden_size=4096, num_attention_heads=64, num_hidden_groups=1, embedding_size=128)
    assert usual_recipe(get_task("classify"), wide).learning_rate == 1e-5
    assert usual_recipe(get_task("squad1"), encoder(), {"learning_rate": 1e-3}).learning_rate == 1e-3
    assert usual_recipe(get_task("squad1"), encoder(max_position_embeddings=64)).length == 64
    with pytest.raises(SpecError, match="learning_rat"):
        usual_recipe(cola, encoder(), {"learning_rat": 1})


def test_a_file_is_read_again_and_again(files):
    rows = DataFile(files["train"])
    assert len(list(rows)) == len(list(rows)) == 90
