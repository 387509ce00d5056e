"""``halbert pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from halbert.cli.options import MODEL_HELP, Address, Engine, EngineChoice, Quiet, Set, cluster_of
from halbert.cli.output import Bars, note, training_report
from halbert.files import check_target

HELP = "Pre-train a BERT, an ALBERT or anything between, from a corpus and a recipe (a .toml file or a shipped name)."
EXAMPLE = (
    "Example: halbert pretrain albert-mini --tokenizer ./tokenizer --set corpus=corpus --set steps=500 --out albert\n\n"
    "A model that is there, further on text of your own: halbert pretrain adapt --set start=MODEL --set corpus=corpus --out adapted\n\n"
    "Stopped (SIGTERM: exit 75) or killed? The same command with --resume goes on as if nothing had happened.\n\n"
    "Several processes: torchrun --nproc-per-node 2 -m halbert pretrain albert-mini … --set accumulate=2\n\n"
    "Several machines that share a folder: halbert pretrain albert-mini … --engine ray --address HEAD:6379"
)
RESUMABLE = True
STOPPED = "the same command with --resume goes on from the last checkpoint, if there is one"


def run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A .toml file, or a shipped recipe: bert, albert, bert-small, albert-small, …"
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help=f"Whose tokenizer; of a recipe that starts from a model, its own. {MODEL_HELP}"
        ),
    ] = None,
    set: Set = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in that folder, if there is one.")
    ] = False,
    mlflow: Annotated[
        str | None, typer.Option(metavar="EXPERIMENT", help="Log the journal to this experiment of MLflow too.")
    ] = None,
    engine: Engine = EngineChoice.here,
    address: Address = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="With --engine ray: processes. Default: one for every GPU, or every machine."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.source import resolve_tokenizer
    from halbert.train.distributed import speaks
    from halbert.train.pretraining import pretrain
    from halbert.train.recipe import read_recipe

    if not resume and not (out / "training/recipe.json").exists():  # of a run it is said how to go on
        check_target(out)
    plan = read_recipe(recipe, set or [])
    text = None if tokenizer is None else resolve_tokenizer(tokenizer)
    quiet = quiet or not speaks()
    with Bars(quiet).task(f"Pre-training {out.name}", plan.steps) as step:
        reports = [] if quiet else [training_report(step)]
        if mlflow is not None and speaks():
            from halbert.train.mlflow import report_to

            reports.append(report_to(mlflow, out, msgspec.to_builtins(plan.named()), note))

        def report(entry: dict[str, Any]) -> None:
            for each in reports:
                each(entry)

        bundle = pretrain(
            plan, text, out, resume=resume, report=report, tell=None if quiet else note, workers=workers,
            cluster=cluster_of(engine, address),
        )  # fmt: skip
    training = bundle.provenance["training"]
    last = next(entry for entry in reversed(training["journal"]) if "masked_loss" in entry)
    if not quiet:
        note(
            f"wrote {out}: {training['tokens']:,} pieces in {training['seconds']:.0f} s, masked-piece loss "
            f"{last['masked_loss']:.3f}; {training['padding']:.1%} padding, {training['waiting']:.1%} waiting for data; "
            f"the run lies in {out / 'training'}"
        )
