"""Whether this processor is faster in bfloat16 than in fp32: plain products, a training, a bulk prediction.

    make bench-bf16      (or: python -m benchmarks.bf16 --rounds 5 --out benchmarks/results/bf16.json)

Both take turns in every round, and medians are kept. The file has a row for every processor it was run on, by name. What
``auto`` means follows from such rows (``halbert.processes.gains_by_bf16``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from halbert.compare.machine import describe_machine
from halbert.data.batches import Rows
from halbert.files import write_json
from halbert.model.arrays import model_of
from halbert.processes import gains_by_bf16
from halbert.run.predictor import open_backend
from halbert.source import load_bundle
from halbert.train.loop import choose_precision

MODEL = Path(__file__).parent.parent / "halbert/models/bert-mini-en"
SIZE, ROWS, LENGTH = 2048, 32, 64
KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def products(precision: str) -> tuple[Callable[[], object], float]:
    """One product of square matrices, and its floating-point operations, in thousands of millions."""
    matrix = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)).to(KINDS[precision])
    return lambda: matrix @ matrix, 2 * SIZE**3 / 1e9


def drawn() -> torch.Tensor:
    """Ids of pieces (B, S), drawn."""
    return torch.randint(200, 12_000, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))


def training(precision: str) -> tuple[Callable[[], object], float]:
    """Forward and backward of the English BERT in the box under autocast, all pieces predicted; pieces of a batch."""
    bundle = load_bundle(MODEL)
    model, ids = model_of(bundle.spec.encoder, bundle.heads, bundle.arrays).train(), drawn()
    places = torch.arange(0, ROWS * LENGTH, 5)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model.answer("mlm", model(ids), places).float().logsumexp(-1).mean()
        loss.backward()

    return step, ROWS * LENGTH


def prediction(precision: str) -> tuple[Callable[[], object], float]:
    """Last states of a batch by the engine for CPUs; its pieces."""
    backend = open_backend(load_bundle(MODEL), "openvino", precision)  # type: ignore[arg-type]
    ids = drawn().numpy()
    rows = Rows(ids, ids * 0 + 1, ids * 0)
    return lambda: backend.forward(rows, ["last"]), ROWS * LENGTH


def compare(make: Callable[[str], tuple[Callable[[], object], float]], rounds: int) -> dict[str, float]:
    """What is done in a second in either precision, and the ratio of the two; medians of rounds of a second each."""
    made = {precision: make(precision) for precision in KINDS}
    rates: dict[str, list[float]] = {precision: [] for precision in KINDS}
    for number in range(rounds + 1):  # the first one is not counted
        for precision, (call, amount) in made.items():
            began, calls = time.perf_counter(), 0
            while time.perf_counter() - began < 1:
                call()
                calls += 1
            if number:
                rates[precision].append(calls * amount / (time.perf_counter() - began))
    ratio = statistics.median(b / f for b, f in zip(rates["bf16"], rates["fp32"], strict=True))
    return {
        **{precision: round(statistics.median(found), 1) for precision, found in rates.items()},
        "ratio": round(ratio, 3),
    }


def main() -> None:
    """Measure, print a row, and put it into the file beside those of other processors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/bf16.json")
    options = parser.parse_args()
    machine = describe_machine()
    row: dict[str, Any] = {
        "products (GFLOPs)": compare(products, options.rounds),
        "training (pieces/s)": compare(training, options.rounds),
        "prediction (pieces/s)": compare(prediction, options.rounds),
        "auto": choose_precision("auto", torch.device("cpu")), "gains": gains_by_bf16(), "rounds": options.rounds,
        "machine": machine, "created": time.strftime("%Y-%m-%d", time.gmtime()),
    }  # fmt: skip
    print(json.dumps({name: told for name, told in row.items() if name != "machine"}, indent=1))
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    amx = "with" if torch.cpu.get_capabilities().get("amx_bf16") else "without"
    write_json(options.out, {**found, f"{machine['processor']}, {amx} AMX": row})


if __name__ == "__main__":
    main()
