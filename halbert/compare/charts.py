"""Charts where looking beats reading: Altair to inline SVG. Pure functions of the results."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from halbert.compare.noise import NOISES
from halbert.errors import missing_extra

try:
    import altair as alt
    import vl_convert
except ImportError:
    raise missing_extra("altair", "audit", "drawing the report") from None

# Okabe and Ito's colour-blind-safe palette; grey ink reads on light and on dark.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"]
_INK = "#7d8590"
_PART_COLOURS = ["#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7"]
_PARTS = ("embeddings", "projection", "attention", "ffn", "pooler")


def _colour(names: list[str]) -> alt.Scale:
    return alt.Scale(domain=names, range=(COLOURS * 9)[: len(names)])


def svg(chart: alt.TopLevelMixin) -> str:
    """A chart as inline SVG, in ink that reads on light and on dark."""
    styled = (
        chart.configure(background="transparent", font="Helvetica, Arial, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(labelColor=_INK, titleColor=_INK, gridColor=_INK, gridOpacity=0.2, domainColor=_INK, tickColor=_INK,
                        labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
        .configure_legend(labelColor=_INK, titleColor=_INK, labelFontSize=12, titleFontSize=12, orient="bottom", columns=5,
                          titleFontWeight="normal")
    )  # fmt: skip
    return str(
        vl_convert.vegalite_to_svg(styled.to_dict(), vl_version=".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2]))
    )


def png(picture: str) -> bytes:
    """An SVG as a PNG of twice its size, on white."""
    first = picture.index(">", picture.index("<svg")) + 1
    white = f'{picture[:first]}<rect width="100%" height="100%" fill="white"/>{picture[first:]}'
    return bytes(vl_convert.svg_to_png(white, scale=2))


def parameters(results: dict[str, Any]) -> str:
    """Encoder parameters of every subject, by part."""
    names = [s["name"] for s in results["subjects"]]
    rows = [
        {"model": s["name"], "part": part, "order": i, "parameters": s["parameters"]["by_part"][part]}
        for s in results["subjects"] for i, part in enumerate(_PARTS)
    ]  # fmt: skip
    chart = (
        alt.Chart(alt.Data(values=rows), width=520, height=44 * len(names))
        .mark_bar()
        .encode(
            x=alt.X("parameters:Q", title="encoder parameters", axis=alt.Axis(format="~s", tickCount=6)),
            y=alt.Y("model:N", sort=names, title=None, axis=alt.Axis(labelLimit=240)),
            color=alt.Color(
                "part:N", sort=list(_PARTS), scale=alt.Scale(domain=list(_PARTS), range=_PART_COLOURS), title=None
            ),
            order="order:Q",
        )
    )
    return svg(chart)


def latency(results: dict[str, Any]) -> str | None:
    """Median latency by length, with the interval of the median."""
    names = [s["name"] for s in results["subjects"]]
    rows = []
    for m in results["measurements"]:
        match = re.fullmatch(r"latency_(\d+)_p50", m["name"])
        if match and m["low"] is not None:
            row = {"model": m["subject"], "pieces": match[1]}
            rows.append({**row, **{key: m[key] * 1000 for key in ("value", "low", "high")}})
    if not rows:
        return None
    lengths = sorted({row["pieces"] for row in rows}, key=int)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("pieces:N", sort=lengths, title="pieces in the text", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("model:N", sort=names),
        color=alt.Color("model:N", scale=_colour(names), title=None),
    )
    bars = base.mark_bar().encode(y=alt.Y("value:Q", title="milliseconds, median"))
    rules = base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q", color=alt.value(_INK))
    return svg(alt.layer(bars, rules).properties(width=420, height=240))


def quality(results: dict[str, Any], against: str = "parameters") -> str | None:
    """Fine-tuned accuracy: the mean with its interval, and every seed, against parameters, or against the median latency of
    one text of 32 pieces."""
    names = [s["name"] for s in results["subjects"]]
    if against == "parameters":
        size = {s["name"]: s["parameters"]["encoder"] for s in results["subjects"]}
        title, shape = "encoder parameters", "~s"
    else:
        size = {
            m["subject"]: 1000 * m["value"]
            for m in results["measurements"]
            if m["name"] == "latency_32_p50" and m["value"]
        }
        title, shape = "milliseconds, one text of 32 pieces", "~r"
    rows, seeds = [], []
    for m in results["measurements"]:
        named = m["name"].endswith("_accuracy") and m["name"] != "masked_accuracy"
        if named and m["low"] is not None and m["subject"] in size:
            row = {"model": m["subject"], "task": m["name"].removesuffix("_accuracy"), "cost": size[m["subject"]]}
            rows.append({**row, **{key: 100 * m[key] for key in ("value", "low", "high")}})
            seeds += [{**row, "value": 100 * sample} for sample in m["samples"]]
    if not rows:
        return None
    x = alt.X("cost:Q", title=title, scale=alt.Scale(zero=False, padding=40), axis=alt.Axis(format=shape, tickCount=5))
    y = alt.Y("value:Q", title="accuracy, %", scale=alt.Scale(zero=False, padding=10))
    colour = alt.Color("model:N", scale=_colour(names), title=None)
    one = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    layers = alt.layer(
        one.mark_rule(strokeWidth=2).encode(y=y, y2="high:Q").transform_calculate(value="datum.low"),
        one.mark_point(size=120, filled=True).encode(
            y=y, shape=alt.Shape("model:N", title=None, scale=alt.Scale(domain=names))
        ),
        alt.Chart(alt.Data(values=seeds))
        .mark_tick(orient="horizontal", thickness=2, size=16, opacity=0.8)
        .encode(x=x, y=y, color=colour),
    )
    return svg(layers.properties(width=420, height=240))


def learning(results: dict[str, Any]) -> str | None:
    """Accuracy by the number of labels, of the first task that has curves."""
    names = [s["name"] for s in results["subjects"]]
    found = [
        (match[1], int(match[2]), m)
        for m in results["measurements"]
        if (match := re.fullmatch(r"(.+)_from_(\d+)_labels", m["name"])) and m["low"] is not None
    ]
    task = found[0][0] if found else ""
    rows = [
        {"model": m["subject"], "labels": n, **{key: 100 * m[key] for key in ("value", "low", "high")}}
        for name, n, m in found
        if name == task
    ]
    counts = sorted({row["labels"] for row in rows})
    if len(counts) < 2:
        return None
    x = alt.X(
        "labels:Q", title=f"labelled texts to learn from ({task})", scale=alt.Scale(type="log", base=4),
        axis=alt.Axis(values=counts, format="d"),
    )  # fmt: skip
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=alt.Color("model:N", scale=_colour(names), title=None))
    y = alt.Y("value:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    layers = alt.layer(
        base.mark_area(opacity=0.15).encode(
            y=alt.Y("low:Q", title="accuracy, %", scale=alt.Scale(zero=False)), y2="high:Q"
        ),
        base.mark_line(strokeWidth=2, point=True).encode(
            y=y, strokeDash=alt.StrokeDash("model:N", title=None, scale=alt.Scale(domain=names))
        ),
    )
    return svg(layers.properties(width=420, height=240))


def robustness(results: dict[str, Any]) -> str | None:
    """Accuracy on a task's texts as they are and made harder, of the first task that was measured so."""
    names = [s["name"] for s in results["subjects"]]
    kinds = {"accuracy": "as it is"} | {f"under_{noise.name}": noise.name.replace("_", " ") for noise in NOISES}
    task = next((m["name"].partition("_under_")[0] for m in results["measurements"] if "_under_" in m["name"]), None)
    rows = [
        {"model": m["subject"], "text": kinds[kind], **{key: 100 * m[key] for key in ("value", "low", "high")}}
        for m in results["measurements"]
        for kind in kinds
        if m["name"] == f"{task}_{kind}" and m["low"] is not None
    ]
    if task is None or not rows:
        return None
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("text:N", sort=list(kinds.values()), title=None, axis=alt.Axis(labelAngle=-20)),
        xOffset=alt.XOffset("model:N", sort=names),
        color=alt.Color("model:N", scale=_colour(names), title=None),
    )
    y = alt.Y("value:Q", title=f"accuracy, % ({task})", scale=alt.Scale(zero=False, padding=10))
    points = base.mark_point(size=70, filled=True).encode(
        y=y, shape=alt.Shape("model:N", title=None, scale=alt.Scale(domain=names))
    )
    rules = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=f"accuracy, % ({task})"), y2="high:Q")
    return svg(alt.layer(rules, points).properties(width=420, height=240))


