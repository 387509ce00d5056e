"""``docs/performance.md`` and its pictures, drawn from ``benchmarks/results/inference*.json``; nothing is measured here.

python -m benchmarks.page
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks import pictures

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/performance.md"
MARK = "<!-- From here on by hand. -->\n"
# By whether benchmarks/peers.py asked all of them, which it does since 2026-11-29.
ANSWERED = (
    "Halbert has answered once by then; the others have not, so that weights they map are not read yet (transformers)",
    "All have answered once by then",
)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def section(stem: str, result: dict[str, Any]) -> str:
    """One machine, as Markdown."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        f"## {machine['processor'].replace('(R)', '')}, {machine['cores']} cores, "
        f"{'without' if result['left_out'] else 'with'} bfloat16\n",
        f"`benchmarks/results/{stem}.json`: {result['created']}, `{result['command']}`, Python {machine['python']}, {versions}.\n",
    ]
    parts += [f"Left out: {said}.\n" for said in result["left_out"]]
    if bulk := result.get("bulk"):
        parts.append("### Many texts\n")
        parts.append(
            f"The real 6 × 384 checkpoint over {bulk['texts']} English texts of mixed lengths (captions, reviews, paragraphs), "
            "at most 256 pieces, tokenisation included; every engine in its own process, in turn, in every round. "
            "\u201ctimes\u201d: against sentence-transformers as it comes, in the same round. Cosine against its vectors. Memory: ONNX "
            "Runtime and OpenVINO convert the model in the same process.\n"
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
            "Milliseconds from text to vector, random weights (they say how fast a shape is) and BERT's vocabulary, by number of "
            "pieces.\n"
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
                f"Megabytes resident once a model is loaded, beside its weights at that precision. "
                f"{ANSWERED[result['created'] >= '2026-11-29']}, "
                "and those that convert or quantise do it in the same process (ONNX Runtime, OpenVINO).\n"
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
    if kept := result.get("saved"):
        parts.append("### Work saved\n")
        parts.append(
            "The real 6 × 384 checkpoint: times as fast as with the work done, in turn (median of "
            f"{len(kept['rows'][0]['seconds']['with'])} rounds, lowest and highest). {measured(kept)}\n"
        )
        parts.append(
            table(
                ["what", "times as fast"],
                [[r["saving"], f"{r['times']:.2f} ({r['low']:.2f}-{r['high']:.2f})"] for r in kept["rows"]],
            )
        )
    if swept := result.get("sweep"):
        parts.append(sharing_section(stem, swept, machine))
    if first := result.get("first_answer"):
        parts.append("### The first answer\n")
        parts.append("Seconds from the start of a process to its end with one vector of the real checkpoint.\n")
        parts.append(table(["command", "seconds"], [[name, f"{f['median']:.2f}"] for name, f in first.items()]))
    if many := result.get("million"):
        parts.append(million_section(many, machine))
    return "\n".join(parts)


def measured(part: dict[str, Any]) -> str:
    """Where and how a part that can be run alone was measured."""
    machine = part["machine"]
    processor = machine["processor"].replace("(R)", "")
    told = f"{part['created']}, `{part['command']}`, {processor}, {machine['cores']} cores"
    return f"{told}, load {machine['load_before']} before it began."


def elsewhere(part: dict[str, Any], machine: dict[str, Any]) -> str:
    """What a heading says of a part that was measured on another machine than the rest."""
    processor = part["machine"]["processor"]
    return "" if processor == machine["processor"] else f" (on another machine: {processor})"


def sharing_section(stem: str, swept: dict[str, Any], machine: dict[str, Any]) -> str:
    """Parameters shared against parameters of their own, by size."""
    sizes = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in swept["caches"].items())
    parts = [
        f"### When sharing pays{elsewhere(swept, machine)}\n",
        f"Twelve blocks with twelve sets of parameters (as BERT) or one (as ALBERT), else the same shape and random weights: "
        f"milliseconds for one text (its pieces at hand, embeddings of width 128 for both, tenth percentile of many passes), and "
        f"how many times as fast the shared one is (median of "
        f"{len(swept['rows'][0]['bert'])} rounds, lowest and highest). Caches of all cores: {sizes}. {measured(swept)}\n",
        f"![Times as fast by the bytes of twelve blocks]({stem.replace('inference', 'sharing')}.png)\n",
    ]
    found = {(r["precision"], r["width"], r["pieces"]): r for r in swept["rows"]}
    lengths = sorted({n for *_, n in found})
    rows = []
    for precision, width in dict.fromkeys((p, w) for p, w, _ in found):
        some = found[precision, width, lengths[0]]
        row = [f"{precision}, {width}", f"{some['block_bytes'] / 1e6:.1f}", f"{some['all_bytes'] / 1e6:.1f}"]
        for n in lengths:
            r = found[precision, width, n]
            row += [f"{statistics.median(r['bert']):.2f}", f"{statistics.median(r['albert']):.2f}"]
            row += [f"{r['ratio']:.2f} ({r['low']:.2f}-{r['high']:.2f})"]
        rows.append(row)
    head = ["precision, width", "MB, one block", "MB, twelve"]
    for n in lengths:
        head += [f"{n} pieces: twelve sets", "one", "times"]
    parts.append(table(head, sorted(rows, key=lambda r: (r[0].split(",")[0], float(r[1])))))
    return "\n".join(parts)


