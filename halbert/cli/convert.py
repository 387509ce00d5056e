"""``halbert convert``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.inspect import described_origins
from halbert.cli.options import Model
from halbert.cli.output import note, printable
from halbert.files import check_target

HELP = (
    "Read a model and write a Halbert bundle, which transformers loads too. Reads Google's TensorFlow 1 releases and "
    "TF-Hub modules (folder, checkpoint, .zip, .tar.gz; TensorFlow is not needed), Hugging Face folders and hub models."
)
EXAMPLE = "Example: halbert convert uncased_L-12_H-768_A-12.zip bert-base --dtype float16"


class DtypeChoice(enum.StrEnum):
    """Number formats on disk."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


def run(
    src: Model,
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write.")],
    dtype: Annotated[DtypeChoice, typer.Option(help="Number format of the weights on disk.")] = DtypeChoice.float32,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pytorch_model.bin where there is nothing safer (tensors only).")
    ] = False,
) -> None:
    """See HELP."""
    from halbert.source import resolve_bundle

    check_target(dst)
    bundle = resolve_bundle(src, allow_pickle=allow_pickle, hashed=True)
    bundle.save(dst, dtype=dtype.value)
    for line in described_origins(bundle.spec.flat(), bundle.origins):
        note(printable(line))
    for line in bundle.warnings:
        note(f"warning: {printable(line)}")
    note(
        f"wrote {dst}: {bundle.spec.encoder.count_encoder():,} encoder parameters, heads: {', '.join(bundle.heads) or 'none'}"
    )
