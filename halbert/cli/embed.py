"""``halbert embed``."""

from __future__ import annotations

import enum
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
from halbert.cli.output import note
from halbert.errors import InputError

HELP = (
    "Turn texts into vectors, written as one file: .npy of shape (texts, width), .parquet or .jsonl. A run that was stopped "
    "goes on where it was when the same command is given again."
)
EXAMPLE = 'Example: halbert embed ./model "Hello world" --output vectors.npy'
ENDINGS = (".npy", ".parquet", ".jsonl")


class PoolingChoice(enum.StrEnum):
    """How the pieces' states become one vector."""

    mean = "mean"
    cls = "cls"
    pooler = "pooler"


STOPPED = "with --output, the same command goes on after the last part that was finished"


def run(
    model: Model,
    output: Annotated[
        str,
        typer.Option("--output", metavar="FILE", help="The file to write: .npy, .parquet or .jsonl; also an address."),
    ],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT…", help="Texts.")] = None,
    input: Input = None,
    column: Column = None,
    overwrite: Overwrite = False,
    pooling: Annotated[
        PoolingChoice | None, typer.Option(help="Default: what the model's folder says, else mean.")
    ] = None,
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

    kind = PurePosixPath(output).suffix
    if kind not in ENDINGS:
        raise InputError(f"{output}: vectors are written as {', '.join(ENDINGS)}; name a file that ends so")
    bulk = Bulk(texts, input, output, kind, quiet, cluster_of(engine, address, input), overwrite, column_names(column))
    how = {
        "pooling": pooling.value if pooling else None, "max_length": max_length, "long": long.value, "exact": exact,
        "batch_tokens": batch_tokens,
    }  # fmt: skip
    asked = Asked(
        verb="embed", model=model, precision=precision.value, device=device.value, threads=threads, backend=backend.value,
        compile=compile, how=how, rows=kind == ".jsonl",
    )  # fmt: skip
    answering = Answering(asked)
    width = answering.predictor.bundle.spec.encoder.hidden_size
    count = bulk.write(answering, width)
    note(f"wrote {output}: {count:,} vector{'s' * (count != 1)} of width {width}")