def layers(results: dict[str, Any]) -> str | None:
    """How alike a piece's states are before and after each layer."""
    found = [m for m in results["measurements"] if m["name"] == "layer_cosine"]
    return _by_layer(results, found, "cosine of states before and after", 1)


def known(results: dict[str, Any]) -> str | None:
    """What can be read off each layer, of the first task that was probed."""
    found = [m for m in results["measurements"] if m["name"].endswith("_by_layer")]
    task = found[0]["name"].removesuffix("_by_layer") if found else ""
    return _by_layer(results, [m for m in found if m["name"] == f"{task}_by_layer"], f"accuracy, % ({task})", 0, 100)


def _by_layer(
    results: dict[str, Any], found: list[dict[str, Any]], title: str, first: int, scale: int = 1
) -> str | None:
    """Samples by layer, of which the ``first`` is the first's number (0: embeddings)."""
    names = [s["name"] for s in results["subjects"]]
    rows = [
        {"model": m["subject"], "layer": layer, "value": scale * value}
        for m in found for layer, value in enumerate(m["samples"], first)
    ]  # fmt: skip
    if not rows:
        return None
    deepest = max(row["layer"] for row in rows)
    chart = (
        alt.Chart(alt.Data(values=rows), width=420, height=240)
        .mark_line(strokeWidth=2, point=True)
        .encode(
            x=alt.X(
                "layer:Q", title="layer" if first else "layer (0: embeddings)",
                axis=alt.Axis(values=list(range(first, deepest + 1)), format="d"),
            ),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            color=alt.Color("model:N", scale=_colour(names), title=None),
            strokeDash=alt.StrokeDash("model:N", title=None, scale=alt.Scale(domain=names)),
        )
    )  # fmt: skip
    return svg(chart)


