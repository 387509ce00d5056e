"""What was worked out once and is remembered: words and chunks, with their ids as text.

One character an id: joining ids is one call in C, and the garbage collector, which would walk through half a million
tuples again and again, does not look at strings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import numpy as np

V = TypeVar("V")

# Bytes that the remembered chunks of one tokenizer may take.
MOST_BYTES = 256 << 20
# What an entry takes beside the characters of its key and its value.
_ENTRY = 180
# Longer chunks hardly ever come back.
LONGEST = 64


class Remembered(dict[str, V]):
    """Chunk to what ``make`` makes of it. Bounded in bytes; safe under threads: nothing is changed in place."""

    def __init__(self, make: Callable[[str], V], most_bytes: int = MOST_BYTES) -> None:
        super().__init__()
        self._make = make
        self._most, self._bytes = most_bytes, 0

    def limit(self, most_bytes: int) -> None:
        """Take at most so many bytes."""
        self._most = min(self._most, most_bytes)

    def __missing__(self, chunk: str) -> V:
        found = self._make(chunk)
        if len(chunk) <= LONGEST:
            self._bytes += _ENTRY + 4 * len(chunk) + sys.getsizeof(found)
            if self._bytes > self._most:
                self.clear()  # whatever is common comes back at once
                self._bytes = 0
            self[chunk] = found
        return found


def as_array(text: str) -> np.ndarray:
    """Characters as ids (uint32)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
