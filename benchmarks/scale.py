"""docs/scale.md: how long large jobs would take, from measured rates and stated assumptions.

    python -m benchmarks.scale                     draws the tables and the picture
    python -m benchmarks.scale --predict FILE      what two and three machines will need for a corpus, from one machine's times

Nothing here is a measurement of a large machine. Every assumption has a name below, a value and where it is from; change
one and run it again.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import vl_convert

from benchmarks.cluster import WAYS
from benchmarks.written import DOCS, put, told
from halbert import presets
from halbert.files import write_bytes, write_json
from halbert.spec import EncoderSpec

RESULTS = Path(__file__).parent / "results"


class Assumed(NamedTuple):
    """A number, and where it is from."""

    value: float
    source: str


ASSUMED = {
    "encoding, bytes/s a core": Assumed(16.5e6, "measured: 8 GB of English prose, AMD EPYC, `benchmarks/results/corpus.json`"),
    "reading, bytes/s": Assumed(268e6, "measured: one process reads, unpacks and hashes plain text, decision 30"),
    "GPU, FLOP/s in bfloat16": Assumed(989e12, "H100 SXM, dense, its data sheet"),
    "share of it that is reached": Assumed(0.5, "an aim; **not measured**: no GPU was at hand"),
    "GPUs a machine": Assumed(8, "DGX H100"),
    "between GPUs of a machine, bytes/s": Assumed(450e9, "NVLink 4, one direction, its data sheet"),
    "between machines, bytes/s": Assumed(400e9, "a port of 400 Gbit/s for each GPU, all used at once by as many rings"),
    "bytes of a gradient": Assumed(4, "float32, as torch's DDP sends it"),
    "price of a GPU for an hour": Assumed(2.0, "US dollars, a round number"),
    "price of a core for an hour": Assumed(0.04, "US dollars, a round number"),
    "texts/s of two cores": Assumed(510, "measured: 6 x 384 in bfloat16, 512 mixed texts, Intel Xeon with AMX, `inference-amx.json`"),
}  # fmt: skip
GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Training(NamedTuple):
    """What a paper trained: updates, sequences in each, and the lengths by share of the steps."""

    steps: int
    batch: int
    lengths: tuple[tuple[int, float], ...]

    @property
    def tokens(self) -> float:
        """Places read, padding included."""
        return self.steps * self.batch * sum(length * share for length, share in self.lengths)


PAPERS = {
    "bert": Training(1_000_000, 256, ((128, 0.9), (512, 0.1))),  # A.2 of the paper
    "albert": Training(125_000, 4096, ((512, 1.0),)),  # 4.1; a tenth of the inputs is shorter, which is not counted off
}
MODELS = (
    "bert-base-uncased", "bert-large-uncased", "albert-base-v2", "albert-large-v2", "albert-xlarge-v2", "albert-xxlarge-v2",
)  # fmt: skip


def a(name: str) -> float:
    """An assumption's value."""
    return ASSUMED[name].value


def work(spec: EncoderSpec, length: int, masked: float = 0.15) -> float:
    """FLOPs of one sequence's training step: forward, and twice that backward; the vocabulary at masked pieces alone."""
    head = 2 * masked * length * spec.embedding_size * (spec.hidden_size + spec.vocab_size)
    return 3 * (spec.count_flops(length) + head)


def sent(spec: EncoderSpec) -> float:
    """Bytes of all gradients: every parameter once, however many layers use it."""
    parts = spec.count_parameters()
    return a("bytes of a gradient") * sum(parts.values())


def exchange(spec: EncoderSpec, gpus: int) -> float:
    """Seconds of a ring's all-reduce (Patarasuk and Yuan 2009): each sends 2 (N - 1) / N of the gradients, the slowest link
    decides, and nothing is hidden behind the backward pass."""
    if gpus == 1:
        return 0.0
    link = "between GPUs of a machine, bytes/s" if gpus <= a("GPUs a machine") else "between machines, bytes/s"
    return 2 * (gpus - 1) / gpus * sent(spec) / a(link)


