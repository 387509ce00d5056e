"""The pictures of ``docs/performance.md``, as PNG."""

from __future__ import annotations

from typing import Any

import altair as alt
import vl_convert

OURS, OTHERS = "#1b6ca8", "#b9c4cc"
PRECISIONS = {"int8": "#1b6ca8", "bf16": "#d17a22", "fp32": "#5f6b73"}


def engines(rows: list[dict[str, Any]]) -> bytes:
    """Bars: texts a second by engine."""
    return _png(_bars(rows, "texts a second, median").properties(width=560, height=26 * len(rows)))


def _bars(rows: list[dict[str, Any]], title: str) -> Any:
    """One bar an engine, the fastest first."""
    values = [{"engine": r["engine"], "rate": r["median"], "ours": r["engine"].startswith("halbert")} for r in rows]
    order = [r["engine"] for r in sorted(rows, key=lambda r: -r["median"])]
    bars = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("engine:N", sort=order, title=None, axis=alt.Axis(labelLimit=400))
    )
    return bars.mark_bar().encode(
        x=alt.X("rate:Q", title=title),
        color=alt.Color("ours:N", scale=alt.Scale(domain=[True, False], range=[OURS, OTHERS]), legend=None),
    ) + bars.mark_text(align="left", dx=4).encode(x="rate:Q", text=alt.Text("rate:Q", format=",.0f"))


def trainers(models: dict[str, list[dict[str, Any]]]) -> bytes:
    """Bars: real pieces a second by engine, a panel a model."""
    panels = [
        _bars(rows, "real pieces a second, median").properties(width=560, height=24 * len(rows), title=name)
        for name, rows in models.items()
    ]
    return _png(alt.vconcat(*panels))


def sharing(swept: dict[str, Any]) -> bytes:
    """Lines: how many times as fast one set of parameters is as twelve, by the bytes of the twelve; a panel a length."""
    rows = [{**r, "megabytes": r["all_bytes"] / 1e6} for r in swept["rows"]]
    present = [p for p in PRECISIONS if any(r["precision"] == p for r in rows)]
    x = alt.X(
        "megabytes:Q", scale=alt.Scale(type="log"), title="megabytes of twelve blocks' weights (one block: a twelfth)",
        axis=alt.Axis(values=[1, 3, 10, 30, 100, 300, 1000], format="~g"),
    )  # fmt: skip
    colour = alt.Color(
        "precision:N", title=None, sort=present,
        scale=alt.Scale(domain=present, range=[PRECISIONS[p] for p in present]), legend=alt.Legend(orient="top"),
    )  # fmt: skip
    marks = sorted(
        (size / 1e6 * factor, f"{what} {name}")
        for name, size in swept["caches"].items()
        for factor, what in ((1, "twelve blocks fill"), (swept["layers"], "one block fills"))
    )
    edges = [{"megabytes": at, "label": label, "row": i % 2} for i, (at, label) in enumerate(marks)]
    top = max(r["ratio"] for r in rows) + 0.7  # room for the labels; intervals may end outside
    panels = []
    for length in sorted({r["pieces"] for r in rows}):
        here = alt.Chart(alt.Data(values=[r for r in rows if r["pieces"] == length])).encode(x=x, color=colour)
        y = alt.Y("ratio:Q", title="times as fast", scale=alt.Scale(domain=[0.5, top], nice=True, zero=False))
        level = alt.Chart(alt.Data(values=[{"ratio": 1}])).mark_rule(color="#999").encode(y="ratio:Q")
        panels.append(
            alt.layer(
                level,
                *(_edges([e for e in edges if e["row"] == row], 4 + 14 * row) for row in (0, 1)),
                here.mark_rule(strokeWidth=1.5, opacity=0.5, clip=True).encode(y="low:Q", y2="high:Q"),
                here.mark_line().encode(y=y),
                here.mark_point(filled=True, size=60, opacity=1).encode(y=y),
            ).properties(width=640, height=260, title=f"One text of {length} pieces")
        )
    return _png(alt.vconcat(*panels))


def _edges(marks: list[dict[str, Any]], down: int) -> Any:
    """Dashed lines with their labels beside them, so far below the top."""
    chart = alt.Chart(alt.Data(values=marks)).encode(x="megabytes:Q")
    text = chart.mark_text(align="left", dx=4, dy=down, baseline="top", fontSize=10, color="#666")
    return chart.mark_rule(strokeDash=[4, 4], color="#999") + text.encode(y=alt.value(0), text="label:N")


def _png(chart: Any) -> bytes:
    return vl_convert.vegalite_to_png(chart.to_dict(), scale=2)
