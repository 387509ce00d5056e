"""Inputs cut into blocks, each of which becomes one shard.

Where a block ends depends on the inputs alone, never on who works on it: after the first document that ends beyond 24 MiB.
Where none ends within the next 8 MiB the document is cut, after a line; a line without an end there is cut too.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from halbert.data import documents
from halbert.data.documents import Documents, Kind, Part, seam, too_long
from halbert.data.inputs import Input, InputStream, parquet_texts
from halbert.data.manifest import Cuts, Source

SHARD_BYTES = 24 << 20
SLACK = 8 << 20
_BLANK_LINE = re.compile(rb"\n[ \t\r\v\f]*\n")


class Block(NamedTuple):
    """What becomes one shard; ``key`` is a hash of all that its content depends on, ``read`` how far it moves on."""

    number: int
    language: str
    key: str
    parts: list[Part]
    read: int
    cut: Cuts
    spool: Path | None


def paragraphs(
    item: Input, read: Callable[[Documents], None] | None = None, moved: Callable[[int], None] | None = None
) -> Iterator[str]:
    """The paragraphs of an input of any format, in their order; ``read`` is told of every part when it has been read.

    ``moved`` is told how many more bytes of the input, as it is stored, are done. Raises :class:`InputError` where it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="halbert-") as spool:
        for block in Cutter([item], Path(spool)).blocks():
            for part in block.parts:
                found = Documents(part)
                for some, _ in found:
                    yield from some
                if read is not None:
                    read(found)
            if block.spool:
                block.spool.unlink()
            if moved is not None:
                moved(block.read)


class Cutter:
    """Cuts inputs into blocks. What workers cannot read for themselves is unpacked into files in ``spool``."""

    def __init__(self, inputs: Sequence[Input], spool: Path) -> None:
        self.inputs, self.spool = inputs, spool
        self.sources: list[Source] = []
        self._number = self._read = self._told = 0
        self._begin("")

    def _begin(self, language: str) -> None:
        self._language = language
        self._parts: list[Part] = []
        self._size = self._lines = self._documents = 0
        self._key = hashlib.blake2b(digest_size=16)
        self._file: BinaryIO | None = None

    def _close(self) -> Block:
        path = None
        if self._file:
            path = Path(self._file.name)
            self._file.close()
        read, self._told = self._read - self._told, self._read
        cut = Cuts(lines=self._lines, documents=self._documents)
        block = Block(self._number, self._language, self._key.hexdigest(), self._parts, read, cut, path)
        self._number += 1
        self._begin(self._language)
        return block

    def blocks(self) -> Iterator[Block]:
        """All blocks; :attr:`sources` grows with every input that was read to its end."""
        try:
            yield from self._blocks()
        finally:
            if self._file:
                self._file.close()

    def _blocks(self) -> Iterator[Block]:
        for item in self.inputs:
            if item.language != self._language:
                if self._size:
                    yield self._close()
                self._begin(item.language)
            stream = InputStream(item)
            before = self._read
            try:
                if item.kind == "parquet":
                    digest, size = stream.finish()
                    yield from self._rows(item, before, size)
                else:
                    for full in self._contents(item, stream):
                        self._read = before + stream.consumed
                        if full:
                            yield self._close()
                    digest, size = stream.finish()
            finally:
                stream.close()
            self._read = before + size
            self.sources.append(Source(name=item.name, sha256=digest, bytes=size, language=item.language))
        if self._size:
            yield self._close()

    def _contents(self, item: Input, stream: InputStream) -> Iterator[bool]:
        """Add an input part by part, and say after each whether the block is full."""
        rest, offset, ended = b"", 0, False
        while not ended or rest:
            want = SHARD_BYTES - self._size
            data = rest + stream.read(max(want + SLACK - len(rest), 0)) if not ended else rest
            ended = len(data) < want + SLACK
            if item.kind == "jsonl":
                while not ended and data.find(b"\n", want - 1) < 0:
                    begin = data.rfind(b"\n") + 1
                    if len(data) - begin > documents.LONGEST_ROW:
                        raise too_long(item.path, stream.lines + data.count(b"\n"))
                    more = stream.read(SLACK)
                    data, ended = data + more, len(more) < SLACK
                end = len(data) if ended and len(data) <= want else data.find(b"\n", want - 1) + 1 or len(data)
            else:
                end = len(data) if ended and len(data) <= want else self._end_of_text(data, want, ended)
            if end:
                self._add(
                    item, memoryview(data)[:end], offset, stream.lines, "jsonl" if item.kind == "jsonl" else "text"
                )
            stream.lines += data.count(b"\n", 0, end)
            offset += end
            rest = data[end:]
            del data  # not beside the next one
            yield self._size >= SHARD_BYTES

    def _end_of_text(self, data: bytes, want: int, ended: bool) -> int:
        blank = _BLANK_LINE.search(data, want - 1)
        if blank:
            return blank.end()
        if ended:
            return len(data)
        self._documents += 1
        line = data.rfind(b"\n", want)
        if line >= 0:
            return line + 1
        self._lines += 1
        return seam(data, len(data))

    def _rows(self, item: Input, before: int, size: int) -> Iterator[Block]:
        """Parquet: a JSON string for every row."""
        number, began = 1, False
        for texts in parquet_texts(item):
            lines = [msgspec.json.encode(text) + b"\n" for text in texts]
            for i, line in enumerate(lines):
                if len(line) > documents.LONGEST_ROW:
                    raise too_long(item.path, number + i, "row")
            data = b"".join(lines)
            self._add(item, memoryview(data), 0, number, "rows")
            number += len(texts)
            if self._size >= SHARD_BYTES:
                if not began:  # counted with the first block: where a row lies in its file is not known
                    self._read, began = before + size, True
                yield self._close()

    def _add(self, item: Input, data: memoryview, offset: int, line: int, kind: Kind) -> None:
        path, begin = item.path, offset
        if not item.plain:
            if self._file is None:
                self._file = (self.spool / f"block-{self._number:05d}").open("wb")
            path, begin = self._file.name, self._file.tell()
            self._file.write(data)
        first = offset == 0 and kind != "rows"
        self._parts.append(
            Part(path, begin, begin + len(data), kind, item.path, line, first, item.column, item.lenient)
        )
        self._key.update(f"{self._language} {kind} {len(data)} {first} ".encode())
        self._key.update(data)
        self._size += len(data)