def days(name: str, gpus: int) -> tuple[float, float]:
    """Days of a paper's whole training, and the share of them in which gradients are sent."""
    spec, paper = presets.get(name).spec.encoder, PAPERS[name.split("-")[0]]
    computing = sending = 0.0
    for length, share in paper.lengths:
        pace = a("GPU, FLOP/s in bfloat16") * a("share of it that is reached") * gpus
        computing += share * paper.steps * paper.batch * work(spec, length) / pace
        sending += share * paper.steps * exchange(spec, gpus)
    whole = computing + sending
    return whole / 86_400, sending / whole


def trainings() -> list[str]:
    """Days of every size on some numbers of GPUs."""
    head = " | ".join(str(n) for n in GPUS)
    lines = [
        f"| model | pieces read | MB of gradients a step | {head} | of it sending, 8 / 64 / 256 | dollars, 8 GPUs |",
        "|---|--:|--:|" + "--:|" * (len(GPUS) + 2),
    ]
    for name in MODELS:
        spec, paper = presets.get(name).spec.encoder, PAPERS[name.split("-")[0]]
        cells = " | ".join(_days(days(name, n)[0]) for n in GPUS)
        shares = " / ".join(f"{100 * days(name, n)[1]:.1f} %" for n in (8, 64, 256))
        cost = days(name, 8)[0] * 24 * 8 * a("price of a GPU for an hour")
        lines.append(
            f"| {name} | {paper.tokens / 1e9:,.0f} G | {sent(spec) / 1e6:,.0f} | {cells} | {shares} | {cost:,.0f} |"
        )
    return lines


def _days(value: float) -> str:
    return f"{24 * value:.1f} h" if value < 1 else f"{value:.1f} d"


def corpora() -> list[str]:
    """Hours and dollars of text to shards."""
    cores = (2, 8, 16, 64, 256)
    lines = [
        "| text | " + " | ".join(f"{n} cores" for n in cores) + " | dollars |",
        "|---|" + "--:|" * (len(cores) + 1),
    ]
    for size in (16e9, 160e9):
        cells = []
        for n in cores:
            seconds = max(size / (a("encoding, bytes/s a core") * n), size / a("reading, bytes/s"))
            bound = " (reading)" if size / a("reading, bytes/s") >= seconds else ""
            cells.append(f"{seconds / 60:,.0f} min{bound}")
        cost = size / a("encoding, bytes/s a core") / 3600 * a("price of a core for an hour")
        lines.append(f"| {size / 1e9:.0f} GB | {' | '.join(cells)} | {cost:.2f} |")
    return lines


def embeddings() -> list[str]:
    """A billion texts."""
    lines = ["| machines of two cores | days | dollars |", "|--:|--:|--:|"]
    for n in (1, 10, 100, 1000):
        seconds = 1e9 / (a("texts/s of two cores") * n)
        lines.append(
            f"| {n:,} | {seconds / 86_400:,.2f} | {seconds * n * 2 / 3600 * a('price of a core for an hour'):,.0f} |"
        )
    return lines


def assumptions() -> list[str]:
    """All of them."""
    return ["| assumption | value | from |", "|---|--:|---|"] + [
        f"| {name} | {value:,g} | {source} |" for name, (value, source) in ASSUMED.items()
    ]


def simulate(
    reading: Sequence[float], working: Sequence[float], writing: Sequence[float], workers: int, ahead: int
) -> float:
    """Seconds until the last of some blocks is written: one reader, ``workers`` that each take the next block, one writer.

    At most ``workers + ahead`` blocks are read and not yet written, as back-pressure has it.
    """
    free = [0.0] * workers
    heapq.heapify(free)
    read = wrote = 0.0
    written: list[float] = []
    for i, (r, w, s) in enumerate(zip(reading, working, writing, strict=True)):
        if i >= workers + ahead:
            read = max(read, written[i - workers - ahead])
        read += r
        begin = max(read, heapq.heappop(free))
        heapq.heappush(free, begin + w)
        wrote = max(wrote, begin + w) + s
        written.append(wrote)
    return wrote


