"""``halbert embed``."""

from __future__ import annotations

import enum
import io
from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import (
    Backend,
    BackendChoice,
    BatchTokens,
    Device,
    DeviceChoice,
    Input,
    MaxLength,
    Model,
    Precision,
    PrecisionChoice,
    Quiet,
    Threads,
)  # fmt: skip
from halbert.cli.output import Bars, note, texts_from
from halbert.errors import InputError
from halbert.files import write_bytes

HELP = "Turn texts into vectors, written as one .npy file of shape (texts, width)."
EXAMPLE = 'Example: halbert embed ./model "Hello world" --output vectors.npy'


class PoolingChoice(enum.StrEnum):
    """How the pieces' states become one vector."""

    mean = "mean"
    cls = "cls"
    pooler = "pooler"


def run(
    model: Model,
    output: Annotated[Path, typer.Option("--output", help="The .npy file to write.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT…", help="Texts.")] = None,
    input: Input = None,
    pooling: Annotated[
        PoolingChoice | None, typer.Option(help="Default: what the model's folder says, else mean.")
    ] = None,
    max_length: MaxLength = None,
    batch_tokens: BatchTokens = 4096,
    precision: Precision = PrecisionChoice.auto,
    device: Device = DeviceChoice.auto,
    backend: Backend = BackendChoice.auto,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    import numpy as np

    from halbert.run.predictor import load

    if output.suffix != ".npy":
        raise InputError(f"{output}: vectors are written as .npy; name a file that ends so")
    examples = texts_from(texts, input)
    predictor = load(model, None, precision.value, device.value, threads, backend.value)
    with Bars(quiet or len(examples) < 1000).task("Embedding", len(examples)) as step:
        vectors = predictor.embed(
            [e.text for e in examples], pooling=pooling.value if pooling else None, max_length=max_length,
            batch_tokens=batch_tokens, progress=lambda n: step(advance=n),
        )  # fmt: skip
    if predictor.cut:
        note(f"{predictor.cut} texts were longer than {max_length or predictor.longest} pieces and were cut")
    written = io.BytesIO()
    np.save(written, vectors, allow_pickle=False)
    write_bytes(output, written.getvalue())
    note(f"wrote {output}: {vectors.shape[0]:,} vectors of width {vectors.shape[1]}")
