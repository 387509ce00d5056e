from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from halbert.compare.jackknife import macro_f1_by_example
from halbert.compare.measurement import Spread, compare_all, compare_pair, shared_level, undefined
from halbert.errors import HalbertError
from tests.compare.made import quantity, taken

STATISTICS = {
    "mean": lambda x: float(np.mean(x)),
    "p50": lambda x: float(np.percentile(x, 50)),
    "p95": lambda x: float(np.percentile(x, 95)),
}
ALWAYS = lambda *_: True  # noqa: E731
NEVER_EQUAL = lambda *_: []  # noqa: E731


@pytest.fixture(autouse=True, scope="module")
def quick():
    """A quarter of the resamples: the intervals' ends move by a few hundredths of their width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("halbert.compare.measurement.RESAMPLES", 1000)
        yield


@given(
    st.sampled_from(sorted(STATISTICS)),
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
)
def test_value_is_the_statistic_of_the_samples(statistic, samples):
    m = taken("a", samples, statistic=statistic)
    assert m.value == pytest.approx(STATISTICS[statistic](samples), rel=1e-12, abs=1e-9)
    assert m.samples == samples
    if len(samples) == 1:
        assert (m.low, m.high) == (None, None)
    else:
        assert m.low <= m.high
        assert m.low >= 0 or min(samples) < 0


@pytest.mark.parametrize("statistic", sorted(STATISTICS))
def test_the_interval_covers_the_truth(statistic):
    """Of 200 samples of size 40 from a known distribution, the 95 % interval holds the truth at least 85 % of the time."""
    truth = {"mean": 0.0, "p50": 0.0, "p95": 1.6449}[statistic]
    rng = np.random.default_rng(0)
    runs = [taken("a", list(rng.standard_normal(40)), statistic=statistic) for _ in range(200)]
    covered = np.mean([m.low <= truth <= m.high for m in runs])
    # The percentile bootstrap of an extreme quantile is known to cover less.
    assert (0.80 if statistic == "p95" else 0.88) <= covered < 1
    widths = [m.high - m.low for m in runs]
    assert 0 < np.median(widths) < 2


@pytest.mark.parametrize("statistic", ["mean", "p50"])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_runs_of_equals_are_hardly_ever_told_apart(statistic, n):
    """Of three runs a resampled median never moves beyond the runs: 5 % of equals were then told apart at a level of 0.14 %."""
    rng = np.random.default_rng(0)
    found = shown = 0
    for _ in range(400):
        rounds = rng.normal(100, 1, n)
        a, b = (taken(name, list(rounds + rng.normal(0, 1, n)), statistic=statistic) for name in "ab")
        comparison = compare_pair(a, b, 0.05 / 35, [])
        found += comparison.significant
        shown += comparison.low > 0 or comparison.high < 0
    assert found <= 5 and shown <= 40


def test_what_never_differed_in_a_few_runs_is_not_certain():
    a, b = taken("a", [0.0] * 3), taken("b", [1 / 3] * 3)
    assert not compare_pair(a, b, 0.05, []).significant
    assert compare_pair(taken("a", [0.0, 0.01, 0.02]), taken("b", [0.9, 0.92, 0.91]), 0.05, []).significant


def test_exact():
    m = taken("a", [7.0, 7.0], statistic="exact")
    assert (m.value, m.low, m.high) == (7, 7, 7)
    with pytest.raises(HalbertError, match="is exact, but its samples differ"):
        taken("a", [7.0, 8.0], statistic="exact")


@pytest.mark.parametrize("samples", [[], [1.0, math.nan], [math.inf], [-math.inf, 1.0]])
@pytest.mark.parametrize("statistic", ["exact", "mean", "p95"])
def test_no_samples_or_none_that_is_finite(samples, statistic):
    with pytest.raises(HalbertError, match="probe of a: throughput has no samples, or one that is not finite"):
        taken("a", samples, statistic=statistic)


def test_undefined_is_none_with_a_reason():
    m = undefined(quantity(), "probe", "a", "command", "no such head")
    assert (m.value, m.low, m.high, m.samples, m.why) == (None, None, None, [], "no such head")
    b = taken("b", [1.0, 2.0])
    assert compare_pair(m, b, 0.05, []) is None and compare_pair(b, m, 0.05, []) is None
    assert compare_all([m, b], NEVER_EQUAL, ALWAYS) == []


def found(a: float, b: float, statistic: str, seed: int, n: int = 30, drift: float = 0.0) -> bool:
    """Whether a difference is called real between two subjects measured in interleaved rounds."""
    rng = np.random.default_rng(seed)
    weather = drift * np.cumsum(rng.standard_normal(n)) / math.sqrt(n)
    x, y = (list(middle + weather + 0.1 * rng.standard_normal(n)) for middle in (a, b))
    (c,) = compare_all([taken("a", x, statistic=statistic), taken("b", y, statistic=statistic)], NEVER_EQUAL, ALWAYS)
    assert c.low <= c.high
    return c.significant


@pytest.mark.parametrize("statistic", ["mean", "p50"])
def test_a_planted_difference_is_found_and_planted_equality_is_not(statistic):
    different = sum(found(1.0, 1.2, statistic, seed) for seed in range(100))
    equal = sum(found(1.0, 1.0, statistic, seed) for seed in range(100))
    assert different >= 95
    # 5 % were promised; of 100 equal pairs, 12 or more would come up once in 200 runs at 5 %.
    assert equal < 12


def test_rounds_are_paired():
    """A drift common to both subjects, ten times the noise, hides nothing: samples of one round stay together."""
    assert sum(found(1.0, 1.2, "mean", seed, drift=3.0) for seed in range(30)) >= 27
    assert sum(found(1.0, 1.0, "mean", seed, drift=3.0) for seed in range(60)) < 9


def judged(rate_a: float, rate_b: float, seed: int, seeds: int = 3, examples: int = 150):
    """Two classifiers scored on the same examples, of which some are hard for both."""
    rng = np.random.default_rng(seed)
    hard = rng.standard_normal(examples)
    items = []
    for rate in (rate_a, rate_b):
        limit = np.quantile(hard, rate)
        items.append(((hard + 0.3 * rng.standard_normal((seeds, examples))) < limit).astype(float))
    a, b = (
        taken(name, list(x.mean(1)), x.tolist(), name="rows_accuracy", unit="share", statistic="mean", better="higher")
        for name, x in zip("ab", items, strict=True)
    )
    assert a.value == pytest.approx(items[0].mean()) and a.items == items[0].tolist()
    return compare_all([a, b], NEVER_EQUAL, ALWAYS)[0]


def test_judged_examples(monkeypatch):
    monkeypatch.setattr("halbert.compare.measurement.RESAMPLES", 500)
    different = [judged(0.6, 0.8, seed) for seed in range(15)]
    equal = [judged(0.7, 0.7, seed) for seed in range(40)]
    assert sum(c.significant and c.better == "b" for c in different) >= 14
    assert sum(c.significant for c in equal) < 7
    assert np.mean([c.low <= 0 <= c.high for c in equal]) >= 0.8


def test_what_has_no_better_side_is_not_compared():
    made = [taken(name, [1.0], better="neither", statistic="exact") for name in "ab"]
    assert compare_all(made, lambda a, b: [], ALWAYS) == []


@pytest.mark.parametrize(("better", "winner"), [("lower", "a"), ("higher", "b")])
@pytest.mark.parametrize("statistic", ["exact", "p50"])
def test_direction_of_better(better, winner, statistic):
    x, y = (
        ([1.0] * 9, [2.0] * 9)
        if statistic == "exact"
        else ([1.0 + k / 100 for k in range(9)], [2.0 + k / 90 for k in range(9)])
    )
    (c,) = compare_all(
        [taken("a", x, better=better, statistic=statistic), taken("b", y, better=better, statistic=statistic)],
        lambda a, b: [f"{a} and {b}"], ALWAYS,
    )  # fmt: skip
    assert c.significant and c.better == winner and c.difference > 0.9
    assert (c.a, c.b, c.equal_in) == ("a", "b", ["a and b"])


def test_exact_comparisons():
    (c,) = compare_all(
        [taken("a", [3.0], statistic="exact"), taken("b", [3.0], statistic="exact")], NEVER_EQUAL, ALWAYS
    )
    assert (c.difference, c.low, c.high, c.significant, c.better) == (0, 0, 0, False, None)


def test_the_error_is_shared_among_all_comparisons():
    """A difference that stands alone falls when it is one of many."""
    rng = np.random.default_rng(3)
    x, y = list(1 + 0.1 * rng.standard_normal(30)), list(1.055 + 0.1 * rng.standard_normal(30))
    alone = compare_all([taken("a", x), taken("b", y)], NEVER_EQUAL, ALWAYS)
    others = [taken(s, x, name=f"other{i}") for i in range(60) for s in "ab"]
    among = compare_all([taken("a", x), taken("b", y), *others], NEVER_EQUAL, ALWAYS)
    assert alone[0].significant and not among[0].significant
    assert (alone[0].low, alone[0].high) == (among[0].low, among[0].high)  # the interval shown stays at 95 %
    exact = [taken(s, [1.0], name=f"exact{i}", statistic="exact") for i in range(60) for s in "ab"]
    assert compare_all([taken("a", x), taken("b", y), *exact], NEVER_EQUAL, ALWAYS)[0].significant


@given(st.lists(st.floats(0, 6), min_size=1, max_size=12))
@settings(max_examples=40)
def test_the_level_is_holms(values):
    """As his procedure by p-values: the smallest against 5 % / m, the next against 5 % / (m - 1), until one is above."""
    runs = np.random.default_rng(0).permutation(norm.ppf((np.arange(10_000) + 0.5) / 10_000))
    spreads = [Spread(value, runs, 0.0, 1e6) for value in values]
    levels = [0.05 / m for m in range(1, len(values) + 1)]
    found = 0
    order = sorted(spreads, key=lambda spread: -abs(spread.value))
    while found < len(values) and order[found].differs(levels[len(values) - found - 1]):
        found += 1
    level = shared_level(spreads)
    assert sum(spread.differs(level) for spread in spreads) == found
    assert level == pytest.approx(0.05 / max(1, len(values) - found))


def test_what_certainly_differs_takes_no_error_from_the_others():
    """Of 20 comparisons 15 differ beyond doubt: the other five share the 5 %, and err no more often together."""
    rng = np.random.default_rng(0)
    erred = helped = 0
    for _ in range(200):
        runs = rng.standard_normal(2000)
        sure = [Spread(50.0, runs, 0.0, 1e6) for _ in range(15)]
        null = [Spread(float(rng.standard_normal()), runs, 0.0, 1e6) for _ in range(5)]
        level = shared_level([*sure, *null])
        erred += any(spread.differs(level) for spread in null)
        helped += level > 3 * 0.05 / 20
    assert helped == 200 and erred <= 20


def test_every_pair_of_every_quantity_once():
    measurements = [taken(s, [1.0, 2.0], name=n) for n in ("x", "y") for s in "abc"]
    made = [
        (c.name, c.a, c.b) for c in compare_all(measurements, NEVER_EQUAL, lambda name, a, b: (name, b) != ("y", "c"))
    ]
    assert made == [("x", "a", "b"), ("x", "a", "c"), ("x", "b", "c"), ("y", "a", "b")]


def test_calls_of_one_round_are_drawn_together():
    """A disturbance meets all calls of a round; drawn one by one they would seem three times as many as they are."""
    rng = np.random.default_rng(0)
    for rounds in (40, 6):  # resampled, and computed
        covered: dict[int, list[bool]] = {1: [], 3: []}
        for _ in range(300):
            x = np.repeat(rng.standard_normal(rounds), 3) + 0.01 * rng.standard_normal(3 * rounds)
            for calls, found in covered.items():
                m = taken("a", list(x), statistic="mean", calls=calls)
                found.append(m.low <= 0 <= m.high)
        assert np.mean(covered[3]) > 0.88 and np.mean(covered[1]) < 0.82, rounds
    few = taken("a", [1.0, 1.1, 1.2, 2.0, 2.1, 2.2], statistic="p95", calls=3)
    assert few.low < few.value < few.high and few.high - few.low > taken("a", few.samples, statistic="p95").high - 0


def test_scores_that_are_no_means_are_compared_example_by_example(monkeypatch):
    """Macro F1 and calibration of two equal models on the same few rows: with seeds alone equals came out different."""
    monkeypatch.setattr("halbert.compare.measurement.RESAMPLES", 1000)
    rng = np.random.default_rng(0)
    told = {kept: 0 for kept in (True, False)}
    for _ in range(60):
        truth = rng.integers(0, 3, 80)
        sides = []
        for _ in "ab":
            guess = np.where(rng.random(80) < 0.7, truth, rng.integers(0, 3, 80))
            seeds = [np.where(rng.random(80) < 0.02, rng.integers(0, 3, 80), guess) for _ in range(3)]
            sides.append([macro_f1_by_example(truth, g) for g in seeds])
        for kept in told:
            a, b = (
                taken(
                    name,
                    [v for v, _ in side],
                    [list(i) for _, i in side] if kept else None,
                    name="f",
                    unit="share",
                    statistic="mean",
                )
                for name, side in zip("ab", sides, strict=True)
            )
            c = compare_pair(a, b, 0.05, [])
            told[kept] += c.low > 0 or c.high < 0
    assert told[True] <= 7 and told[False] >= 15