def spoken(results: dict[str, Any], pattern: str) -> str | None:
    """A figure for each language: the mean over rounds, of the first quantity of which the pattern is the whole name; the
    best first."""
    names = [s["name"] for s in results["subjects"]]
    found = [m for m in results["measurements"] if re.fullmatch(pattern, m["name"]) and m.get("labels")]
    shares: dict[tuple[str, str], list[float]] = {}
    for m in found:
        if m["name"] == found[0]["name"]:
            for language, sample in zip(m["labels"], m["samples"], strict=True):
                shares.setdefault((m["subject"], language), []).append(100 * sample)
    if not shares:
        return None
    means = {key: sum(values) / len(values) for key, values in shares.items()}
    rows = [{"model": model, "language": language, "share": mean} for (model, language), mean in means.items()]
    best: dict[str, float] = {}
    for (_, language), mean in means.items():
        best[language] = max(mean, best.get(language, 0.0))
    order = sorted(best, key=lambda language: -best[language])
    chart = (
        alt.Chart(alt.Data(values=rows), width=alt.Step(max(9, min(28, 900 // len(order)))), height=220)
        .mark_point(size=36, filled=True, opacity=0.9)
        .encode(
            x=alt.X("language:N", sort=order, title=None, axis=alt.Axis(labelAngle=-90, labelFontSize=9, labelOverlap=False)),
            y=alt.Y("share:Q", title="%"),
            color=alt.Color("model:N", scale=_colour(names), title=None),
            shape=alt.Shape("model:N", title=None, scale=alt.Scale(domain=names)),
        )
    )  # fmt: skip
    return svg(chart)


_ACROSS = 22  # languages in a row of the grid


def languages(results: dict[str, Any]) -> str | None:
    """A cell for every language: the share of its letters a vocabulary has. Models of one vocabulary share a grid."""
    grids: dict[tuple[float, ...], list[str]] = {}
    names: list[str] = []
    for m in results["measurements"]:
        if m["name"] == "letters_covered" and m["samples"] and m.get("labels"):
            grids.setdefault(tuple(m["samples"]), []).append(m["subject"])
            names = m["labels"]
    if not grids:
        return None
    order = sorted(range(len(names)), key=lambda i: names[i])
    rows = [
        {
            "model": ", ".join(subjects), "language": names[i], "short": names[i][:3], "letters": shares[i],
            "row": place // _ACROSS, "column": place % _ACROSS,
        }
        for shares, subjects in grids.items() for place, i in enumerate(order)
    ]  # fmt: skip
    high = -(-len(names) // _ACROSS)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("column:O", axis=None), y=alt.Y("row:O", axis=None), tooltip=["language:N", "letters:Q"]
    )
    cells = base.mark_rect(stroke="white", strokeWidth=1).encode(
        color=alt.Color(
            "letters:Q", title="share of a language's letters",
            scale=alt.Scale(domain=[0, 1], range=["#D55E00", "#F0E4D0", "#0072B2"]), legend=alt.Legend(format="%"),
        )
    )  # fmt: skip
    text = base.mark_text(fontSize=9).encode(
        text="short:N",
        color=alt.condition("datum.letters > 0.8 || datum.letters < 0.2", alt.value("white"), alt.value("#333")),
    )
    whole = alt.layer(cells, text).properties(width=24 * _ACROSS, height=18 * high)
    return svg(
        whole.facet(
            row=alt.Row("model:N", title=None, header=alt.Header(labelColor=_INK, labelFontSize=12, labelOrient="top"))
        )
    )


def curves(results: dict[str, Any]) -> str | None:
    """Masked-piece loss while pre-training, against the pieces read."""
    names = [s["name"] for s in results["subjects"]]
    rows = [
        {"model": s["name"], "tokens": entry["tokens"], "loss": entry["masked_loss"]}
        for s in results["subjects"] for entry in _thinned(s["curve"]) if "masked_loss" in entry
    ]  # fmt: skip
    if not rows:
        return None
    chart = (
        alt.Chart(alt.Data(values=rows), width=420, height=240)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("tokens:Q", title="pieces read", axis=alt.Axis(format="~s", tickCount=5)),
            y=alt.Y("loss:Q", title="masked-piece loss in training, nats", scale=alt.Scale(zero=False)),
            color=alt.Color("model:N", scale=_colour(names), title=None),
            strokeDash=alt.StrokeDash("model:N", title=None, scale=alt.Scale(domain=names)),
        )
    )
    return svg(chart)


def _thinned(entries: list[dict[str, Any]], most: int = 120) -> Iterable[dict[str, Any]]:
    return entries[:: max(1, len(entries) // most)]
