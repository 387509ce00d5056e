"""Charts where looking beats reading: Altair to inline SVG. Pure functions of the results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
        if m["name"].startswith("latency_") and m["name"].endswith("_p50") and m["low"] is not None:
            row = {"model": m["subject"], "pieces": m["name"].split("_")[1]}
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


def quality(results: dict[str, Any]) -> str | None:
    """Fine-tuned accuracy against parameters: the mean with its interval, and every seed."""
    names = [s["name"] for s in results["subjects"]]
    size = {s["name"]: s["parameters"]["encoder"] for s in results["subjects"]}
    rows, seeds = [], []
    for m in results["measurements"]:
        if m["name"].endswith("_accuracy") and m["name"] != "masked_accuracy" and m["low"] is not None:
            row = {"model": m["subject"], "task": m["name"].removesuffix("_accuracy"), "parameters": size[m["subject"]]}
            rows.append({**row, **{key: 100 * m[key] for key in ("value", "low", "high")}})
            seeds += [{**row, "value": 100 * sample} for sample in m["samples"]]
    if not rows:
        return None
    x = alt.X(
        "parameters:Q",
        title="encoder parameters",
        scale=alt.Scale(zero=False, padding=40),
        axis=alt.Axis(format="~s", tickCount=5),
    )
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
