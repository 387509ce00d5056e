"""Audits put together: names stay apart, what was not made alike is not compared, rounds of two runs are not paired."""

from __future__ import annotations

import copy
import json

import pytest

from halbert.compare.audit import report_again
from halbert.compare.claims import Check, cases_of
from halbert.compare.measurement import PACED
from halbert.compare.merging import merge
from halbert.errors import InputError
from tests.compare.made import results
from tests.compare.pages import check_folder, check_results


def another(made, date="2026-05-06", processor="a processor"):
    other = copy.deepcopy(made)
    other["created"] = f"{date}T01:02:03+00:00"
    other["machine"]["processor"] = processor
    return other


def test_the_same_models_on_another_day():
    first = results(("bert", "albert"))
    merged = merge([first, another(first)])
    assert [s["name"] for s in merged["subjects"]] == [
        "bert (2026-01-02)", "albert (2026-01-02)", "bert (2026-05-06)", "albert (2026-05-06)",
    ]  # fmt: skip
    check_results(merged)
    equal = {(c["a"], c["b"]): c["equal_in"] for c in merged["comparisons"] if c["name"] == "parameters"}
    assert "machine" in equal["bert (2026-01-02)", "bert (2026-05-06)"]
    assert equal["bert (2026-01-02)", "albert (2026-01-02)"] == ["tokenizer"]  # as the audit itself said
    for c in merged["comparisons"]:
        if c["a"].split(" ")[0] == c["b"].split(" ")[0]:
            assert c["difference"] == 0 and not c["significant"]


def test_further_models_keep_their_names():
    merged = merge([results(("bert", "albert")), another(results(("small", "tiny")))])
    assert [s["name"] for s in merged["subjects"]] == ["bert", "albert", "small", "tiny"]
    assert len(merged["merged"]) == 2 and merged["merged"][1]["subjects"] == ["small", "tiny"]


def test_what_was_made_otherwise_is_not_compared():
    first, other = results(("bert", "albert")), another(results(("small", "tiny"), how="made in another way"))
    pairs = {(c["a"], c["b"]) for c in merge([first, other])["comparisons"] if c["name"] == "parameters"}
    assert pairs == {("bert", "albert"), ("small", "tiny")}


def test_what_an_audit_refused_to_compare_stays_so():
    first = results(("bert", "albert"))
    first["comparisons"] = [c for c in first["comparisons"] if c["name"] != "bytes_on_disk"]
    names = {(c["name"], c["a"], c["b"]) for c in merge([first, another(results(("small", "tiny")))])["comparisons"]}
    assert ("bytes_on_disk", "bert", "albert") not in names and ("bytes_on_disk", "small", "tiny") in names


def test_machines_tell_results_of_one_day_apart():
    first = results(("bert", "albert"))
    merged = merge([first, another(first, "2026-01-02", "another")])
    assert merged["subjects"][2]["name"] == "bert (another, 2 cores)"


@pytest.mark.parametrize("processor", ["a processor", "another"])
def test_times_are_compared_on_one_kind_of_machine_alone(processor):
    merged = merge([results(("bert", "albert")), another(results(("small", "tiny")), processor=processor)])
    across = {c["name"] for c in merged["comparisons"] if (c["a"], c["b"]) == ("bert", "tiny")}
    paced = {m["name"] for m in merged["measurements"] if m["unit"] in PACED and m["statistic"] != "exact"}
    assert "throughput" in paced and {"parameters", "bytes_on_disk"} <= across
    assert paced & across == (paced if processor == "a processor" else set())
    inside = {c["name"] for c in merged["comparisons"] if (c["a"], c["b"]) == ("small", "tiny")}
    assert paced <= inside


