"""``halbert predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import (
    Backend,
    BackendChoice,
    BatchTokens,
    Device,
    DeviceChoice,
    Head,
    Input,
    MaxLength,
    Model,
    Precision,
    PrecisionChoice,
    Quiet,
    Threads,
)  # fmt: skip
from halbert.cli.output import Bars, note, print_line, texts_from
from halbert.files import write_bytes

HELP = "Answer texts with the model's own fine-tuned head: one JSON object a line, in input order."
EXAMPLE = 'Example: halbert predict ./tuned "What a film." "Two hours of rain."'


def run(
    model: Model,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT…", help="Texts.")] = None,
    input: Input = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write to this file, whole or not at all.")] = None,
    head: Head = None,
    max_length: MaxLength = None,
    batch_tokens: BatchTokens = 4096,
    precision: Precision = PrecisionChoice.auto,
    device: Device = DeviceChoice.auto,
    backend: Backend = BackendChoice.auto,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.run.predictor import load

    examples = texts_from(texts, input)
    predictor = load(model, head, precision.value, device.value, threads, backend.value)
    first = [e.text for e in examples]
    second = [e.pair or "" for e in examples] if examples and examples[0].pair is not None else None
    with Bars(quiet or len(examples) < 1000).task("Predicting", len(examples)) as step:
        answers = predictor.predict(
            first,
            second,
            max_length=max_length,
            batch_tokens=batch_tokens,
            progress=lambda n: step(advance=n),
        )
    rows = [
        {"index": i, **({"text": e.text} if e.pair is None else {"text_a": e.text, "text_b": e.pair}), **answer}
        for i, (e, answer) in enumerate(zip(examples, answers, strict=True))
    ]
    if predictor.cut:
        note(f"{predictor.cut} texts were longer than {max_length or predictor.longest} pieces and were cut")
    if output is None:
        for row in rows:
            print_line(row)
    else:
        write_bytes(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
        note(f"wrote {len(rows):,} answers to {output}")
