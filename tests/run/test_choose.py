"""Multiple choice: any number of candidates a text, batched as single rows, equal to the head that reads them together."""

from __future__ import annotations

import numpy as np
import pytest

from halbert.errors import HalbertError, InputError
from halbert.run.predictor import load
from tests import small, tiny

TEXTS = ["the cat sat", "a dog", "the cat sat on the mat ."]
CHOICES = [["a mat", "on the dog dog dog", "!"], ["cat", "the the", "eat"], ["1", "2 1 2", "want"]]


@pytest.fixture(scope="module")
def chooser():
    return load(small.bundle(("choice",), seed=5), precision="fp32")


def test_equals_the_head_in_the_graph(chooser):
    found = chooser.choose(TEXTS, CHOICES)
    pairs = [(text, choice) for text, some in zip(TEXTS, CHOICES, strict=True) for choice in some]
    work = chooser.prepare([a for a, _ in pairs], [b for _, b in pairs])
    from halbert.data.batches import pad_rows

    rows = pad_rows([work.rows[i] for i in work.unique], 0)
    table = chooser.backend.forward(rows, ["choice"])["choice"].astype(np.float64)
    expected = np.exp(table) / np.exp(table).sum(1, keepdims=True)
    np.testing.assert_allclose([f["probabilities"] for f in found], expected, atol=1e-5)
    assert [f["choice"] for f in found] == expected.argmax(1).tolist()
    assert np.ptp(expected, 1).min() > 1e-3, "candidates that are all alike prove nothing"


def test_unequal_numbers_and_order(chooser):
    alone = [chooser.choose([t], [c])[0] for t, c in zip(TEXTS, CHOICES, strict=True)]
    mixed = chooser.choose([*TEXTS, "a dog"], [*CHOICES, ["cat", "the the"]])
    for one, many in zip(alone, mixed, strict=False):
        np.testing.assert_allclose(one["probabilities"], many["probabilities"], atol=1e-5)
    assert len(mixed[3]["probabilities"]) == 2
    assert chooser.choose([], []) == []


def test_what_cannot_be_chosen(chooser):
    with pytest.raises(InputError, match="text 1: has no choices"):
        chooser.choose(["a", "b"], [["x"], []])
    with pytest.raises(InputError, match="2 texts and 1 lists"):
        chooser.choose(["a", "b"], [["x"]])
    with pytest.raises(InputError, match="choose\\(texts, choices\\)"):
        chooser.predict(["a"])
    with pytest.raises(InputError, match="kind label; this needs one of kind choice"):
        load(small.bundle(("label",)), precision="fp32").choose(["a"], [["b"]])
    assert tiny.HEADS["choice"].kind == "choice"


def test_a_number_that_is_not_finite_names_the_text_and_not_the_candidate():
    bundle = small.bundle(("choice",), seed=5)
    piece = bundle.arrays["encoder.embeddings.piece.weight"].copy()
    piece[bundle.tokenizer.encode("want").ids[1]] = np.nan
    broken = bundle.replace(arrays={**bundle.arrays, "encoder.embeddings.piece.weight": piece})
    with pytest.raises(HalbertError, match=r"^text 2: the model's pooled is not finite"):  # in the ninth candidate
        load(broken, precision="fp32").choose(TEXTS, CHOICES)
