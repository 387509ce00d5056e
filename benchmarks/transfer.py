"""Does sharing layers help or hurt transfer between languages, at equal compute?

    python -m benchmarks.transfer --work DIR [--seeds 3] [--out FILE]

The recipe of the multilingual pair at its smallest, 4 layers of width 128 for 3,000 steps, with one parameter group for all
layers or one for each, and nothing else changed. Text, vocabulary and scores are those of models/multilingual.py: masked
pieces of verses that were held out, translations found (Tatoeba), topics learnt from English (SIB-200). Runs that are in
the results file already are not repeated, and one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.languages import judged
from benchmarks.written import put
from halbert.compare.machine import describe_machine
from halbert.compare.probes.retrieval import read_parallel
from halbert.files import write_json
from halbert.run.predictor import load
from models.atlas import Atlas
from models.making import DATA, ROOT, masked, trained
from models.multilingual import prepare, retrieval, transfer
from models.tongues import held_out_verses

OUT = ROOT / "benchmarks/results/transfer.json"
RECIPE = "bert-mini-100"
SMALLEST = [
    "steps=3000", "encoder.hidden_size=128", "encoder.num_attention_heads=2",
    "translation_weight=1.0", "translation_span=0", "long_sentences='cut'",
]  # fmt: skip
RATE = 1e-4  # of the fine-tunings
KNOBS = {"not shared": 4, "all shared": 1}
SCORES = {"masked_accuracy": "masked pieces found", "retrieval": "translations found", "topics": "topics from English"}


def run(name: str, seed: int, made: tuple[Any, ...], options: argparse.Namespace) -> dict[str, Any]:
    """Train one model and judge it; fine-tuned on topics with the same seed."""
    tokenizer, train, parallel, held_out = made
    changes = [
        *SMALLEST, *options.set, f"seed={seed}", f"encoder.num_hidden_groups={KNOBS[name]}", f"corpus='{train.folder}'",
        f"start_parallel='{parallel.folder}'",
    ]  # fmt: skip
    bundle = trained(RECIPE, tokenizer, options.work / f"transfer-{name.replace(' ', '-')}-{seed}", changes)
    told = bundle.provenance["training"]
    pairs = read_parallel(options.data / "tatoeba/tatoeba.tsv.gz", most=1000)
    topics = transfer(bundle, options.data, seed, everywhere=False, learning_rate=RATE)
    return {
        "knobs": name, "seed": seed, "parameters": bundle.spec.encoder.count_encoder(), "tokens": told["tokens"],
        "seconds": round(told["seconds"], 1), "precision": told["precision"], **masked(bundle, tokenizer, held_out),
        "retrieval": {code: round(share, 4) for code, share in retrieval(load(bundle), pairs).items()},
        "topics": {code: round(share, 4) for code, share in topics.items()},
    }  # fmt: skip


def table(runs: list[dict[str, Any]], learnt: Callable[[str], bool]) -> list[str]:
    """Both ways by score: mean and extremes of the seeds, and the difference seed by seed, over languages learnt from."""
    lines = [
        "| score | languages | not shared, seeds | all shared, seeds | difference, seed by seed |",
        "|---|--:|--:|--:|--:|",
    ]
    rows = {name: {row["seed"]: row for row in runs if row["knobs"] == name} for name in KNOBS}
    for score, title in SCORES.items():
        codes: list[str] = []
        if score != "masked_accuracy":
            kind = "topics" if score == "topics" else "found"
            codes = [code for code in judged(kind, runs[0][score]) if learnt(code)]
        values = {
            name: {seed: statistics.mean(row[score][c] for c in codes) if codes else row[score] for seed, row in some.items()}
            for name, some in rows.items()
        }  # fmt: skip
        cells = [
            f"{100 * statistics.mean(v.values()):.1f} ({100 * min(v.values()):.1f} to {100 * max(v.values()):.1f}), {len(v)}"
            for v in values.values()
        ]
        ours, theirs = values.values()
        apart = ", ".join(f"{100 * (ours[seed] - theirs[seed]):.2f}" for seed in sorted(ours.keys() & theirs.keys()))
        lines.append(f"| {title} | {len(codes) or ''} | {' | '.join(cells)} | {apart} |")
    return lines


def main() -> None:
    """Run what is missing, write the results after every run, draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the texts")
    parser.add_argument("--work", type=Path, required=True, help="folder for corpora, checkpoints and models")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=KNOBS, default=list(KNOBS))
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe for all runs"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {"runs": []}
    if result["runs"] and result["changes"] != [*SMALLEST, *options.set]:
        raise SystemExit(f"{options.out}: was made with {result['changes']}; use the same, or another file")
    machine, today = describe_machine(), time.strftime("%Y-%m-%d", time.gmtime())
    words = [word for word in sys.argv[1:] if word != str(options.work)]
    result |= {
        "command": shlex.join(["python", "-m", "benchmarks.transfer", *words]).replace("--work", "--work WORK"),
        "created": today, "machine": machine, "recipe": f"halbert/recipes/{RECIPE}.toml",
        "changes": [*SMALLEST, *options.set],
    }  # fmt: skip
    made = prepare(options.data, options.work)
    done = {(row["knobs"], row["seed"]) for row in result["runs"]}
    for seed, name in itertools.product(range(options.seeds), options.only):
        if (name, seed) in done:
            continue
        found = run(name, seed, made, options)
        print(json.dumps({k: v for k, v in found.items() if not isinstance(v, dict)}), file=sys.stderr, flush=True)
        result["runs"].append({**found, "processor": machine["processor"], "created": today})
        write_json(options.out, result)
    if {row["knobs"] for row in result["runs"]} != set(KNOBS):
        return  # there is nothing to compare yet
    seen = {code: share.tokens for code, share in made[1].manifest.languages.items()}
    atlas = Atlas(options.data, seen, held_out_verses(options.data))
    lines = table(result["runs"], atlas.learnt)
    if options.out == OUT:
        put("languages.md", "sharing", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
