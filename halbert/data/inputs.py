"""Files that a corpus is made of, wherever they lie: opened as streams, unpacked, hashed while they are read."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Literal, NamedTuple, cast

from halbert.data.manifest import Skipped, input_names
from halbert.errors import HalbertError, InputError, MissingExtra, missing_extra, nearest
from halbert.files import exists, require_file

Kind = Literal["text", "jsonl", "parquet"]
PACKED = (".gz", ".zst", ".xz")
_KINDS: dict[str, Kind] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_OTHERS = (".json", ".csv", ".tsv", ".zip", ".tar", ".tgz", ".bz2", ".7z", ".pdf", ".docx", ".npy")
_CODE = r"[a-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*"
_LANGUAGE = re.compile(rf"({_CODE})=(.+)", re.DOTALL)
_PORTION = 1 << 20


class Input(NamedTuple):
    """A file to read: where it is, what the manifest calls it, its language, what is in it and how it is packed.

    ``column`` is the field or column that holds the texts, where there are such. ``lenient``: rows that cannot be read are
    left out.
    """

    path: str
    name: str
    language: str
    kind: Kind
    packing: str
    column: str = "text"
    lenient: bool = False

    @property
    def remote(self) -> bool:
        """Whether only fsspec can read it."""
        return "://" in self.path

    @property
    def plain(self) -> bool:
        """Whether any process can read a part of it."""
        return not self.remote and not self.packing and self.kind != "parquet"


def find_inputs(
    files: Sequence[str | os.PathLike[str]],
    language: str = "",
    skipped: list[Skipped] | None = None,
    column: str = "text",
) -> list[Input]:
    """The inputs that ``files`` name, those of one language together, else in order.

    Each is a path, a folder (every file in it, by name, but for hidden ones), an address such as ``https://…`` or
    ``s3://…``, and may be preceded by its language: ``de=wiki.txt``; others are of ``language``. ``column`` is what JSON Lines
    and Parquet call their texts. Raises :class:`InputError` for an ending nothing here reads (which is noted in ``skipped``
    instead, where such a list is given, whereupon the inputs are lenient) and for a language that is no code.
    """
    if language and not re.fullmatch(_CODE, language):
        raise InputError(f"the language is {language!r}; expected a code such as de or zh-Hant")
    found: list[tuple[str, str]] = []
    for file in files:
        own, path = language, os.fspath(file)
        told = None if exists(path) else _LANGUAGE.fullmatch(path)
        if told:
            own, path = told.groups()
        elif (rest := path.partition("=")[2]) and not exists(path) and exists(rest):
            raise InputError(
                f"{path}: what stands before = is no code of a language; expected something like en={rest}"
            )
        path = path.removeprefix("file://")
        if "://" not in path and Path(path).is_dir():
            found += [(inside, own) for inside in _files_in(path)]
        else:
            found.append((path, own))
    first: dict[str, int] = {}
    for _, own in found:
        first.setdefault(own, len(first))
    found.sort(key=lambda each: first[each[1]])
    names = input_names([path for path, _ in found])
    inputs = []
    for (path, own), name in zip(found, names, strict=True):
        try:
            inputs.append(Input(path, name, own, *_format(path), column, skipped is not None))
        except InputError as error:
            if skipped is None:
                raise
            skipped.append(Skipped(name=name, reason=str(error).replace(path, name)))
    return inputs


def _files_in(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (f"{place}{os.sep}{name}" for name in sorted(names) if not name.startswith("."))


def _format(path: str) -> tuple[Kind, str]:
    name = PurePath((path.split("?")[0] if "://" in path else path).lower())
    packing = name.suffix if name.suffix in PACKED else ""
    ending = name.with_suffix("").suffix if packing else name.suffix
    if ending in _OTHERS or (packing and ending == ".parquet"):
        raise InputError(
            f"{path}: ends in {ending + packing}; expected plain text, .jsonl (each also as {', '.join(PACKED)}) or .parquet"
        )
    return _KINDS.get(ending, "text"), packing


def size_of(item: Input) -> int:
    """Bytes as stored; 0 where only reading would tell. Raises :class:`InputError` for a local file that is not there."""
    if not item.remote:
        return require_file(item.path, "text file").stat().st_size
    try:
        fs, path = _fsspec().core.url_to_fs(item.path)
        return int(fs.size(path) or 0)
    except (OSError, ValueError, ImportError, RuntimeError):
        return 0


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError:
        raise missing_extra("fsspec", "io", "reading an address") from None
    return fsspec


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "io", "reading Parquet or .zst") from None
    return pyarrow


class _Hashed(io.RawIOBase):
    """A raw stream that hashes and counts what is read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        self.digest.update(data)
        self.count += len(data)
        buffer[: len(data)] = data
        return len(data)


