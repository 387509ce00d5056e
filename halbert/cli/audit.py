"""``halbert audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import MODEL_HELP, Precision, PrecisionChoice, Quiet, Set, Threads
from halbert.cli.output import Bars
from halbert.errors import InputError
from halbert.spec import from_dict

HELP = (
    "Put models side by side, measured: size, memory, latency, throughput, masked pieces, fine-tuning on your data. "
    "Without models, a BERT and two ALBERTs are trained on the spot on the documentation of the installed packages."
)
EXAMPLE = "Example: halbert audit ./bert ./albert --task classify --data train.csv --out report"


def run(
    out: Annotated[Path, typer.Option(help="The folder to write: index.html, report.md, results.json.")],
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL…", help=MODEL_HELP)] = None,
    task: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Kind of the task of the --data beside it; repeatable.")
    ] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Labelled rows to learn from; repeatable.")] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Rows to be scored on; without it every fifth row of --data.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROBE",
            help="Measure only this: size, memory, latency, throughput, masked, finetuning; repeatable.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Seeds of every fine-tuning.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Without models: pre-training time of each, on average.")] = 80,
    random_weights: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="SEED",
            help="Measure size and speed of the models' shapes with drawn weights; needs no download.",
        ),
    ] = None,
    set: Set = None,
    precision: Precision = PrecisionChoice.auto,
    threads: Threads = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out.")] = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.compare.audit import PROBES, compare
    from halbert.train.recipe import FinetuneRecipe, apply_changes

    if precision is PrecisionChoice.fp16:
        raise InputError("an audit measures on CPUs, and precision fp16 is for GPUs; use bf16, fp32 or auto")
    bars = Bars(quiet)
    probes = tuple(only) if only else PROBES
    if models:
        recipe = from_dict(FinetuneRecipe, apply_changes({}, set or []), "--set")
        results = compare(
            models, out=out, tasks=task or [], data=data or [], test=test or [], probes=probes, precision=precision.value,
            seeds=seeds, threads=threads, recipe=recipe, random_weights=random_weights, overwrite=overwrite, progress=bars,
        )  # fmt: skip
    else:
        if task or data or test or set or random_weights is not None:
            raise InputError(
                "--task, --data, --test, --random-weights and --set go with models of your own; name at least two"
            )
        from halbert.compare.default import default_audit

        results = default_audit(
            out=out,
            seconds=seconds,
            seeds=seeds,
            precision=precision.value,
            probes=probes,
            threads=threads,
            overwrite=overwrite,
            progress=bars,
        )
    print(f"Report: {out / 'index.html'}")
    for sentence in results["verdict"]["headline"]:
        print(sentence)
