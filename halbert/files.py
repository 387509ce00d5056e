"""Reading users' files with clear errors, and writing so that a crash leaves the old or the new, never a half."""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import IO, Any

from halbert.errors import InputError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether anything is there. A name that no system could have (too long, a NUL in it) is not."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def confined(folder: Path, name: str, where: str | os.PathLike[str]) -> Path:
    """``folder / name``, for a name read from the file ``where``. Raises :class:`InputError` when it leads outside.

    By the name alone: links in a folder are its owner's business (the hub's cache consists of them).
    """
    parts = PurePath(name).parts
    if (
        PurePath(name).is_absolute()
        or ".." in parts
        or "\0" in name
        or any(len(p.encode("utf-8", "replace")) > 255 for p in parts)
    ):
        raise InputError(f"{where}: points to {name[:200]!r}, outside the folder; refused")
    return folder / name


def require_file(path: str | os.PathLike[str], what: str = "file") -> Path:
    """The path of an existing, non-empty regular file. Raises :class:`InputError` otherwise."""
    found = Path(path)
    if not exists(found) and str(path) != "-":
        raise InputError(f"{found}: no such file; expected a {what}")
    if found.is_dir():
        raise InputError(f"{found}: is a folder, expected a {what}")
    if not found.is_file():
        raise InputError(
            f"{found}: standard input, a pipe or a device cannot be read twice; write it to a file first, expected a {what}"
        )
    if found.stat().st_size == 0:
        raise InputError(f"{found}: is empty, expected a {what}")
    if not os.access(found, os.R_OK):
        raise InputError(f"{found}: cannot be read: you have no right to")
    return found


def read_text(path: str | os.PathLike[str], what: str = "text file") -> str:
    """A whole UTF-8 file (``.gz`` unpacked). Raises :class:`InputError` naming file and byte when it is not UTF-8."""
    found = require_file(path, what)
    try:
        data = gzip.decompress(found.read_bytes()) if found.suffix == ".gz" else found.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{found}: cannot be read: {error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{found}: byte {error.start} (0x{data[error.start]:02x}) is not UTF-8; convert the {what} to UTF-8, "
            f"for example with: iconv -t UTF-8"
        ) from None


