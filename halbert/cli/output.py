"""What people see: results on standard output, progress and notes on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from halbert.errors import InputError

if TYPE_CHECKING:
    from halbert.data.readers import Example


SECONDS_BETWEEN_LINES = 30.0


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def print_line(value: Any) -> None:
    """One JSON object on one line of standard output."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def note(text: str) -> None:
    """A line for people on standard error."""
    print(text, file=sys.stderr)


def table(headings: list[str], rows: list[list[str]], right: tuple[int, ...] = ()) -> None:
    """Aligned columns on standard output; ``right`` names the columns aligned to the right."""
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    for row in [headings, ["-" * w for w in widths], *rows]:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())


def texts_from(
    texts: list[str] | None, file: Path | None, columns: Mapping[str, str] | None = None
) -> Iterator[Example]:
    """The texts of the command line, or of ``--input`` (``-``: standard input, a text a line), one in memory at a time.

    ``columns`` says what the file calls them.
    """
    from halbert.data.readers import Example, iter_examples

    if texts:
        return (Example(text=text) for text in texts)
    if str(file) == "-":
        return (Example(text=line) for line in _standard_input())
    assert file is not None
    return iter_examples(file, labelled=False, columns=columns)


def check_source(texts: list[str] | None, file: Path | str | None, columns: Mapping[str, str] | None = None) -> None:
    """Raises :class:`InputError` when both or neither are given, or columns of what has none."""
    if bool(texts) == (file is not None):
        raise InputError("give either texts or --input FILE")
    if columns and (file is None or str(file) == "-"):
        raise InputError("--column is for a table: --input FILE (.csv, .tsv, .jsonl, .parquet)")


def _standard_input() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.removesuffix(b"\n").decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"standard input: line {number} is not UTF-8") from None


def count_texts(texts: list[str] | None, file: Path | None) -> int | None:
    """How many there will be, where that is known without reading them as rows."""
    if file is None:
        return len(texts or ())
    if file.suffix not in (".txt", ".jsonl") or not file.is_file():
        return None
    with file.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))


class Bars:
    """Progress bars on standard error: bars on a terminal, a line at the end of each step elsewhere, or nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Step]:
        """A step of ``total`` parts (``None``: not known yet)."""
        if self.quiet:
            yield _nothing
            return
        from rich.console import Console

        console = Console(stderr=True)
        if not console.is_terminal:
            began = time.monotonic()
            note(f"{title} …")
            yield _lines(title, total)
            note(f"{title}: done in {time.monotonic() - began:.0f} s")
            return
        from halbert.cli.terminal import TwoLines

        with TwoLines(console) as bars:
            bar = bars.add_task(title, total=total, detail="")

            def step(detail: str = "", advance: int = 1, total: int | None = None) -> None:
                if total is not None:
                    bars.update(bar, total=total)
                bars.update(bar, advance=advance, detail=detail)

            yield step

    @contextmanager
    def bytes(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A step measured in bytes: how many of how many are done, how fast it goes, how long it will take."""
        if self.quiet:
            yield lambda done, total: None
            return
        from rich.console import Console

        console = Console(stderr=True)
        if not console.is_terminal:
            lines = _ByteLines(title)
            yield lines
            lines.tell()
            return
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TextColumn("left"),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task(title, total=None)
            yield lambda done, total: bars.update(bar, completed=done, total=total)


class _ByteLines:
    """Progress in bytes where there is no terminal: a line every half minute, and one at the end."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.done = self.total = 0
        self.began = self.told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if time.monotonic() - self.told >= SECONDS_BETWEEN_LINES:
            self.tell()

    def tell(self) -> None:
        """Say where it stands."""
        self.told = time.monotonic()
        speed = self.done / max(self.told - self.began, 1e-3)
        left = self.total - self.done
        rest = f", {left / max(speed, 1) / 60:.0f} min left" if left else ""
        note(f"{self.title}: {self.done / 1e6:,.1f} of {self.total / 1e6:,.1f} MB, {speed / 1e6:.1f} MB/s{rest}")


def _lines(title: str, total: int | None) -> Step:
    """Progress where there is no terminal: a line every half minute.

    What is left is told by the last lines, and never by what came before the first step: a corpus that is counted first, or
    the steps of a run that is gone on with.
    """
    done, whole, told = 0, total, time.monotonic()
    marks: deque[tuple[float, int]] = deque(maxlen=10)

    def step(detail: str = "", advance: int = 1, total: int | None = None) -> None:
        nonlocal done, whole, told
        done, whole, now = done + advance, total if total is not None else whole, time.monotonic()
        if not marks:
            marks.append((now, done))
        if now - told < SECONDS_BETWEEN_LINES:
            return
        told, (began, before) = now, marks[0]
        left = f" of {whole:,}" if whole else ""
        if whole and done > before:
            left += f", {(now - began) / (done - before) * (whole - done) / 60:.0f} min left"
        marks.append((now, done))
        note(f"{title}: {done:,}{left} {detail}".rstrip())

    return step


class Step(Protocol):
    """Moves a bar on by ``advance`` parts, with what was done, and may correct the total."""

    def __call__(self, detail: str = "", advance: int = 1, total: int | None = None) -> None:
        """Report progress."""
        ...


def _nothing(detail: str = "", advance: int = 1, total: int | None = None) -> None:
    """No bar to move."""


def training_report(step: Step, runs: int = 1) -> Callable[[dict[str, Any]], None]:
    """A journal callback that moves a bar on over ``runs`` runs of equal length, and shows the losses."""
    done = 0

    def report(entry: dict[str, Any]) -> None:
        nonlocal done
        if entry["step"] <= done:  # the next run has begun
            done = 0
        shown = " ".join(f"{k} {v:.3f}" for k, v in entry.items() if k.endswith(("loss", "accuracy")))
        if "skipped" in entry:
            shown = f"left out: {entry['skipped']}"
        else:
            shown += f", {entry['tokens_per_second']:,.0f} pieces/s, {entry['padding']:.1%} padding"
        step(shown, entry["step"] - done, runs * entry["steps"])
        done = entry["step"]

    return report


def printable(text: str) -> str:
    """A text out of somebody's file, with what could command a terminal written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
