"""``halbert predict``."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

import typer

from halbert.cli.bulk import Bulk
from halbert.cli.options import (
    Address,
    Backend,
    BackendChoice,
    BatchTokens,
    Column,
    Compile,
    Device,
    DeviceChoice,
    Engine,
    EngineChoice,
    Exact,
    Head,
    Input,
    Long,
    LongChoice,
    MaxLength,
    Model,
    Overwrite,
    Precision,
    PrecisionChoice,
    Quiet,
    Threads,
    cluster_of,
    column_names,
)  # fmt: skip
from halbert.cli.output import note, print_line
from halbert.errors import InputError

HELP = "Answer texts with the model's own fine-tuned head: one JSON object a line, in input order."
EXAMPLE = 'Example: halbert predict ./tuned "What a film." "Two hours of rain."'
ENDINGS = (".jsonl", ".parquet")
STOPPED = "with --output, the same command goes on after the last part that was finished"


def run(
    model: Model,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT…", help="Texts.")] = None,
    input: Input = None,
    column: Column = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="The file to write, whole or not at all: .jsonl or .parquet; also an address.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    head: Head = None,
    max_length: MaxLength = None,
    long: Long = LongChoice.truncate,
    batch_tokens: BatchTokens = None,
    exact: Exact = False,
    precision: Precision = PrecisionChoice.auto,
    device: Device = DeviceChoice.auto,
    backend: Backend = BackendChoice.auto,
    compile: Compile = False,
    threads: Threads = None,
    engine: Engine = EngineChoice.here,
    address: Address = None,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.run.answering import Answering, Asked

    kind = PurePosixPath(output or "").suffix or ".jsonl"
    if kind not in ENDINGS:
        raise InputError(f"{output}: answers are written as {' or '.join(ENDINGS)}; name a file that ends so")
    cluster = cluster_of(engine, address, input)
    if cluster is not None and output is None:
        raise InputError("--engine ray writes to a file; name one with --output")
    bulk = Bulk(texts, input, output, kind, quiet, cluster, overwrite, column_names(column))
    how = {"max_length": max_length, "long": long.value, "exact": exact, "batch_tokens": batch_tokens}
    asked = Asked(
        verb="predict", model=model, head=head, precision=precision.value, device=device.value, threads=threads,
        backend=backend.value, compile=compile, how=how,
    )  # fmt: skip
    answering = Answering(asked)
    if output is None:
        for rows in bulk.each(answering, 1024):
            for row in rows:
                print_line(row)
    else:
        count = bulk.write(answering)
        note(f"wrote {count:,} answers to {output}")
