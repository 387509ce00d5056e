"""Labelled files people already have: CSV, TSV, JSON Lines and Parquet with columns text (or text_a, text_b) and label."""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from halbert.errors import InputError, missing_extra, nearest
from halbert.files import read_lines, require_file

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a text or a pair, its label where it has one (as text), and what can be chosen where that is asked."""

    text: str
    pair: str | None = None
    label: str | None = None
    choices: tuple[str, ...] = ()


def _ending(path: Path) -> str:
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table as dictionaries. Raises :class:`InputError` naming the file and the line at fault."""
    ending = _ending(path)
    if ending not in ENDINGS:
        raise InputError(f"{path}: ends in {ending or 'nothing'!r}; expected one of {', '.join(ENDINGS)}")
    require_file(path, "data file")
    if ending == ".parquet":
        yield from _read_parquet(path)
    elif ending == ".jsonl":
        for number, line in enumerate(read_lines(path, "JSON Lines file"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if "\\u" in line:
                    json.dumps(row, ensure_ascii=False).encode()  # an escape may name half a character
            except (ValueError, RecursionError) as error:  # beside bad syntax: endless numbers and half characters
                raise InputError(f"{path}: line {number} is not valid JSON: {error}") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {number} is not a JSON object")
            yield row
    elif ending == ".txt":
        for line in read_lines(path):
            yield {"text": line}
    else:
        # GLUE's TSV files have no quoting: a " is an ordinary character.
        style = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if ending == ".tsv" else {}
        lines = (line + "\n" for line in read_lines(path))
        reader = csv.reader(lines, strict=True, **style)  # type: ignore[arg-type]
        try:
            header = next(reader, [])  # a .gz file may hold nothing
            if len(set(header)) != len(header):
                raise InputError(f"{path}: two columns have the same name; header: {', '.join(header)}")
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"{path}: line {reader.line_num} has {len(row)} columns, the header has {len(header)}"
                    )
                yield dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise InputError(f"{path}: line {reader.line_num}: {error}") from None


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise missing_extra("pyarrow", "io", "reading Parquet") from None
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: is not a readable Parquet file: {error}") from None


def read_examples(path: str | os.PathLike[str], *, labelled: bool = True, column: str = "label") -> list[Example]:
    """All rows of a file as examples; see :func:`iter_examples`."""
    return list(iter_examples(path, labelled=labelled, column=column))


def iter_examples(path: str | os.PathLike[str], *, labelled: bool = True, column: str = "label") -> Iterator[Example]:
    """The rows of a file as examples, one in memory at a time.

    Columns: ``text``, or ``text_a`` and ``text_b``; ``column`` (only if ``labelled``); ``choices``, a list of texts, where
    there is one. Raises :class:`InputError` for a
    missing file or column, an empty label, and a file without rows.
    """
    path = Path(path)
    rows = read_rows(path)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path}: holds no rows")
    if _ending(path) == ".txt" and not labelled:  # nothing to check: a third of the time of what follows
        yield Example(text=first["text"])
        for row in rows:
            yield Example(text=row["text"])
        return
    paired = "text_a" in first and "text_b" in first
    wanted = (["text_a", "text_b"] if paired else ["text"]) + ([column] if labelled else [])
    lost = [name for name in wanted if name not in first]
    if lost:
        raise InputError(
            f"{path}: has no column {lost[0]!r}{nearest(lost[0], first)}; found the columns {', '.join(map(str, first))}, "
            f"expected text (or text_a and text_b){f' and {column}' if labelled else ''}"
        )
    for number, row in enumerate(itertools.chain([first], rows), 1):
        values = {}
        for name in wanted:
            value = row.get(name)
            if isinstance(value, bool | int | float) and name == column and value == value:  # NaN means: missing
                value = str(value)
            if not isinstance(value, str) or (name == column and not value):
                raise InputError(f"{path}: row {number} has no text in column {name!r} (found {value!r})")
            values[name] = value
        choices = row.get("choices") or []
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            choices = []  # a column of another meaning; whoever needs choices says that there are none
        yield Example(
            text=values[wanted[0]], pair=values["text_b"] if paired else None, label=values.get(column),
            choices=tuple(choices),
        )  # fmt: skip
