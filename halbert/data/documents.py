"""The documents of a block's parts, read a portion at a time by whoever encodes them.

Lines of text are cut every 1 MiB: after a sentence, at white space, or between two characters, in this order. What has to
be in memory as a whole (a row of JSON Lines or Parquet) may have 32 MiB.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from halbert.errors import InputError

LONGEST_LINE = 1 << 20
LONGEST_ROW = 32 << 20
TOLD = 3  # lines at fault of a file that are told of, one by one
# Where a line is best cut, looked for in so many bytes before the limit.
_SEAMS = (b". ", "。".encode(), "।".encode(), b" ")
_NEAR = 1 << 16
_HEAD = 1024  # bytes of a file in which a NUL says that it is no text
Kind = Literal["text", "jsonl", "rows"]


class Part(NamedTuple):
    """Bytes ``begin`` to ``end`` of a file that every worker can read; ``shown`` and ``line`` are for messages.

    ``kind`` "rows" is one JSON string a line; of "jsonl" the field ``column`` is the text. ``lenient``: lines that cannot be
    read are left out.
    """

    path: str
    begin: int
    end: int
    kind: Kind
    shown: str
    line: int
    first: bool
    column: str = "text"
    lenient: bool = False


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


class _Memory(io.RawIOBase):
    """Bytes that somebody else holds, as a file: only what is read of them is copied."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        found = bytes(self._content[self._at : self._at + size])
        self._at += len(found)
        return found


@functools.cache
def _reader(part_kind: Kind, column: str) -> Callable[[str], str]:
    """What takes a line's text out of it."""
    if part_kind == "rows":
        return msgspec.json.Decoder(str).decode
    row = msgspec.defstruct("Row", [("text", str, msgspec.field(name=column))])
    decode = msgspec.json.Decoder(row).decode
    return lambda line: str(decode(line).text)  # type: ignore[attr-defined]


class Documents:
    """The documents of a part: lists of paragraphs, each with whether its document ends there.

    ``lines`` counts the places where a line was cut. With ``content`` the part lies there, and not in its file.
    Raises :class:`InputError` naming file and line when the part cannot be read; of a lenient one only where more than a line
    is at fault, else ``bad`` counts the lines that are left out and ``told`` says of the first what they have.
    """

    def __init__(self, part: Part, content: memoryview | None = None) -> None:
        self.part, self.content = part, content
        self.lines = self.bad = 0
        self.told: list[str] = []

    def _at_fault(self, fault: InputError) -> None:
        if not self.part.lenient:
            raise fault
        self.bad += 1
        if len(self.told) < TOLD:
            self.told.append(str(fault))

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
        read = _reader(self.part.kind, self.part.column)
        for number, text in self._portions():
            for i, line in enumerate(text.split("\n")):
                if not line or line.isspace():
                    continue
                try:
                    document = read(line)
                except (msgspec.DecodeError, RecursionError) as error:
                    fault = "has no text" if isinstance(error, msgspec.ValidationError) else "is not valid JSON"
                    other = (
                        " (--column text=NAME says which field it is)" if "missing required field" in str(error) else ""
                    )
                    what = "row" if self.part.kind == "rows" else "line"
                    self._at_fault(InputError(f"{self.part.shown}: {what} {number + i:,} {fault}: {error}{other}"))
                    continue
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
        part, number, first = self.part, self.part.line, self.part.first
        with Path(part.path).open("rb", buffering=0) if self.content is None else _Memory(self.content) as stream:
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
                if first and part.kind == "text" and b"\0" in data[:_HEAD]:
                    raise InputError(f"{part.shown}: begins with bytes that no UTF-8 text has (a program, or UTF-16?)")
                text = self._decoded(data[:end], number)
                yield number, text.removeprefix("\ufeff") if first else text
                first = False  # of a first line without end, too, what follows is no beginning
                number += text.count("\n")
                rest = data[end:]

    def _decoded(self, data: bytes, number: int) -> str:
        """Text; a line that is none is left out, and what stands before and after it is not one document."""
        found: list[str] = []
        view, at = memoryview(data), 0
        while True:
            try:
                found.append(str(view[at:], "utf-8"))
                return "".join(found)
            except UnicodeDecodeError as error:
                wrong = at + error.start
                number += data.count(b"\n", at, wrong)
                self._at_fault(
                    InputError(
                        f"{self.part.shown}: line {number:,} is not UTF-8; convert it, for example with: iconv -t UTF-8"
                    )
                )
            begin = data.rfind(b"\n", at, wrong) + 1 or at
            found.append(str(view[at:begin], "utf-8"))
            if (at := data.find(b"\n", wrong)) < 0:
                return "".join(found)
