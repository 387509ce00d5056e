from __future__ import annotations

import copy
import json

import jsonschema
import pytest

from halbert.compare.report import matrix, write_report
from tests.compare.made import results
from tests.compare.pages import Page, check_folder, check_page, check_results

NAMES = ("bert", "albert", "third")
EVIL = ('<script>alert("1")</script>', 'a"><img src=x onerror=alert(1)>', "<b>&amp;'{{ 7*7 }}")


def written(tmp_path, results_):
    (tmp_path / "results.json").write_text(json.dumps(results_))
    write_report(results_, tmp_path)
    return tmp_path


def test_every_cell_is_on_the_page_and_in_the_report(tmp_path):
    check_folder(written(tmp_path, results()))


def test_names_are_text_never_markup(tmp_path):
    told = results(EVIL, how="<i>made</i> & measured")
    page = (written(tmp_path, told) / "index.html").read_text()
    check_page(page, told)
    for name in EVIL:
        assert name not in page
    for tag in ("<script>alert", "<img", "<i>made", "<b>&amp;"):
        assert tag not in page
    assert "49" not in Page(page).rows["parameters"][3]
    assert "{{ 7*7 }}" in page  # shown as it is


def test_the_report_is_a_function_of_the_results(tmp_path):
    told = results()
    before = copy.deepcopy(told)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, told)
    assert told == before
    for file in ("index.html", "report.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_wrong_cell_would_be_seen(tmp_path):
    told = results()
    page = (written(tmp_path, told) / "index.html").read_text()
    for m in told["measurements"]:
        other = copy.deepcopy(told)
        changed = next(x for x in other["measurements"] if (x["name"], x["subject"]) == (m["name"], m["subject"]))
        changed["value"], changed["samples"], changed["statistic"] = 123456.0, [123456.0], "exact"
        with pytest.raises(AssertionError):
            check_page(page, other)
    for spoilt in ('<script src="x.js"></script>', '<img src="https://example.org/x.png">', '<a href="#nowhere">x</a>'):
        with pytest.raises(AssertionError):
            check_page(page.replace("</main>", f"{spoilt}</main>"), told)


def test_who_is_best():
    rows = {row["name"]: row for row in matrix(results())}
    # Strictly ordered and exact: the smallest is better than each of the others.
    assert [rows["parameters"]["cells"][n]["best"] for n in NAMES] == [True, False, False]
    assert not any(cell["best"] for cell in rows["bytes_on_disk"]["cells"].values())
    assert [rows["latency_32_p50"]["cells"][n]["share"] for n in NAMES][2] == 100
    lost = rows["masked_loss"]["cells"]["albert"]
    assert (lost["value"], lost["interval"], lost["share"], lost["defined"]) == (
        "not measured",
        "no masked-piece head",
        0,
        False,
    )


def test_the_page_says_what_it_does_not_know(tmp_path):
    page = Page((written(tmp_path, results()) / "index.html").read_text())
    assert "not measured" in page.rows["masked_loss"][2] and "no masked-piece head" in page.rows["masked_loss"][2]


def test_charts_are_left_out_where_nothing_was_measured(tmp_path):
    told = results()
    kept = ("parameters", "bytes_on_disk")
    told["measurements"] = [m for m in told["measurements"] if m["name"] in kept]
    told["comparisons"] = [c for c in told["comparisons"] if c["name"] in kept]
    told["verdict"] = {"headline": [], "sentences": [], "scores": [], "rankings": []}
    for subject in told["subjects"]:
        subject["curve"] = []
    page = (written(tmp_path, told) / "index.html").read_text()
    check_page(page, told)
    assert page.count("<figure>") == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r.pop("claims"),
        lambda r: r.update(schema="other"),
        lambda r: r["measurements"][0].pop("how"),
        lambda r: r["measurements"][0].update(value=None),
        lambda r: r["measurements"][0].update(samples=[]),
        lambda r: r["measurements"][0].update(unit="furlongs"),
        lambda r: r["measurements"][0].update(command="rm -rf"),
        lambda r: r["comparisons"][0].pop("significant"),
        lambda r: r["subjects"][0]["parameters"]["by_part"].pop("ffn"),
        lambda r: r["machine"].pop("cores"),
    ],
)
def test_the_schema_can_fail(damage):
    told = results()
    check_results(told)
    damage(told)
    with pytest.raises(jsonschema.ValidationError):
        check_results(told)
