"""A value that does not exist, with the reason: it is reported as such, never as a number."""

from __future__ import annotations


class Undefined(ValueError):
    """The quantity has no value for these data; the message says why."""
