"""The errors Halbert raises on purpose, and the exit status each one ends a command with.

Every message says what was found, what was expected and what to do about it. Anything that is not a
:class:`HalbertError` is a bug of ours, and the command line reports it as such (exit status 70).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HalbertError(Exception):
    """Base of all deliberate errors."""

    exit_status = 1


class InputError(HalbertError, ValueError):
    """A file, folder, text or value given by the user is at fault."""


class SpecError(InputError):
    """A specification or recipe contradicts itself or names an unknown field."""


class WeightsError(InputError):
    """Tensors are missing, left over, wrongly shaped or unreadable."""


class MissingExtra(HalbertError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


class Regression(HalbertError):
    """Something got significantly worse than the baseline it was compared with."""

    exit_status = 3


class Diverged(HalbertError):
    """A training's weights went wrong: what they say is worth nothing."""


class Stopped(HalbertError):
    """A long run was asked to stop; what it saved can be resumed."""

    exit_status = 75


class Interrupted(HalbertError):
    """Ctrl-C; the message says what is left behind."""

    exit_status = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint ``"; did you mean 'x'?"`` for a misspelt name, or the empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def missing_extra(library: str, extra: str, purpose: str) -> MissingExtra:
    """The error for an absent optional library."""
    return MissingExtra(
        f"{purpose} needs the package {library!r}, which is not installed; run: pip install 'halbert[{extra}]'"
    )
