"""Inputs cut into blocks, each of which becomes one shard; and the documents of a block.

Where a block ends depends on the inputs alone, never on who works on it: after the first document that ends beyond 24 MiB.
Where none ends within the next 8 MiB the document is cut, after a line; a line without an end there is cut too. Within a
block, lines are cut every 1 MiB. A line is cut after a sentence, at white space, or between two characters, in this order.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import msgspec

from halbert.data.inputs import Input, InputStream, parquet_texts
from halbert.data.manifest import Cuts, Source
from halbert.errors import InputError

SHARD_BYTES = 24 << 20
SLACK = 8 << 20
LONGEST_LINE = 1 << 20
# Of JSON Lines and Parquet, which have to be in memory as a whole.
LONGEST_ROW = 32 << 20
_BLANK_LINE = re.compile(rb"\n[ \t\r\v\f]*\n")
# Where a line is best cut, looked for in so many bytes before the limit.
_SEAMS = (b". ", "。".encode(), "।".encode(), b" ")
_NEAR = 1 << 16


class Part(NamedTuple):
    """Bytes ``begin`` to ``end`` of a file that every worker can read; ``shown`` and ``line`` are for messages.

    ``kind`` "rows" is one JSON string a line.
    """

    path: str
    begin: int
    end: int
    kind: Literal["text", "jsonl", "rows"]
    shown: str
    line: int
    first: bool


class Block(NamedTuple):
    """What becomes one shard; ``key`` is a hash of all that its content depends on, ``read`` how far it moves on."""

    number: int
    language: str
    key: str
    parts: list[Part]
    read: int
    cut: Cuts
    spool: Path | None


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
                    if len(data) - begin > LONGEST_ROW:
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
                if len(line) > LONGEST_ROW:
                    raise too_long(item.path, number + i, "row")
            data = b"".join(lines)
            self._add(item, memoryview(data), 0, number, "rows")
            number += len(texts)
            if self._size >= SHARD_BYTES:
                if not began:  # counted with the first block: where a row lies in its file is not known
                    self._read, began = before + size, True
                yield self._close()

    def _add(
        self, item: Input, data: memoryview, offset: int, line: int, kind: Literal["text", "jsonl", "rows"]
    ) -> None:
        path, begin = item.path, offset
        if not item.plain:
            if self._file is None:
                self._file = (self.spool / f"block-{self._number:05d}").open("wb")
            path, begin = self._file.name, self._file.tell()
            self._file.write(data)
        first = offset == 0 and kind != "rows"
        self._parts.append(Part(path, begin, begin + len(data), kind, item.path, line, first))
        self._key.update(f"{self._language} {kind} {len(data)} {first} ".encode())
        self._key.update(data)
        self._size += len(data)


def too_long(path: str, line: int, what: str = "line") -> InputError:
    """The error for a row that does not fit into memory."""
    return InputError(
        f"{path}: {what} {line:,} is longer than {LONGEST_ROW >> 20} MiB; a document of this length is read from plain text only"
    )


def seam(data: bytes, limit: int) -> int:
    """Where to cut a line, at most at ``limit``."""
    for mark in _SEAMS:
        at = data.rfind(mark, max(limit - _NEAR, 0), limit)
        if at >= 0:
            return at + len(mark)
    end = limit
    while end < len(data) and limit - end < 4 and data[end] & 0xC0 == 0x80:
        end -= 1
    if end == len(data):  # the last character may not be whole
        for back in range(1, min(4, end) + 1):
            if data[end - back] & 0xC0 != 0x80:
                whole = 1 + (data[end - back] >= 0xC0) + (data[end - back] >= 0xE0) + (data[end - back] >= 0xF0)
                return end - back if whole > back and end > back else end
    return end


class _Row(msgspec.Struct):
    text: str


_DECODER = msgspec.json.Decoder(_Row)


class Documents:
    """The documents of a part: lists of paragraphs, each with whether its document ends there.

    ``lines`` counts the places where a line was cut.
    Raises :class:`InputError` naming file and line when the part cannot be read.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.lines = 0

    def __iter__(self) -> Iterator[tuple[list[str], bool]]:
        return self._of_text() if self.part.kind == "text" else self._of_rows()

    def _of_text(self) -> Iterator[tuple[list[str], bool]]:
        paragraphs: list[str] = []
        begun = False
        for _, text in self._portions():
            for line in (text[:-1] if text.endswith("\n") else text).split("\n"):
                if line and not line.isspace():
                    paragraphs.append(line)
                elif paragraphs or begun:
                    yield paragraphs, True
                    paragraphs, begun = [], False
            if paragraphs:  # a long document is not kept as a whole
                yield paragraphs, False
                paragraphs, begun = [], True
        if begun:
            yield [], True

    def _of_rows(self) -> Iterator[tuple[list[str], bool]]:
        read = msgspec.json.Decoder(str).decode if self.part.kind == "rows" else lambda row: _DECODER.decode(row).text
        for number, text in self._portions():
            for i, line in enumerate(text.split("\n")):
                if not line or line.isspace():
                    continue
                try:
                    document = read(line)
                except (msgspec.DecodeError, RecursionError) as error:
                    fault = "has no text" if isinstance(error, msgspec.ValidationError) else "is not valid JSON"
                    raise InputError(f"{self.part.shown}: line {number + i:,} {fault}: {error}") from None
                paragraphs: list[str] = []
                for paragraph in document.split("\n"):
                    if len(paragraph) > LONGEST_LINE // 4:
                        paragraphs += self._cut(paragraph)
                    elif paragraph and not paragraph.isspace():
                        paragraphs.append(paragraph)
                if paragraphs:
                    yield paragraphs, True

    def _cut(self, paragraph: str) -> list[str]:
        data, found = paragraph.encode(), []
        while len(data) > LONGEST_LINE:
            end = seam(data, LONGEST_LINE)
            found.append(data[:end].decode())
            data = data[end:]
            self.lines += 1
        return [text for text in [*found, data.decode()] if text and not text.isspace()]

    def _portions(self) -> Iterator[tuple[int, str]]:
        """Whole lines, some at a time, with the number of the first; of text, a line without end is cut."""
        part, number = self.part, self.part.line
        with Path(part.path).open("rb", buffering=0) as stream:
            stream.seek(part.begin)
            left, rest = part.end - part.begin, b""
            while left or rest:
                portion = stream.read(min(left, LONGEST_LINE))
                if left and not portion:
                    raise InputError(f"{part.shown}: became shorter while it was read")
                left -= len(portion)
                data = rest + portion
                end = data.rfind(b"\n") + 1 if left else len(data)
                if not end and part.kind == "text":
                    end = seam(data, len(data))
                    self.lines += 1
                elif not end or (part.kind == "jsonl" and not left and len(data) > LONGEST_ROW):
                    if part.kind == "jsonl" and len(data) > LONGEST_ROW:
                        raise too_long(part.shown, number)
                    rest = data
                    continue
                text = self._decoded(data[:end], number)
                yield number, text.removeprefix("\ufeff") if part.first and number == part.line else text
                number += text.count("\n")
                rest = data[end:]

    def _decoded(self, data: bytes, number: int) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            line = number + data.count(b"\n", 0, error.start)
            raise InputError(
                f"{self.part.shown}: line {line:,} is not UTF-8; convert it, for example with: iconv -t UTF-8"
            ) from None
