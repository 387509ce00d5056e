"""Ablations of both papers at a size that trains in minutes: one knob changed at a time, three seeds each.

    make bench-ablations      (or: python -m benchmarks.ablations --seeds 3 --set steps=2500)

Every run is the shipped recipe ``ablation`` with one knob changed, on the same English text, and is measured on texts it
has not seen: the masked pieces found (one draw for all), and whether its pair head tells pairs of either objective,
NSP's (continues, or of another document) and SOP's (in order, or swapped), whichever it was trained on. Runs that are in
the results file already are not repeated, so that it can be stopped and go on. The page is drawn from the usual results.

    python -m benchmarks.ablations --set steps=20000 --seeds 1 --only 'not shared, SOP' 'all shared, SOP' \
        --models bert-mini-en albert-mini-en --out benchmarks/results/ablations-long.json

eight times as long, and the pair objectives of finished models on the same texts, cut by their own tokenizers.
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

import numpy as np

from benchmarks.written import put
from halbert.compare.machine import describe_machine
from halbert.data.corpus import Corpus, build_corpus
from halbert.files import write_json
from halbert.model.arrays import model_of
from halbert.source import resolve_bundle, resolve_tokenizer
from halbert.spec import TextSpec
from halbert.text import Tokenizer
from halbert.text.learn import count_words, learn_from_counts
from halbert.train.pretraining import held_out_batches, masked_scores, pretrain
from halbert.train.recipe import read_recipe
from models.english import sentiment
from models.making import pair_accuracy
from models.texts import english

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "benchmarks/results/ablations.json"
LONG = ROOT / "benchmarks/results/ablations-long.json"
KNOWN_AS = {"bert-1": "bert-mini-en", "bert-2": "bert-mini-en"}  # its recipe with other seeds
VOCABULARY, BATCHES = 8000, 100
LENGTHS = (64, 128)  # of pairs that finished models are asked for
NSP, SHARED = "pretraining.sentence_objective=nsp", "encoder.num_hidden_groups=1"
WIDER = ["encoder.hidden_size=244", "encoder.embedding_size=128"]  # as many parameters as are not shared at 128
KNOBS = {
    "not shared, SOP": [],
    "all shared, SOP": [SHARED],
    "not shared, NSP": [NSP],
    "all shared, NSP": [NSP, SHARED],
    "attention shared, SOP": ["encoder.attention_groups=1"],
    "feed-forward shared, SOP": ["encoder.ffn_groups=1"],
    "not shared, no pairs": ["pretraining.sentence_objective=none"],
    "not shared, drawn start": ["start=random"],
    "all shared, drawn start": ["start=random", SHARED],
    "all shared and wider, SOP": [SHARED, *WIDER],
}
WIDTHS = ("not shared, SOP", "all shared, SOP", "all shared and wider, SOP")  # are fine-tuned, too
DRAWN = {"not shared, SOP": "not shared, drawn start", "all shared, SOP": "all shared, drawn start"}


def prepare(data: Path, place: Path) -> tuple[Tokenizer, Corpus, Corpus]:
    """The tokenizer, the corpus to learn from and the one held out; made once in a folder."""
    if not (place / "tokenizer").exists():
        counts = count_words((p for document in english(data, False) for p in document), TextSpec())
        learn_from_counts(counts, VOCABULARY, TextSpec()).save(place / "tokenizer")
    tokenizer = resolve_tokenizer(str(place / "tokenizer"))
    made = []
    for name, held_out in (("train", False), ("held-out", True)):
        if not (place / name / "manifest.json").exists():
            build_corpus(english(data, held_out), tokenizer, place / name)
        made.append(Corpus(place / name))
    return tokenizer, *made


def run(
    name: str, seed: int, changes: list[str], place: Path, made: tuple[Tokenizer, Corpus, Corpus], data: Path
) -> dict[str, Any]:
    """Train one model and measure it; some are fine-tuned to SST-2 as well, with the same seed."""
    tokenizer, train, held_out = made
    recipe = read_recipe("ablation", [*KNOBS[name], *changes, f"corpus='{train.folder}'", f"seed={seed}"])
    out = place / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
    bundle = pretrain(recipe, tokenizer, out, resume=True)
    told = bundle.provenance["training"]
    scores = masked_scores(
        model_of(bundle.spec.encoder, bundle.heads, bundle.arrays).eval(),
        held_out_batches(held_out, tokenizer, recipe.length, 4096, seed=1)[:BATCHES],
    )
    counts = np.array(scores.counts)
    return {
        "knobs": name, "seed": seed, "parameters": bundle.spec.encoder.count_encoder(), "tokens": told["tokens"],
        "seconds": round(told["seconds"], 1), "precision": told["precision"],
        "masked_accuracy": float(np.average(scores.accuracies, weights=counts)),
        "masked_loss": float(np.average(scores.losses, weights=counts)), "masked": int(counts.sum()),
        **{f"{o}_accuracy": pair_accuracy(bundle, held_out, recipe.length, o) for o in ("nsp", "sop")},
        "sst2": sentiment(bundle, data, seed) if name in WIDTHS else None,
    }  # fmt: skip


def finished(name: str, data: Path, place: Path) -> dict[str, Any]:
    """The pairs of both objectives that a finished model tells apart, of the same texts."""
    bundle = resolve_bundle(name)
    held_out = place / f"held-out-{bundle.tokenizer.fingerprint[:8]}"
    if not (held_out / "manifest.json").exists():
        build_corpus(english(data, True), bundle.tokenizer, held_out)
    corpus, told = Corpus(held_out), bundle.provenance["training"]
    return {
        "model": name, "tokens": told["tokens"],
        **{f"{o}_accuracy": {str(n): pair_accuracy(bundle, corpus, n, o) for n in LENGTHS} for o in ("nsp", "sop")},
    }  # fmt: skip


def share(values: list[float]) -> str:
    """The mean of some runs and their extremes, in percent."""
    low, high = min(values), max(values)
    return f"{100 * statistics.mean(values):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def starts(runs: list[dict[str, Any]]) -> list[str]:
    """Both families with the pmi-svd start and with drawn embeddings, the same seeds."""
    lines = [
        "| family | start | seeds | masked pieces found | loss (nats) | pairs of SOP |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for ours, drawn in DRAWN.items():
        for name, start in ((ours, "pmi-svd"), (drawn, "drawn")):
            rows = [row for row in runs if row["knobs"] == name]
            losses = [row["masked_loss"] for row in rows]
            lines.append(
                f"| {ours.partition(',')[0]} | {start} | {len(rows)} | {share([row['masked_accuracy'] for row in rows])} | "
                f"{statistics.mean(losses):.2f} ({min(losses):.2f} to {max(losses):.2f}) | "
                f"{share([row['sop_accuracy']['value'] for row in rows])} |"
            )
    return lines


def widths(runs: list[dict[str, Any]]) -> list[str]:
    """What sharing spares, spent on width: as many parameters as without sharing."""
    lines = [
        "| knobs | seeds | width | parameters | multiplications a piece | masked pieces found | pairs of SOP | SST-2, test set |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in WIDTHS:
        rows = [row for row in runs if row["knobs"] == name and row.get("sst2")]
        spec = read_recipe("ablation", KNOBS[name]).encoder
        width, layers = spec["hidden_size"], spec["num_hidden_layers"]
        lines.append(
            f"| {name} | {len(rows)} | {width} | {rows[0]['parameters']:,} | {layers * 12 * width**2:,} | "
            + " | ".join(
                share(values)
                for values in (
                    [row["masked_accuracy"] for row in rows],
                    [row["sop_accuracy"]["value"] for row in rows],
                    [row["sst2"]["test"] for row in rows],
                )
            )
            + " |"
        )
    return lines


def draw(result: dict[str, Any]) -> None:
    """``docs/ablations.md``'s table, between its marks, and ``docs/ablations.png``, from the results."""
    import altair as alt
    import vl_convert

    kinds = {"masked_accuracy": "masked pieces", "nsp_accuracy": "pairs of NSP", "sop_accuracy": "pairs of SOP"}
    lines = [
        "| knobs | seeds | parameters | masked pieces found | pairs of NSP | pairs of SOP |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    points = []
    for name in dict.fromkeys(row["knobs"] for row in result["runs"]):
        rows = [row for row in result["runs"] if row["knobs"] == name]
        cells = []
        for key, label in kinds.items():
            values = [row[key]["value"] if isinstance(row[key], dict) else row[key] for row in rows if row[key]]
            cells.append(share(values) if values else "no pair head")
            points += [{"knobs": name, "of": label, "percent": 100 * value} for value in values]
        lines.append(f"| {name} | {len(rows)} | {rows[0]['parameters']:,} | {' | '.join(cells)} |")
    put("ablations.md", "knobs", lines)
    if {row["knobs"] for row in result["runs"]}.issuperset(DRAWN.values()):
        put("ablations.md", "starts", starts(result["runs"]))
    if all(any(row["knobs"] == name and row.get("sst2") for row in result["runs"]) for name in WIDTHS):
        put("ablations.md", "widths", widths(result["runs"]))
    points += [
        {
            "knobs": f"{KNOWN_AS.get(row['model'], row['model'])}, SOP",
            "of": kinds[key],
            "percent": 100 * row[key]["64"]["value"],
        }
        for row in json.loads(LONG.read_text())["models"]
        for key in ("nsp_accuracy", "sop_accuracy")
    ]
    for point in points:
        point["chance"] = None if point["of"] == "masked pieces" else 50
    names = list(dict.fromkeys(point["knobs"] for point in points))
    base = alt.Chart(width=210, height=34 * len(names))
    dots = base.mark_circle(size=90, opacity=0.7).encode(
        x=alt.X("percent:Q", title="percent", scale=alt.Scale(zero=False, nice=True)),
        y=alt.Y("knobs:N", title=None, sort=names, axis=alt.Axis(labelLimit=240)),
        color=alt.Color("knobs:N", sort=names, legend=None),
    )
    chart = (
        alt.layer(
            base.mark_rule(strokeDash=[4, 4], color="#666").encode(x="chance:Q"), dots, data=alt.Data(values=points)
        )
        .facet(column=alt.Column("of:N", title=None, sort=list(kinds.values())))
        .resolve_scale(x="independent")
        .configure(font="sans-serif", background="white")
    )
    (ROOT / "docs/ablations.png").write_bytes(vl_convert.vegalite_to_png(chart.to_dict(), scale=2))


def main() -> None:
    """Run what is missing, write the results after every run, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the texts")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path, help="keep corpora and models in this folder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=KNOBS, default=list(KNOBS))
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe for all runs"
    )
    parser.add_argument("--models", nargs="*", default=[], help="finished models to ask, too")
    options = parser.parse_args()
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {"runs": []}
    if result["runs"] and result["changes"] != options.set:
        raise SystemExit(f"{options.out}: was made with --set {result['changes']}; use the same, or another file")
    told = [word for word in sys.argv[1:] if word not in ("--work", str(options.work))]
    machine, today = describe_machine(), time.strftime("%Y-%m-%d", time.gmtime())
    about = {
        "created": today, "changes": options.set, "command": shlex.join(["python", "-m", "benchmarks.ablations", *told]),
        "machine": machine, "recipe": "halbert/recipes/ablation.toml", "vocabulary": VOCABULARY,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        place = options.work or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        made = prepare(options.data, place)
        done = {(row["knobs"], row["seed"]) for row in result["runs"]}
        for seed, name in itertools.product(range(options.seeds), options.only):
            if (name, seed) in done:
                continue
            found = run(name, seed, options.set, place, made, options.data)
            print(json.dumps(found), file=sys.stderr, flush=True)
            result["runs"].append({**found, "processor": machine["processor"], "created": today})
            result |= about  # of the last run
            write_json(options.out, result)
        if options.models:
            result |= about
            result["models"] = [finished(name, options.data, place) for name in options.models]
            write_json(options.out, result)
    if options.out == OUT:
        draw(result)
    for name in KNOBS:
        rows = [row for row in result["runs"] if row["knobs"] == name]
        if rows:
            told = [f"{100 * statistics.mean(r['masked_accuracy'] for r in rows):.1f} % masked pieces"]
            for o in ("nsp", "sop"):
                values = [r[f"{o}_accuracy"]["value"] for r in rows if r[f"{o}_accuracy"]]
                told += [f"{o.upper()} {100 * statistics.mean(values):.1f} %"] if values else []
            print(f"{name:28}{len(rows)} seeds  {'  '.join(told)}")


if __name__ == "__main__":
    main()
