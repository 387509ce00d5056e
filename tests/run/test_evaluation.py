from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
import torch
from sklearn import metrics
from torch.nn import functional

from halbert.data.batches import group_by_length, pad_rows
from halbert.data.hidden import hide
from halbert.errors import HalbertError, InputError
from halbert.model.arrays import model_of
from halbert.run.evaluation import class_chances, evaluate, task_of
from halbert.run.predictor import load
from tests import small, tiny


@pytest.fixture(scope="module")
def predictor():
    return load(small.bundle(("label",)), precision="fp32")


def test_evaluate_is_what_scikit_learn_says_of_the_predictions(predictor, tmp_path):
    rows = [(f"{text} {'dog' if i % 2 else 'é ! ?'}", label) for i, (text, label) in enumerate(small.rows(40))]
    result = evaluate(predictor, small.write_csv(tmp_path / "rows.csv", rows))
    guesses = [answer["label"] for answer in predictor.predict([text for text, _ in rows])]
    truth = [label for _, label in rows]
    assert (result["task"], result["n"]) == ("classify", 40)
    assert set(result["metrics"]) == {"accuracy", "macro_f1"}
    assert result["metrics"]["accuracy"]["value"] == pytest.approx(metrics.accuracy_score(truth, guesses))
    assert result["metrics"]["macro_f1"]["value"] == pytest.approx(metrics.f1_score(truth, guesses, average="macro"))
    for score in result["metrics"].values():
        assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1


def test_pairs_are_scored_as_pairs(predictor, tmp_path):
    rows = [(text, "dog", label) for text, label in small.rows(20)]
    file = small.write_csv(tmp_path / "pairs.csv", rows, ("text_a", "text_b", "label"))
    guesses = [a["label"] for a in predictor.predict([r[0] for r in rows], [r[1] for r in rows])]
    right = np.mean([g == r[2] for g, r in zip(guesses, rows, strict=True)])
    assert evaluate(predictor, file)["metrics"]["accuracy"]["value"] == pytest.approx(right)


def test_max_length_is_heard(predictor):
    from halbert.data.readers import Example

    examples = [Example(text="the cat " + "dog " * n, label="red") for n in range(6)]
    assert len(set(class_chances(predictor, examples, 4).argmax(1))) == 1
    predictor.predict(["the cat dog"], max_length=4)
    assert predictor.cut == 1


def test_refusals(predictor, tmp_path):
    file = small.write_csv(tmp_path / "rows.csv", [("a", "purple")])
    with pytest.raises(InputError, match="'purple' is not among the 3 labels"):
        evaluate(predictor, file)
    with pytest.raises(
        InputError, match="regress needs a head of kind score; this model answers with one of kind label"
    ):
        evaluate(predictor, file, task="regress")
    with pytest.raises(InputError, match="max_length 999 exceeds"):
        evaluate(predictor, small.write_csv(tmp_path / "r.csv", small.rows(3)), 999)
    (tmp_path / "tags.conll").write_text("the\tblue\ncat\tpink\n")
    with pytest.raises(InputError, match=r"tags\.conll: the tag 'pink' of the word 'cat' is not among the 5 tags"):
        evaluate(load(tiny.bundle(heads={"tag": tiny.HEADS["tag"]})), tmp_path / "tags.conll")
    with pytest.raises(InputError, match="kind pair, which has no task"):
        evaluate(load(tiny.bundle(heads={"pair": tiny.HEADS["pair"]}), head="pair"), file)


