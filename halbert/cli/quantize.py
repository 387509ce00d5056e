"""``halbert quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import Column, Json, Model, Quiet, column_names
from halbert.cli.output import Bars, note, print_json, table

HELP = (
    "Build an int8 engine: a model of a quarter of the size that answers faster, and a certificate of how near its answers "
    "are to the original's. Below the gate (99 % equal labels, or a score within 0.5 points) nothing is written."
)
EXAMPLE = "Example: halbert quantize ./tuned --calibrate train.csv --data dev.csv --out ./tuned-int8"


def run(
    model: Model,
    calibrate: Annotated[
        Path, typer.Option("--calibrate", help="Texts like those of the task (.txt, .csv, …): a few hundred.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write: the model with its int8 engine.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Labelled rows to check on (label; or text_a, text_b, score for vectors)."),
    ] = None,
    column: Column = None,
    only: Annotated[bool, typer.Option("--only", help="Leave the full weights out of the folder.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write the engine even below the gate.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    import msgspec

    from halbert.run.build import quantize
    from halbert.weights.int8 import ENGINE

    with Bars(quiet).task("Quantizing", None) as step:
        found = quantize(
            model, out, calibrate, data, columns=column_names(column), only=only, force=force, overwrite=overwrite, progress=step,
        )  # fmt: skip
    if json:
        print_json(msgspec.to_builtins(found))
        return
    rows = [
        [
            f"{e.engine} {e.precision}", f"{e.max_error:.2g}", f"{e.cosine_mean:.5f}", f"{e.cosine_min:.5f}",
            "" if e.labels is None else f"{e.labels:.2%}", "" if e.score is None else f"{e.score:.4f}",
        ]
        for e in found.engines
    ]  # fmt: skip
    table(["against " + found.reference, "max error", "cosine", "least", "same labels", "score"], rows, (1, 2, 3, 4, 5))
    if found.reference_score is not None:
        note(f"the reference's own {found.metric}: {found.reference_score:.4f}")
    verdict = "passed" if found.gate.passed else "NOT passed, written all the same"
    note(f"gate, {found.gate.rule}: {found.gate.found:.4f} (at least {found.gate.least:.4f}): {verdict}")
    size = (out / ENGINE).stat().st_size / 1e6
    note(f"wrote {out}: int8 engine of {size:.1f} MB, ranges {found.ranges}; run it with --precision int8")
