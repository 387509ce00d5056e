"""Memory that was freed: kept for the next step, or given back to the system. Both are glibc's, and nothing happens elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

GIVE_BACK = (
    10.0  # seconds after which a process that works gives unused memory back: batches of many shapes leave holes
)
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}


@functools.cache
def _glibc() -> Any:
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt, libc.malloc_trim  # noqa: B018  # looked up here
    except (OSError, AttributeError, TypeError):
        return None
    return libc


def give_back() -> None:
    """What is unused goes back to the system; glibc by itself gives back the end of its heap only."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def giving_back() -> Callable[[], None]:
    """To be called after every piece of work: it gives back what is unused, once in ten seconds."""
    last = time.monotonic()

    def worked() -> None:
        nonlocal last
        if time.monotonic() - last > GIVE_BACK:
            give_back()
            last = time.monotonic()

    return worked


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """While this is open, memory that was freed stays with the process, until :func:`give_back`.

    By default glibc gives every large block back to the system, which zeroes it page by page when the next step asks for
    it again: a quarter of a small model's step (decision 42).
    """
    if (libc := _glibc()) is None:
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        for name, value in _DEFAULTS.items():
            libc.mallopt(name, value)
        give_back()
