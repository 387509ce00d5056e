from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from halbert.errors import HalbertError
from halbert.heads import HeadSpec
from halbert.tasks.decoding import check_finite, decode_label, decode_score, sigmoid, softmax

HEAD = HeadSpec(kind="label", labels=("x", "y", "z"))
FINITE = st.floats(-(2.0**99), 2.0**99, width=32)


@given(arrays.arrays(np.float32, (2, 3), elements=FINITE))
def test_softmax(logits):
    found = softmax(logits)
    assert found.dtype == np.float64 and np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(-1), 1)
    for row, probabilities in zip(logits.astype(float), found, strict=True):
        expected = [math.exp(max(x - row.max(), -700)) for x in row]
        np.testing.assert_allclose(probabilities, np.array(expected) / sum(expected), atol=1e-12)


@given(arrays.arrays(np.float32, (3,), elements=st.floats(-50, 50, width=32)))
def test_label(logits):
    found = decode_label(logits, HEAD)
    assert list(found["probabilities"]) == ["x", "y", "z"]
    assert found["label"] == HEAD.labels[int(logits.argmax())]
    assert found["probabilities"][found["label"]] == max(found["probabilities"].values())
    assert all(type(p) is float for p in found["probabilities"].values())


def test_labels_and_logits_must_be_as_many():
    with pytest.raises(ValueError):
        decode_label(np.zeros(2, np.float32), HEAD)


def test_score():
    assert decode_score(np.array([1.5], np.float32)) == {"score": 1.5}
    assert type(decode_score(np.array([1.5], np.float32))["score"]) is float


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_names_its_text(bad):
    values, rows = np.zeros((3, 2, 2), np.float32), np.array([7, 3, 5])
    check_finite(values, rows, "last")
    values[1, 1, 0] = bad
    with pytest.raises(HalbertError, match=r"^text 3: the model's last is not finite"):
        check_finite(values, rows, "last")


@given(arrays.arrays(np.float32, (3,), elements=FINITE))
def test_several_labels(logits):
    head = HeadSpec(kind="label", labels=("x", "y", "z"), several=True)
    found = decode_label(logits, head)
    assert found["labels"] == [
        label for label, x in zip(head.labels, logits, strict=True) if found["probabilities"][label] > 0.5
    ]
    wanted = [1 / (1 + math.exp(min(-float(x), 700))) for x in logits]
    np.testing.assert_allclose(sigmoid(logits), wanted, atol=1e-12)
    assert decode_label(np.array([9.0, -9.0, 9.0], np.float32), head)["labels"] == ["x", "z"]
