"""``halbert predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from halbert.cli.bulk import Bulk
from halbert.cli.options import (
    Backend,
    BackendChoice,
    BatchTokens,
    Compile,
    Device,
    DeviceChoice,
    Exact,
    Head,
    Input,
    Long,
    LongChoice,
    MaxLength,
    Model,
    Precision,
    PrecisionChoice,
    Quiet,
    Threads,
)  # fmt: skip
from halbert.cli.output import note, print_line
from halbert.errors import InputError

if TYPE_CHECKING:
    from halbert.data.readers import Example

HELP = "Answer texts with the model's own fine-tuned head: one JSON object a line, in input order."
EXAMPLE = 'Example: halbert predict ./tuned "What a film." "Two hours of rain."'
STOPPED = "with --output, the same command goes on after the last part that was finished"


def run(
    model: Model,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT…", help="Texts.")] = None,
    input: Input = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write to this file, whole or not at all.")] = None,
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
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.run.predictor import load

    kind = ".parquet" if output is not None and output.suffix == ".parquet" else ".jsonl"
    bulk = Bulk(texts, input, output, kind, quiet)
    predictor = load(model, head, precision.value, device.value, threads, backend.value, compile)
    _, asked = predictor.answering()  # before anything is read
    if asked.kind == "choice" and long is LongChoice.window:
        raise InputError("windows are not for choices, which are cut where they are too long; leave --long window out")
    how = {"max_length": max_length, "long": long.value, "exact": exact, "batch_tokens": batch_tokens}

    def answer(examples: list[Example], start: int) -> list[dict[str, Any]]:
        given = {name: value for name, value in how.items() if value is not None}
        first = [e.text for e in examples]
        if asked.kind == "choice":
            given.pop("long")
            lost = next((i for i, e in enumerate(examples) if not e.choices), None)
            if lost is not None:
                raise InputError(
                    f"text {start + lost}: has no choices; a head that chooses needs --input FILE.jsonl with the columns "
                    '"text" and "choices" (a list of texts)'
                )
            found = predictor.choose(first, [e.choices for e in examples], progress=bulk.progress, **given)  # type: ignore[arg-type]
            return [
                {"index": start + i, "text": e.text, **f} for i, (e, f) in enumerate(zip(examples, found, strict=True))
            ]
        second = [e.pair or "" for e in examples] if examples and examples[0].pair is not None else None
        answers = predictor.predict(first, second, progress=bulk.progress, **given)  # type: ignore[arg-type]
        return [
            {
                "index": start + i,
                **({"text": e.text} if e.pair is None else {"text_a": e.text, "text_b": e.pair}),
                **found,
            }
            for i, (e, found) in enumerate(zip(examples, answers, strict=True))
        ]

    if output is None:
        for rows in bulk.each(predictor, answer, 1024):
            for row in rows:
                print_line(row)
    else:
        count = bulk.write(predictor, answer, {"verb": "predict", "head": head, **how})
        note(f"wrote {count:,} answers to {output}")
