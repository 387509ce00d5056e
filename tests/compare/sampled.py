"""Real samples of an audit, kept small: what ``test_simulated.py`` draws from.

    python -m tests.compare.sampled report/results.json

writes ``tests/golden/audit.json``: one subject's timings, relative to their median, and its answers, example by example.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent.parent / "golden" / "audit.json"
TIMED = ("latency_8_p50", "latency_32_p50", "latency_128_p50", "throughput")


def kept(results: dict[str, Any]) -> dict[str, Any]:
    """The first subject's samples."""
    subject = results["subjects"][0]["name"]
    found = {m["name"]: m for m in results["measurements"] if m["subject"] == subject}
    timings = {}
    for name in TIMED:
        samples = np.array(found[name]["samples"])
        timings[name] = [round(float(x), 4) for x in samples / np.median(samples)]
    answered = next(m for m in found.values() if m["name"].endswith("_accuracy") and m["items"])
    machine = results["machine"]
    return {
        "from": f"python -m tests.compare.sampled, of an audit of {results['created'][:10]}: {results['command']}; "
        f"{machine['processor']}, {machine['cores']} cores, halbert {results['halbert']}",
        "timings": timings,
        "answers": ["".join(str(int(x)) for x in run) for run in answered["items"]],
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(kept(json.loads(Path(sys.argv[1]).read_text())), indent=1) + "\n")
