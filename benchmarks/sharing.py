"""When sharing pays: one text through twelve blocks with one set of parameters or twelve, by width and precision.

    python -m benchmarks.inference --only sweep

Both models have the same shape and random weights, so that they compute the same number of operations; they differ in how
many bytes those read. Every model answers many times in a row, as a process that serves one model does, and the two take
turns in every round.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from halbert.bundle import Bundle, random_bundle
from halbert.data.batches import Rows
from halbert.presets import get
from halbert.run.backend import Backend
from halbert.run.openvino_backend import OpenVINOBackend
from halbert.run.quantize import quantize
from halbert.source import load_bundle

WIDTHS = (128, 256, 384, 512, 768, 1024)
LENGTHS = (8, 16)
LAYERS = 12
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
_CACHES = Path("/sys/devices/system/cpu")


def caches() -> dict[str, int]:
    """Bytes of all caches of a level together, from L2 on; Linux only."""
    found: dict[tuple[int, str], int] = {}
    for place in _CACHES.glob("cpu[0-9]*/cache/index*"):
        level, kind, size, shared = (
            (place / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
        )
        if int(level) > 1 and kind in ("Unified", "Data"):
            found[int(level), shared] = int(size[:-1]) * {"K": 1 << 10, "M": 1 << 20}[size[-1]]
    return {
        f"L{level}": sum(size for (n, _), size in found.items() if n == level)
        for level in sorted({n for n, _ in found})
    }


def shape(real: Path, width: int, sets: int) -> Bundle:
    """Twelve blocks of a width with so many sets of parameters; a small vocabulary, which is hardly read."""
    tokenizer = load_bundle(real).tokenizer
    spec = get("bert-base-uncased").spec
    encoder = msgspec.structs.replace(
        spec.encoder, hidden_size=width, embedding_size=128, intermediate_size=4 * width,
        num_attention_heads=max(width // 64, 2), num_hidden_groups=sets, num_hidden_layers=LAYERS,
        vocab_size=tokenizer.vocab_size,
    )  # fmt: skip
    return random_bundle(msgspec.structs.replace(spec, encoder=encoder, text=tokenizer.spec), tokenizer, 0, {}, "sweep")


def rows(length: int, count: int = 1, seed: int = 0) -> Rows:
    """Drawn pieces."""
    ids = np.random.default_rng(seed).integers(1000, 20000, (count, length))
    return Rows(ids, np.ones_like(ids), np.zeros_like(ids))


def engine(bundle: Bundle, precision: str) -> Backend:
    """Halbert's own engine for CPUs."""
    if precision == "int8":
        found = quantize(bundle, (rows(24, 4, seed) for seed in range(4)))
        bundle = bundle.replace(arrays=found.plain, int8=found)
    return OpenVINOBackend(bundle, precision)  # type: ignore[arg-type]


def milliseconds(backend: Backend, batch: Rows, seconds: float) -> float:
    """The tenth percentile of as many passes as fit: whatever else runs on the machine can only make a pass slower."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 10 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        backend.forward(batch, ["pooled"])
        times.append(time.perf_counter() - start)
    return round(float(np.quantile(times, 0.1)) * 1e3, 3)


def sweep(
    real: Path, rounds: int, precisions: list[str], widths: tuple[int, ...] = WIDTHS, seconds: float = 0.4
) -> dict[str, Any]:
    """Every width, precision and length: milliseconds of both models in every round, and their ratio."""
    found = []
    for width in widths:
        bundles = {"albert": shape(real, width, 1), "bert": shape(real, width, LAYERS)}
        for precision in precisions:
            engines = {name: engine(bundle, precision) for name, bundle in bundles.items()}
            for length in LENGTHS:
                batch = rows(length)
                for backend in engines.values():
                    backend.forward(batch, ["pooled"])
                times: dict[str, list[float]] = {name: [] for name in engines}
                for _ in range(rounds):
                    for name, backend in engines.items():
                        times[name].append(milliseconds(backend, batch, seconds))
                ratios = [b / a for a, b in zip(times["albert"], times["bert"], strict=True)]
                block = 12 * width * width * BYTES[precision]
                found.append(
                    {
                        "width": width, "precision": precision, "pieces": length, "block_bytes": block,
                        "all_bytes": LAYERS * block, "albert": times["albert"], "bert": times["bert"],
                        "ratio": round(statistics.median(ratios), 3), "low": round(min(ratios), 3),
                        "high": round(max(ratios), 3),
                    }
                )  # fmt: skip
                print(
                    f"  {width} wide, {precision}, {length} pieces: {found[-1]['ratio']:.2f} "
                    f"({statistics.median(times['bert']):.2f} and {statistics.median(times['albert']):.2f} ms)",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            engines.clear()
    return {"caches": caches(), "layers": LAYERS, "rows": found}