class InputStream:
    """The content of an input, unpacked. What is at fault with it is an :class:`InputError` that names it."""

    def __init__(self, item: Input) -> None:
        self.item = item
        self.lines = 1  # of the line that the next byte belongs to; kept by who reads
        try:
            if item.remote:
                opened = cast(BinaryIO, _fsspec().open(item.path, "rb").open())
            else:
                opened = cast(BinaryIO, require_file(item.path, "text file").open("rb", buffering=0))
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            if isinstance(error, HalbertError):
                raise
            if isinstance(error, ImportError):  # of the protocol
                known = "; run: pip install 'halbert[io]'" if item.path.startswith("http") else ""
                raise MissingExtra(f"{item.path}: cannot be opened: {error}{known}") from None
            why = "no such file" if isinstance(error, FileNotFoundError) else error
            raise InputError(f"{item.path}: cannot be opened: {why}") from None
        self._raw = _Hashed(opened)
        self._content: Any = self._raw
        try:
            self._unpack(item)
        except BaseException:
            self.close()
            raise

    def _unpack(self, item: Input) -> None:
        if item.packing:
            buffered = io.BufferedReader(self._raw, _PORTION)
            if item.packing == ".gz":
                self._content = gzip.GzipFile(fileobj=buffered)
            elif item.packing == ".xz":
                self._content = lzma.LZMAFile(buffered)  # noqa: SIM115 - lives as long as the stream
            else:
                # zstandard's own reader takes a file that was cut off for a shorter one.
                pyarrow = _arrow()
                self._content = pyarrow.CompressedInputStream(pyarrow.PythonFile(buffered, mode="r"), "zstd")

    @property
    def consumed(self) -> int:
        """Bytes read from the file as it is stored."""
        return self._raw.count

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end only."""
        portions: list[bytes] = []
        while size:
            try:
                portion = self._content.read(min(size, _PORTION))
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                what = "unpacked" if self.item.packing else "read"
                raise InputError(f"{self.item.path}: cannot be {what} after line {self.lines:,}: {error}") from None
            if not portion:
                break
            portions.append(portion)
            size -= len(portion)
        return portions[0] if len(portions) == 1 else b"".join(portions)

    def finish(self) -> tuple[str, int]:
        """Hash and size of the file as it is stored."""
        self._content = self._raw  # what follows the packed content belongs to the file
        while self.read(_PORTION):
            pass
        self._raw.stream.close()
        return self._raw.digest.hexdigest(), self._raw.count

    def close(self) -> None:
        """Let go of the file."""
        self._raw.stream.close()


def parquet_texts(item: Input) -> Iterator[list[str | None]]:
    """The column of a Parquet file that holds its texts, some rows at a time. Raises :class:`InputError` naming file and row.

    Of a lenient input rows without a text are None.
    """
    pyarrow = _arrow()
    number = 0
    source: Any = Path(item.path)
    try:
        if item.remote:
            source = _fsspec().open(item.path, "rb").open()
        file = pyarrow.parquet.ParquetFile(source, buffer_size=_PORTION)
        names = file.schema_arrow.names
        if item.column not in names:
            raise InputError(
                f"{item.path}: has no column {item.column!r}{nearest(item.column, names)}; found {', '.join(names)} "
                "(--column text=NAME says which holds the texts)"
            )
        kind = file.schema_arrow.field(item.column).type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
            raise InputError(f"{item.path}: the column {item.column!r} holds {kind}; expected strings")
        for group in range(file.num_row_groups):
            told = file.metadata.row_group(group)
            rows = max(1, min(1024, 4 * _PORTION * told.num_rows // max(told.total_byte_size, 1)))
            for batch in file.iter_batches(rows, [group], [item.column]):
                texts = batch.column(0).to_pylist()
                if None in texts and not item.lenient:
                    raise InputError(f"{item.path}: row {number + texts.index(None) + 1:,} has no text")
                yield texts
                number += len(texts)
    except UnicodeDecodeError as error:
        raise InputError(f"{item.path}: a text after row {number:,} is not UTF-8: {error}") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{item.path}: is not a readable Parquet file: {error}") from None
    finally:
        if item.remote and hasattr(source, "close"):
            source.close()
