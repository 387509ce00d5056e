"""What a cluster costs and gives, on one machine: Ray beside the plain commands on the same cores, and one to three nodes.

    python -m benchmarks.cluster --only overhead       plain, spread, and spread by a cluster that stands, in turn: whole commands
    python -m benchmarks.cluster --only overhead --gigabytes 4
    python -m benchmarks.cluster --only overhead --verbs         predict, evaluate, finetune, pretrain and audit
    python -m benchmarks.cluster --only times          one node of one core: the times that benchmarks/scale.py predicts from
    python -m benchmarks.scale --predict benchmarks/results/cluster-times.json       commit this before the next
    python -m benchmarks.cluster --only nodes          one, two and three nodes of one core, beside the predictions

Nodes are raylets, each a process of its own (``ray.cluster_utils``). English prose of the data folder, as often as is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import gzip
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.inference import DATA, ROOT
from benchmarks.serve import checkpoint
from halbert.compare.machine import describe_machine
from halbert.files import write_bytes, write_json
from halbert.processes import cores

OUT = ROOT / "benchmarks/results"
NODES = (1, 2, 3)
LEARNT = (
    "finetune",
    "pretrain",
    "audit",
)  # the same but for the order in which numbers are added up; tests/cluster compares
# As a machine of 7 GB would have by itself (30 %). Raylets of cluster_utils have 150 MiB, which is six blocks of text: Ray
# Data then holds all workers but one back.
STORE = 2 << 30


def prose(data: Path, place: Path, size: int) -> Path:
    """A plain file of so many bytes, whole lines."""
    files = sorted((data / "english_text").glob("eltec*.txt.gz"))
    text = b"".join(gzip.decompress(file.read_bytes()) for file in files)
    whole = text * (size // len(text) + 1)
    out = place / "prose.txt"
    out.write_bytes(whole[: whole.rindex(b"\n", 0, size) + 1])
    return out


def command(*words: object) -> float:
    """Seconds of a whole command."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "halbert", *map(str, words), "--quiet"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"halbert {' '.join(map(str, words))} ended with {done.returncode}: {done.stderr[-1000:]}")
    return time.perf_counter() - began


def equal(a: Path, b: Path) -> bool:
    """Whether two files or folders are the same, byte for byte."""
    if a.is_file():
        return filecmp.cmp(a, b, shallow=False)
    names = sorted(f.name for f in a.iterdir())
    return names == sorted(f.name for f in b.iterdir()) and not any(filecmp.cmpfiles(a, b, names, shallow=False)[1:])


WAYS = ("plain", "ray", "standing")
Jobs = dict[str, tuple[list[object], str]]  # by name: a command without its output, and what that is called


def paragraphs(text: Path, place: Path, count: int) -> Path:
    """A file of so many paragraphs of a text, a line each."""
    found = itertools.islice((line for line in text.open("rb") if 40 < len(line) < 400), count)
    lines = place / "texts.txt"
    lines.write_bytes(b"".join(found))
    return lines


def bulk(data: Path, place: Path, gigabytes: float | None) -> Jobs:
    """A corpus and vectors; of a corpus of another size that alone."""
    size = round(1e9 * (gigabytes or 2.5))
    text = prose(data, place, size)
    jobs: Jobs = {f"corpus, {size / 1e9:g} GB": (["corpus", text, "--tokenizer", "bert-mini-en"], "corpus")}
    if gigabytes is None:
        words = ["embed", checkpoint(), "--input", paragraphs(text, place, 60_000)]
        jobs["embed, 60,000 texts"] = (words, "v.npy")
    return jobs


def verbs(data: Path, place: Path) -> Jobs:
    """The others; the sizes are such that each takes a minute or more of two cores."""
    text = prose(data, place, 200 << 20)
    with gzip.open(data / "glue/SST-2/train.tsv.gz", "rt", encoding="utf-8") as stream:
        header, *rows = (f"{line.strip()}\n".replace(" \t", "\t") for line in stream)
    few, tests, many = place / "train.tsv", place / "dev.tsv", place / "many.tsv"
    few.write_text(header + "".join(rows[:6000]), encoding="utf-8")
    tests.write_text(header + "".join(rows[6000:6500]), encoding="utf-8")
    many.write_text(header + "".join(rows[:60_000] * 4), encoding="utf-8")
    tuned, corpus = place / "tuned", place / "corpus"
    columns = ["--column", "text=sentence"]
    tune = ["finetune", "bert-mini-en", "--task", "classify", "--train", few, "--dev", tests, *columns]
    command(*tune, "--set", "epochs=1", "--out", tuned)
    command("corpus", text, "--tokenizer", "bert-mini-en", "--out", corpus)
    return {
        "predict, 100,000 texts": (["predict", tuned, "--input", paragraphs(text, place, 100_000)], "answers.jsonl"),
        "evaluate, 240,000 rows": (["evaluate", tuned, "--data", many, *columns], "scored"),
        "finetune, 4 seeds": ([*tune, "--set", "epochs=2", "--seeds", 4], "seeds"),
        "pretrain, 500 steps": (
            ["pretrain", "bert-mini-en", "--tokenizer", "bert-mini-en", "--set", f"corpus={corpus}", "--set", "steps=500",
             "--set", "warmup_steps=50"],
            "pretrained",
        ),
        "audit, fine-tuning with 4 seeds": (
            ["audit", "bert-mini-en", "albert-mini-en", "--task", "classify", "--data", few, *columns, "--only", "finetuning",
             "--only", "size", "--only", "latency", "--seeds", 4],
            "report",
        ),
    }  # fmt: skip


def result_of(target: Path) -> Path:
    """What of a job's output is the same, byte for byte, whoever made it; of what was learnt nothing is."""
    return target / "predictions.jsonl" if (target / "predictions.jsonl").exists() else target


