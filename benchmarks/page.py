"""``docs/performance.md`` and its pictures, drawn from ``benchmarks/results/inference*.json``; nothing is measured here.

python -m benchmarks.page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/performance.md"
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


def section(stem: str, result: dict[str, Any]) -> str:
    """One machine, as Markdown."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        f"## {machine['processor'].replace('(R)', '')}, {machine['cores']} cores\n",
        f"`benchmarks/results/{stem}.json`: {result['created']}, `{result['command']}`, Python {machine['python']}, {versions}.\n",
    ]
    parts += [f"Left out: {said}.\n" for said in result["left_out"]]
    if bulk := result.get("bulk"):
        parts.append("### Many texts\n")
        parts.append(
            f"The real 6 × 384 checkpoint over {bulk['texts']} English texts of mixed lengths (captions, reviews, paragraphs), "
            "at most 256 pieces, tokenisation included; every engine in its own process, in turn, in every round. "
            "\u201ctimes\u201d: against sentence-transformers as it comes, in the same round. Cosine against its vectors.\n"
        )
        parts.append(f"![Texts a second by engine]({stem}.png)\n")
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
        parts.append("### One text\n")
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
        large = {(r["model"], r["engine"]): r for r in one if "memory_loaded" in r}
        if large:
            parts.append("### Memory\n")
            parts.append(
                "Megabytes resident once a model is loaded and has answered, beside its weights at that precision.\n"
            )
            parts.append(
                table(
                    ["model", "engine", "weights", "resident"],
                    [
                        [m.removesuffix(" int8"), e, f"{r['weights'] / 1e6:.0f}", f"{r['memory_loaded'] / 1e6:.0f}"]
                        for (m, e), r in sorted(large.items())
                    ],
                )
            )
    if swept := result.get("sweep"):
        parts.append("### When sharing pays\n")
        parts.append(
            "Twelve blocks in int8, with one set of parameters or twelve and else the same shape: milliseconds for one text, "
            "and how many times as fast the shared one is.\n"
        )
        times = {(r["model"], r["pieces"]): r["median"] for r in swept}
        bytes_of = {r["model"]: r["weights"] for r in swept}
        rows = []
        for shared in dict.fromkeys(r["model"] for r in swept if r["model"].endswith("1 set")):
            plain = shared.replace("1 set", "12 sets")
            row = [shared.split()[0], f"{bytes_of[shared] / 1e6:.1f}", f"{bytes_of[plain] / 1e6:.1f}"]
            for n in sorted({r["pieces"] for r in swept}):
                a, b = times[shared, n], times[plain, n]
                row += [f"{a:.2f}", f"{b:.2f}", f"{b / a:.2f}"]
            rows.append(row)
        head = ["width", "MB, one set", "MB, twelve"]
        for n in sorted({r["pieces"] for r in swept}):
            head += [f"{n} pieces, one set", "twelve", "times"]
        parts.append(table(head, rows))
    if first := result.get("first_answer"):
        parts.append("### The first answer\n")
        parts.append("Seconds from the start of a process to its end with one vector of the real checkpoint.\n")
        parts.append(table(["command", "seconds"], [[name, f"{f['median']:.2f}"] for name, f in first.items()]))
    return "\n".join(parts)


def main() -> None:
    """Write the page and a picture for every machine."""
    by_hand = PAGE.read_text("utf-8").partition(MARK)[2] if PAGE.exists() else ""
    parts = ["# Performance\n", "Drawn by `python -m benchmarks.page`; one part for each machine that was measured.\n"]
    for file in sorted(RESULTS.glob("inference*.json")):
        result = json.loads(file.read_text("utf-8"))
        parts.append(section(file.stem, result))
        if "bulk" in result:
            (ROOT / "docs" / f"{file.stem}.png").write_bytes(picture(result["bulk"]["engines"]))
    PAGE.write_text("\n".join(parts) + f"\n{MARK}{by_hand}", "utf-8")


if __name__ == "__main__":
    main()
