"""``halbert finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from halbert.cli.options import Address, Column, Engine, EngineChoice, Json, Model, Quiet, Set, cluster_of, column_names
from halbert.cli.output import Bars, note, print_json, training_report

HELP = (
    "Fine-tune a model on labelled files. KIND is classify, regress, choose, tag, answer, embed or fill, or a data set by "
    "name: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, squad1, squad2, swag, race, xnli, paws-x, conll2003 …"
)
EXAMPLE = "Example: halbert finetune ./model --task classify --train train.csv --dev dev.csv --out tuned --seeds 3"
RESUMABLE = True
STOPPED = "the same command with --resume goes on from the last checkpoint, if there is one"


def run(
    model: Model,
    train: Annotated[
        Path,
        typer.Option(help="To learn from: .csv, .tsv, .jsonl, .parquet; tag: .conll, .conllu; answer: SQuAD's .json."),
    ],
    dev: Annotated[Path, typer.Option(help="To be scored on.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    task: Annotated[str, typer.Option(metavar="KIND", help="The kind of task, or a data set.")] = "classify",
    column: Column = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; the median one is kept.")] = 1,
    engine: Engine = EngineChoice.here,
    address: Address = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that OUT.training holds.")] = False,
    set: Set = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.train.finetuning import finetune, spread
    from halbert.train.recipe import apply_changes

    changes = apply_changes({}, set or [])
    with Bars(quiet).task(f"Fine-tuning {out.name}", None) as step:
        runs = finetune(
            model,
            train=train,
            dev=dev,
            out=out,
            task=task,
            changes=changes,
            columns=column_names(column),
            seeds=seeds,
            resume=resume,
            report=training_report(step, seeds),
            tell=None if quiet else note,
            cluster=cluster_of(engine, address),
        )
    told = spread(runs)
    if json:
        rows = [
            {
                "seed": r.bundle.provenance["training"]["recipe"]["seed"], "scores": msgspec.to_builtins(r.scores),
                **r.summary, "cut": r.cut._asdict(), "restarts": r.restarts, "failure": r.failure,
            }
            for r in runs
        ]  # fmt: skip
        print_json({**told, "notes": runs[0].notes, "runs": rows})
        return
    for r in runs:
        training = r.bundle.provenance["training"]
        for given_up in r.restarts:
            note(f"seed {training['recipe']['seed']}: {given_up['reason']}")
            note(f"  restarted with learning rate {training['recipe']['learning_rate']:.3g} and a longer warm-up")
        if r.failure:
            note(f"seed {training['recipe']['seed']}: failed: {r.failure}")
            continue
        shown = ", ".join(
            f"{k} {v.value:.3f}" + ("" if v.low is None else f" ({v.low:.3f} to {v.high:.3f})")
            if v.value is not None
            else f"{k} undefined: {v.reason}"
            for k, v in r.scores.items()
        )
        note(f"seed {training['recipe']['seed']}: {shown}; {r.summary['seconds']:.0f} s")
    if seeds > 1 and told["median"] is not None:
        note(
            f"{seeds} seeds: {told['metric']} median {told['median']:.3f}, {told['low']:.3f} to {told['high']:.3f}; "
            f"{told['failed']:.0%} failed"
        )
    note(f"wrote {out}")
