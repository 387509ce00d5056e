"""``halbert evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from halbert.cli.options import (
    Address,
    Backend,
    BackendChoice,
    Column,
    Compile,
    Device,
    DeviceChoice,
    Engine,
    EngineChoice,
    Head,
    Json,
    MaxLength,
    Model,
    Precision,
    PrecisionChoice,
    Quiet,
    Threads,
    cluster_of,
    column_names,
)
from halbert.cli.output import Bars, note, print_json, printable, table

HELP = (
    "Score a fine-tuned model on a labelled file, with 95 % intervals: what it was tuned for, or --task. With --out also "
    "the predictions, and a page with pictures."
)
EXAMPLE = "Example: halbert evaluate ./tuned --data test.csv --out scored"
FEW = 10


def run(
    model: Model,
    data: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Labelled rows: .csv, .tsv, .jsonl, .parquet, .conll, .conllu, SQuAD's .json; also an address.",
        ),
    ],
    task: Annotated[str | None, typer.Option(metavar="KIND", help="Another kind of task, or a data set.")] = None,
    column: Column = None,
    out: Annotated[Path | None, typer.Option(help="A folder for predictions, scores and the page.")] = None,
    head: Head = None,
    max_length: MaxLength = None,
    precision: Precision = PrecisionChoice.auto,
    device: Device = DeviceChoice.auto,
    backend: Backend = BackendChoice.auto,
    compile: Compile = False,
    threads: Threads = None,
    engine: Engine = EngineChoice.here,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.data.addresses import brought, is_address
    from halbert.files import check_target
    from halbert.run.evaluation import evaluate
    from halbert.run.predictor import load

    if out is not None:
        check_target(out)
    cluster = cluster_of(engine, address)
    predictor = load(model, head, precision.value, device.value, threads, backend.value, compile, cluster)
    if is_address(data):
        note(f"bringing {data} here")
    with brought(data) as file:
        assert file is not None
        with Bars(quiet or json).task(f"Evaluating on {file.name}", None) as step:
            result = evaluate(
                predictor, file, max_length, task=task, columns=column_names(column), out=out,
                progress=lambda n: step("", n),
            )  # fmt: skip
    if out is not None:
        from halbert.compare.scorecard import write_scorecard

        write_scorecard(result, out, predictor.bundle.name, file.name)
    if json:
        print_json(result)
        return
    show(result, data)
    if out is not None:
        note(f"wrote {out}; open {out / 'index.html'}")


def show(result: dict[str, Any], data: str) -> None:
    """The same for people."""
    rows = []
    for name, m in result["metrics"].items():
        value = f"undefined: {m['reason']}" if m["value"] is None else f"{m['value']:.4f}"
        rows.append([name, value, "" if m["low"] is None else f"{m['low']:.4f} to {m['high']:.4f}"])
    if "calibration" in result and result["calibration"]["ece"]["value"] is not None:
        ece = result["calibration"]["ece"]
        rows.append(["calibration error", f"{ece['value']:.4f}", f"{ece['low']:.4f} to {ece['high']:.4f}"])
    table(["metric", "value", "95 % interval"], rows)
    print(f"\n{result['n']:,} rows of {data}, {result['examples_per_second']:,.0f} a second")
    if result["cut"]["rows"]:
        print(f"{result['cut']['rows']:,} were longer than the model reads and lost {result['cut']['pieces']:,} pieces")
    for language, scores in result.get("by_language", {}).items():
        told = ", ".join(f"{k} {v['value']:.4f}" for k, v in scores.items() if k != "n" and v["value"] is not None)
        print(f"{language}: {told} ({scores['n']:,})")
    if result.get("confusions"):
        print("\nmost confused")
        most = [[printable(c["truth"]), printable(c["guess"]), str(c["n"])] for c in result["confusions"][:FEW]]
        table(["truth", "guess", "n"], most, (2,))
    if result["worst"]:
        print("\nworst")
        for bad in result["worst"][:FEW]:
            told = printable(str(bad.get("text", f"text {bad['index']}")))[:70]
            print(f"  {told}: {printable(str(bad['guess']))[:40]}, not {printable(str(bad['truth']))[:40]}")
