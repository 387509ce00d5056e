"""Bulk: the ids of many texts at once, chunk by chunk, looked up by numpy.

A dictionary of half a million chunks is a walk through memory: every look-up waits for reads that nothing can predict.
Here all chunks of a batch are looked up together, so that the reads overlap. A chunk of up to 15 bytes is its own key;
that of a longer one is its beginning and Python's hash, which differs in every process: nobody can make two texts meet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

# Longer chunks (in bytes) hardly ever come back; they are worked out every time.
LONGEST = 64
# Bytes that are looked up together: their buffers stay in the processor's cache.
_BATCH = 1 << 18
_SPACES = b"\t\n\r "
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
_EXACT = 15

# Columns of the table: the two halves of a chunk's key, and where its ids begin (0: a free row) and end in the pool.
_FIRST, _SECOND, _BEGIN, _END = range(4)


class Bulk:
    """Remembers the ids of chunks.

    ``make`` works out those of new ones: it is given a text of one chunk a line, a chunk being anything without tab, line
    feed, carriage return or blank, and gives the number of ids of every line and all ids (uint32).
    """

    def __init__(self, make: Callable[[str], tuple[np.ndarray, np.ndarray]], most_chunks: int = 1 << 20) -> None:
        self._make = make
        self._most = most_chunks
        self._rows = 256
        self._lock = threading.Lock()  # numpy releases the interpreter's lock, and new chunks move the tables
        self._forget()

    def _forget(self) -> None:
        self._table = np.zeros((self._rows, 4), np.uint64)
        self._pool = np.zeros(256, np.uint32)
        self._used, self._count = 1, 0

    def limit(self, chunks: int) -> None:
        """Remember at most so many chunks. Their table has its size at once, so that memory does not follow the text."""
        with self._lock:
            self._most = min(self._most, chunks)
            self._rows = 1 << (2 * self._most).bit_length()
            self._forget()

    def arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids (uint32) of every text."""
        found: list[np.ndarray] = []
        waiting: list[bytes] = []
        size = 0
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            if waiting and size + len(data) + 1 > _BATCH:
                found += self._batch(waiting)
                waiting, size = [], 0
            waiting.append(data)
            size += len(data) + 1
        return found + self._batch(waiting) if waiting else found

    def _batch(self, texts: list[bytes]) -> list[np.ndarray]:
        if len(texts) == 1 and len(texts[0]) >= _BATCH:
            return [self._endless(texts[0])]
        with self._lock:
            return self._looked_up(texts)

    def _endless(self, text: bytes) -> np.ndarray:
        """A text longer than a batch, cut at white space; without any it is one chunk."""
        parts: list[np.ndarray] = []
        start = 0
        while start < len(text):
            end = min(start + _BATCH - 1, len(text))
            if end < len(text):
                seam = max(text.rfind(space, start, end) for space in _SPACES)
                if seam <= start:
                    later = [at for space in _SPACES if (at := text.find(space, end)) >= 0]
                    seam = min(later, default=len(text))
                end = seam
            part = text[start:end]
            if len(part) < _BATCH - 1:
                parts += self._batch([part])
            else:
                parts.append(self._make(part.strip(_SPACES).decode("utf-8", "surrogatepass"))[1])
            start = end
        return np.concatenate(parts)

    def _looked_up(self, texts: list[bytes]) -> list[np.ndarray]:
        joined = b"\n".join(texts)
        data = np.frombuffer(joined, np.uint8)
        space = np.ones(len(data) + 2, bool)
        space[1:-1] = (data == 32) | (data == 10) | (data == 13) | (data == 9)
        edges = np.flatnonzero(space[1:] != space[:-1])
        starts, ends = edges[::2], edges[1::2]
        first, second = _keys(joined, starts, ends)
        if self._count > self._most:
            self._forget()
        begin, end = self._find(first, second)
        unknown = (begin == 0) | (ends - starts > LONGEST)
        if unknown.any():
            self._learn(joined, starts, ends, first, second, unknown, begin, end)
        begin, count = begin.astype(np.int64), (end - begin).astype(np.int64)
        places = np.zeros(len(count) + 1, np.int64)
        np.cumsum(count, out=places[1:])
        ids = self._pool.take(np.repeat(begin - places[:-1], count) + np.arange(places[-1]))
        # Which chunks belong to which text.
        seams = np.cumsum([0] + [len(text) + 1 for text in texts])
        return [ids[a:b] for a, b in pairwise(places[np.searchsorted(starts, seams)].tolist())]

    def _find(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the ids of the chunks with these keys begin and end; 0 for unknown ones."""
        slots = self._home(first, second)
        rows = self._table.take(slots, axis=0)  # ten times as fast as by index
        # Nearly all are right, or unknown, at once; the others try the next row until they are.
        left = np.flatnonzero(_other(rows, first, second))
        while len(left):
            slots[left] = (slots[left] + 1) & (len(self._table) - 1)
            rows[left] = tried = self._table[slots[left]]
            left = left[_other(tried, first[left], second[left])]
        return rows[:, _BEGIN], rows[:, _END]

    def _home(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        mixed = (first ^ (first >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= (second ^ (second >> np.uint64(31))) * np.uint64(0xC2B2AE3D27D4EB4F)
        return (mixed >> np.uint64(32)).astype(np.int64) & (len(self._table) - 1)

    def _learn(
        self, joined: bytes, starts: np.ndarray, ends: np.ndarray, first: np.ndarray, second: np.ndarray,
        unknown: np.ndarray, begin: np.ndarray, end: np.ndarray,
    ) -> None:  # fmt: skip
        """Work out the unknown chunks, remember the short ones, and fill in where their ids are."""
        short = ends - starts <= LONGEST
        new, long = np.flatnonzero(unknown & short), np.flatnonzero(unknown & ~short)
        # Every new chunk once.
        new = new[np.lexsort((second[new], first[new]))]
        fresh = np.ones(len(new), bool)
        fresh[1:] = (first[new[1:]] != first[new[:-1]]) | (second[new[1:]] != second[new[:-1]])
        once = new[fresh]
        asked = np.concatenate([once, long])
        lines = b"\n".join([joined[a:b] for a, b in zip(starts[asked].tolist(), ends[asked].tolist(), strict=True)])
        counts, ids = self._make(lines.decode("utf-8", "surrogatepass"))
        while self._used + len(ids) > len(self._pool):
            self._pool = np.concatenate([self._pool, np.zeros_like(self._pool)])
        self._pool[self._used : self._used + len(ids)] = ids
        places = np.cumsum(np.concatenate([[self._used], counts])).astype(np.uint64)
        rows = np.column_stack([first[asked], second[asked], places[:-1], places[1:]])
        # What is long lies in the pool until the next new chunks take its place.
        self._used = int(places[len(once)])
        self._count += len(once)
        group = np.cumsum(fresh) - 1
        begin[new], end[new] = rows[group, _BEGIN], rows[group, _END]
        begin[long], end[long] = rows[len(once) :, _BEGIN], rows[len(once) :, _END]
        if 2 * self._count > len(self._table):
            old = self._table[self._table[:, _BEGIN] != 0]
            self._table = np.zeros((1 << (2 * self._count).bit_length(), 4), np.uint64)
            self._place(old)
        self._place(rows[: len(once)])

    def _place(self, rows: np.ndarray) -> None:
        """Put rows with keys of their own into the table."""
        slots = self._home(rows[:, _FIRST], rows[:, _SECOND])
        while len(rows):
            free = np.flatnonzero(self._table.take(slots, axis=0)[:, _BEGIN] == 0)
            self._table[slots[free]] = rows.take(free, axis=0)
            # Of several that want the same row one got it; the others, and who found it taken, try the next.
            lost = np.flatnonzero(self._table.take(slots, axis=0)[:, _BEGIN] != rows[:, _BEGIN])
            rows, slots = rows.take(lost, axis=0), (slots[lost] + 1) & (len(self._table) - 1)


def _other(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which rows hold another chunk than the one with this key."""
    return ((rows[:, _FIRST] != first) | (rows[:, _SECOND] != second)) & (rows[:, _BEGIN] != 0)


def _keys(joined: bytes, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """128 bits for every chunk: its bytes and its length where they fit, else its beginning and its hash."""
    # The eight bytes that begin at every place.
    words = np.ndarray(len(joined) + 1, "<u8", joined + bytes(8), strides=(1,))
    lengths = ends - starts
    first = words[starts] & _MASKS.take(np.minimum(lengths, 8))
    second = lengths.astype(np.uint64) << np.uint64(56)
    longer = np.flatnonzero(lengths > 8)
    second[longer] ^= words[starts[longer] + 8] & _MASKS[np.minimum(lengths[longer] - 8, 8)]
    longer = longer[(lengths[longer] > _EXACT) & (lengths[longer] <= LONGEST)]
    # Python's hash of bytes is keyed by chance; the highest byte stays above every exact one.
    second[longer] = [
        hash(joined[a:b]) & 0xFFFFFFFFFFFFFFF | 1 << 60
        for a, b in zip(starts[longer].tolist(), ends[longer].tolist(), strict=True)
    ]
    return first, second
