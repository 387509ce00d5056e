"""A slice of ``tests/weights/fuzz.py`` in every test run, and every input it ever kept."""

from __future__ import annotations

import pytest

from tests.weights import fuzz

KEPT = sorted(fuzz.KEPT.iterdir()) if fuzz.KEPT.is_dir() else []


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_a_slice(target):
    found = {seed: fuzz.fault(target, fuzz.example(target, seed)) for seed in range(40)}
    assert {seed: problem for seed, problem in found.items() if problem} == {}


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.name)
def test_kept(file):
    assert fuzz.fault(file.name.partition(".")[0], file.read_bytes()) is None


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_the_undamaged_input_is_read(target):
    """Otherwise every damaged one would be refused for the wrong reason."""
    import tempfile
    from pathlib import Path

    make, _, read = fuzz.TARGETS[target]
    if target != "modules":  # its pooling folder is not there
        with tempfile.TemporaryDirectory() as place:
            read(Path(place), make())
