"""Simulated audits: real results by example and real timings of one model, drawn again, through the real scheduler and the
real comparisons, all of a report counted together."""

from __future__ import annotations

import pytest

from tests.compare import sampled

pytestmark = pytest.mark.skipif(not sampled.FILE.exists(), reason="no samples of a real audit")


@pytest.fixture(scope="module")
def real():
    return sampled.read()


@pytest.fixture
def resamples(monkeypatch):
    monkeypatch.setattr("halbert.compare.measurement.RESAMPLES", 4000)


def count(real, audits, of, **planted):
    return sum(of(sampled.audit(real, number, **planted)) for number in range(audits))


def slow_too(few, many):
    return pytest.mark.parametrize("audits", [few, pytest.param(many, marks=pytest.mark.slow)])


@slow_too(12, 100)
def test_two_copies_of_one_model_do_not_differ(real, resamples, audits):
    assert count(real, audits, lambda found: not found) >= 0.95 * audits - (audits < 100)


@slow_too(12, 100)
def test_five_points_are_found(real, resamples, audits):
    found = count(real, audits, lambda found: "task_accuracy" in found, points=0.05)
    assert found >= 0.95 * audits - (audits < 100)


@slow_too(12, 100)
def test_a_tenth_slower_is_found(real, resamples, audits):
    def of(found):
        return {"latency_128_p50", "throughput"} <= found

    assert count(real, audits, of, slower=0.1) >= 0.95 * audits - (audits < 100)


def test_a_lying_probe_finds_what_is_not_there_and_not_what_is(real, resamples):
    # It says 5 points more for b, and the same time for all.
    assert count(real, 5, lambda found: "task_accuracy" in found, lying=True) == 5
    assert count(real, 5, lambda found: "latency_128_p50" in found, slower=0.1, lying=True) == 0
