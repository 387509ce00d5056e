from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.data import column
from halbert.data.column import Column
from halbert.data.windows import owners, windows


@given(st.integers(0, 200), st.integers(1, 40), st.integers(0, 60))
def test_every_piece_is_in_a_window_and_is_answered_by_one_that_shows_it(count, room, stride):
    ranges = windows(count, room, stride)
    assert ranges[0][0] == 0 and ranges[-1][1] == count
    assert all(0 <= b - a <= room for a, b in ranges)
    for (_, end), (begin, later) in itertools.pairwise(ranges):
        assert end - begin == min(stride, room // 2) and later > end
    owner = owners(ranges, count)
    for piece, number in enumerate(owner):
        shown = [(min(piece - a if a else count, b - 1 - piece if b < count else count), -i)
                 for i, (a, b) in enumerate(ranges) if a <= piece < b]  # fmt: skip
        assert -max(shown)[1] == number


def test_a_text_that_fits_is_one_window():
    assert windows(7, 7, 3) == [(0, 7)] and windows(0, 7, 3) == [(0, 0)] and windows(8, 7, 3) == [(0, 7), (4, 8)]


@pytest.mark.parametrize("most", [10, 1 << 20])
def test_columns_in_memory_and_in_a_file(monkeypatch, most):
    monkeypatch.setattr(column, "MOST", most)
    found = Column(np.int32)
    for i in range(20):
        found.extend(range(i))
    wanted = [k for i in range(20) for k in range(i)]
    assert found.array().tolist() == wanted
    assert isinstance(found.array(), np.memmap) == (most == 10)
    assert Column(np.int8).array().tolist() == []
