"""``halbert audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import to_builtins

from halbert.cli.options import (
    MODEL_HELP,
    Address,
    Column,
    Engine,
    EngineChoice,
    Precision,
    PrecisionChoice,
    Quiet,
    Set,
    Threads,
    cluster_of,
    column_names,
)
from halbert.cli.output import Bars, note
from halbert.errors import InputError, Regression
from halbert.spec import from_dict

HELP = (
    "Put models side by side, measured: size, memory, latency, throughput, masked pieces, fine-tuning on your data. "
    "Without models, the English pair in the box is compared on the documentation of the installed packages."
)
EXAMPLE = (
    "Example: halbert audit ./bert ./albert --task classify --data train.csv --out report\n\n"
    "In CI: halbert audit ./bert ./albert --out new --baseline old/results.json"
)
STOPPED = "what was measured, if anything, is kept, unless with --seconds: the same command with --resume goes on"


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
    transfer: Annotated[
        list[Path] | None,
        typer.Option(
            help="Rows of other languages to be scored on too: a column language beside the others; repeatable."
        ),
    ] = None,
    column: Column = None,
    parallel: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Sentences and their translations: columns text_a, text_b, language (or Tatoeba's).",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROBE",
            help="Measure only this: size, memory, latency, engines, throughput, languages, unknown, agreement, inside, masked, "
            "masked-languages, retrieval, layers, finetuning, learning, pace; repeatable.",
        ),
    ] = None,
    languages: Annotated[
        bool,
        typer.Option(
            "--languages",
            help="Compare the models (without any the multilingual pair in the box) on what every machine has in 138 languages: "
            "CLDR's names of countries, languages, currencies.",
        ),
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Few rounds, 2 seeds, 400 rows to learn from.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Many rounds and 12 seeds, as long as it takes.")] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Stop measuring after about so long; every probe has its share and at least 2 rounds."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with an audit that was stopped, or add rounds to the one in --out."),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Seeds of every fine-tuning; 5 unless --quick or --full.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Without models: pre-train four small ones for this audit (a BERT, an ALBERT of its shape, one of its "
            "parameter count, and that one in BERT's training time), so long each on average.",
        ),
    ] = None,
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
    engine: Engine = EngineChoice.here,
    address: Address = None,
    claims: Annotated[
        str, typer.Option(metavar="FILE", help="Claims to answer, a .toml file, or shipped ones: default, papers.")
    ] = "default",
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CRITERION=N",
            help="A weight of a profile of your own: size, memory, latency, throughput, quality, masked, tuning; repeatable.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="RESULTS", help="An earlier audit's results.json: exit with 3 if anything got worse."),
    ] = None,
    report_only: Annotated[
        list[Path] | None,
        typer.Option(
            "--report-only",
            metavar="RESULTS",
            help="Measure nothing; write the report of these results; repeatable: several audits become one report.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out.")] = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.compare.audit import PROBES, compare, read_results, report_again
    from halbert.compare.plan import DepthName
    from halbert.compare.scores import read_weights
    from halbert.compare.verdict import outcome
    from halbert.run.backend import Precision as Numbers
    from halbert.train.recipe import FinetuneRecipe, apply_changes

    chosen: Numbers = precision.value
    if chosen == "fp16":
        raise InputError("an audit measures on CPUs, and precision fp16 is for GPUs; use bf16, fp32 or auto")
    if quick and full:
        raise InputError("--quick and --full were both given; expected one of them, or neither")
    depth: DepthName = "quick" if quick else "full" if full else "usual"
    bars = Bars(quiet)
    probes = tuple(only) if only else PROBES
    weights = read_weights(weight or [])
    before = None if baseline is None else read_results(baseline)
    if report_only:
        if (
            models
            or languages
            or task
            or data
            or test
            or transfer
            or column
            or set
            or only
            or parallel
            or minutes
            or resume
            or random_weights is not None
            or quick or full
            or seeds is not None or seconds is not None or threads is not None
            or precision is not PrecisionChoice.auto
            or engine is not EngineChoice.here or address
        ):  # fmt: skip
            raise InputError("--report-only measures nothing: give it --out, --claims, --weight and --baseline alone")
        results = report_again(report_only, out=out, claims=claims, weights=weights, overwrite=overwrite)
    elif models and not languages:
        if column and not data:
            raise InputError("--column is for the files of --data; name one")
        if seconds is not None:
            raise InputError("--seconds trains models for an audit of its own; name none, or leave it out")
        results = compare(
            models, out=out, tasks=task or [], data=data or [], test=test or [], transfer=transfer or [],
            columns=column_names(column), parallel=parallel, probes=probes, precision=chosen, depth=depth, seeds=seeds,
            minutes=minutes, resume=resume, threads=threads, changes=apply_changes({}, set or []),
            random_weights=random_weights, claims=claims, weights=weights, overwrite=overwrite, progress=bars,
            cluster=cluster_of(engine, address),
        )  # fmt: skip
    else:
        if task or data or test or transfer or column or parallel or random_weights is not None:
            raise InputError(
                "--task, --data, --test, --transfer, --column, --parallel and --random-weights go with models of your own and without "
                "--languages; name at least two"
            )
        if seconds is not None and languages:
            raise InputError("--languages and --seconds were both given; expected one of them")
        if seconds is not None and (resume or set):
            raise InputError("--resume and --set do not go with --seconds, which trains models for this audit alone")
        alike: dict[str, Any] = dict(
            out=out, depth=depth, seeds=seeds, minutes=minutes, precision=chosen, probes=probes, threads=threads,
            claims=claims, weights=weights, overwrite=overwrite, progress=bars,
        )  # fmt: skip
        if seconds is not None:
            from halbert.compare.trained import trained_audit

            if engine is not EngineChoice.here:
                raise InputError("--engine ray does not go with --seconds, which trains models for this audit alone")
            results = trained_audit(seconds=seconds, **alike)
        else:
            from halbert.compare.default import FINETUNING, MULTILINGUAL, default_audit

            if len(models or ()) == 1:
                raise InputError(
                    f"name at least two models, or none for the two in the box ({' and '.join(MULTILINGUAL)})"
                )
            changed = from_dict(FinetuneRecipe, apply_changes(to_builtins(FINETUNING), set or []), "--set")
            connect = cluster_of(engine, address)
            results = default_audit(
                models=models, recipe=changed, resume=resume, languages=languages, cluster=connect, **alike
            )
    print(f"Report: {out / 'index.html'}")
    for sentence in results["verdict"]["headline"]:
        print(sentence)
    for ranking in results["verdict"]["rankings"]:
        print(outcome(ranking))
    if before is not None:
        _judge(before, results)


def _judge(before: dict[str, Any], results: dict[str, Any]) -> None:
    """Say what got worse. Raises :class:`Regression` when something did."""
    from halbert.compare.audit import regressions

    machines = [f"{r['machine']['processor']}, {r['machine']['cores']} cores" for r in (before, results)]
    if machines[0] != machines[1]:
        note(f"warning: the baseline is of another machine ({machines[0]}; this one: {machines[1]})")
    found = regressions(before, results)
    for line in found.left_out:
        note(f"warning: not compared: {line}")
    if not found.compared:
        raise InputError(
            "nothing of this audit can be compared with the baseline; models are recognised by their names, and figures "
            "have to be made alike (the same data, settings and precision)"
        )
    if found.worse:
        raise Regression("worse than the baseline, beyond chance:\n  " + "\n  ".join(found.worse))
    print(
        f"{found.compared} figures compared with the baseline of {before['created'][:10]}: none is worse beyond chance."
    )
