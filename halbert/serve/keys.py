"""API keys and how much each may ask: compared in constant time, counted by a bucket that refills."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from halbert.errors import InputError
from halbert.files import read_text

VARIABLE = "HALBERT_API_KEYS"  # keys in the environment, commas between them
ADMIN = "admin:"  # before a key that may change models
_REMARK = re.compile(r"(^|\s)#.*")


def read_keys(file: str | os.PathLike[str] | None, environment: Mapping[str, str] = os.environ) -> Keys:
    """Keys of a file (one a line, # before a remark) and of the environment.

    Raises :class:`InputError` for a file or a variable that is there and holds none, and for a key that cannot be sent.
    """
    lines = (
        [] if file is None else [_REMARK.sub("", line).strip() for line in read_text(file, "file of keys").splitlines()]
    )
    if file is not None and not any(lines):
        raise InputError(f"{Path(file).name}: holds no keys; expected one a line")
    given = [key.strip() for key in environment.get(VARIABLE, "").split(",")]
    if environment.get(VARIABLE) and not any(given):
        raise InputError(f"{VARIABLE} is set and holds no keys; expected some, commas between them, or unset it")
    lines += given
    keys = [line.removeprefix(ADMIN).strip() for line in lines if line]
    admins = [line.removeprefix(ADMIN).strip() for line in lines if line.startswith(ADMIN)]
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise InputError(
            "an API key has characters that a header cannot carry; expected letters, digits and signs of ASCII"
        )
    if any(len(key) < 8 for key in keys):
        raise InputError("an API key has fewer than 8 characters; expected longer ones")
    return Keys(keys, admins)


class Keys:
    """Who may ask. Without keys everybody may, and nobody may change models."""

    def __init__(self, keys: list[str], admins: list[str]) -> None:
        self._keys = [_digest(key) for key in keys]
        self._admins = [_digest(key) for key in admins]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def known(self, key: str, admin: bool = False) -> str | None:
        """A name for whoever has this key, which does not give it away; ``None`` for a key that is none."""
        digest = _digest(key)
        found = [hmac.compare_digest(digest, other) for other in (self._admins if admin else self._keys)]  # all, always
        return digest.hex()[:12] if any(found) else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class Rate:
    """At most ``each`` requests a second of every client, ``burst`` at once."""

    MOST = 10_000  # clients remembered

    def __init__(self, each: float, burst: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.each, self.burst, self.clock = each, burst or max(1.0, 2 * each), clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, client: str) -> float:
        """0 where a request may be made now (and it counts), else the seconds until one may be."""
        now = self.clock()
        left, then = self._left.pop(client, (self.burst, now))
        left = min(self.burst, left + (now - then) * self.each)
        allowed = left >= 1
        self._left[client] = (left - 1 if allowed else left, now)
        while len(self._left) > self.MOST:
            del self._left[next(iter(self._left))]
        return 0.0 if allowed else (1 - left) / self.each
