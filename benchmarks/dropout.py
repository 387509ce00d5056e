"""Fine-tuning the English models in the box with and without dropout: three data sets, three seeds, else default settings.

    python -m benchmarks.dropout [--seeds 3] [--models NAME …] [--out FILE]

Both were pre-trained without dropout, so the question is what their own setting (none) costs against 0.1. Every run is
``halbert finetune`` and ``halbert evaluate``, as a user would; the last weights are scored, so that nothing is chosen by the
data that they are scored on. Runs that are in the results file already are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tasks import DATA, ROOT, ROWS, halbert
from benchmarks.written import put
from halbert.compare.machine import describe_machine
from halbert.files import write_json

OUT = ROOT / "benchmarks/results/dropout.json"
MODELS = ("bert-mini-en", "albert-mini-en")
SETS = {"Banking77": ("--column", "label=category"), "CoLA": (), "WNUT-17 (NER)": ()}
DROPOUTS = (0.0, 0.1)


def measure(model: str, name: str, dropout: float, seed: int, data: Path) -> dict[str, Any]:
    """One run's scores on the part of a data set that tasks are scored on."""
    row = next(row for row in ROWS if row.name == name)
    train, dev, test = (data / file for file in row.files)
    settings = [f"--set={text}" for text in (f"dropout={dropout}", f"seed={seed}", 'keep="last"')]
    with tempfile.TemporaryDirectory(prefix="halbert-dropout-") as place:
        out = Path(place) / "tuned"
        told = halbert(
            "finetune", model, "--task", row.task, "--train", train, "--dev", dev, "--out", out, *SETS[name], *settings
        )  # fmt: skip
        scored = halbert("evaluate", out, "--data", test, *SETS[name])
    (run,) = told["runs"]
    metric = next(iter(scored["metrics"]))
    return {
        "model": model, "data": name, "dropout": dropout, "seed": seed, "metric": metric, "n": scored["n"],
        "value": scored["metrics"][metric]["value"], "steps": run["steps"], "restarts": len(run["restarts"]),
        "seconds": round(run["seconds"], 1), "precision": run["precision"],
    }  # fmt: skip


def table(runs: list[dict[str, Any]]) -> list[str]:
    """By data set and model, the mean and the extremes of the seeds, without dropout and with it."""
    lines = ["| data | score | model | seeds | no dropout | dropout 0.1 |", "|---|---|---|--:|--:|--:|"]
    for name, model in itertools.product(SETS, MODELS):
        rows = [run for run in runs if (run["data"], run["model"]) == (name, model)]
        cells, seeds = [], set.intersection(*({r["seed"] for r in rows if r["dropout"] == d} for d in DROPOUTS))
        for dropout in DROPOUTS:
            values = [100 * run["value"] for run in rows if run["dropout"] == dropout and run["seed"] in seeds]
            cells.append(f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})" if values else "")
        if seeds:
            lines.append(f"| {name} | {rows[0]['metric']} | `{model}` | {len(seeds)} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run what is missing, write the results after every run, draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the data sets")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=MODELS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {"runs": []}
    done = {(run["model"], run["data"], run["dropout"], run["seed"]) for run in result["runs"]}
    machine, today = describe_machine(), time.strftime("%Y-%m-%d", time.gmtime())
    result |= {
        "command": shlex.join(["python", "-m", "benchmarks.dropout", *sys.argv[1:]]), "created": today, "machine": machine
    }  # fmt: skip
    for seed, name, model, dropout in itertools.product(range(options.seeds), SETS, options.models, DROPOUTS):
        if (model, name, dropout, seed) in done:
            continue
        found = measure(model, name, dropout, seed, options.data)
        print(json.dumps(found), file=sys.stderr, flush=True)
        result["runs"].append({**found, "processor": machine["processor"], "created": today})
        write_json(options.out, result)
    lines = table(result["runs"])
    if options.out == OUT:
        put("tasks.md", "dropout", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