def predict(times: dict[str, Any], workers: int) -> float:
    """Seconds of a job on ``workers`` workers, from one's: its start, and the mean time of a block in each station.

    Where all nodes are one machine they share its cores: no less than all processor time by their number.
    """
    n = times["blocks"]
    each = [[times[what]] * n for what in ("read", "work", "write")]
    shared = sum(map(sum, each)) / times["machine"]["cores"]
    return float(times["start"] + max(shared, simulate(*each, workers=workers, ahead=times["ahead"])))


def overheads(measured: dict[str, Any]) -> list[str]:
    """What Ray costs, from every run of ``benchmarks/cluster.py --only overhead``."""
    lines: list[str] = []
    for name, found in measured.items():
        if not name.startswith("overhead"):
            continue
        lines += [
            *([""] if lines else []), told(found["machine"], found["created"], found["command"], "cluster.json"), "",
            "| job | plain | with `--engine ray` | ratio | by a cluster that stands | ratio |", "|---|--:|--:|--:|--:|--:|",
        ]  # fmt: skip
        for row in found["rows"]:
            seconds = row["seconds"]
            cells = [f"{statistics.median(seconds['plain']):.1f} s"]
            for how in WAYS[1:]:
                there = seconds.get(how)
                ratio = statistics.median(b / a for a, b in zip(seconds["plain"], there, strict=True)) if there else 0.0
                cells += [f"{statistics.median(there):.1f} s", f"{ratio:.2f}"] if there else ["not measured", ""]
            lines.append(f"| {row['job']} | {' | '.join(cells)} |")
    return lines


def predictions(found: dict[str, Any]) -> list[str]:
    """What was predicted for one to three nodes, and what was measured then."""
    lines = [
        told(found["machine"], found["created"], found["command"], "cluster.json"), "",
        "| nodes of one core | predicted | measured | error |", "|--:|--:|--:|--:|",
    ]  # fmt: skip
    for row in found["rows"]:
        lines.append(f"| {row['nodes']} | {row['predicted']:.1f} s | {row['seconds']:.1f} s | {row['error']:+.1%} |")
    return lines


def picture() -> bytes:
    """Days by GPUs, a line a model."""
    rows = [{"model": name, "gpus": n, "days": days(name, n)[0]} for name in MODELS for n in GPUS]
    chart = alt.Chart(alt.Data(values=rows)).mark_line(point=True).encode(
        x=alt.X("gpus:Q", scale=alt.Scale(type="log", base=2), title="GPUs"),
        y=alt.Y("days:Q", scale=alt.Scale(type="log"), title="days"),
        color=alt.Color("model:N", sort=list(MODELS), title=None, scale=alt.Scale(
            domain=list(MODELS), range=["#1b6ca8", "#0a3d62", "#e8b04b", "#d17a22", "#a8502a", "#6b2d1a"])),
        strokeDash=alt.StrokeDash("model:N", sort=list(MODELS), legend=None),
    ).properties(width=560, height=320)  # fmt: skip
    png: bytes = vl_convert.vegalite_to_png(chart.to_json(), scale=2)
    return png


def main() -> None:
    """Draw, predict or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predict", type=Path, metavar="FILE", help="times of one machine, by benchmarks/cluster.py")
    options = parser.parse_args()
    if options.predict:
        times = json.loads(options.predict.read_text())
        found = {str(n): predict(times, n) for n in (1, 2, 3)}
        write_json(options.predict.with_name("scale-predicted.json"), {"from": times, "seconds": found})
        print(json.dumps(found))
        return
    put("scale.md", "assumptions", assumptions())
    put("scale.md", "trainings", trainings())
    put("scale.md", "corpora", corpora())
    put("scale.md", "embeddings", embeddings())
    write_bytes(DOCS / "scale.png", picture())
    measured = json.loads((RESULTS / "cluster.json").read_text())
    put("scale.md", "overheads", overheads(measured))
    put("scale.md", "predictions", predictions(measured["nodes"]))


if __name__ == "__main__":
    main()
