from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from halbert.errors import InputError
from halbert.run.evaluation import evaluate, guess_classes
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
    assert len(set(guess_classes(predictor, examples, 4))) == 1
    predictor.predict(["the cat dog"], max_length=4)
    assert predictor.cut == 1


def test_refusals(predictor, tmp_path):
    file = small.write_csv(tmp_path / "rows.csv", [("a", "purple")])
    with pytest.raises(InputError, match="'purple' is not among the 3 labels"):
        evaluate(predictor, file)
    tagger = load(tiny.bundle(heads={"tag": tiny.HEADS["tag"]}))
    with pytest.raises(InputError, match="kind tag, which has no task"):
        evaluate(tagger, file)
