"""The same batch by every engine and precision, and what share of the machine's own pace the audit's engine reaches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from halbert.compare.measurement import Quantity
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.batches import Rows
from halbert.run.backend import Backend
from halbert.run.predictor import load

TEXTS, LENGTH = 16, 128
_SIDE = 1024  # of the square matrices whose product is the machine's pace
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class EnginesProbe:
    """OpenVINO in each precision, PyTorch in fp32 as people run it; in turn."""

    name = "engines"
    title = "Engines"

    def __init__(self, precisions: Sequence[str], rounds: int = 15, threads: int | None = None) -> None:
        self.own, self.rounds, self.threads = precisions[0], rounds, threads
        self.engines = [("openvino", precision) for precision in precisions] + [("torch", "fp32")]
        made = f"{TEXTS} texts of {LENGTH} pieces together, every piece real, last states; {rounds} rounds, all in turn; median"
        self.quantities = [
            Quantity(name=f"batch_{engine}_{precision}", title=f"{TEXTS} texts of {LENGTH} pieces, {engine} {precision}", unit="s",
                     statistic="p50", better="neither", how=made)
            for engine, precision in self.engines
        ]  # fmt: skip
        if self.own in _TYPES:
            self.quantities.append(
                Quantity(name="peak_share", title="Share of the machine's pace", unit="share", statistic="p50", better="neither",
                         how=f"{made}: the matrix products' FLOPs a second (openvino {self.own}), divided by those of a product of two "
                             f"{_SIDE} x {_SIDE} matrices ({self.own}, PyTorch), timed in the same round")
            )  # fmt: skip

    def refuse(self, subject: Subject) -> str | None:
        """Models with fewer positions than the texts have pieces are not measured."""
        positions = subject.bundle.spec.encoder.max_position_embeddings
        if subject.foreign:
            return "of another architecture, which runs in PyTorch alone"
        return f"the model has only {positions} positions" if positions < LENGTH else None

    def prepare(self, subject: Subject) -> dict[tuple[str, str], Backend]:
        """The engines, warmed up."""
        opened: dict[tuple[str, str], Backend] = {}
        for engine, precision in self.engines:
            how: Any = {"backend": engine, "precision": precision}
            opened[engine, precision] = load(subject.bundle, threads=self.threads, **how).backend
            for _ in range(2):
                _seconds(opened[engine, precision], subject)
        return opened

    def sample(self, subject: Subject, prepared: dict[tuple[str, str], Backend], round_number: int) -> Sample:
        """One call of each engine."""
        taken: Sample = {}
        for (engine, precision), backend in prepared.items():
            taken[f"batch_{engine}_{precision}"] = _seconds(backend, subject)
        if self.own in _TYPES:
            work = TEXTS * subject.bundle.spec.encoder.count_flops(LENGTH)
            taken["peak_share"] = work / taken[f"batch_openvino_{self.own}"] / _pace(_TYPES[self.own])
        return taken


def _seconds(backend: Backend, subject: Subject) -> float:
    ids = np.random.default_rng(0).integers(5, subject.bundle.tokenizer.vocab_size, (TEXTS, LENGTH))
    batch = Rows(ids, np.ones_like(ids), np.zeros_like(ids))
    began = time.perf_counter()
    backend.forward(batch, ["last"])
    return time.perf_counter() - began


@torch.inference_mode()
def _pace(dtype: torch.dtype) -> float:
    """FLOPs a second of a large product: the best of three."""
    a = torch.ones(_SIDE, _SIDE, dtype=dtype)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - began)
    return 2 * _SIDE**3 / best
