"""Answers of an endless input: part after part beside the output, joined at the end; a run that was stopped goes on.

Finished parts lie in ``.NAME.parts``. They are used again by the same command only: the same model, options and input.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from halbert.errors import missing_extra
from halbert.files import begin

PART = 8192  # texts; within one, equal texts are computed once


class Parts:
    """The finished parts of one output file, of which ``kind`` says the format: ``.npy``, ``.jsonl`` or ``.parquet``.

    ``told`` is everything the answers depend on (with ``unique`` in it nothing can go on with them); parts that depend on
    anything else go with ``overwrite`` only. Raises :class:`InputError` without it, when another process is at them, or
    when nothing can be written there.
    """

    def __init__(
        self, output: str | os.PathLike[str], kind: str, told: dict[str, Any], size: int = PART, overwrite: bool = False
    ) -> None:
        self.output = Path(output)
        self.kind, self.size = kind, size
        self.folder = folder_of(self.output)
        self._lock = begin(
            self.folder, self.output, {**told, "size": size},
            f"{self.output}: another process is writing it; wait, or name another", self._lost, overwrite,
        )  # fmt: skip

    def _lost(self, before: dict[str, Any] | None) -> str:
        """What another command has finished, and could go on with."""
        count = len(self.finished())
        if not count or "unique" in (before or {}):
            return ""
        return f"{count} parts of {self.size:,} texts; another model, input or option"

    def done(self) -> int:
        """How many parts are finished, from the first on without a gap."""
        return next(i for i in itertools.count() if not self._part(i).exists())

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:08}{self.kind}"

    def fill(
        self, texts: Iterable[Any], answer: Callable[[list[Any], int], Any], skipped: Callable[[int], None]
    ) -> int:
        """Answer what is not answered yet, ``answer(texts, number of the first)``; returns how many texts there are."""
        there, total = self.finished(), 0
        try:
            for number, chunk in enumerate(chunks(texts, self.size)):
                if number in there:
                    skipped(len(chunk))
                else:
                    self._write(self._part(number), answer(chunk, total))
                total += len(chunk)
        except BaseException:
            self.leave()
            raise
        return total

    def leave(self) -> None:
        """After a failure: where no part is finished, nothing stays."""
        if not self.finished():
            shutil.rmtree(self.folder, ignore_errors=True)

    def finished(self) -> frozenset[int]:
        """The numbers of all parts that are there, in whatever order they came."""
        return frozenset(int(part.stem) for part in self.folder.glob(f"*{self.kind}") if part.stem.isdigit())

    def write(self, number: int, answers: Any) -> None:
        """Keep a part's answers."""
        self._write(self._part(number), answers)

    def _write(self, part: Path, answers: Any) -> None:
        unfinished = part.with_name(f"unfinished{part.suffix}")
        if part.suffix == ".npy":
            unfinished.write_bytes(np.ascontiguousarray(answers, "<f4").tobytes())
        elif part.suffix == ".jsonl":
            lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in answers)
            unfinished.write_bytes("".join(lines).encode())
        else:
            pyarrow, parquet = _arrow()
            if isinstance(answers, np.ndarray):
                flat = pyarrow.array(answers.ravel())
                table = pyarrow.table({"vector": pyarrow.FixedSizeListArray.from_arrays(flat, answers.shape[1])})
            else:
                table = pyarrow.Table.from_pylist(answers)
            parquet.write_table(table, unfinished)
        _settle(unfinished, part)

    def join(self, total: int, width: int = 0) -> None:
        """Make the output out of the parts, one of them in memory at a time. ``width`` is a vector's."""
        parts = [self._part(i) for i in range(self.done())]
        unfinished = self.folder / f"whole{self.kind}"
        if self.kind == ".parquet":
            pyarrow, parquet = _arrow()
            # A part without any entity does not know what one looks like; another does.
            schema = pyarrow.unify_schemas([parquet.read_schema(part) for part in parts], promote_options="permissive")
            with parquet.ParquetWriter(unfinished, schema) as writer:
                for part in parts:
                    writer.write_table(parquet.read_table(part).cast(schema))
        else:
            with unfinished.open("wb") as stream:
                if self.kind == ".npy":
                    header = {"descr": "<f4", "fortran_order": False, "shape": (total, width)}
                    np.lib.format.write_array_header_1_0(stream, header)
                for part in parts:
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, stream, 1 << 20)
        _settle(unfinished, self.output)

    def remove(self) -> None:
        """Let go of the parts."""
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Let others have the output."""
        self._lock.close()


def folder_of(output: Path) -> Path:
    """Where the finished parts of an output lie."""
    return output.with_name(f".{output.name}.parts")


def _settle(unfinished: Path, file: Path) -> None:
    """Give a file its name once it is on the disk: after a crash of the machine it is whole, or not there."""
    with unfinished.open("rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(unfinished, file)


def chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` items; one empty list where there is none at all."""
    iterator = iter(items)
    chunk = list(itertools.islice(iterator, size))
    yield chunk
    while len(chunk) == size and (chunk := list(itertools.islice(iterator, size))):
        yield chunk


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise missing_extra("pyarrow", "io", "writing Parquet") from None
    return pyarrow, parquet
