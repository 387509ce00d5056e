"""Work shared among processes, with the same result as in one."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import platform
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from halbert.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, or of what architecture it is where it tells none."""
    return _told_of_processor().get("model name") or platform.processor() or platform.machine()


def gains_by_bf16() -> bool:
    """Whether a processor that multiplies bfloat16 is faster in it than in fp32: not an Intel without AMX.

    Those have AVX512_BF16 too, but can do half as many such products at a time as others do: measured on a Xeon whose AMX
    the system hides, 165 GFLOPS where fp32 has 306, and training and prediction at 0.6 of fp32's speed
    (``benchmarks/results/bf16.json``); on an AMD EPYC, which has no AMX either, bf16 is the faster one.
    """
    told = _told_of_processor()
    return told.get("vendor_id") != "GenuineIntel" or "amx_bf16" in told.get("flags", "").split()


def _told_of_processor() -> dict[str, str]:
    """What Linux says of the first core; elsewhere nothing."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0]
    except OSError:
        return {}
    rows = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in rows}


# What asks a program to end, beside Ctrl-C: schedulers say the first, terminals that are closed the second.
ASKED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# Items that are worked on or wait for it, so that memory does not follow the length of the work.
_AHEAD = 2 * cores() + 2


def follow(*more: int) -> None:
    """In a worker: Ctrl-C is the first process's to answer (and ``more`` signals), and a worker ends when that one does.

    Ctrl-C reaches every process of a terminal, and a scheduler's SIGTERM every process of a job.
    """
    for number in (signal.SIGINT, *more):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()


def check_started() -> None:
    """Raises :class:`InputError` in a worker that is still being started, by importing the script that asked for it."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing asks itself
        raise InputError(
            "a script that shares its work among processes is imported by each of them; put what it does under "
            'if __name__ == "__main__":'
        )


def _begin(told: str) -> None:
    """``told``: a file, since what does not fit into a pipe is waited for without an end when the worker ends early."""
    follow()
    prepare, values = pickle.loads(Path(told).read_bytes())
    if prepare is not None:
        prepare(*values)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def open_pool(
    workers: int | None = None, prepare: Callable[..., object] | None = None, values: tuple[Any, ...] = ()
) -> Iterator[Executor | None]:
    """Processes (as many as there are cores) that are started when the first work comes; no pool for one.

    Each calls ``prepare(*values)`` before anything else. Raises :class:`InputError` as :func:`check_started` does.
    """
    check_started()
    count = workers or cores()
    if count == 1:
        yield None
        return
    with tempfile.NamedTemporaryFile() as told:
        pickle.dump((prepare, values), told)
        told.flush()
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, (told.name,)) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # nobody waits for what was not begun
                raise


def in_order(
    pool: Executor | None,
    work: Callable[[T], R],
    items: Iterable[T],
    ahead: int = _AHEAD,
    here: Callable[[T], R] | None = None,
) -> Iterator[R]:
    """``map(work, items)`` by the processes of a pool, ``ahead`` items ahead; a single item is not worth a process.

    ``here`` is the same work for this process, where a worker's needs what only workers have prepared.
    """
    rest = iter(items)
    first = list(islice(rest, 2))
    if pool is None or len(first) < 2:
        yield from map(here or work, chain(first, rest))
        return
    waiting: deque[Future[R]] = deque()
    for item in chain(first, rest):
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