def overhead(jobs_in: Callable[[Path], Jobs], rounds: int, ways: Sequence[str], only: str) -> Iterator[dict[str, Any]]:
    """Plain, spread, and spread by a cluster of these cores that stands already, in turn; outputs compared."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, (words, out) in jobs_in(place).items():
            if only not in name:
                continue
            option = "--output" if "." in out else "--out"
            seconds: dict[str, list[float]] = {how: [] for how in ways}
            for number in range(rounds):
                turn = number % len(ways)
                for how in (*ways[turn:], *ways[:turn]):
                    target = place / how / out
                    shutil.rmtree(target.parent, ignore_errors=True)
                    target.parent.mkdir()
                    with nodes_of(0, cores()) if how == "standing" else contextlib.nullcontext() as address:
                        more = ["--engine", "ray"] * (how != "plain") + (["--address", address] if address else [])
                        seconds[how].append(command(*words, option, target, *more))
                    print(f"  {name}, {how}: {seconds[how][-1]:.1f} s", file=sys.stderr, flush=True)
                same = [equal(*(result_of(place / one / out) for one in ("plain", how))) for how in ways[1:]]
                if words[0] not in LEARNT and not all(same):
                    raise SystemExit(f"{name}: the outputs differ")
            yield {"job": name, "seconds": seconds}


@contextlib.contextmanager
def nodes_of(count: int, own: int = 0) -> Iterator[str]:
    """A head with ``own`` cores and so many nodes of one core; gives the address."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": own, "include_dashboard": False, "object_store_memory": STORE}
    )
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
        yield cluster.address
    finally:
        cluster.shutdown()


def on_nodes(text: Path, place: Path, count: int) -> float:
    """Seconds of a corpus on so many nodes, the cluster being up."""
    with nodes_of(count) as address:
        target = place / f"nodes-{count}"
        shutil.rmtree(target, ignore_errors=True)
        return command(
            "corpus", text, "--tokenizer", "bert-mini-en", "--out", target, "--engine", "ray", "--address", address
        )


def times(data: Path) -> dict[str, Any]:
    """The mean times of a block in each station, of one node, from two sizes: what does not grow is the start."""
    from halbert.data.blocks import SHARD_BYTES, Cutter
    from halbert.data.encoding import Encoder
    from halbert.data.inputs import find_inputs
    from halbert.source import resolve_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        text = prose(data, place, 24 * SHARD_BYTES)
        began = time.perf_counter()
        blocks = list(Cutter(find_inputs([str(text)], ""), place).blocks())
        read = (time.perf_counter() - began) / len(blocks)
        encoder = Encoder(resolve_tokenizer("bert-mini-en"), place, dedupe=False, whole=False)
        began = time.perf_counter()
        pieces = [encoder(block) for block in blocks]
        work = (time.perf_counter() - began) / len(blocks)
        shards = [[(place / name).read_bytes() for name in piece.shard.sha256] for piece in pieces if piece.shard]
        began = time.perf_counter()
        for shard in shards:
            for written in shard:
                write_bytes(place / "again", written)
        write = (time.perf_counter() - began) / len(blocks)
        few = prose(data, place, 2 * SHARD_BYTES)
        start = on_nodes(few, place, 1) - 2 * (read + work)
    return {
        "blocks": 24,
        "read": read,
        "work": work,
        "write": write,
        "start": start,
        "ahead": 2,
        "machine": describe_machine(),
    }


def nodes(data: Path) -> list[dict[str, Any]]:
    """One, two and three, beside what was predicted."""
    from halbert.data.blocks import SHARD_BYTES

    predicted = json.loads((OUT / "scale-predicted.json").read_text())["seconds"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        text = prose(data, Path(folder), 24 * SHARD_BYTES)
        for count in NODES:
            seconds = on_nodes(text, Path(folder), count)
            said = predicted[str(count)]
            rows.append({"nodes": count, "seconds": seconds, "predicted": said, "error": seconds / said - 1})
            print(f"  {count} node(s): {seconds:.1f} s, predicted {said:.1f}", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """One part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("overhead", "times", "nodes"), required=True)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--gigabytes", type=float, help="overhead of a corpus of this size alone")
    parser.add_argument(
        "--verbs", action="store_true", help="overhead of the other commands, by a cluster of their own"
    )
    parser.add_argument(
        "--job", default="", help="overhead of the jobs whose names have this in them; the other rows stay"
    )
    options = parser.parse_args()
    if options.only == "times":
        write_json(OUT / "cluster-times.json", times(options.data))
        return
    file = OUT / "cluster.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    machine = describe_machine()
    rows: Iterable[dict[str, Any]]
    if options.only == "nodes":
        rows = nodes(options.data)
    elif options.verbs:
        rows = overhead(lambda place: verbs(options.data, place), options.rounds, WAYS[:2], options.job)
    else:
        rows = overhead(lambda place: bulk(options.data, place, options.gigabytes), options.rounds, WAYS, options.job)
    size = "" if options.gigabytes is None else f" --gigabytes {options.gigabytes:g}"
    size += " --verbs" * options.verbs
    kept = results.get(options.only + size, {}).get("rows", []) if options.job else []
    for row in rows:  # what is measured is kept, whatever becomes of the others
        kept = [each for each in kept if each.get("job") != row.get("job", row)] + [row]
        results[options.only + size] = {
            "rows": kept, "machine": machine, "created": time.strftime("%Y-%m-%d", time.gmtime()),
            "command": f"python -m benchmarks.cluster --only {options.only}{size}",
        }  # fmt: skip
        write_json(file, results)


if __name__ == "__main__":
    main()
