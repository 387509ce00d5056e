"""What the engine does not compute, and what that gains: each against the same answers with the work done, in turn.

python -m benchmarks.inference --only saved
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from halbert.bundle import Bundle
from halbert.data.batches import Rows, pad_rows
from halbert.heads import HeadSpec
from halbert.run.predictor import Predictor, load
from halbert.source import load_bundle


def _timed(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every way, in turn; the first round only warms up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:
                found[name].append(round(time.perf_counter() - began, 4))
    return found


def _with_head(bundle: Bundle) -> Bundle:
    """The checkpoint with a masked-piece head of its own table, whose transform is drawn: its speed is that of any."""
    spec, rng = bundle.spec.encoder, np.random.default_rng(0)
    width, vocab = spec.embedding_size, spec.vocab_size
    arrays = {
        "heads.mlm.dense.weight": rng.standard_normal((width, spec.hidden_size)).astype(np.float32) * 0.02,
        "heads.mlm.dense.bias": np.zeros(width, np.float32),
        "heads.mlm.norm.weight": np.ones(width, np.float32),
        "heads.mlm.norm.bias": np.zeros(width, np.float32),
        "heads.mlm.bias": np.zeros(vocab, np.float32),
    }
    return bundle.replace(arrays={**bundle.arrays, **arrays}, heads={"mlm": HeadSpec(kind="mlm")}, folder=None)


def _unsorted(predictor: Predictor, texts: list[str]) -> None:
    """Batches of as many texts as come, in the order of the input, as a program writes it that does not sort."""
    rows = predictor.prepare(texts).rows
    pad = predictor.bundle.tokenizer.special_ids["pad"]

    def batches() -> Any:
        for start in range(0, len(rows), 16):
            yield pad_rows(rows[start : start + 16], pad)

    for _ in predictor.backend.stream(batches(), ["last"]):
        pass


def saved(real: Path, texts: list[str], rounds: int) -> list[dict[str, Any]]:
    """Every saving: seconds with it and without, and how many times as fast (median of the rounds' ratios)."""
    predictor = load(str(real))
    filler = load(_with_head(load_bundle(real)))
    rng = np.random.default_rng(1)
    ids = rng.integers(1000, 20000, (16, 64))
    batch = Rows(ids, np.ones_like(ids), np.zeros_like(ids))
    places = np.arange(16) * 64 + 5  # one [MASK] a text
    twice = [text for text in texts[:256] for _ in range(2)]
    pairs: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
        ("texts sorted by length, batches by tokens", lambda: predictor.embed(texts), lambda: _unsorted(predictor, texts)),
        ("only [CLS] in the last block (16 x 64 pieces)",
         lambda: predictor.backend.forward(batch, ["first"]),
         lambda: predictor.backend.forward(batch, ["last"])["last"][:, 0]),
        ("vocabulary only at [MASK] (16 x 64 pieces, one each)",
         lambda: filler.backend.forward(batch, ["mlm"], places),
         lambda: filler.backend.forward(batch, ["mlm"])["mlm"].reshape(-1, 30522)[places]),
        ("equal texts once (every text twice)", lambda: predictor.embed(twice),
         lambda: predictor.embed([text + " " * (i % 2) + "." * (i % 2) for i, text in enumerate(twice)])),
        ("a batch for each core, not both cores on each", lambda: predictor.embed(texts), lambda: _one_by_one(predictor, texts)),
    ]  # fmt: skip
    found = []
    for name, less, more in pairs:
        seconds = _timed({"with": less, "without": more}, rounds)
        ratios = [b / a for a, b in zip(seconds["with"], seconds["without"], strict=True)]
        found.append(
            {"saving": name, "seconds": seconds, "times": round(statistics.median(ratios), 3),
             "low": round(min(ratios), 3), "high": round(max(ratios), 3)}
        )  # fmt: skip
        print(f"  {name}: {found[-1]['times']:.2f}", flush=True)
    return found


def _one_by_one(predictor: Predictor, texts: list[str]) -> None:
    """The same sorted batches, each with both cores, one after the other."""
    from halbert.run.batching import in_batches

    rows = predictor.prepare(texts).rows
    pad = predictor.bundle.tokenizer.special_ids["pad"]
    for _, batch in in_batches(rows, pad, predictor.backend.favoured, predictor.longest):
        predictor.backend.forward(batch, ["last"])
