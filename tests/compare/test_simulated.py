"""Simulated audits: real results by example and real timings of one model, drawn again, through the real scheduler and the
real comparisons, all of a report counted together."""

from __future__ import annotations

import pytest

from halbert.compare.plan import DEPTHS
from tests.compare import sampled

FEW, MANY = 3, 100
pytestmark = pytest.mark.timeout(1800)
audits = pytest.mark.parametrize("audits", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def real():
    return sampled.read()


@pytest.fixture(autouse=True)
def resamples(monkeypatch):
    monkeypatch.setattr("halbert.compare.measurement.RESAMPLES", 4000)


def count(real, audits, depth, of, **planted):
    return sum(of(sampled.audit(real, number, DEPTHS[depth], **planted)) for number in range(audits))


def enough(audits):
    """95 of 100; of a few one may be missed."""
    return 95 if audits == MANY else audits - 1


@audits
@pytest.mark.parametrize("depth", ["usual", "full"])
def test_two_copies_of_one_model_do_not_differ(real, depth, audits):
    assert count(real, audits, depth, lambda found: not found) >= enough(audits)


@audits
def test_five_points_are_found(real, audits):
    assert count(real, audits, "full", lambda found: "task_accuracy" in found, points=0.05) >= enough(audits)


@audits
@pytest.mark.parametrize("depth", ["usual", "full"])
def test_a_tenth_slower_is_found(real, depth, audits):
    def of(found):
        return {"latency_128_p50", "throughput"} <= found

    assert count(real, audits, depth, of, slower=0.1) >= enough(audits)


def test_a_lying_probe_finds_what_is_not_there_and_not_what_is(real):
    # It says 5 points more for b, and the same time for all.
    assert count(real, 3, "full", lambda found: "task_accuracy" in found, lying=True) >= 2
    assert count(real, 3, "usual", lambda found: "latency_128_p50" in found, slower=0.1, lying=True) == 0
