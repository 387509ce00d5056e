"""Bulk jobs that are killed: the same command goes on, and the file is the one of a single run."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import small

TEXTS = 30_000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bulk")
    small.bundle(("label",), seed=2).save(folder / "tuned")
    words = ["the", "cat", "sat", "on", "mat", "dog", "eat", "want", "1", "2"]
    draw = np.random.default_rng(0)
    lines = [" ".join(words[i] for i in draw.integers(0, 10, draw.integers(1, 9))) for _ in range(TEXTS)]
    (folder / "texts.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(("verb", "name"), [("embed", "v.npy"), ("predict", "rows.jsonl")])
def test_killed_and_gone_on(place, verb, name):
    command = [sys.executable, "-m", "halbert", verb, "tuned", "--input", "texts.txt", "--output", name]
    running = subprocess.Popen(command, cwd=place, stderr=subprocess.DEVNULL)
    parts = place / f".{name}.parts"
    until = time.monotonic() + 120
    while len(list(parts.glob("0*"))) < 2 and time.monotonic() < until and running.poll() is None:
        time.sleep(0.005)
    running.kill()
    assert running.wait() != 0 and not (place / name).exists() and list(parts.glob("0*"))
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    assert "going on after" in done.stderr and f"{TEXTS:,}" in done.stderr and not parts.exists()
    other = f"whole-{name}"
    subprocess.run([*command[:-1], other], cwd=place, check=True, capture_output=True)
    if name.endswith(".npy"):
        a, b = np.load(place / name), np.load(place / other)
        assert a.shape == (TEXTS, 12)
        np.testing.assert_array_equal(a, b)
    else:
        assert (place / name).read_text() == (place / other).read_text()
        rows = [json.loads(line) for line in (place / name).read_text().splitlines()]
        assert [row["index"] for row in rows] == list(range(TEXTS))
