"""What ``halbert evaluate`` found, as a page with pictures. It measures nothing: it is a function of ``scores.json``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from halbert.compare.charts import COLOURS, svg
from halbert.errors import missing_extra
from halbert.files import write_bytes

try:
    import altair as alt
    import jinja2
    import markupsafe
except ImportError:
    raise missing_extra("jinja2", "audit", "writing the page") from None

MOST_LABELS = 30  # a matrix of more is read by nobody
TITLES = {
    "accuracy": "accuracy", "macro_f1": "macro F1", "f1": "F1 of class 1", "mcc": "Matthews correlation", "micro_f1": "micro F1",
    "set_macro_f1": "macro F1", "set_accuracy": "all labels right", "pearson": "Pearson correlation",
    "spearman": "Spearman correlation", "entity_f1": "entity F1", "entity_precision": "entity precision",
    "entity_recall": "entity recall", "tag_accuracy": "accuracy of words", "macro_tag_f1": "macro F1 of words",
    "exact_match": "exact match", "answer_f1": "F1 of answers", "mrr": "mean reciprocal rank", "recall_at_1": "recall at 1",
    "recall_at_10": "recall at 10", "ndcg_at_10": "nDCG at 10", "masked_accuracy": "masked pieces found",
    "masked_loss": "loss of masked pieces, nats",
}  # fmt: skip
_INK = "#7d8590"


def scores(result: dict[str, Any]) -> str | None:
    """Every metric with its interval."""
    rows = [
        {"metric": TITLES[name], **{key: m[key] for key in ("value", "low", "high")}}
        for name, m in result["metrics"].items() if m["low"] is not None and name != "masked_loss"  # not on their axis
    ]  # fmt: skip
    if not rows:
        return None
    y = alt.Y("metric:N", sort=None, title=None, axis=alt.Axis(labelLimit=220))
    base = alt.Chart(alt.Data(values=rows))
    scale = alt.Scale(zero=False, padding=16, nice=False)
    layers = alt.layer(
        base.mark_rule(strokeWidth=3, color=COLOURS[0], opacity=0.45).encode(
            x=alt.X("low:Q", title="value, 95 % interval", scale=scale), x2="high:Q", y=y
        ),
        base.mark_point(size=110, filled=True, color=COLOURS[0], opacity=1).encode(
            x=alt.X("value:Q", scale=scale), y=y
        ),
    )
    return svg(layers.properties(width=420, height=44 * len(rows)))


def matrix(result: dict[str, Any]) -> str | None:
    """The confusion matrix: rows are the truth, their shares the colour, counts written in."""
    told = result.get("matrix")
    if told is None or len(told["labels"]) > MOST_LABELS:
        return None
    rows = [
        {"truth": t, "guess": g, "n": n, "share": n / max(1, sum(line))}
        for t, line in zip(told["labels"], told["counts"], strict=True) for g, n in zip(told["labels"], line, strict=True)
    ]  # fmt: skip
    size = max(22, min(64, 480 // len(told["labels"])))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("guess:N", sort=told["labels"], title="answer", axis=alt.Axis(labelAngle=-40, labelLimit=110)),
        y=alt.Y("truth:N", sort=told["labels"], title="truth", axis=alt.Axis(labelLimit=110)),
    )
    # From nearly transparent to blue, so that the page's paper shows through whether it is light or dark.
    boxes = base.mark_rect(color=COLOURS[0]).encode(
        opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 1]), legend=None)
    )
    layers = [boxes]
    if size >= 26:
        numbers = base.transform_filter("datum.n > 0").mark_text(fontSize=11)
        layers.append(
            numbers.encode(text="n:Q", color=alt.condition("datum.share > 0.5", alt.value("white"), alt.value(_INK)))
        )
    side = size * len(told["labels"])
    return svg(alt.layer(*layers).properties(width=side, height=side))


def calibration(result: dict[str, Any]) -> str | None:
    """How often answers are right, by how sure the model was; on the line it is as sure as it should be."""
    told = result.get("calibration")
    if told is None or not told["bins"]:
        return None
    line = alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}])).mark_line(color=_INK, strokeDash=[4, 4])
    axis = alt.Axis(format="%", tickCount=5)
    points = (
        alt.Chart(alt.Data(values=told["bins"]))
        .mark_point(filled=True, color=COLOURS[0], opacity=0.9)
        .encode(
            x=alt.X("confidence:Q", title="how sure the model was", scale=alt.Scale(domain=[0, 1]), axis=axis),
            y=alt.Y("right:Q", title="how often it was right", scale=alt.Scale(domain=[0, 1]), axis=axis),
            size=alt.Size(
                "n:Q", title="answers", scale=alt.Scale(range=[40, 700]), legend=alt.Legend(values=_round(told["bins"]))
            ),
        )
    )
    return svg(alt.layer(line.encode(x="x:Q", y="y:Q"), points).properties(width=300, height=300))


def _round(bins: list[dict[str, Any]]) -> list[int]:
    most = max(b["n"] for b in bins)
    return sorted({max(1, most // 10), max(1, most // 2), most})


def labels(result: dict[str, Any]) -> str | None:
    """F1 of every label, worst first."""
    rows = [
        {"label": label, "f1": told["f1"], "n": told["n"]}
        for label, told in result.get("by_label", {}).items() if told["f1"] is not None
    ]  # fmt: skip
    rows = sorted(rows, key=lambda row: row["f1"])[:MOST_LABELS]
    if not rows:
        return None
    chart = (
        alt.Chart(alt.Data(values=rows), width=380, height=max(60, 20 * len(rows)))
        .mark_bar(color=COLOURS[0])
        .encode(
            x=alt.X("f1:Q", title="F1", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("label:N", sort=[row["label"] for row in rows], title=None, axis=alt.Axis(labelLimit=180)),
        )
    )
    return svg(chart)


def shown(value: Any) -> str:
    """A truth or an answer as people read it."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return "; ".join(map(str, value[:6])) + ("; …" if len(value) > 6 else "") or "none"
    return "none" if value in ("", None) else str(value)


def write_scorecard(result: dict[str, Any], folder: Path, model: str, data: str) -> None:
    """Write ``index.html``, which needs no other file."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: resources.files("halbert").joinpath("compare", "page", name).read_text("utf-8")),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    drawn = {"scores": scores, "matrix": matrix, "calibration": calibration, "labels": labels}
    pictures = {name: draw(result) for name, draw in drawn.items()}
    environment.globals["shown"] = shown
    values = {
        "r": result, "model": model, "data": data, "titles": TITLES,
        "pictures": {name: markupsafe.Markup(picture) if picture else None for name, picture in pictures.items()},
    }  # fmt: skip
    write_bytes(folder / "index.html", environment.get_template("evaluation.html").render(values).encode())