def test_a_page_of_two_audits(tmp_path):
    first = results(("bert", "albert"))
    for name, made in (("a", first), ("b", another(first))):
        (tmp_path / f"{name}.json").write_text(json.dumps(made))
    report_again([tmp_path / "a.json", tmp_path / "b.json"], out=tmp_path / "out")
    check_folder(tmp_path / "out")
    again = report_again(tmp_path / "out", out=tmp_path / "again")  # and it is a result like any other
    assert len(again["merged"]) == 2
    with pytest.raises(InputError, match="given twice"):
        report_again([tmp_path / "a.json", tmp_path / "a.json"], out=tmp_path / "no")
    with pytest.raises(InputError, match="at least two"):
        merge([first])


def test_what_only_one_audit_measured(tmp_path):
    """Quantities that are not in every audit: merged they made the page fail."""
    first, other = results(("bert", "albert")), another(results(("small", "tiny")))
    for made, name in ((first, "throughput"), (other, "rows_accuracy")):
        made["measurements"] = [m for m in made["measurements"] if m["name"] != name]
        made["comparisons"] = [c for c in made["comparisons"] if c["name"] != name]
        (tmp_path / f"without-{name}.json").write_text(json.dumps(made))
    files = sorted(tmp_path.glob("*.json"))
    merged = report_again(files, out=tmp_path / "out")
    check_folder(tmp_path / "out")
    why = {(m["name"], m["subject"]): m["why"] for m in merged["measurements"] if m["value"] is None}
    assert why["throughput", "bert"] == why["rows_accuracy", "tiny"] == "its audit did not measure this"


@pytest.mark.parametrize("changed", ["content", "tokenizer", "nothing"])
def test_figures_of_other_data_are_not_compared(changed):
    """A file of the same name and length, and masked pieces of another tokenizer, are other questions."""
    first = results(("bert", "albert"), how="500 labelled texts of rows.csv (2 classes)")
    first["data"] = {"labelled texts of rows.csv": "0" * 64}
    other = another(first)
    for subject in other["subjects"]:
        subject["name"] += "-new"
        subject["tokenizer"] = "another" if changed == "tokenizer" else subject["tokenizer"]
    for row in other["measurements"]:
        row["subject"] += "-new"
    for row in (*other["comparisons"], *other["differences"]):
        row["a"], row["b"] = row["a"] + "-new", row["b"] + "-new"
    other["data"] = {"labelled texts of rows.csv": ("1" if changed == "content" else "0") * 64}
    merged = merge([first, other])
    across = {c["name"] for c in merged["comparisons"] if (c["a"], c["b"]) == ("bert", "bert-new")}
    assert ("parameters" in across) == (changed != "content")
    assert ("masked_loss" in across) == (changed != "tokenizer") and "throughput" in across
    assert merged["data"] == ({} if changed == "content" else first["data"])
    check_results(merged)


def test_a_merged_result_is_still_of_its_machines():
    """Put together once more: whose figures are of which machine, day and data is as it was."""
    a, b = results(("bert", "x")), another(results(("albert", "y")), processor="a slow one")
    c = another(results(("small", "tiny")), date="2026-07-08")
    a["data"], b["data"] = {"texts of t": "0" * 64}, {"texts of t": "1" * 64}
    once, twice = merge([a, b]), merge([merge([a, b]), c])
    assert [set(part["subjects"]) for part in twice["merged"]] == [{"bert", "x"}, {"albert", "y"}, {"small", "tiny"}]
    assert [part["data"] for part in twice["merged"]] == [a["data"], b["data"], {}]
    for merged in (once, twice):
        check_results(merged)
        on = {(m["subject"], m["machine"]) for m in merged["measurements"] if m["value"] is not None}
        assert {("bert", "a processor, 2 cores"), ("albert", "a slow one, 2 cores")} <= on
        assert len(on) == len(merged["subjects"])
        check = Check(
            pairs=(("albert-base-v2", "bert-base-uncased"),), measured=("latency_32_p50",), relation="<", value=1
        )
        told = [case.what for case in cases_of(check, with_shapes(merged))]
        assert not any({"bert", "albert"} <= set(what.replace(",", "").split()) for what in told)


def with_shapes(merged):
    comparisons = [{**c, "equal_in": ["shape"]} for c in merged["comparisons"]]
    return {**merged, "comparisons": comparisons}
