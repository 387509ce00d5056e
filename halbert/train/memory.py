"""Memory that a step gives back and the next one takes again."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}


@contextlib.contextmanager
def kept_memory() -> Iterator[Callable[[], None]]:
    """While this is open, memory that was freed stays with the process, until the function it gives is called.

    By default glibc gives every large block back to the system, which zeroes it page by page when the next step asks for
    it again: a quarter of a small model's step (decision 42). Without glibc nothing
    happens.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError, TypeError):
        yield lambda: None
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield lambda: trim(0)
    finally:
        for name, value in _DEFAULTS.items():
            mallopt(name, value)
        trim(0)
