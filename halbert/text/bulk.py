"""Bulk: the ids of many texts at once, chunk by chunk, looked up by numpy.

A dictionary of half a million chunks is a walk through memory: every look-up waits for three reads that nothing can
predict. Here all chunks of a batch are hashed and looked up together, so that the reads overlap. A chunk is known by two
64-bit polynomial hashes of its bytes with different bases and its length; two chunks of at most ``LONGEST`` bytes that
agree in all three are taken for the same (by chance once in 10^25 batches of a million).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence

import numpy as np

from halbert.text.chunks import as_array

# Longer chunks hardly ever come back; they are worked out every time.
LONGEST = 64
# Bytes that are hashed together; the buffers of a batch take some 60 times as much.
_BATCH = 1 << 20
_BASES = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)  # odd, so that their powers can be divided out
_SPACE = np.zeros(256, bool)
_SPACE[[9, 10, 13, 32]] = True


class _Powers:
    """Powers of a base modulo 2^64, and of its inverse."""

    def __init__(self, base: int) -> None:
        self.up = self._table(base)
        self.down = self._table(pow(base, -1, 1 << 64))

    @staticmethod
    def _table(base: int) -> np.ndarray:
        factors = np.full(_BATCH + 1, base, np.uint64)
        factors[0] = 1
        return np.multiply.accumulate(factors)


@functools.cache
def _powers() -> list[_Powers]:
    return [_Powers(base) for base in _BASES]


class Bulk:
    """Remembers the ids of chunks.

    ``make`` works out those of a new one (any text without tab, newline or blank), one character an id.
    """

    def __init__(self, make: Callable[[str], str], most_chunks: int = 1 << 20) -> None:
        self._make = make
        self._most = most_chunks
        self._lock = threading.Lock()  # numpy releases the interpreter's lock, and new chunks move the tables
        self._forget()

    def _forget(self) -> None:
        self._first, self._second = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        self._offsets = np.zeros(1, np.int64)
        self._pool = np.zeros(256, np.uint32)
        self._count = 0
        self._grow(64)

    def _grow(self, room: int) -> None:
        """Make room for this many chunks."""
        room = 1 << (room - 1).bit_length()
        for name in ("_first", "_second", "_offsets"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros(room + (name == "_offsets") - len(old), old.dtype)]))
        self._mask = np.uint64(2 * room - 1)
        self._slots = np.full(2 * room, -1, np.int32)  # number of the chunk, -1: free
        self._place(0, self._count)

    def _place(self, start: int, stop: int) -> None:
        slots, mask = self._slots, int(self._mask)
        homes = self._home(self._first[start:stop], self._second[start:stop])
        for number, slot in enumerate(homes.tolist(), start):
            while slots[slot] >= 0:
                slot = (slot + 1) & mask
            slots[slot] = number

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
                seam = max(text.rfind(space, start, end) for space in (b" ", b"\n", b"\t", b"\r"))
                if seam <= start:
                    later = [at for space in (b" ", b"\n", b"\t", b"\r") if (at := text.find(space, end)) >= 0]
                    seam = min(later, default=len(text))
                end = seam
            part = text[start:end]
            if len(part) < _BATCH - 1:
                parts += self._batch([part])
            else:
                parts.append(as_array(self._make(part.decode("utf-8", "surrogatepass").strip("\t\n\r "))))
            start = end
        return np.concatenate(parts)

    def _looked_up(self, texts: list[bytes]) -> list[np.ndarray]:
        joined = b"\n".join(texts)
        data = np.frombuffer(joined, np.uint8)
        space = _SPACE[data]
        edges = np.flatnonzero(np.diff(space, prepend=True, append=True))
        starts, ends = edges[::2], edges[1::2]
        if not len(starts):
            return [np.zeros(0, np.uint32) for _ in texts]
        lengths = ends - starts
        keys = []
        wide = data.astype(np.uint64) + np.uint64(1)
        for powers in _powers():
            sums = np.zeros(len(data) + 1, np.uint64)
            np.cumsum(wide * powers.up[: len(data)], out=sums[1:])
            keys.append((sums[ends] - sums[starts]) * powers.down[starts])
        first, second = keys
        first ^= lengths.astype(np.uint64) << np.uint64(56)
        short = lengths <= LONGEST
        if self._count + len(starts) > self._most:
            self._forget()
        numbers = self._find(first, second)
        new = np.flatnonzero((numbers < 0) & short)
        if len(new):
            # Each new chunk once, in the order of their first appearance.
            mixed = first[new] ^ (second[new] << np.uint64(1))
            _, once, inverse = np.unique(mixed, return_index=True, return_inverse=True)
            once = new[once]
            made = self._learn(joined, starts[once], ends[once], first[once], second[once])
            numbers[new] = made[inverse]
        begin, count = self._offsets[numbers], self._offsets[numbers + 1] - self._offsets[numbers]
        long = np.flatnonzero(~short)
        extra: dict[int, np.ndarray] = {}
        for i in long.tolist():
            extra[i] = as_array(self._make(joined[starts[i] : ends[i]].decode("utf-8", "surrogatepass")))
            count[i] = len(extra[i])
        places = np.cumsum(count)
        total = int(places[-1])
        ids = self._pool[np.minimum(np.repeat(begin - (places - count), count) + np.arange(total), len(self._pool) - 1)]
        for i, own in extra.items():
            ids[places[i] - count[i] : places[i]] = own
        # Which chunks belong to which text.
        seams = np.cumsum([len(text) + 1 for text in texts])[:-1]
        return np.split(ids, np.concatenate([[0], places])[np.searchsorted(starts, seams)])

    def _find(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The numbers of the chunks with these keys, -1 for unknown ones."""
        slot = self._home(first, second)
        numbers = self._slots[slot]
        # Nearly all are right, or unknown, at once; the others try the next place until they are.
        active = np.flatnonzero(((self._first[numbers] != first) | (self._second[numbers] != second)) & (numbers >= 0))
        while len(active):
            slot[active] = (slot[active] + np.uint64(1)) & self._mask
            number = self._slots[slot[active]]
            numbers[active] = number
            wrong = (self._first[number] != first[active]) | (self._second[number] != second[active])
            active = active[wrong & (number >= 0)]
        return numbers

    def _home(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        mixed = first ^ (first >> np.uint64(29)) ^ second
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        return (mixed >> np.uint64(32)) & self._mask

    def _learn(
        self, joined: bytes, starts: np.ndarray, ends: np.ndarray, first: np.ndarray, second: np.ndarray
    ) -> np.ndarray:
        """Work out new chunks and remember them; their numbers."""
        make = self._make
        pieces = [
            make(joined[a:b].decode("utf-8", "surrogatepass"))
            for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
        counts = list(map(len, pieces))
        found = as_array("".join(pieces))
        start, used = self._count, int(self._offsets[self._count])
        stop = start + len(counts)
        if stop > len(self._first):
            self._grow(2 * stop)
        while used + len(found) > len(self._pool):
            self._pool = np.concatenate([self._pool, np.zeros_like(self._pool)])
        self._pool[used : used + len(found)] = found
        self._offsets[start + 1 : stop + 1] = used + np.cumsum(counts)
        self._first[start:stop], self._second[start:stop] = first, second
        self._place(start, stop)
        self._count = stop
        return np.arange(start, stop, dtype=np.int32)
