"""Results read back: the same report, and whatever got worse."""

from __future__ import annotations

import copy
import json

import pytest

from halbert.compare.audit import report_again
from halbert.compare.baseline import read_results, regressions
from halbert.errors import InputError
from tests.compare.made import results
from tests.compare.pages import check_folder


@pytest.fixture(scope="module")
def found():
    return json.loads(json.dumps(results()))


def changed(found, name, factor, subject="albert"):
    new = copy.deepcopy(found)
    for m in new["measurements"]:
        if (m["name"], m["subject"]) == (name, subject):
            m["samples"] = [factor * x for x in m["samples"]]
            for key in ("value", "low", "high"):
                m[key] *= factor
    return new


@pytest.mark.parametrize(
    ("name", "factor", "worse"),
    [
        ("latency_32_p50", 1.2, True), ("latency_32_p50", 0.9, False), ("latency_32_p50", 1.0, False),
        ("latency_32_p50", 1.04, False),
        ("throughput", 0.9, True), ("throughput", 1.1, False), ("parameters", 1.001, True), ("bytes_on_disk", 0.5, False),
        ("rows_accuracy", 0.99, False),
    ],
)  # fmt: skip
def test_what_got_worse(found, name, factor, worse):
    told, compared, left_out = regressions(found, changed(found, name, factor))
    assert len(told) == worse and compared == 17 and left_out == []
    if worse:
        assert told[0].startswith(f"albert, The {name}") and ", was " in told[0]


def test_what_cannot_be_compared_is_said(found):
    other = copy.deepcopy(found)
    for m in other["measurements"]:
        m["subject"] = f"new-{m['subject']}"
    worse, compared, left_out = regressions(found, other)
    assert (worse, compared, len(left_out)) == ([], 0, 17) and all("not measured now" in line for line in left_out)
    other = changed(found, "latency_32_p50", 5.0)
    for m in other["measurements"]:
        m["how"] += ", with four threads"
    worse, compared, left_out = regressions(found, other)
    assert (worse, compared) == ([], 0) and all("made otherwise now" in line for line in left_out)
    other = changed(found, "throughput", 1.0)
    for m in other["measurements"]:
        if m["name"] == "throughput":
            m.update(value=None, low=None, high=None, samples=[], why="the model has no positions")
    assert [line.split(": ")[1] for line in regressions(found, other).left_out] == ["the model has no positions"] * 3


def test_a_report_without_measuring(found, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({**found, "claims": [], "verdict": {}}))
    again = report_again(tmp_path, out=tmp_path / "again", claims="papers")
    assert again["verdict"] == found["verdict"]
    assert [c["id"] for c in again["claims"]][:1] == ["multilingual-110m"]
    assert check_folder(tmp_path / "again") == again
    assert "Claims, checked" in (tmp_path / "again" / "index.html").read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r | {"schema": "halbert-results-0"}, "has the schema 'halbert-results-0'"),
        (lambda r: [1], "has the schema None"),
        (lambda r: {k: v for k, v in r.items() if k != "subjects"}, "lacks subjects"),
        (lambda r: r | {"measurements": [{"probe": "x"}]}, "measurements: "),
        (lambda r: r | {"comparisons": [1]}, "comparisons: "),
    ],
)
def test_results_that_are_none(found, tmp_path, change, says):
    (tmp_path / "results.json").write_text(json.dumps(change(found)))
    with pytest.raises(InputError, match=says):
        read_results(tmp_path)
    with pytest.raises(InputError, match="no such results"):
        read_results(tmp_path / "other.json")


@pytest.mark.parametrize("changed", ["content", "tokenizer"])
def test_other_data_under_the_same_name_is_no_regression(found, changed):
    old, new = (copy.deepcopy(each) for each in (found, changed_masked(found)))
    for made, digit in ((old, "0"), (new, "1" if changed == "content" else "0")):
        made["data"] = {"labelled texts of a.csv": digit * 64}
        for m in made["measurements"]:
            if m["name"] == "rows_accuracy":
                m["how"] = "9 labelled texts of a.csv (2 classes)"
    if changed == "tokenizer":
        for subject in new["subjects"]:
            subject["tokenizer"] = "another"
    worse, _, left_out = regressions(old, new)
    told = "of other data now" if changed == "content" else "another tokenizer"
    assert left_out and all(told in line for line in left_out)
    assert bool(worse) == (changed == "content")  # masked pieces are found as seldom as then, with the same tokenizer


def changed_masked(found):
    return changed(found, "masked_loss", 2.0, "bert")


def test_a_baseline_that_does_not_name_its_tokenizers_is_heard(found):
    old = copy.deepcopy(found)
    for subject in old["subjects"]:
        del subject["tokenizer"]
    assert any("masked_loss" in line for line in regressions(old, changed_masked(found)).worse)
