"""``halbert evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import (
    Backend,
    BackendChoice,
    Compile,
    Device,
    DeviceChoice,
    Head,
    Json,
    MaxLength,
    Model,
    Precision,
    PrecisionChoice,
    Threads,
)
from halbert.cli.output import print_json, table

HELP = "Score a fine-tuned model on a labelled file, with 95 % intervals."
EXAMPLE = "Example: halbert evaluate ./tuned --data test.csv --json"


def run(
    model: Model,
    data: Annotated[Path, typer.Option(help="Labelled rows: .csv, .tsv, .jsonl, .parquet.")],
    head: Head = None,
    max_length: MaxLength = None,
    precision: Precision = PrecisionChoice.auto,
    device: Device = DeviceChoice.auto,
    backend: Backend = BackendChoice.auto,
    compile: Compile = False,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """See HELP."""
    from halbert.run.evaluation import evaluate
    from halbert.run.predictor import load

    result = evaluate(
        load(model, head, precision.value, device.value, threads, backend.value, compile), data, max_length
    )
    if json:
        print_json(result)
        return
    rows = [[k, f"{m['value']:.4f}", f"{m['low']:.4f} to {m['high']:.4f}"] for k, m in result["metrics"].items()]
    table(["metric", "value", "95 % interval"], rows)
    print(f"\n{result['n']:,} rows of {data}")
