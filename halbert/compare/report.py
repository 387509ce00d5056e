"""Results to a page and to Markdown. The report measures nothing: it is a function of ``results.json``."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from halbert.compare import charts
from halbert.compare.answers import pros_and_cons, questions
from halbert.compare.verdict import outcome, show
from halbert.errors import missing_extra
from halbert.files import write_bytes

try:
    import jinja2
    import markupsafe
except ImportError:
    raise missing_extra("jinja2", "audit", "writing the report") from None


def cell(m: dict[str, Any]) -> dict[str, Any]:
    """A measurement as people read it."""
    if m["value"] is None:
        return {"value": "not measured", "interval": m["why"], "defined": False}
    exact = m["statistic"] == "exact"
    if m["low"] is None:
        interval = "one run, no interval"
    else:
        interval = "exact" if exact else f"{show(m['low'], m['unit'])} to {show(m['high'], m['unit'])}"
    return {
        "value": show(m["value"], m["unit"]),
        "interval": interval,
        "defined": True,
        "samples": len(m["samples"]),
        "exact": exact,
    }


def matrix(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a quantity: a cell for every subject, bars relative to the largest, who is better, how and command."""
    names = [s["name"] for s in results["subjects"]]
    rows: dict[str, dict[str, Any]] = {}
    for m in results["measurements"]:
        row = rows.setdefault(
            m["name"],
            {"name": m["name"], "title": m["title"], "probe": m["probe"], "how": m["how"], "command": m["command"],
             "better": m["better"], "cells": {}, "machines": []},
        )  # fmt: skip
        row["cells"][m["subject"]] = {**cell(m), "raw": m["value"]}
        if m.get("machine") and m["machine"] not in row["machines"]:
            row["machines"].append(m["machine"])
    for row in rows.values():
        largest = max((c["raw"] for c in row["cells"].values() if c["raw"] is not None), default=0) or 1
        for c in row["cells"].values():
            c["share"] = 0 if c["raw"] is None else round(100 * c["raw"] / largest, 1)
            c["wins"] = 0
        row["compared"] = [c for c in results["comparisons"] if c["name"] == row["name"]]
        for comparison in row["compared"]:
            if comparison["better"]:
                row["cells"][comparison["better"]]["wins"] += 1
        for c in row["cells"].values():
            c["best"] = c["wins"] == len(names) - 1 and c["wins"] > 0
    return list(rows.values())


def because(claim: dict[str, Any]) -> str:
    """The figures a claim's answer rests on, in one line: of those against it the first, else of those for it."""
    against = [case for case in claim["cases"] if case["agrees"] is False]
    support = [case for case in claim["cases"] if case["agrees"]]
    if claim["answer"] == "misleading":
        shown = [*support[:1], *against[:1]]
    elif claim["answer"] == "false":
        shown = against[:2]
    else:
        shown = support[:2] or claim["cases"][:1]
    return "; ".join(f"{case['what']}: {case['figure']}" for case in shown) or "no model of this audit shows it"


def _slid(weights: dict[str, float], name: str) -> str:
    """Where a criterion's slider stands: at the user's weight, the largest of which is at most 10; 1 without any."""
    scale = max(1.0, max(weights.values(), default=1.0) / 10)
    return f"{weights.get(name, 0.0) / scale:g}" if weights else "1"


class Figure(NamedTuple):
    """A chart of the page: what draws it, what it is to those who cannot see it, and what to look for."""

    name: str
    draw: Callable[[dict[str, Any]], str | None]
    label: str
    caption: str
    wide: bool = False


