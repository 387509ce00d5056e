"""What Ray says, in lines for people: a page each of its own accord, and errors that hold others."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

from halbert.errors import HalbertError

_SHORT = "a worker ran out of memory"
_AGAIN = "again and again; give its machine more, or use fewer workers on it"


def shortened(text: str, most: int = 300) -> str:
    """What fits, whole words of it."""
    return text if len(text) <= most else f"{text[:most].rsplit(None, 1)[0]} …"


def out_of_memory(fault: object) -> str:
    """Whose memory ended, where that is what Ray says, else nothing."""
    text = str(fault)
    # Not that of a GPU, which PyTorch names, and whose own words say more.
    if "low on memory" not in text and "ray.exceptions.OutOfMemory" not in text:
        return ""
    where = re.search(r"IP: ([^,)\s]+)", text)
    return f"{_SHORT}{f' on {where[1]}' if where else ''}"


def without_halbert(fault: object) -> HalbertError | None:
    """What to do about a worker that cannot import Halbert, where that is what Ray says."""
    text = str(fault)
    found = re.search(r"(?:ModuleNotFound|Import)Error: (No module named '?halbert\b[^\n]*)", text)
    if found is None:
        return None
    where = re.search(r"\bip=([0-9a-fA-F.:]+)", text)
    machine = where[1] if where else "one of its machines"
    return HalbertError(
        f"a worker on {machine} has no Halbert ({shortened(found[1])}); install this version on every machine"
    )


@contextlib.contextmanager
def told_in_lines() -> Iterator[None]:
    """What Ray prints of its own accord, on standard output and a page each, as warnings of a line.

    There is no switch (``log_to_driver`` is for what workers print); where Ray has another inside, it stays as it is.
    """
    from ray._private import worker

    theirs = getattr(worker, "print_to_stdstream", None)
    if theirs is None:
        yield
        return

    def line(data: Any, *more: Any, **named: Any) -> None:
        text = "\n".join(map(str, data.get("lines", ())))
        if short := out_of_memory(text):
            warnings.warn(f"{short}; what it was at is done again", stacklevel=1)
        elif text and "will be retried" not in text:
            warnings.warn(f"Ray: {shortened(text.splitlines()[0])}", stacklevel=1)

    worker.print_to_stdstream = line
    try:
        yield
    finally:
        worker.print_to_stdstream = theirs


def in_a_line(fault: BaseException) -> HalbertError:
    """Ray's errors in a line."""
    cause = getattr(fault, "cause", None) or fault
    lines = [line for line in str(cause).splitlines() if line.strip()]
    name = type(cause).__name__
    if (missing := without_halbert(cause) or without_halbert(fault)) is not None:
        return missing
    if (name.startswith("OutOfMemory") and type(cause).__module__.startswith("ray.")) or out_of_memory(fault):
        return HalbertError(f"{out_of_memory(cause) or _SHORT} {_AGAIN}; the same command goes on")
    return HalbertError(f"the cluster gave up ({name}): {shortened((lines or [name])[-1])}; the same command goes on")


@contextlib.contextmanager
def unsaid() -> Iterator[None]:
    """Nothing on standard error, also of what is not Python: Ray's core says there how little it is going to say."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """One of Ray's loggers says nothing: what ends the work comes as an exception."""
    loud = logging.getLogger(name)
    level = loud.level
    loud.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        loud.setLevel(level)
