"""Files at addresses that fsspec knows (``s3://…``, ``https://…``) as files here: brought before work, put there after it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from halbert.errors import HalbertError, InputError, MissingExtra, missing_extra

Found = TypeVar("Found")
_LOCAL = "file://"


def is_address(name: str | os.PathLike[str] | None) -> bool:
    """Whether only fsspec can read it; ``file://…`` is a path (:func:`as_path`)."""
    return name is not None and "://" in os.fspath(name) and not os.fspath(name).startswith(_LOCAL)


def as_path(name: str) -> Path:
    """A path, also where it is written as an address."""
    return Path(name.removeprefix(_LOCAL))


def fetch(address: str, folder: Path) -> Path:
    """A copy in a folder, under its own name. Raises :class:`InputError` where it cannot be had."""
    here = folder / (PurePosixPath(address.split("?")[0]).name or "file")

    def get(fs: Any, path: str) -> Path:
        fs.get_file(path, str(here))
        return here

    return _asked(address, "read", get)


@contextlib.contextmanager
def brought(name: str | None) -> Iterator[Path | None]:
    """A path as it is, or a copy of what is at an address, as long as it is needed."""
    if name is None or not is_address(name):
        yield None if name is None else as_path(name)
        return
    with tempfile.TemporaryDirectory(prefix="halbert-") as folder:
        yield fetch(name, Path(folder))


def check_new(address: str) -> None:
    """Raises :class:`InputError` where something is at an address; who may not look there may still write."""

    def there(fs: Any, path: str) -> bool:
        try:
            return bool(fs.exists(path))
        except PermissionError:
            return False

    if _asked(address, "written", there):
        raise InputError(f"{address}: exists already; choose another address, or give --overwrite")


def work_name(address: str) -> Path:
    """Where a file is made here that is going to an address: hidden, in the folder one is in, one for each address.

    Raises :class:`InputError` for an address of no known kind.
    """
    _asked(address, "written", lambda fs, path: None)
    return Path(f".halbert-{hashlib.sha256(address.encode()).hexdigest()[:8]}-{PurePosixPath(address).name}")


def put(file: Path, address: str) -> None:
    """Put a file there, and remove it here. Raises :class:`InputError` where that cannot be done; it then stays."""

    def send(fs: Any, path: str) -> None:
        fs.put_file(str(file), path)

    try:
        _asked(address, "written", send)
    except InputError as error:
        raise InputError(f"{error}; the file is here: {file}") from None
    file.unlink()


class Place:
    """A folder at an address, whose own files are known by their names; the last of them makes it whole."""

    def __init__(self, address: str, own: re.Pattern[str], last: str) -> None:
        self.address, self.own, self.last = address, own, last

    def check(self, overwrite: bool, begun: bool = False) -> None:
        """Raises :class:`InputError` for what is not to be replaced, and where nothing can be written.

        Something whole is replaced with ``overwrite``, what was ``begun`` is gone on with, others' files stay.
        """
        names = set(_asked(self.address, "written", _names))
        if strange := sorted(name for name in names if not self.own.fullmatch(name)):
            raise InputError(f"{self.address}: holds other files ({strange[0]}); choose another address")
        if names and not overwrite and (self.last in names or not begun):
            raise InputError(f"{self.address}: exists and is not empty; choose another address, or give --overwrite")

        def attempt(fs: Any, path: str) -> None:
            fs.makedirs(path, exist_ok=True)
            fs.pipe_file(f"{path}/{self.last}.try", b"")
            fs.rm_file(f"{path}/{self.last}.try")

        _asked(self.address, "written", attempt)

    def put(self, folder: Path, overwrite: bool) -> None:
        """Put a folder's files there, and remove it here. Raises :class:`InputError` where that cannot be done; it then stays."""

        def send(fs: Any, path: str) -> None:
            files = sorted(folder.iterdir(), key=lambda file: file.name == self.last)
            if self.last in (there := _names(fs, path)):
                fs.rm_file(f"{path}/{self.last}")
            for file in files:
                fs.put_file(str(file), f"{path}/{file.name}")
            for name in set(there) - {file.name for file in files}:
                fs.rm_file(f"{path}/{name}")

        try:
            self.check(overwrite, begun=True)  # hours may have passed
            _asked(self.address, "written", send)
        except InputError as error:
            raise InputError(f"{error}; what was made is here: {folder}") from None
        shutil.rmtree(folder)


def _names(fs: Any, path: str) -> list[str]:
    """Of everything in a folder there."""
    if not fs.exists(path):
        return []
    if not fs.isdir(path):
        return [PurePosixPath(path).name]
    return [PurePosixPath(found).name for found in fs.ls(path, detail=False)]


def _asked(address: str, how: str, ask: Callable[[Any, str], Found]) -> Found:
    try:
        import fsspec
    except ImportError:
        raise missing_extra("fsspec", "io", f"what is at {address}") from None
    try:
        fs, path = fsspec.core.url_to_fs(address)
        fs.invalidate_cache()  # others write there, too
        return ask(fs, path.rstrip("/"))
    except HalbertError:
        raise
    except ImportError as error:  # of the protocol
        raise MissingExtra(f"{address}: cannot be {how}: {error}") from None
    except Exception as error:  # every file system has errors of its own
        told = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{address}: cannot be {how}: {told[0][:200]}") from None
