"""Memory that is kept between steps, and given back when asked."""

from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest

from halbert import memory
from halbert.memory import give_back, giving_back, kept_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
MANY = 64


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def test_what_is_unused_goes_back_when_asked():
    with kept_memory():
        give_back()  # what other tests left unused would be taken first
        before = resident()
        blocks = [np.ones(1 << 20, np.uint8) for _ in range(2 * MANY)]
        kept = blocks[::2]  # holes of a megabyte between what stays
        del blocks
        held = resident() - before
        give_back()
        left = resident() - before
    assert held > 1.7 * MANY * 1e6  # freed, and still held
    assert left < held - 0.8 * MANY * 1e6
    assert all(block[0] == 1 for block in kept)


def test_it_is_given_back_by_the_clock(monkeypatch):
    times, given = iter([0.0, 9.0, 10.5, 10.5, 20.0, 20.6, 20.6]), []
    monkeypatch.setattr(memory.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(memory, "give_back", lambda: given.append(1))
    worked = giving_back()
    counts = []
    for _ in range(4):
        worked()
        counts.append(len(given))
    assert counts == [0, 1, 1, 2]
