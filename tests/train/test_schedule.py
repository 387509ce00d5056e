from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.train.schedule import linear


def test_by_hand():
    rates = [linear(step, 1.0, 4, 10) for step in range(11)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


@given(st.floats(1e-6, 1), st.integers(0, 50), st.integers(1, 200))
def test_up_then_down(peak, warmup, more):
    steps = warmup + more
    rates = [linear(step, peak, warmup, steps) for step in range(steps + 1)]
    assert min(rates[:-1]) > 0 and rates[-1] == 0
    assert rates[warmup] == peak and max(rates) == pytest.approx(peak, rel=1e-12)
    assert rates[:warmup] == sorted(rates[:warmup]) and rates[warmup:] == sorted(rates[warmup:], reverse=True)
    # Continuous: no step is larger than one of warm-up's or of decay's.
    jumps = [abs(a - b) for a, b in itertools.pairwise(rates)]
    assert max(jumps) <= peak * max(1 / max(1, warmup), 1 / more) * (1 + 1e-9)


def test_all_warm_up():
    assert [linear(step, 1.0, 4, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert linear(4, 1.0, 4, 4) == 0


def test_after_the_warm_up_it_is_transformers_schedule():
    """FACTS 5.4: 5.0505e-5 at half of BERT's million steps, where Google's own code says 5e-5."""
    assert linear(500_000, 1e-4, 10_000, 1_000_000) == pytest.approx(5.0505e-5, rel=1e-5)
    assert linear(62_500, 0.00176, 3_125, 125_000) == pytest.approx(9.0256e-4, rel=1e-4)
    assert linear(10_000, 1e-4, 10_000, 1_000_000) == 1e-4