def read_lines(path: str | os.PathLike[str], what: str = "text file") -> Iterator[str]:
    """The lines of a UTF-8 file (``.gz`` unpacked) without their ``\\n``, one in memory at a time.

    Raises :class:`InputError` naming file and line when a line is not UTF-8.
    """
    found = require_file(path, what)
    with gzip.open(found, "rb") if found.suffix == ".gz" else found.open("rb") as stream:
        try:
            for number, line in enumerate(stream, 1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").removesuffix("\r")
                except UnicodeDecodeError:
                    raise InputError(f"{found}: line {number} is not UTF-8; convert the {what} to UTF-8") from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{found}: cannot be unpacked: {error}") from None


def read_json(path: str | os.PathLike[str], limit: int = 64 << 20) -> Any:
    """A JSON file of at most ``limit`` bytes. Raises :class:`InputError` naming the file and the fault."""
    found = require_file(path, "JSON file")
    if found.stat().st_size > limit:
        raise InputError(f"{found}: {found.stat().st_size:,} bytes; a file of this kind has at most {limit:,}")
    text = read_text(found, "JSON file")
    try:
        value = json.loads(text, parse_constant=_no_number)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be written again
        return value
    except (ValueError, RecursionError) as error:  # bad syntax, a number of thousands of digits, half a character
        raise InputError(f"{found}: is not valid JSON: {error}") from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def write_json(path: Path, value: Any) -> None:
    """Indented JSON with a final newline, keys in the given order, written whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A "?" for what is no character, as in a file's name that is not UTF-8.
    write_bytes(path, text.encode(errors="replace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:  # of a write that failed
            error.filename = str(path)
        raise


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_target(path: str | os.PathLike[str], overwrite: bool | None = None) -> Path:
    """The real path of a folder that may be written; ``overwrite`` is None where nobody can ask for that.

    Raises :class:`InputError` when something of the user's is there, or no folder can be.
    """
    if _ADDRESS.match(str(path)):  # a Path has lost the second slash
        raise InputError(f"{path}: is an address; expected the name of a folder on this machine to write")
    try:
        target = Path(os.path.realpath(path))  # a link to a folder stays, what it leads to is written
        if target.exists() and not target.is_dir():
            raise InputError(f"{path}: is a file; expected the name of a folder to write")
        if target.is_dir() and any(target.iterdir()) and not overwrite:
            way = "remove it first" if overwrite is None else "replace it by --overwrite"
            raise InputError(f"{path}: exists and is not empty; choose another folder, or {way}")
        made = next((folder for folder in (target, *target.parents) if folder.exists()), target)
        if not made.is_dir() or not os.access(made, os.W_OK | os.X_OK):
            raise InputError(
                f"{path}: cannot be written: {made} is {'read-only for you' if made.is_dir() else 'a file'}"
            )
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    return target


def check_file(path: str | os.PathLike[str], overwrite: bool = False, source: Path | None = None) -> Path:
    """The real path of a file that may be written.

    Raises :class:`InputError` when there is a folder, a device, ``source`` itself or, without ``overwrite``, any file.
    """
    target = Path(os.path.realpath(path))  # a link to a file stays, what it leads to is written
    if not exists(target):
        return target
    if target.is_dir():
        raise InputError(f"{path}: is a folder; expected the name of a file to write")
    if not target.is_file():
        raise InputError(f"{path}: is no regular file, and would be replaced by one; name another")
    if source is not None and exists(source) and target.samefile(source):
        raise InputError(f"{path}: is the input, too; name another file to write")
    if not overwrite:
        raise InputError(f"{path}: exists; name another file, or replace it by --overwrite")
    return target


def hold(lock: Path, busy: str) -> IO[bytes]:
    """A lock file, opened and held until it is closed. Raises :class:`InputError` saying ``busy`` if another holds it."""
    stream = lock.open("ab")
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise InputError(busy) from None
    except (ImportError, OSError):
        pass  # no such locks here
    return stream


def begin(
    folder: Path, target: Path, job: Any, busy: str, finished: Callable[[Any], str], overwrite: bool
) -> IO[bytes]:
    """Take ``folder``, where what is finished of ``target`` lies, for one job and one process; returns its lock.

    ``job`` is everything that what is finished depends on; another job's is dropped. Raises :class:`InputError` saying
    ``busy`` when another process holds it, what ``finished(job before)`` says that would be lost (unless ``overwrite``),
    or that nothing can be written there.
    """
    job = json.loads(json.dumps(job))
    file = folder / "job.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = hold(folder / "lock", busy)
        try:
            try:
                before = read_json(file) if file.exists() else None
            except InputError:
                if not overwrite:
                    raise
                before = None
            if before != job:
                if not overwrite and (lost := finished(before)):
                    raise InputError(
                        f"{target}: {folder.name} holds what another command has finished ({lost}), which goes on by itself; "
                        "--overwrite drops it"
                    )
                for path in folder.iterdir():
                    if path.name != "lock":
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                write_json(file, job)
        except BaseException:
            lock.close()
            raise
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}") from None
    return lock


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that takes the name ``path`` when the block ends well, and disappears when it does not.

    Raises :class:`InputError` when no folder can be written there.
    """
    target = check_target(path, overwrite)
    if os.path.ismount(target):
        raise InputError(f"{path}: is a disk's own folder, which cannot be replaced; name a folder in it")
    made = [parent for parent in target.parents if not parent.exists()]
    # Named before it is made: an interrupt between the two leaves nothing behind.
    temporary = target.parent / f".halbert-{secrets.token_hex(6)}"
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir(0o700)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from None
        yield temporary
        temporary.chmod(0o755)
        if not overwrite and target.is_dir() and any(target.iterdir()):  # hours may have passed
            kept = target.with_name(f"{target.name}-{temporary.name.removeprefix('.halbert-')}")
            os.rename(temporary, kept)
            raise InputError(f"{path}: something has come to be there meanwhile; what was made is in {kept}")
        _replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(made)
        raise


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:  # the innermost first
        with contextlib.suppress(OSError):
            folder.rmdir()


def _replace(new: Path, target: Path) -> None:
    """Give ``new`` the name ``target``; what had that name is removed."""
    if not target.exists():
        os.rename(new, target)
    elif _exchange(new, target):
        shutil.rmtree(new)
    else:
        # Two renames: between them the old folder still exists under its other name.
        retired = Path(tempfile.mkdtemp(prefix=".halbert-old-", dir=target.parent))
        try:
            os.rename(target, retired / "old")
            try:
                os.rename(new, target)
            except BaseException:
                os.rename(retired / "old", target)
                raise
        except BaseException:
            retired.rmdir()
            raise
        shutil.rmtree(retired)


def _exchange(a: Path, b: Path) -> bool:
    """Let two paths change places in one step (Linux ``renameat2``); False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0
