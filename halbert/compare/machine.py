"""What a measurement was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from halbert.errors import missing_extra
from halbert.processes import cores, processor

try:
    import psutil
except ImportError:
    raise missing_extra("psutil", "audit", "describing the machine") from None

_PACKAGES = ("halbert", "openvino", "torch", "tokenizers", "numpy", "scikit-learn")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system, versions, and how busy the machine was already."""
    return {
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def named_machine(told: Mapping[str, Any]) -> str:
    """A machine that was described, in words."""
    return f"{told['processor']}, {told['cores']} cores"


def peak_memory() -> int:
    """Bytes: the highest resident size this process has had."""
    try:
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


BUSY, UNEVEN = 0.1, 1.2  # shares of the cores taken by others, and slowest over fastest, from which it is said


class Bystander:
    """Looks at the machine between the probes: what others took of it, and whether its own pace held."""

    def __init__(self) -> None:
        self._began, self._before, self._own = time.perf_counter(), self._busy(), self._mine()
        self._paces: list[float] = []
        self.look()

    @staticmethod
    def _busy() -> float:
        times = psutil.cpu_times()
        return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)

    @staticmethod
    def _mine() -> float:
        own = psutil.Process().cpu_times()
        return own.user + own.system + own.children_user + own.children_system

    def look(self) -> None:
        """Time one fixed piece of work (the median of a few)."""
        a = np.ones((256, 256), np.float32)
        taken = []
        for _ in range(9):
            began = time.perf_counter()
            for _ in range(8):
                a @ a
            taken.append(time.perf_counter() - began)
        self._paces.append(statistics.median(taken))

    def told(self) -> dict[str, float]:
        """``others``: the share of all cores that other processes had (or another guest of the host took) since the
        beginning; ``uneven``: the slowest over the fastest time of the fixed piece of work."""
        self.look()
        wall = (time.perf_counter() - self._began) * cores()
        others = max(0.0, self._busy() - self._before - (self._mine() - self._own)) / max(wall, 1e-9)
        return {"others": round(others, 3), "uneven": round(max(self._paces) / min(self._paces), 3)}


def warnings_of(told: dict[str, float]) -> list[str]:
    """What has to be said of a machine that was not quiet."""
    found = []
    if told["others"] >= BUSY:
        found.append(
            f"The machine was busy: other processes had {100 * told['others']:.0f} % of its cores. Times are longer and less "
            "certain for it, for all models alike."
        )
    if told["uneven"] >= UNEVEN:
        found.append(
            f"The machine was uneven: one fixed piece of work took {told['uneven']:.2f} times as long at its slowest as at its "
            "fastest (throttling, or neighbours)."
        )
    return found
