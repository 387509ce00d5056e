"""A long text as overlapping windows, and which window answers for each piece."""

from __future__ import annotations

import numpy as np


def windows(count: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Ranges of at most ``room`` of ``count`` pieces which share ``stride`` with their neighbours and leave none out.

    A stride that would leave less than half a window of new pieces is shortened to half. One range for nothing.
    """
    step = room - min(stride, room // 2)
    starts = range(0, max(count - room + step, 1), step)
    return [(start, min(start + room, count)) for start in starts]


def owners(ranges: list[tuple[int, int]], count: int) -> np.ndarray:
    """For each piece (count,) the number of the window in which it is farthest from an edge; of equals the first.

    A window's edge that is the text's own does not count: nothing is missing there. (BERT's ``_check_is_max_context``.)
    """
    best, found = np.full(count, -1), np.zeros(count, np.int64)
    for number, (begin, end) in enumerate(ranges):
        places = np.arange(begin, end)
        left = places - begin if begin else np.full(len(places), count)
        right = end - 1 - places if end < count else np.full(len(places), count)
        context = np.minimum(left, right)
        better = context > best[begin:end]
        best[begin:end][better] = context[better]
        found[begin:end][better] = number
    return found
