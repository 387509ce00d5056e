"""Long texts in windows that overlap, and whose answer counts where.

A window is as long as the model reads at once, and shares at least a quarter of itself with its neighbour. Every piece
belongs to one window, the one in whose middle it is nearest to: there it has most context on both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from halbert.tasks import decoding

OVERLAP = 4  # neighbours share at least this part of a window: a quarter


class Window(NamedTuple):
    """A row that reads ``size`` pieces of a text, or of a pair's second, from number ``start`` on.

    Its own tokens stand at ``low`` to ``high`` of the row.
    """

    low: int
    high: int
    start: int
    size: int


Row = tuple[list[int], list[int]]


def spread(length: int, room: int) -> list[int]:
    """Where windows of ``room`` pieces begin: as few as overlap enough, evenly from the first piece to the last."""
    if length <= room:
        return [0]
    overlap = room // OVERLAP
    count = -(-(length - overlap) // (room - overlap))
    return [k * (length - room) // (count - 1) for k in range(count)]


def owned(starts: Sequence[int], length: int, room: int) -> list[tuple[int, int]]:
    """For windows that begin there the pieces of their own: from the middle of one overlap to that of the next."""
    edges = [(a + room - 1 + b) // 2 + 1 for a, b in itertools.pairwise(starts)]
    return list(zip([0, *edges], [*edges, length], strict=True))


def windows_of(ids: list[int], segments: list[int], length: int) -> tuple[list[Row], list[Window], bool]:
    """(rows, windows, whether something was cut) of a text, or a pair whose second text is cut into windows.

    A first text that takes more than half of the room loses its end, so that there are always windows for the second.
    No rows at all where ``length`` leaves no room for a piece.
    """
    paired = segments[-1] == 1
    before = segments.index(1) if paired else 1  # [CLS], or [CLS] first [SEP]
    head, body, tail = ids[:before], ids[before:-1], ids[-1:]
    cut = False
    if paired:
        keep = max(min(before - 2, max((length - 3) // 2, length - 3 - len(body))), 0)
        head, cut = [*head[: 1 + keep], head[-1]], keep < before - 2
    room = length - len(head) - 1
    if room < 1:
        return [], [], True
    room = min(room, len(body))
    starts = spread(len(body), room)
    rows: list[Row] = []
    windows: list[Window] = []
    for start, (first, last) in zip(starts, owned(starts, len(body), room), strict=True):
        row = [*head, *body[start : start + room], *tail]
        rows.append((row, [0] * len(head) + [int(paired)] * (len(row) - len(head))))
        # [CLS] belongs to the first window of a text, [SEP] to the last.
        low = 0 if first == 0 and not paired else len(head) + first - start
        high = len(row) if last == len(body) else len(head) + last - start
        windows.append(Window(low, high, start, room))
    return rows, windows, cut


def joined(parts: Sequence[tuple[Window, np.ndarray]]) -> np.ndarray:
    """A text's rows (S, C) out of those of its windows, each token from the window it belongs to."""
    ordered = sorted(parts, key=lambda part: part[0].start)
    return np.concatenate([values[window.low : window.high] for window, values in ordered])


def answer_of(
    parts: Sequence[tuple[Window, np.ndarray]],
    spans: Sequence[tuple[int, int]],
    text: str,
    none_above: float | None = 0.0,
) -> dict[str, Any]:
    """The best answer of all windows' rows of start and end logits, for ``spans``, the pieces of the second text.

    An answer begins in the window that its first piece belongs to, in prediction and evaluation alike
    (:func:`halbert.tasks.decoding.decode_answer`).
    """
    seen = []
    for window, logits in parts:
        places = np.full((len(logits), 2), -1)
        held = spans[window.start : window.start + window.size]
        places[-1 - window.size : -1] = np.array(held, int).reshape(-1, 2)  # before its [SEP]
        begins = np.zeros(len(logits), bool)
        begins[window.low : window.high] = True
        seen.append(decoding.Window(logits, places, begins))
    return {"answer": decoding.decode_answer(seen, text, none_above)["answer"]}
