"""Each example's part of a score, against leaving it out by the library's own score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.compare.jackknife import expected_error_by_example, macro_f1_by_example
from halbert.tasks.calibration import expected_error
from halbert.tasks.metrics import macro_f1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=12, max_size=60))
def test_macro_f1(pairs):
    pairs = [*((c, c) for c in range(4)), *((c, c) for c in range(4)), *pairs]  # no class goes when an example does
    truth, guess = np.array(pairs).T
    value, parts = macro_f1_by_example(truth, guess)
    assert value == pytest.approx(macro_f1(truth, guess)) and parts.mean() == pytest.approx(value)
    without = np.array([macro_f1(np.delete(truth, i), np.delete(guess, i)) for i in range(len(truth))])
    assert parts - parts.mean() == pytest.approx(-(len(truth) - 1) * (without - without.mean()))


@given(st.lists(st.tuples(st.floats(0.25, 1), st.booleans()), min_size=2, max_size=60))
def test_expected_error(answers):
    sure, right = np.array([c for c, _ in answers]), np.array([float(r) for _, r in answers])
    value, parts = expected_error_by_example(sure, right)
    assert value == pytest.approx(expected_error(sure, right)) and parts.mean() == pytest.approx(value)
    without = np.array([expected_error(np.delete(sure, i), np.delete(right, i)) for i in range(len(right))])
    assert parts - parts.mean() == pytest.approx(-(len(right) - 1) * (without - without.mean()), abs=1e-9)


def test_their_spread_is_the_score_s():
    """The standard error that the parts give is that of scores of data drawn anew."""
    rng = np.random.default_rng(0)

    def drawn():
        truth = rng.integers(0, 3, 300)
        return truth, np.where(rng.random(300) < 0.7, truth, rng.integers(0, 3, 300))

    scores = np.array([macro_f1(*drawn()) for _ in range(300)])
    told = [macro_f1_by_example(*drawn())[1].std(ddof=1) / np.sqrt(300) for _ in range(20)]
    assert np.median(told) == pytest.approx(scores.std(), rel=0.15)