def _spoken(pattern: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda results: charts.spoken(results, pattern)


FIGURES = (
    Figure("parameters", charts.parameters, "Stacked bars: encoder parameters of each model by part", "Where the parameters are."),
    Figure("latency", charts.latency, "Bars: median latency of each model by text length",
           "One text at a time. Lines: 95 % interval of the median."),
    Figure("quality", charts.quality, "Points: fine-tuned accuracy of each model against its parameters",
           "Fine-tuned accuracy against size. Ticks: single seeds; lines: 95 % interval."),
    Figure("tradeoff", lambda results: charts.quality(results, "latency"),
           "Points: fine-tuned accuracy of each model against its latency", "Fine-tuned accuracy against the time for one text."),
    Figure("learning", charts.learning, "Lines: accuracy of each model by the number of labelled texts",
           "Learning curves. Bands: 95 % interval over seeds and texts."),
    Figure("robustness", charts.robustness, "Points: accuracy of each model on texts as they are and made harder",
           "The same texts made harder: typing errors, invented names and emoji, capitals, disorder, half a text."),
    Figure("layers", charts.layers, "Lines: likeness of a layer's states to those before it, for each model",
           "Inside: what a layer changes. 1: nothing."),
    Figure("known", charts.known, "Lines: accuracy read off each layer of each model",
           "Inside: what each layer already knows of the task, the model itself not trained for it."),
    Figure("languages", charts.languages, "Grid: the share of each language's letters that a vocabulary has",
           "Languages whose letters the vocabulary has (hover for the name; all shares are in results.json).", wide=True),
    Figure("masked-languages", _spoken("masked_by_language"), "Points: masked pieces found in each language by each model",
           "Masked pieces found, by language.", wide=True),
    Figure("translations", _spoken("translations_found"), "Points: translations found in each language by each model",
           "Translations found, by language.", wide=True),
    Figure("transfer", _spoken("(?!masked_).*_by_language"), "Points: accuracy of each model in languages it was not trained in",
           "Learnt in one language, judged in others.", wide=True),
    Figure("curves", charts.curves, "Lines: masked-piece loss of each model during pre-training",
           "Pre-training: loss on the text being learnt."),
)  # fmt: skip


def write_report(results: dict[str, Any], folder: Path) -> None:
    """Write ``index.html`` (self-contained), ``report.md``, for every model a snippet for its card, and the pictures."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: resources.files("halbert").joinpath("compare", "page", name).read_text("utf-8")),
        autoescape=lambda name: bool(name and name.endswith("html")),
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.globals["show"] = show
    environment.globals["because"] = because
    environment.globals["outcome"] = outcome
    environment.globals["plain"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    environment.globals["number"] = lambda n: f"{n:+,}" if n else "0"
    drawn = {figure.name: figure.draw(results) for figure in FIGURES}
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for sentence in results["verdict"]["sentences"]:
        key = (sentence["a"], sentence["b"])
        pairs.setdefault(key, {"names": key, "equal_in": sentence["equal_in"], "sentences": []})["sentences"].append(
            sentence
        )
    names = [s["name"] for s in results["subjects"]]
    values = {
        "pairs": list(pairs.values()),
        "sides": pros_and_cons(results),
        "questions": questions(results),
        "results": results,
        "names": names,
        "foreign": [s["name"] for s in results["subjects"] if "model_type" in s["spec"]],
        "rows": matrix(results),
        "own": {row["name"]: _slid(results.get("weights") or {}, row["name"]) for row in results["verdict"]["scores"]},
        "figures": [figure for figure in FIGURES if drawn[figure.name]],
        "charts": {name: markupsafe.Markup(svg) if svg else None for name, svg in drawn.items()},
        "colours": charts.COLOURS * 9,
    }
    for template, file in (("report.html", "index.html"), ("report.md", "report.md")):
        write_bytes(folder / file, environment.get_template(template).render(values).encode())
    for number, name in enumerate(names):
        place = folder / "cards" / f"{number + 1}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)[:80]}.md"
        place.parent.mkdir(exist_ok=True)
        write_bytes(place, environment.get_template("card.md").render({**values, "name": name}).encode())
    for title, picture in drawn.items():
        if picture:
            place = folder / "pictures" / f"{title}.svg"
            place.parent.mkdir(exist_ok=True)
            write_bytes(place, picture.encode())
            write_bytes(place.with_suffix(".png"), charts.png(picture))
