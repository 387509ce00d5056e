"""Memory of a process that loads a model and runs it once: a fresh process every time."""

from __future__ import annotations

import json
import subprocess
import sys

from halbert.compare.measurement import Quantity
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.errors import HalbertError

_PROGRAM = """
import json, sys
import numpy as np
import psutil
from halbert.run.openvino_backend import OpenVINOBackend
from halbert.source import load_bundle
from halbert.data.batches import Rows
process = psutil.Process()
before = process.memory_info().rss
bundle = load_bundle(sys.argv[1])
backend = OpenVINOBackend(bundle, sys.argv[2])
ids = np.full((1, 128), bundle.tokenizer.special_ids["unk"], np.int64)
backend.forward(Rows(ids, np.ones_like(ids), np.zeros_like(ids)), ["last"])
after = process.memory_info().rss
try:
    peak = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
except (OSError, StopIteration):
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"before": before, "after": after, "peak": peak}))
"""


class MemoryProbe:
    """Resident memory the model adds to a Python process that has the libraries loaded, and the process's peak."""

    name = "memory"
    title = "Memory"

    def __init__(self, precision: str, rounds: int = 3) -> None:
        self.precision = precision
        self.rounds = rounds
        made = f"a fresh process loads the model with OpenVINO ({precision}) and runs 128 pieces once"
        self.quantities = [
            Quantity(name="memory_added", title="Memory the model adds", unit="bytes", statistic="p50", better="lower",
                     how=f"{made}: resident size after, minus before with all libraries loaded; median"),
            Quantity(name="memory_peak", title="Peak memory when loaded", unit="bytes", statistic="p50", better="lower",
                     how=f"{made}: highest resident size of the whole process (Python and libraries included); median"),
        ]  # fmt: skip

    def refuse(self, subject: Subject) -> str | None:
        """Every model can be loaded."""
        return None

    def prepare(self, subject: Subject) -> None:
        """Nothing to prepare: each sample starts from nothing."""

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One process."""
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(subject.folder.resolve()), self.precision],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        if done.returncode:
            raise HalbertError(f"the memory probe's process failed for {subject.name}: {done.stderr.strip()[-500:]}")
        told = json.loads(done.stdout.splitlines()[-1])
        return {"memory_added": max(0, told["after"] - told["before"]), "memory_peak": told["peak"]}
