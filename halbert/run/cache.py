"""Compiled int8 graphs, kept for the next process: reading one back takes a fifth of the time it takes to compile it.

Only int8: a graph in fp32 or bfloat16 is compiled as fast as it is read (docs/performance.md has the figures). Files lie
in ``HALBERT_CACHE``, else in the user's cache folder; with ``HALBERT_CACHE=`` (empty) nothing is kept. Nothing depends
on them: a file that is missing, damaged, somebody else's or cannot be written is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from halbert.bundle import Bundle
from halbert.run import graph
from halbert.run.graph import openvino
from halbert.run.identity import fingerprint
from halbert.version import __version__

MAGIC = b"halbert1"
_BLOCK = 1 << 20
LIMIT = 4 << 30  # bytes of all files together; the one unused for longest goes first


def folder() -> Path | None:
    """Where compiled graphs are kept, or None where they are not wanted."""
    if (named := os.environ.get("HALBERT_CACHE")) is not None:
        return Path(named) / "compiled" if named else None
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        home = "~/Library/Caches"
    else:
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    with contextlib.suppress(RuntimeError):  # nobody's home
        return Path(home).expanduser() / "halbert" / "compiled" if home else None
    return None


def place(bundle: Bundle, key: Mapping[str, Any]) -> Path | None:
    """The file for a model's graph: by its files, what is asked of it, and all that compiles it."""
    where, model = folder(), fingerprint(bundle)
    if where is None or model is None:
        return None
    source = Path(graph.__file__)
    told = {
        **key, "model": model, "halbert": __version__, "openvino": openvino.__version__,
        "graph": hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else "",
    }  # fmt: skip
    return where / f"{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]}.blob"


class Kept:
    """A graph read back, and the mapped file it reads from."""

    def __init__(self, compiled: Any, pages: np.ndarray) -> None:
        self.compiled, self.pages = compiled, pages


def read(core: Any, path: Path, config: Mapping[str, Any]) -> Kept | None:
    """The compiled graph in a file; None unless it is whole and this user's."""
    try:
        with path.open("rb") as stream:
            if hasattr(os, "getuid") and os.fstat(stream.fileno()).st_uid != os.getuid():
                return None
            pages = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
        start = len(MAGIC) + 4
        body = pages[start:]
        if pages[: len(MAGIC)].tobytes() != MAGIC or pages[len(MAGIC) : start].tobytes() != checksum(body):
            return None
        compiled = core.import_model(openvino.Tensor(body, shared_memory=True), "CPU", dict(config))
        path.touch()  # used last
    except (OSError, ValueError, RuntimeError):  # no file; an empty one; one of another release
        return None
    return Kept(compiled, pages)


def write(compiled: Any, path: Path) -> None:
    """Keep a compiled graph, if that can be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        blob = compiled.export_model()
        body = blob if isinstance(blob, bytes) else blob.getvalue()
        part = path.with_suffix(f".{os.getpid()}")
        try:
            with part.open("xb") as stream:
                stream.write(MAGIC + checksum(np.frombuffer(body, np.uint8)))
                stream.write(body)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _make_room(path.parent)
    except (OSError, RuntimeError):
        return


def checksum(body: np.ndarray) -> bytes:
    """crc32c, which the processor computes faster than the file is read."""
    total = 0
    for start in range(0, len(body), _BLOCK):  # the library takes bytes and nothing else: a copy of one block at a time
        total = google_crc32c.extend(total, body[start : start + _BLOCK].tobytes())
    return total.to_bytes(4, "little")


def _make_room(where: Path) -> None:
    files = sorted(((f.stat().st_mtime_ns, f.stat().st_size, f) for f in where.glob("*.blob")), reverse=True)
    total = 0
    for _, size, file in files:
        total += size
        if total > LIMIT:
            file.unlink(missing_ok=True)
