from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from halbert.data.packing import pack


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(60, 90), st.integers(1, 9))
def test_rows_are_filled_without_overlap(lengths, width, most):
    places = pack(np.array(lengths, np.int64), width, most)
    assert len(places.row) == len(lengths)
    assert sorted(set(places.row.tolist())) == list(range(places.row.max() + 1))
    for row in range(places.row.max() + 1):
        own = np.flatnonzero(places.row == row)
        own = own[np.argsort(places.column[own])]
        sizes = np.array(lengths)[own]
        assert places.number[own].tolist() == list(range(1, len(own) + 1)) and len(own) <= most
        assert places.column[own].tolist() == [0, *np.cumsum(sizes)[:-1]] and sizes.sum() <= width


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80))
def test_it_is_best_fit_longest_first(lengths):
    """As many rows as the plain algorithm needs that takes one instance after the other."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [r for r in rooms if r >= length]
        if fitting:
            rooms[rooms.index(min(fitting))] -= length
        else:
            rooms.append(64 - length)
    assert pack(np.array(lengths), 64, 99).row.max() + 1 == len(rooms)


def test_full_rows_stay_alone_and_halves_meet():
    places = pack(np.array([64, 32, 64, 32, 20]), 64, 8)
    assert places.row[1] == places.row[3] != places.row[4]
    assert len(set(places.row.tolist())) == 4
