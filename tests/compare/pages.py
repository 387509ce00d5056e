"""What must be true of every results file, page and report."""

from __future__ import annotations

import functools
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from halbert import compare
from halbert.compare.verdict import show

SCHEMA = Path(compare.__file__).parent / "results.schema.json"
STATISTICS = {
    "exact": lambda x: x[0], "mean": np.mean, "p50": lambda x: np.percentile(x, 50), "p95": lambda x: np.percentile(x, 95),
    "p99": lambda x: np.percentile(x, 99),
}  # fmt: skip


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check_results(results: dict[str, Any]) -> None:
    validator().validate(results)
    names = [s["name"] for s in results["subjects"]]
    assert len(set(names)) == len(names)
    seen = set()
    for m in results["measurements"]:
        assert m["subject"] in names and (m["name"], m["subject"]) not in seen
        seen.add((m["name"], m["subject"]))
        if m["value"] is not None:
            assert np.isclose(m["value"], STATISTICS[m["statistic"]](np.array(m["samples"])), rtol=1e-12)
            assert m["low"] is m["high"] is None or m["low"] <= m["high"]
    for c in results["comparisons"]:
        a, b = (
            next(m for m in results["measurements"] if (m["name"], m["subject"]) == (c["name"], c[s])) for s in "ab"
        )
        assert np.isclose(c["difference"], b["value"] - a["value"], rtol=1e-9, atol=1e-12) and c["better"] in (
            None,
            c["a"],
            c["b"],
        )
    for s in results["verdict"]["sentences"]:
        assert any((c["name"], c["a"], c["b"]) == (s["quantity"], s["a"], s["b"]) for c in results["comparisons"])
    assert set(results["verdict"]["headline"]) <= {s["text"] for s in results["verdict"]["sentences"]}
    foreign = {s["name"] for s in results["subjects"] if "model_type" in s["spec"]}
    for d in results["differences"]:
        assert (
            foreign & {d["a"], d["b"]} or sum(knob["parameters"] for knob in d["knobs"]) == d["parameters_difference"]
        )


class Page(HTMLParser):
    """Collects tags, and the text of every cell of the table of measurements by (row, column)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[str]] = {}
        self._row = ""
        self._cell = -1
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self._row, self._cell = dict(attrs).get("id") or "", -1
            if self._row:
                assert self._row not in self.rows
                self.rows[self._row] = []
        elif tag in ("td", "th") and self._row:
            self.rows[self._row].append("")

    def handle_data(self, data):
        if self._row and self.rows[self._row]:
            self.rows[self._row][-1] += data

    def handle_endtag(self, tag):
        if tag == "tr":
            self._row = ""


def words(text: str) -> str:
    return " ".join(text.split())


def expected_cell(m: dict[str, Any]) -> list[str]:
    if m["value"] is None:
        return ["not measured", m["why"]]
    if m["statistic"] == "exact":
        return [show(m["value"], m["unit"]), "exact"]
    if m["low"] is None:
        return [show(m["value"], m["unit"]), "one run, no interval"]
    return [show(m["value"], m["unit"]), f"{show(m['low'], m['unit'])} to {show(m['high'], m['unit'])}"]


def check_page(text: str, results: dict[str, Any]) -> None:
    """Every cell with value, interval, how and command; nothing from elsewhere; every link leads somewhere."""
    page = Page(text)
    names = [s["name"] for s in results["subjects"]]
    for m in results["measurements"]:
        cells = [words(cell) for cell in page.rows[m["name"]]]
        assert len(cells) == 1 + len(names)
        for part in (m["title"], m["how"], m["command"]):
            assert words(part) in cells[0], (m["name"], part)
        for part in expected_cell(m):
            assert part in cells[1 + names.index(m["subject"])], (m["name"], m["subject"], part)
        if m["value"] is not None and m["statistic"] != "exact":
            assert f"n={len(m['samples'])}" in cells[1 + names.index(m["subject"])]
    assert set(page.rows) == {m["name"] for m in results["measurements"]}
    shown = words(html.unescape(re.sub(r"<[^>]*>", "", text)))
    for sentence in [*results["verdict"]["headline"], *(s["text"] for s in results["verdict"]["sentences"])]:
        assert words(sentence) in shown, sentence
    for wanted in (results["machine"]["processor"], results["created"], results["command"], *results["notes"]):
        assert words(wanted) in shown, wanted

    assert not [tag for tag, _ in page.tags if tag in ("iframe", "object", "embed", "link", "img", "base", "form")]
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{}]  # the page's own, of the sliders
    ids = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            if attrs.get(name):
                assert attrs[name].startswith("#") and attrs[name][1:] in ids, (tag, attrs[name])
    style = "".join(re.findall(r"(?s)<style.*?</style>", text)) + " ".join(a.get("style") or "" for _, a in page.tags)
    assert "@import" not in style and not re.search(r"url\((?!#)", style)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == 1 and tags.count("h2") >= 4 and "svg" in tags


def check_markdown(text: str, results: dict[str, Any]) -> None:
    lines = text.splitlines()
    names = [s["name"] for s in results["subjects"]]
    for m in results["measurements"]:
        (row,) = [line for line in lines if line.startswith(f"| {m['title']} |")]
        cell = row.split("|")[2 + names.index(m["subject"])]
        value, interval = expected_cell(m)
        assert value in cell and f"({interval})" in cell
        assert any(
            line.startswith(f"- {m['title']}: ") and m["how"] in line and f"`{m['command']}`" in line for line in lines
        )
    for sentence in [*results["verdict"]["headline"], *(s["text"] for s in results["verdict"]["sentences"])]:
        assert sentence in text
    for table_row in (line for line in lines if line.startswith("|")):
        assert table_row.endswith("|")


def check_folder(folder: Path) -> dict[str, Any]:
    results = json.loads((folder / "results.json").read_text())
    check_results(results)
    check_page((folder / "index.html").read_text(), results)
    check_markdown((folder / "report.md").read_text(), results)
    return results
