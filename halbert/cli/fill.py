"""``halbert fill``."""

from __future__ import annotations

from typing import Annotated

import typer

from halbert.cli.options import (
    Backend,
    BackendChoice,
    Device,
    DeviceChoice,
    Json,
    Model,
    Precision,
    PrecisionChoice,
    Threads,
)
from halbert.cli.output import print_json, table

HELP = "Fill in every [MASK] of a text with the most probable pieces."
EXAMPLE = 'Example: halbert fill ./model "Paris is the [MASK] of France."'


def run(
    model: Model,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A text with one or more [MASK].")],
    top: Annotated[int, typer.Option(min=1, help="How many pieces for each [MASK].")] = 5,
    precision: Precision = PrecisionChoice.auto,
    device: Device = DeviceChoice.auto,
    backend: Backend = BackendChoice.auto,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """See HELP."""
    from halbert.run.predictor import load

    answers = load(model, None, precision.value, device.value, threads, backend.value).fill(text, top=top)
    if json:
        print_json(answers)
        return
    for number, answer in enumerate(answers, 1):
        table(
            [f"[MASK] {number}", "probability"], [[a["piece"], f"{a['probability']:.4f}"] for a in answer], right=(1,)
        )
