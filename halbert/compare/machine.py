"""What a measurement was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from halbert.errors import missing_extra
from halbert.processes import cores

try:
    import psutil
except ImportError:
    raise missing_extra("psutil", "audit", "describing the machine") from None

_PACKAGES = ("halbert", "openvino", "torch", "tokenizers", "numpy", "scikit-learn")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system, versions, and how busy the machine was already."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
