"""What stays in memory once a model answers: one copy of its weights, at the precision it runs in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny

PROGRAM = """
import re, sys
import halbert
model = halbert.load(sys.argv[1], precision="fp32", threads=1)
model.embed(["the cat sat"])
print(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize("name", ["bert", "albert"])
def test_resident_once_loaded(name, tmp_path):
    shape = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 6}
    sharing = {"embedding_size": 128, "num_hidden_groups": 1} if name == "albert" else {"embedding_size": 1024}
    tiny.bundle(tiny.encoder(**shape, **sharing), {}).save(tmp_path / "model")
    weights = (tmp_path / "model/model.safetensors").stat().st_size
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "model")], check=True, capture_output=True
    )
    resident = 1024 * int(told.stdout)
    assert (weights > 3e8) == (name == "bert")
    assert resident <= 1.3 * weights + 200e6, f"{resident / 1e6:.0f} MB for {weights / 1e6:.0f} MB of weights"
