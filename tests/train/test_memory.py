"""Memory that is kept between steps, and given back when asked."""

from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest

from halbert.train.memory import kept_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
MANY = 64


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def test_what_is_unused_goes_back_when_asked():
    with kept_memory() as let_go:
        let_go()  # what other tests left unused would be taken first
        before = resident()
        blocks = [np.ones(1 << 20, np.uint8) for _ in range(2 * MANY)]
        kept = blocks[::2]  # holes of a megabyte between what stays
        del blocks
        held = resident() - before
        let_go()
        left = resident() - before
    assert held > 1.7 * MANY * 1e6  # freed, and still held
    assert left < held - 0.8 * MANY * 1e6
    assert all(block[0] == 1 for block in kept)
