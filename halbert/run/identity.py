"""What a model's answers depend on, without reading all of its bytes: names, sizes, times and samples of its files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from halbert.bundle import Bundle

_ENDINGS = (".safetensors", ".json", ".txt", ".model", ".bin", ".index")
SAMPLES, SAMPLE = 16, 4096


def fingerprint(bundle: Bundle) -> str | None:
    """Hex digest over the files of a bundle's folder; None where it has none (an archive, a bundle in memory).

    A full sha256 of BERT-large takes seconds; that of ``halbert inspect --verify`` is one.
    """
    if bundle.folder is None or not bundle.folder.is_dir():
        return None
    digest = hashlib.sha256()
    files = (f for f in bundle.folder.rglob("*") if f.suffix in _ENDINGS and f.is_file())
    for file in sorted(f for f in files if not any(p.startswith(".") for p in f.relative_to(bundle.folder).parts)):
        status = file.stat()
        told = f"{file.relative_to(bundle.folder)} {status.st_size} {status.st_mtime_ns}"
        digest.update(told.encode("utf-8", "surrogateescape") + sampled(file))
    return digest.hexdigest()


def sampled(file: Path) -> bytes:
    """sha256 of some blocks, evenly spread from the first to the last."""
    size = file.stat().st_size
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for i in range(SAMPLES):
            stream.seek(max(size - SAMPLE, 0) * i // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE))
    return digest.digest()
