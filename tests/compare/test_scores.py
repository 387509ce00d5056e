"""Scores by a formula one can do by hand, winners only where they are sure, and the weight at which the lead turns."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from halbert.compare.measurement import compare_all
from halbert.compare.scores import CRITERIA, Profile, profiles, rank, rank_all, read_weights, table_of
from halbert.compare.verdict import judge, outcome
from halbert.errors import InputError
from tests.compare.made import taken

ORDER = ["a", "b"]


def rows(**figures):
    """Three equal samples (no spread) of a quantity for each subject, unless samples are given."""
    units = {"bytes_on_disk": "bytes", "throughput": "texts/s", "latency_32_p50": "s"}
    found = []
    for name, values in figures.items():
        more = name == "throughput" or name.endswith("_accuracy")
        for subject, value in zip(ORDER, values, strict=True):
            samples = value if isinstance(value, list) else [value] * 3
            unit = units.get(name, "share")
            how = "exact" if name == "bytes_on_disk" else "mean"
            found.append(
                taken(subject, samples, name=name, unit=unit, statistic=how, better="higher" if more else "lower")
            )
    return found


def compared(found):
    return compare_all(found, lambda a, b: [], lambda name, a, b: True)


def ranked(found, profile):
    return rank(table_of(found, ORDER), profile, compared(found))


def ranked_all(found, own=None):
    return rank_all(found, compared(found), ORDER, own)


def test_scores_by_hand():
    table = table_of(
        rows(bytes_on_disk=(40.0, 10.0), throughput=(50.0, 200.0), x_accuracy=(0.9, 0.8), y_accuracy=(0.6, 0.8)), ORDER
    )
    assert [row.name for row in table.rows] == ["size", "throughput", "quality"]
    size, speed, quality = (row.scores for row in table.rows)
    assert (size, speed) == ({"a": 25.0, "b": 100.0}, {"a": 25.0, "b": 100.0})
    assert quality == {"a": 75.0, "b": 75.0}  # (100 + 50) / 2: what they lack is 0.1 against 0.2, and 0.4 against 0.2
    assert table.rows[2].quantities == ["x_accuracy", "y_accuracy"]


def test_masked_accuracy_is_no_task_and_missing_figures_are_left_out():
    found = rows(masked_accuracy=(0.3, 0.2), bytes_on_disk=(1.0, 2.0))
    assert [row.name for row in table_of(found, ORDER).rows] == ["size", "masked"]
    assert [row.name for row in table_of(found[:-1], ORDER).rows] == ["masked"]
    scores, rankings = ranked_all([])
    assert scores == [] and all(not r.scores and r.winner is None for r in rankings)


def test_a_winner_is_called_where_it_is_sure():
    rng = np.random.default_rng(0)
    noise = [float(x) for x in rng.normal(0, 20, 9)]
    near = rows(throughput=([100 + x for x in noise], [103 + x for x in noise]))
    clear = rows(throughput=([100 + x / 50 for x in noise], [110 - x / 50 for x in noise]))
    server = Profile(name="s", title="Server", weights={"throughput": 1})
    unsure, sure = (ranked(found, server) for found in (near, clear))
    assert unsure.winner is None and 0.5 < unsure.probabilities["b"] < 0.95
    assert sure.winner == "b" and sure.probabilities == {"a": 0.0, "b": 1.0}
    level = ranked(rows(throughput=(5.0, 5.0)), server)
    assert level.winner is None and level.probabilities == {"a": 0.5, "b": 0.5}  # of equal figures none wins


def test_what_was_not_measured_decides_nothing():
    """The heaviest criterion, or half of the weight: then a profile is not judged, and says why."""
    made = rows(bytes_on_disk=(40.0, 100.0), throughput=(1.0, 2.0))
    for weights, judged in (
        ({"quality": 8, "size": 1, "throughput": 1}, False), ({"quality": 2, "size": 2}, False), ({"quality": 1}, False),
        ({"quality": 1, "size": 3}, True), ({"size": 1}, True), ({"quality": 1, "size": 1, "throughput": 1}, True),
    ):  # fmt: skip
        found = ranked(made, Profile(name="p", title="P", weights=weights))
        assert bool(found.scores) == judged
        text = outcome(msgspec.to_builtins(found))
        assert ("accuracy on tasks" in text) == ("quality" in weights) and (judged or "not judged" in text)


def test_no_winner_is_called_on_one_run():
    found = ranked(rows(throughput=([1.0], [2.0])), Profile(name="p", title="P", weights={"throughput": 1}))
    assert found.winner is None and found.single == ["Speed, many texts"]
    assert "figures of one run" in outcome(msgspec.to_builtins(found))


def test_equals_of_which_one_is_first_by_chance():
    """Of two equal models one is first in 95 % of draws in every tenth audit; no winner then, since no figure says so."""
    server = Profile(name="s", title="Server", weights={"throughput": 1})
    rng, first, winners = np.random.default_rng(0), 0, 0
    for _ in range(200):
        a, b = (list(100 + rng.standard_normal(20)) for _ in ORDER)
        found = ranked(rows(throughput=(a, b), x_seconds=([1.0, 1.1, 0.9], [1.0, 1.1, 0.9])), server)
        sure = max(found.probabilities.values()) >= 0.95
        first, winners = first + sure, winners + (found.winner is not None)
        if sure and not found.winner:
            assert found.alike and "beyond chance" in outcome(msgspec.to_builtins(found))
    assert first >= 12 and winners <= 10 and winners < first


def test_what_was_not_compared_is_not_scored():
    found = rows(masked_accuracy=(0.3, 0.2), bytes_on_disk=(1.0, 2.0))
    some = [c for c in compared(found) if c.name != "masked_accuracy"]  # other tokenizers
    scores, _ = rank_all(found, some, ORDER)
    assert [row.name for row in scores] == ["size"]


def test_the_weight_at_which_the_lead_turns():
    """a: size 100, quality 50; b: size 40, quality 100. With weights 1 and w the lead turns where 60 = 50 w."""
    found = rows(bytes_on_disk=(40.0, 100.0), x_accuracy=([0.7999, 0.8, 0.8001], [0.9001, 0.9, 0.8999]))
    ranking = ranked(found, Profile(name="p", title="P", weights={"size": 1, "quality": 1}))
    assert ranking.winner == "a" and ranking.scores == {"a": 75.0, "b": 70.0}
    turns = {flip.criterion: flip for flip in ranking.flips}
    assert turns["quality"].weight == pytest.approx(1.2) and turns["size"].weight == pytest.approx(0.833)
    for name, flip in turns.items():
        for nudge, leader in ((1.01, "b"), (0.99, "a")):
            way = nudge if name == "quality" else 2 - nudge
            other = ranked(
                found, Profile(name="p", title="P", weights={"size": 1, "quality": 1, name: flip.weight * way})
            )
            assert other.winner == leader


def test_a_sentence_for_each_outcome():
    _, rankings = ranked_all(rows(bytes_on_disk=(40.0, 100.0), x_accuracy=(0.8, 0.9)), {"size": 3.0})
    told = [outcome(msgspec.to_builtins(r)) for r in rankings]
    said = "Your own weights: a (a 100.0, b 40.0; first in 100 % of draws). With a weight of 3.6 for quality, instead of 0, b leads."
    assert told[0] == said
    assert len(told) == 1 + len(profiles()) and all(
        r.name in text or r.title in text for r, text in zip(rankings, told, strict=True)
    )
    assert any("With a weight of" in text for text in told)


@pytest.mark.parametrize("words", [["sise=3"], ["size"], ["size=x"], ["size=-1"], ["size=nan"], ["size=0"], ["=3"]])
def test_weights_that_are_none(words):
    with pytest.raises(InputError):
        read_weights(words)


def test_shipped_profiles_know_their_criteria():
    assert read_weights([]) == {} and read_weights(["size=3", "quality=0.5"]) == {"size": 3.0, "quality": 0.5}
    named = {c.name for c in CRITERIA}
    assert all(set(profile.weights) <= named for profile in profiles())
    assert set(profiles({"size": 1})[0].weights) == {"size"}


def test_a_byte_is_no_reason():
    """Equal models of which one is a byte smaller: certain, and nothing to choose by."""
    accuracy = ([0.800, 0.801, 0.802], [0.7, 0.801, 0.9])
    found = rows(bytes_on_disk=(50e6, 50e6 + 1), x_accuracy=accuracy)
    both = ranked(found, Profile(name="p", title="P", weights={"size": 1, "quality": 1}))
    assert both.winner is None and both.alike
    found = rows(bytes_on_disk=(50e6, 60e6), x_accuracy=([0.80, 0.801, 0.802],) * 2)
    assert ranked(found, Profile(name="p", title="P", weights={"size": 1, "quality": 1})).winner == "a"


def test_what_nobody_learnt_is_not_scored_and_said():
    """Of four classes a quarter is right of always giving one: 25.2 and 25.0 % are no accuracy."""
    found = rows(x_accuracy=([0.24, 0.25, 0.262], [0.24, 0.26, 0.25]), bytes_on_disk=(1.0, 2.0))
    blind = [msgspec.structs.replace(m, floor=0.25) if m.unit == "share" else m for m in found]
    assert [row.name for row in table_of(found, ORDER).rows] == ["size", "quality"]
    assert [row.name for row in table_of(blind, ORDER).rows] == ["size"]
    profile = Profile(name="p", title="P", weights={"quality": 2, "size": 1})
    said = outcome(msgspec.to_builtins(ranked(blind, profile)))
    assert "not learnt by any" in said and "accuracy on tasks" in said
    sentence = next(s for s in judge(blind, compared(blind), ORDER).sentences if s.quantity == "x_accuracy")
    assert "Neither is above the 25.0 % of always giving the commonest class" in sentence.text
    # One that did learn makes it a figure again; the other is named.
    learnt = [msgspec.structs.replace(m, floor=0.25) for m in rows(x_accuracy=([0.5, 0.51, 0.52], [0.24, 0.26, 0.25]))]
    assert [row.name for row in table_of(learnt, ORDER).rows] == ["quality"]
    sentence = next(s for s in judge(learnt, compared(learnt), ORDER).sentences if s.quantity == "x_accuracy")
    assert "b is not above the 25.0 %" in sentence.text