def million_section(many: dict[str, Any], machine: dict[str, Any]) -> str:
    """From file to file: memory and speed."""
    rows = [
        [
            verb, f"{r['texts_per_second']:,}", f"{r['memory_after_a_fifth'] / 1e6:.0f}",
            f"{r['memory_at_the_end'] / 1e6:.0f}", f"{r['memory_peak'] / 1e6:.0f}",
        ]
        for verb, r in ((f"halbert {verb}", many[verb]) for verb in ("embed", "predict"))
    ]  # fmt: skip
    killed, beside = many["killed"], many["beside_the_api"]
    return "\n".join(
        [
            f"### {many['texts']:,} texts from file to file{elsewhere(many, machine)}\n",
            f"Different English texts of 3 to 12 words, through a model of the shape of {many['model']} with random weights. "
            f"{measured(many)}\n",
            table(["command", "texts/s", "MB after a fifth", "MB at the end", "MB at the peak"], rows),
            f"The tokenizer remembers words: {many['remembered_bytes'] / 1e6:.0f} MB after all of them, "
            f"{many['remembered_after_a_fifth'] / 1e6:.0f} after a fifth. Once they are known, "
            f"{many['texts'] * 4 // 5:,} more texts added "
            f"{' and '.join(f'{size / 1e6:.1f} MB ({verb})' for verb, size in many['known']['added'].items())}.\n",
            f"Killed (SIGKILL) after {killed['parts_kept']} of {killed['of']} parts and started again: "
            f"{'the same bytes' if killed['same_bytes'] else 'OTHER BYTES'}. On {many['sample']:,} texts the command has "
            f"{beside['ratio']:.2f} of the speed of `Predictor.embed` over a list in memory, model loaded.\n",
        ]
    )


def main() -> None:
    """Write the page and a picture for every machine."""
    by_hand = PAGE.read_text("utf-8").partition(MARK)[2] if PAGE.exists() else ""
    parts = ["# Performance\n", "Drawn by `python -m benchmarks.page`; one part for each machine that was measured.\n"]
    for file in sorted(RESULTS.glob("inference*.json")):
        result = json.loads(file.read_text("utf-8"))
        parts.append(section(file.stem, result))
        if "bulk" in result:
            (ROOT / "docs" / f"{file.stem}.png").write_bytes(pictures.engines(result["bulk"]["engines"]))
        if "sweep" in result:
            name = file.stem.replace("inference", "sharing")
            (ROOT / "docs" / f"{name}.png").write_bytes(pictures.sharing(result["sweep"]))
    PAGE.write_text("\n".join(parts) + f"\n{MARK}{by_hand}", "utf-8")


if __name__ == "__main__":
    main()
