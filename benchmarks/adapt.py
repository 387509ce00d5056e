"""A model that is there, further on text of one's own: what of film reviews the models in the box find before and after.

    python -m benchmarks.adapt [--data DIR] [--only bert-mini-en] [--set KEY=VALUE] [--out benchmarks/results/adapt.json]

The text of one's own are the 67,349 phrases of SST-2's training set without their labels; asked are those of its
development set, of which the same pieces are hidden before and after (``halbert evaluate --task fill``). Beside it what the
model has forgotten: the same of its own held-out text, so that the price is seen as well. Each model has a run of the
recipe ``adapt`` (and the changes that ``--set`` makes) of one seed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.written import put, told
from halbert.compare.machine import describe_machine
from halbert.data.corpus import build_corpus
from halbert.data.readers import iter_examples
from halbert.files import write_json
from halbert.run.evaluation import evaluate
from halbert.run.predictor import load
from halbert.source import resolve_bundle
from halbert.train.pretraining import pretrain
from halbert.train.recipe import read_recipe
from models.texts import english

ROOT = Path(__file__).parent.parent
MODELS = ("bert-mini-en", "albert-mini-en")
OWN = 400  # paragraphs of what the model had not seen of its own kind of text


def asked_texts(data: Path, folder: Path) -> dict[str, Path]:
    """Files of a text a line: of the new kind, and of the one the model learnt from."""
    reviews = iter_examples(data / "glue/SST-2/dev.tsv", labelled=False, columns={"text": "sentence"})
    own = [p for document in english(data, True) for p in document if len(p) > 200]
    kinds = {"film reviews": [e.text for e in reviews], "its own held-out text": own[:: max(1, len(own) // OWN)][:OWN]}
    files = {}
    for name, texts in kinds.items():
        files[name] = folder / f"{name.replace(' ', '-')}.txt"
        files[name].write_text("".join(f"{' '.join(text.split())}\n" for text in texts), "utf-8")
    return files


def run(name: str, data: Path, folder: Path, changes: list[str]) -> dict[str, Any]:
    """One model before and after."""
    files = asked_texts(data, folder)
    bundle = resolve_bundle(name)
    rows = iter_examples(data / "glue/SST-2/train.tsv.gz", labelled=False, columns={"text": "sentence"})
    corpus = build_corpus(([e.text] for e in rows), bundle.tokenizer, folder / f"corpus-{name}")
    recipe = read_recipe("adapt", [f"start={name}", f"corpus='{corpus.folder}'", *changes])
    adapted = pretrain(recipe, name=f"{name}-adapted", tell=lambda line: print(line, file=sys.stderr, flush=True))
    training = adapted.provenance["training"]
    return {
        "model": name, "corpus_tokens": corpus.manifest.tokens, "tokens": training["tokens"], "seconds": training["seconds"],
        "steps": recipe.steps, "learning_rate": recipe.learning_rate,
        **{
            when: {
                kind: evaluate(load(model, precision="fp32"), file, task="fill")["metrics"] for kind, file in files.items()
            }
            for when, model in (("before", bundle), ("after", adapted))
        },
    }  # fmt: skip


def table(result: dict[str, Any]) -> list[str]:
    """The page's table."""
    lines = [
        told(result["machine"], result["created"], result["command"], "adapt.json"), "",
        "| model | text | masked pieces found, before | after | loss (nats), before | after |",
        "|---|---|--:|--:|--:|--:|",
    ]  # fmt: skip
    for row in result["runs"]:
        for kind in row["before"]:
            cells = []
            for metric, scale in (("masked_accuracy", 100), ("masked_loss", 1)):
                for when in ("before", "after"):
                    s = row[when][kind][metric]
                    digits = 1 if scale == 100 else 2
                    low, high = (f"{scale * s[side]:.{digits}f}" for side in ("low", "high"))
                    cells.append(f"{scale * s['value']:.{digits}f} ({low} to {high})")
            lines.append(f"| `{row['model']}` | {kind} | {' | '.join(cells)} |")
    first = result["runs"][0]
    minutes = ", ".join(f"{row['seconds'] / 60:.0f} min" for row in result["runs"])
    lines += [
        "",
        f"{first['steps']:,} steps at a rate of {first['learning_rate']:g}, {first['tokens'] / 1e6:.1f} M pieces of a text of "
        f"{first['corpus_tokens'] / 1e6:.2f} M; {minutes}.",
    ]
    return lines


def main() -> None:
    """Run, write the results, and the page's table from them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with the texts")
    parser.add_argument("--only", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/adapt.json")
    options = parser.parse_args()
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {"runs": []}
    if result["runs"] and result["changes"] != options.set:
        raise SystemExit(f"{options.out}: was made with --set {result['changes']}; use the same, or another file")
    result |= {
        "changes": options.set, "created": time.strftime("%Y-%m-%d", time.gmtime()), "machine": describe_machine(),
        "command": shlex.join(["python", "-m", "benchmarks.adapt", *sys.argv[1:]]),
    }  # fmt: skip
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            row = run(name, options.data, Path(folder), options.set)
        result["runs"] = [r for r in result["runs"] if r["model"] != name] + [row]
        write_json(options.out, result)
    print("\n".join(table(result)))
    if options.out.name == "adapt.json":
        put("pretraining.md", "adapt", table(result))


if __name__ == "__main__":
    main()
