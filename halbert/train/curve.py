"""The picture of a run: its losses and its rate by step, as ``loss.svg``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halbert.errors import missing_extra

NAMES = {"masked_loss": "masked pieces", "pair_loss": "sentence pairs", "loss": "loss"}
COLOURS = ["#0072B2", "#E69F00", "#009E73"]


def draw_curve(entries: list[dict[str, Any]], folder: Path) -> Path | None:
    """Write the picture; None when there is nothing to draw."""
    try:
        import altair as alt
        import vl_convert
    except ImportError:
        raise missing_extra("altair", "train", "drawing the loss") from None

    rows = [
        {"step": e["step"], "of": label, "value": e[name]}
        for e in entries for name, label in NAMES.items() if name in e
    ]  # fmt: skip
    if not rows:
        return None
    shown = [label for label in NAMES.values() if any(row["of"] == label for row in rows)]
    losses = (
        alt.Chart(alt.Data(values=rows), width=640, height=300)
        .mark_line()
        .encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y("value:Q", title="loss (nats)", scale=alt.Scale(zero=False)),
            color=alt.Color("of:N", scale=alt.Scale(domain=shown, range=COLOURS[: len(shown)]), title=None),
        )
    )
    rates = (
        alt.Chart(
            alt.Data(values=[{"step": e["step"], "rate": e["learning_rate"]} for e in entries if "learning_rate" in e])
        )
        .mark_area(opacity=0.25, color="#7d8590")
        .encode(x=alt.X("step:Q", title="step"), y=alt.Y("rate:Q", title="learning rate", axis=alt.Axis(format="~e")))
        .properties(width=640, height=70)
    )
    file = folder / "loss.svg"
    file.write_text(vl_convert.vegalite_to_svg((losses & rates).to_dict()), "utf-8")
    return file