def rows_of(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_everything_told_of_classes_is_counted_from_the_predictions(predictor, tmp_path):
    rows = [(f"{text} {'dog' if i % 2 else 'é ! ?'}", label) for i, (text, label) in enumerate(small.rows(40))]
    told = evaluate(predictor, small.write_csv(tmp_path / "rows.csv", rows), out=tmp_path / "out")
    found = rows_of(tmp_path / "out")
    assert [row["truth"] for row in found] == [label for _, label in rows]
    answers = predictor.predict([text for text, _ in rows])
    assert [row["guess"] for row in found] == [answer["label"] for answer in answers]
    for row, answer in zip(found, answers, strict=True):
        assert row["confidence"] == pytest.approx(max(answer["probabilities"].values()), abs=1e-6)
    labels = told["matrix"]["labels"]
    wanted = metrics.confusion_matrix([r["truth"] for r in found], [r["guess"] for r in found], labels=labels)
    assert told["matrix"]["counts"] == wanted.tolist()
    assert sum(c["n"] for c in told["confusions"]) == sum(r["truth"] != r["guess"] for r in found)
    for label, shares in told["by_label"].items():
        assert shares["n"] == sum(r["truth"] == label for r in found)
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["metrics"] == told["metrics"]
    wrong = [row["index"] for row in sorted(found, key=lambda r: -r["confidence"]) if row["truth"] != row["guess"]]
    assert [row["index"] for row in told["worst"]] == wrong[:20]
    assert sum(row["n"] for row in told["calibration"]["bins"]) == 40
    assert len(told["slowest"]) == 5 and all(row["seconds"] > 0 for row in told["slowest"])
    most = max(len(predictor.bundle.tokenizer.encode(text).ids) for text, _ in rows)
    assert told["slowest"][0]["pieces"] == most


KINDS = {
    "tag": ("a.conll", "the\tblue\ncat\tred\n\n" + "dog\tred\n" * 60, {"tag_accuracy", "macro_tag_f1"}),
    "score": ("a.csv", "text,score\nthe cat,1\na mat,2\ndog,0\n", {"pearson", "spearman"}),
    "choice": ("a.jsonl", '{"text": "the", "choices": ["cat", "a mat"], "label": 1}\n'
               '{"text": "on", "choices": ["1", "2", "dog"], "label": "C"}\n', {"accuracy"}),
    "span": ("a.json", json.dumps({"data": [{"paragraphs": [{"context": "the cat sat on a mat " * 12, "qas": [
        {"id": "x", "question": "cat ?", "answers": [{"answer_start": 4, "text": "cat"}]},
        {"id": "y", "question": "dog", "answers": []}]}]}]}), {"exact_match", "answer_f1"}),
    "mlm": ("a.txt", "the cat sat on a mat\nwanted dog eat\n", {"masked_accuracy", "masked_loss"}),
    "embed": ("a.csv", "text_a,text_b\nthe cat,a cat\ndog,the dog\n", {"mrr", "recall_at_1", "recall_at_10", "ndcg_at_10"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_every_kind_and_both_engines(tmp_path, kind, backend):
    name, content, wanted = KINDS[kind]
    (tmp_path / name).write_text(content)
    heads = {} if kind == "embed" else {kind: tiny.HEADS[kind]}
    bundle = tiny.bundle(small.encoder(), heads, seed=4)
    predictor = load(bundle, precision="fp32", backend=backend)
    task = {"mlm": "fill", "embed": "embed"}.get(kind)
    told = evaluate(predictor, tmp_path / name, task=task, out=tmp_path / "out", batch_tokens=64)
    assert set(told["metrics"]) == wanted - ({"macro_tag_f1"} if kind == "tag" else set())
    assert told["n"] == len(rows_of(tmp_path / "out")) == {"score": 3}.get(kind, 2)
    again = evaluate(load(bundle, precision="fp32", backend="torch"), tmp_path / name, task=task)
    for key, score in told["metrics"].items():
        assert score["value"] == pytest.approx(again["metrics"][key]["value"], abs=1e-4), key
    if kind == "span":
        given = json.loads((tmp_path / "out" / "predictions.json").read_text())
        answers = predictor.predict(["cat ?"], ["the cat sat on a mat " * 12])
        assert set(given) == {"x", "y"} and given["x"] == (answers[0]["answer"]["text"] if answers[0]["answer"] else "")
        assert json.loads((tmp_path / "out" / "no_answer.json").read_text()).keys() == given.keys()
    if kind == "tag":
        assert sum(row["n"] for row in told["by_label"].values()) == 62


def test_texts_longer_than_the_model_are_windows_and_lose_nothing(tmp_path):
    """37 positions: a sentence of 90 words is tagged throughout, an answer is found behind the first window."""
    tagger = load(tiny.bundle(heads={"tag": tiny.HEADS["tag"]}, seed=5), precision="fp32")
    (tmp_path / "a.conll").write_text("".join(f"{w}\tred\n" for w in ["the", "cat", "dog"] * 30))
    told = evaluate(tagger, tmp_path / "a.conll", out=tmp_path / "out")
    assert told["cut"] == {"rows": 0, "pieces": 0, "longest": 0, "windows": told["cut"]["windows"]}
    assert told["cut"]["windows"] >= 2 and len(rows_of(tmp_path / "out")[0]["guess"]) == 90


def test_languages_are_scored_one_by_one(predictor, tmp_path):
    table = [(text, label, "de" if i % 3 else "en") for i, (text, label) in enumerate(small.rows(30))]
    told = evaluate(predictor, small.write_csv(tmp_path / "rows.csv", table, ("text", "label", "language")))
    assert {k: v["n"] for k, v in told["by_language"].items()} == {"de": 20, "en": 10}
    mean = sum(v["n"] * v["accuracy"]["value"] for v in told["by_language"].values()) / 30
    assert mean == pytest.approx(told["metrics"]["accuracy"]["value"])


def test_the_task_is_the_one_the_model_was_tuned_for(predictor):
    head = tiny.HEADS["label"]
    told = {"training": {"kind": "finetuning", "task": "classify", "data_set": "cola"}}
    bundle = tiny.bundle(heads={"label": head}, provenance=told)
    assert task_of(bundle, head, None).name == "cola" and task_of(bundle, head, "sst2").name == "sst2"
    assert task_of(bundle, tiny.HEADS["tag"], None).kind == "tag"
    assert task_of(predictor.bundle, head, None).kind == "classify"


def test_one_class_and_several(predictor, tmp_path):
    """A head that gives several classes is scored by rows that have one each, and not by none; the other way is refused."""
    head = msgspec.structs.replace(tiny.HEADS["label"], several=True)
    many = load(tiny.bundle(small.encoder(), {"label": head}, seed=4), precision="fp32")
    rows = small.rows(20)
    one = evaluate(many, small.write_csv(tmp_path / "one.csv", rows), out=tmp_path / "one")
    (tmp_path / "several.jsonl").write_text("".join(json.dumps({"text": t, "labels": [c]}) + "\n" for t, c in rows))
    several = evaluate(many, tmp_path / "several.jsonl", out=tmp_path / "several")
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "several") and rows_of(tmp_path / "one")[0]["truth"]
    assert one["metrics"] == several["metrics"]
    with pytest.raises(InputError, match="several classes; this model gives each text one"):
        evaluate(predictor, tmp_path / "several.jsonl")


def test_masked_pieces_of_texts_longer_than_the_model(tmp_path):
    """Every window is judged: more of them than texts made the slowest's text be looked for behind the last."""
    filler = load(tiny.bundle(small.encoder(), {"mlm": tiny.HEADS["mlm"]}, seed=4), precision="fp32")
    rows = [{"text": "the cat sat " * 200, "language": "en"}, {"text": "a dog " * 150, "language": "de"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = evaluate(filler, tmp_path / "a.jsonl", task="fill")
    assert told["cut"]["windows"] > 2 and len(told["slowest"]) == 5
    assert {row["text"][:3] for row in told["slowest"]} <= {"the", "a d"}
    worst = told["worst"][0]
    assert (
        worst["text"][:3] in ("the", "a d")
        and worst["truth"].endswith(" hidden pieces")
        and worst["guess"].endswith(" found")
    )
    counts = {language: row["n"] for language, row in told["by_language"].items()}
    rows += [{"text": "", "language": "en"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert evaluate(filler, tmp_path / "a.jsonl", task="fill")["cut"] == told["cut"]  # an empty text has no window
    assert counts["en"] > counts["de"] > 1 and sum(counts.values()) == told["cut"]["windows"] + 2


@pytest.mark.parametrize("language", [None, "de"])
def test_the_loss_of_masked_pieces_is_that_of_torch(tmp_path, language):
    """Mean cross entropy, nats a hidden piece, of all texts and of those of one language."""
    bundle = tiny.bundle(small.encoder(), {"mlm": tiny.HEADS["mlm"]}, seed=4)
    texts = [("the cat sat on a mat", "de"), ("wanted dog eat", "en"), ("a dog , wa sat on the mat .", "de")] * 5
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t, "language": x}) + "\n" for t, x in texts))
    told = evaluate(load(bundle, precision="fp32"), tmp_path / "a.jsonl", task="fill")
    rows = [bundle.tokenizer.encode(text).ids for text, _ in texts]
    (order,) = group_by_length(np.array([len(row) for row in rows]), 4096)  # all in one batch
    padded = pad_rows([(rows[r], [0] * len(rows[r])) for r in order], bundle.tokenizer.special_ids["pad"])
    batch = hide(padded.ids, padded.mask, bundle.tokenizer, bundle.spec.pretraining, np.random.default_rng((0, 0)))
    model = model_of(bundle.spec.encoder, bundle.heads, bundle.arrays).eval()
    with torch.inference_mode():
        logits = model.answer("mlm", model(*(torch.from_numpy(array) for array in batch[:3])))
    at = logits.reshape(-1, logits.shape[-1])[torch.from_numpy(batch.positions)][:, : bundle.tokenizer.vocab_size]
    losses = functional.cross_entropy(at, torch.from_numpy(batch.labels), reduction="none").numpy()
    owner = order[batch.positions // batch.ids.shape[1]]
    kept = [language in (None, texts[row][1]) for row in owner]
    scores = told["metrics"] if language is None else told["by_language"][language]
    assert scores["masked_loss"]["value"] == pytest.approx(losses[kept].mean(), rel=1e-4)
    assert scores["masked_loss"]["low"] < scores["masked_loss"]["value"] < scores["masked_loss"]["high"]


def test_masked_pieces_without_a_finite_number_are_refused(tmp_path):
    bundle = tiny.bundle(small.encoder(), {"mlm": tiny.HEADS["mlm"]}, seed=4)
    bundle.arrays["heads.mlm.norm.bias"] = np.full_like(bundle.arrays["heads.mlm.norm.bias"], np.nan)
    (tmp_path / "a.txt").write_text("the cat sat on a mat\n" * 3)
    with pytest.raises(HalbertError, match="the model's mlm is not finite; no result is given"):
        evaluate(load(bundle, precision="fp32", backend="torch"), tmp_path / "a.txt", task="fill")
