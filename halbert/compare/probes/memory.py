"""A process that loads a model and answers once: its memory at each precision, its first answer. Always a fresh one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from halbert.compare.measurement import Quantity
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.errors import HalbertError

LENGTH = 128
LONGEST = 600  # seconds
_PROGRAM = """
import json, sys, time
began = time.perf_counter()
import numpy as np
import psutil
from halbert.compare.machine import peak_memory
from halbert.run.predictor import open_backend
from halbert.source import load_bundle
engine = sys.argv[3]
__import__(f"halbert.run.{engine}_backend")
if engine == "torch":
    from transformers import AutoModel, AutoTokenizer
from halbert.data.batches import Rows
process = psutil.Process()
before = process.memory_info().rss
bundle = load_bundle(sys.argv[1])
backend = open_backend(bundle, engine, sys.argv[2], threads=int(sys.argv[5]) or None)
ids = np.full((1, int(sys.argv[4])), bundle.tokenizer.special_ids["unk"], np.int64)
backend.forward(Rows(ids, np.ones_like(ids), np.zeros_like(ids)), ["last"])
after = process.memory_info().rss
print(json.dumps({"seconds": time.perf_counter() - began, "before": before, "after": after, "peak": peak_memory()}))
"""


class MemoryProbe:
    """Resident memory the model adds to a Python process that has the libraries loaded, and the process's peak."""

    name = "memory"
    title = "Memory"

    def __init__(
        self, precisions: Sequence[str], rounds: int = 3, engine: str = "auto", threads: int | None = None
    ) -> None:
        self.threads = threads
        self.engine = "torch" if engine == "torch" else "openvino"
        self.own, *self.others = precisions
        self.rounds = rounds
        called = {"torch": "PyTorch", "openvino": "OpenVINO"}[self.engine]
        made = f"a fresh process loads the model with {called} ({{}}) and runs {LENGTH} pieces once"
        own = made.format(self.own)
        self.quantities = [
            Quantity(name="memory_added", title="Memory the model adds", unit="bytes", statistic="p50", better="lower",
                     how=f"{own}: resident size after, minus before with all libraries loaded; median"),
            Quantity(name="memory_peak", title="Peak memory when loaded", unit="bytes", statistic="p50", better="lower",
                     how=f"{own}: highest resident size of the whole process (Python and libraries included); median"),
            Quantity(name="first_answer", title="Time to the first answer", unit="s", statistic="p50", better="lower",
                     how=f"{own}: from before the libraries are imported to the answer; median"),
            *(
                Quantity(name=f"memory_{what}_{precision}", title=f"{title}, {precision}", unit="bytes", statistic="p50",
                         better="neither", how=f"{made.format(precision)}: as in the audit's own precision")
                for precision in self.others
                for what, title in (("added", "Memory the model adds"), ("peak", "Peak memory when loaded"))
            ),
        ]  # fmt: skip

    def refuse(self, subject: Subject) -> str | None:
        """Models with fewer positions than the text has pieces are not measured."""
        positions = subject.bundle.spec.encoder.max_position_embeddings
        return f"the model has only {positions} positions" if positions < LENGTH else None

    def prepare(self, subject: Subject) -> None:
        """Nothing to prepare: each sample starts from nothing."""

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One process a precision."""
        told = self._run(subject, self.own)
        taken: Sample = {"memory_added": told["added"], "memory_peak": told["peak"], "first_answer": told["seconds"]}
        for precision in self.others:
            told = self._run(subject, precision)
            taken |= {f"memory_{what}_{precision}": told[what] for what in ("added", "peak")}
        return taken

    def _run(self, subject: Subject, precision: str) -> dict[str, float]:
        try:
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, str(subject.folder.resolve()), precision, self.engine, str(LENGTH),
                 str(self.threads or 0)],
                capture_output=True, text=True, timeout=LONGEST, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise HalbertError(
                f"the memory probe's process for {subject.name} did not end in {LONGEST} s; leave the probe out by --only"
            ) from None
        if done.returncode:
            raise HalbertError(f"the memory probe's process failed for {subject.name}: {done.stderr.strip()[-500:]}")
        told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return {**told, "added": max(0, told["after"] - told["before"])}
