"""Which instances share a row, so that rows are full: best fit, longest first, by counts of equal lengths."""

from __future__ import annotations

import numpy as np

from halbert.data.instances import Places


def pack(lengths: np.ndarray, width: int, most: int) -> Places:
    """Places of instances (n,) in rows of ``width``, at most ``most`` instances in one.

    The longest come first; each goes into the row with the least room that is enough. All instances of one length are
    placed at once, so the loops are over lengths (Krell et al. 2021, "Efficient Sequence Packing without
    Cross-contamination", the histogram variant).
    """
    n = len(lengths)
    row, column, number = (np.zeros(n, np.int64) for _ in range(3))
    order = np.argsort(-lengths, kind="stable")
    sizes, firsts = np.unique(-lengths[order], return_index=True)
    free: dict[int, np.ndarray] = {}  # rows by the room they have left
    held = np.zeros(n, np.int64)
    rows = 0
    for size, waiting in zip(-sizes, np.split(order, firsts[1:]), strict=True):
        while len(waiting):
            room = min((r for r, found in free.items() if r >= size and len(found)), default=0)
            if not room:
                room = width
                new = -(-len(waiting) // min(width // int(size), most))
                free[width] = np.arange(rows, rows + new)
                rows += new
            chosen, free[room] = free[room][: len(waiting)], free[room][len(waiting) :]
            placed, waiting = waiting[: len(chosen)], waiting[len(chosen) :]
            held[chosen] += 1
            row[placed], column[placed], number[placed] = chosen, width - room, held[chosen]
            left = chosen[held[chosen] < most]
            free[room - int(size)] = np.concatenate([free.get(room - int(size), left[:0]), left])
    return Places(row, column, number)
