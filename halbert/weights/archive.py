"""Archives as models are shipped in: ``.zip``, ``.tar``, ``.tar.gz``, unpacked with every member distrusted."""

from __future__ import annotations

import contextlib
import gzip
import io
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from halbert.errors import InputError

# BERT-large, the biggest release, unpacks to 1.3 GB, and weights hardly shrink when packed.
LARGEST = 16 << 30
RATIO = 100
MEMBERS = 10_000
# A header may not make the reader hold more than this at once.
_LONGEST_READ = 16 << 20
# A small archive may shrink as much as it likes.
_HARMLESS = 64 << 20
_CHUNK = 1 << 20
# What a model can be read from; the rest (graphs, programs) stays packed.
_WANTED = (
    "*.json", "*.txt", "*.model", "*.index", "*.data-*-of-*", "*.safetensors", "pytorch_model*.bin", "checkpoint",
    "README.md",
)  # fmt: skip


def is_archive(path: Path) -> bool:
    """Whether a file is a zip, tar or gzip file, by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(512)
    return head[:4] in (b"PK\3\4", b"PK\5\6") or head[:2] == b"\x1f\x8b" or head[257:262] == b"ustar"


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[tuple[Path, Path]]:
    """A temporary folder with the model files of an archive, and the folder in it that holds the model.

    It is removed at the end, whatever happens.

    Raises :class:`InputError` naming the archive and the member for absolute paths, ``..``, links, devices, encrypted
    or repeated members, more than ``MEMBERS`` of them, more than ``LARGEST`` bytes, or more than ``RATIO`` bytes from
    one; and for damaged archives.
    """
    with tempfile.TemporaryDirectory(prefix="halbert-") as place:
        target = Path(place)
        budget = _Budget(path)
        try:
            with path.open("rb") as stream:
                zipped = stream.read(2) == b"PK"
            (_unzip if zipped else _untar)(path, target, budget)
        except (
            zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
            OSError,
        ) as fault:  # fmt: skip
            if isinstance(fault, InputError):
                raise
            raise InputError(f"{path}: cannot be unpacked: {fault or type(fault).__name__}") from None
        yield target, _model_folder(target, path)


class _Budget:
    """Counts what comes out of an archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.limit = min(LARGEST, max(_HARMLESS, RATIO * path.stat().st_size))
        self.spent = 0
        self.names: set[str] = set()

    def spend(self, size: int) -> None:
        self.spent += size
        if self.spent > self.limit:
            raise InputError(
                f"{self.path}: unpacks to more than {self.limit:,} bytes (at most {RATIO} times its own size and "
                f"{LARGEST:,} in all); refused"
            )

    def admit(self, name: str) -> PurePosixPath:
        """The member's path, if it is a safe and new one."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or len(name) > 1000:
            raise InputError(f"{self.path}: holds a member that leads outside: {name[:200]!r}; refused")
        self.names.add(str(path))
        if len(self.names) > MEMBERS:
            raise InputError(f"{self.path}: holds more than {MEMBERS:,} members; refused")
        return path


def _copy(source: IO[bytes], target: Path, archive: Path) -> None:
    if target.exists():
        raise InputError(f"{archive}: holds {target.name} twice; refused")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        while chunk := source.read(_CHUNK):
            stream.write(chunk)


def _wanted(path: PurePosixPath) -> bool:
    # macOS packs a shadow of every file beside it.
    shadow = path.name.startswith("._") or "__MACOSX" in path.parts
    return not shadow and any(path.match(pattern) for pattern in _WANTED)


def _unzip(path: Path, target: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            budget.admit(member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise InputError(f"{path}: {member.filename!r} is a link or device; refused")
            if member.flag_bits & 1:
                raise InputError(f"{path}: {member.filename!r} is encrypted; unpack it first")
            if member.compress_type not in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            ):  # others are unpacked without a limit
                raise InputError(f"{path}: {member.filename!r} is packed by another way than deflate; unpack it first")
        for member in members:
            name = PurePosixPath(member.filename)
            if not member.is_dir() and _wanted(name):
                budget.spend(member.file_size)  # zipfile reads no more than this
                with archive.open(member) as source:
                    _copy(source, target / name, path)


class _Stream(io.RawIOBase):
    """The bytes of a tar file, counted; refuses to read much at once, as tarfile does where a header tells it to."""

    def __init__(self, source: IO[bytes], budget: _Budget) -> None:
        self._source, self._budget = source, budget

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise InputError(f"{self._budget.path}: a header of {size:,} bytes; refused")
        data = self._source.read(size)
        self._budget.spend(len(data))
        return data

    def tell(self) -> int:
        return self._source.tell()

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        # Skipped bytes have to be unpacked too.
        before = self._source.tell()
        if whence == io.SEEK_SET and offset > before:
            self._budget.spend(offset - before)
        return self._source.seek(offset, whence)


def _untar(path: Path, target: Path, budget: _Budget) -> None:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with (
        cast(IO[bytes], gzip.open(path, "rb") if packed else path.open("rb")) as source,
        tarfile.open(fileobj=cast(IO[bytes], _Stream(source, budget)), mode="r:") as archive,
    ):
        for member in archive:
            name = budget.admit(member.name)
            if member.size < 0:
                raise InputError(f"{path}: {member.name!r} has a size below 0; refused")
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise InputError(f"{path}: {member.name!r} is a link, device or sparse file; refused")
            if member.isreg() and _wanted(name):
                content = archive.extractfile(member)
                assert content is not None  # regular files have one
                _copy(content, target / name, path)


def _model_folder(root: Path, archive: Path) -> Path:
    """The one folder of an unpacked archive that holds a model."""
    folders = [root, *sorted(p for p in root.rglob("*") if p.is_dir())]
    found = [
        place
        for place in folders
        if (place / "config.json").exists()
        or (any(place.glob("*.index")) and not (place.name == "variables" and (place / "variables.index").exists()))
        or (place / "variables" / "variables.index").exists()
    ]
    # A Halbert bundle may hold further heads below.
    found = [place for place in found if not any(other in place.parents for other in found)]
    if not found:
        raise InputError(f"{archive}: holds no model: neither a config.json nor the .index of a checkpoint")
    if len(found) > 1:
        names = ", ".join(str(place.relative_to(root)) for place in found[:4])
        raise InputError(f"{archive}: holds {len(found)} models ({names}); unpack it and name one")
    return found[0]
