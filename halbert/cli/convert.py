"""``halbert convert``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import Model
from halbert.cli.output import note
from halbert.files import check_target

HELP = "Read a Hugging Face folder or hub model and write a Halbert bundle (which transformers loads too)."
EXAMPLE = "Example: halbert convert ./my-bert ./my-bundle --dtype float16"


class DtypeChoice(enum.StrEnum):
    """Number formats on disk."""

    float32 = "float32"
    float16 = "float16"


def run(
    src: Model,
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write.")],
    dtype: Annotated[DtypeChoice, typer.Option(help="Number format of the weights on disk.")] = DtypeChoice.float32,
) -> None:
    """See HELP."""
    from halbert.bundle import resolve_bundle

    check_target(dst)
    bundle = resolve_bundle(src)
    bundle.save(dst, dtype=dtype.value)
    note(
        f"wrote {dst}: {bundle.spec.encoder.count_encoder():,} encoder parameters, heads: {', '.join(bundle.heads) or 'none'}"
    )
