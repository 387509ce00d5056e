"""``docs/performance.md`` and its picture, drawn from ``benchmarks/results/inference.json``; nothing is measured here.

python -m benchmarks.page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/inference.json"
PAGE, PICTURE = ROOT / "docs/performance.md", ROOT / "docs/inference.png"
MARK = "<!-- From here on by hand. -->\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def picture(rows: list[dict[str, Any]]) -> bytes:
    """Bars: texts a second by engine."""
    import altair as alt
    import vl_convert

    values = [{"engine": r["engine"], "rate": r["median"], "ours": r["engine"].startswith("halbert")} for r in rows]
    order = [r["engine"] for r in sorted(rows, key=lambda r: -r["median"])]
    bars = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("engine:N", sort=order, title=None, axis=alt.Axis(labelLimit=400))
    )
    chart = bars.mark_bar().encode(
        x=alt.X("rate:Q", title="texts a second, median"),
        color=alt.Color("ours:N", scale=alt.Scale(domain=[True, False], range=["#1b6ca8", "#b9c4cc"]), legend=None),
    ) + bars.mark_text(align="left", dx=4).encode(x="rate:Q", text=alt.Text("rate:Q", format=".0f"))
    return vl_convert.vegalite_to_png(chart.properties(width=560, height=26 * len(values)).to_dict(), scale=2)


def page(result: dict[str, Any]) -> str:
    """The whole page as Markdown."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        "# Performance\n",
        f"Drawn by `python -m benchmarks.page` from `benchmarks/results/inference.json`: {result['created']}, "
        f"`{result['command']}`, {machine['processor']}, {machine['cores']} cores, Python {machine['python']}, {versions}.\n",
    ]
    parts += [f"Left out: {said}.\n" for said in result["left_out"]]
    if bulk := result.get("bulk"):
        parts.append("## Many texts\n")
        parts.append(
            f"The real 6 × 384 checkpoint over {bulk['texts']} English texts of mixed lengths (captions, reviews, paragraphs), "
            "at most 256 pieces, tokenisation included; every engine in its own process, in turn, in every round. "
            "\u201ctimes\u201d: against sentence-transformers as it comes, in the same round. Cosine against its vectors.\n"
        )
        parts.append("![Texts a second by engine](inference.png)\n")
        rows = sorted(bulk["engines"], key=lambda r: -r["median"])
        parts.append(
            table(
                ["engine", "texts/s", "times", "cosine", "MB resident when loaded", "MB at the peak"],
                [
                    [r["engine"], f"{r['median']:.1f}", f"{r['times_the_default']:.2f}", f"{r['cosine']:.5f}",
                     f"{r['memory_loaded'] / 1e6:.0f}", f"{r['memory_peak'] / 1e6:.0f}"]
                    for r in rows
                ],
            )
        )  # fmt: skip
    if one := result.get("one_text"):
        lengths = sorted({r["pieces"] for r in one})
        kinds = list(dict.fromkeys((r["model"].removesuffix(" int8"), r["engine"]) for r in one))
        found = {(r["model"].removesuffix(" int8"), r["engine"], r["pieces"]): r["median"] for r in one}
        parts.append("## One text\n")
        parts.append(
            "Milliseconds from text to vector, random weights (they say how fast a shape is), by number of pieces.\n"
        )
        parts.append(
            table(
                ["model", "engine", *(str(n) for n in lengths)],
                [
                    [m, e, *(f"{found[m, e, n]:.1f}" if (m, e, n) in found else "" for n in lengths)]
                    for m, e in sorted(kinds)
                ],
            )
        )
        parts.append(
            f"Measured peak of this machine in one int8 matrix product: {result['int8_peak_gops']:,.0f} billion operations a second.\n"
        )
    if first := result.get("first_answer"):
        parts.append("## The first answer\n")
        parts.append("Seconds from the start of a process to its end with one vector of the real checkpoint.\n")
        parts.append(table(["command", "seconds"], [[name, f"{f['median']:.2f}"] for name, f in first.items()]))
    return "\n".join(parts)


def main() -> None:
    """Write both files."""
    result = json.loads(RESULTS.read_text())
    by_hand = PAGE.read_text("utf-8").partition(MARK)[2] if PAGE.exists() else ""
    PAGE.write_text(f"{page(result)}\n{MARK}{by_hand}", "utf-8")
    if "bulk" in result:
        PICTURE.write_bytes(picture(result["bulk"]["engines"]))


if __name__ == "__main__":
    main()
