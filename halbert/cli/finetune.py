"""``halbert finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from halbert.cli.options import Json, Model, Quiet, Set
from halbert.cli.output import Bars, note, print_json, training_report
from halbert.spec import from_dict

HELP = "Fine-tune a model on labelled files (columns text, or text_a and text_b, and label)."
EXAMPLE = "Example: halbert finetune ./model --task classify --train train.csv --dev dev.csv --out tuned --seeds 3"


def run(
    model: Model,
    train: Annotated[Path, typer.Option(help="Rows to learn from: .csv, .tsv, .jsonl, .parquet.")],
    dev: Annotated[Path, typer.Option(help="Rows to be scored on.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    task: Annotated[str, typer.Option(metavar="KIND", help="The kind of task.")] = "classify",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; the median one is kept.")] = 1,
    set: Set = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.train.finetuning import finetune
    from halbert.train.recipe import FinetuneRecipe, apply_changes

    recipe = from_dict(FinetuneRecipe, apply_changes({}, set or []), "--set")
    with Bars(quiet).task(f"Fine-tuning {out.name}", None) as step:
        runs = finetune(
            model,
            train=train,
            dev=dev,
            out=out,
            task=task,
            recipe=recipe,
            seeds=seeds,
            report=training_report(step, seeds),
        )
    if json:
        print_json(
            [
                {"seed": recipe.seed + i, "scores": msgspec.to_builtins(r.scores), **r.summary}
                for i, r in enumerate(runs)
            ]
        )
        return
    for i, r in enumerate(runs):
        shown = ", ".join(
            f"{k} {v.value:.3f} ({v.low:.3f} to {v.high:.3f})" for k, v in r.scores.items() if v.value is not None
        )
        note(f"seed {recipe.seed + i}: {shown}; {r.summary['seconds']:.0f} s")
    if runs[0].cut:
        note(f"{runs[0].cut} training rows were longer than {recipe.length} pieces, and were cut")
    note(f"wrote {out}")
