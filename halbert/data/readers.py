"""Labelled files people already have: CSV, TSV, JSON Lines and Parquet with columns text (or text_a, text_b) and label."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from halbert.errors import InputError, missing_extra, nearest
from halbert.files import read_lines, require_file

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a text or a pair, and what is known of it.

    ``label`` is a class as text, ``labels`` the classes where there may be several, ``score`` a number; ``choices`` what
    can be chosen; ``words`` and ``tags`` a text in words and a label for each; ``answers`` the (first character, text) of
    every accepted answer, none for a question that has none; ``third`` a text that is not to be near (``embed``).
    """

    text: str
    pair: str | None = None
    label: str | None = None
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    score: float | None = None
    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    answers: tuple[tuple[int, str], ...] | None = None
    third: str | None = None
    id: str | None = None
    language: str | None = None


def ending(path: Path) -> str:
    """How a file's name ends, before ``.gz``."""
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def read_rows(path: Path, header: bool = True) -> Iterator[dict[str, Any]]:
    """The rows of a table as dictionaries; without a ``header`` the columns are called 1, 2, 3.

    Raises :class:`InputError` naming the file and the line at fault.
    """
    kind = ending(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a data file")
    if kind not in ENDINGS:
        raise InputError(f"{path}: ends in {kind or 'nothing'!r}; expected one of {', '.join(ENDINGS)}")
    require_file(path, "data file")
    if kind == ".parquet":
        yield from _read_parquet(path)
    elif kind == ".jsonl":
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
    elif kind == ".txt":
        for line in read_lines(path):
            yield {"text": line}
    else:
        # GLUE's TSV files have no quoting: a " is an ordinary character.
        style = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == ".tsv" else {}
        lines = (line + "\n" for line in read_lines(path))
        reader = csv.reader(lines, strict=True, **style)  # type: ignore[arg-type]
        try:
            first = next(reader, [])  # a .gz file may hold nothing
            names = first if header else [str(i + 1) for i in range(len(first))]
            if len(set(names)) != len(names):
                raise InputError(f"{path}: two columns have the same name; header: {', '.join(names)}")
            for row in reader if header else itertools.chain([first], reader):
                if not row:
                    continue
                if len(row) != len(names):
                    what = "the header has" if header else "the first line has"
                    raise InputError(f"{path}: line {reader.line_num} has {len(row)} columns, {what} {len(names)}")
                yield dict(zip(names, row, strict=True))
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


def read_examples(
    path: str | os.PathLike[str],
    *,
    labelled: bool = True,
    column: str = "label",
    columns: Mapping[str, Any] | None = None,
) -> list[Example]:
    """All rows of a file as examples; see :func:`iter_examples`."""
    return list(iter_examples(path, labelled=labelled, column=column, columns=columns))


def pick(row: Mapping[str, Any], name: str) -> Any:
    """A row's value: that of the column ``name``, or inside it where the name is a path with dots; None if missing."""
    if name in row or "." not in name:
        return row.get(name)
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def iter_examples(
    path: str | os.PathLike[str],
    *,
    labelled: bool = True,
    column: str = "label",
    columns: Mapping[str, Any] | None = None,
    header: bool = True,
    fixed: bool = False,
) -> Iterator[Example]:
    """The rows of a file as examples, one in memory at a time.

    Columns: ``text``, or ``text_a`` and ``text_b`` (and ``text_c``); ``column`` (only if ``labelled``), which is
    ``label``, ``labels`` or ``score``; ``choices``, a list of texts, ``id`` and ``language`` where there are such.
    ``columns`` says what the file calls them; numbers are those of a file without a header, unless its first row has them.
    ``fixed``: a user cannot choose them. Raises :class:`InputError` for a missing file or column, an empty label, a score
    that is no number, and a file without rows.
    """
    path, names = Path(path), dict(columns or {})
    if "text" in names and "text_a" in names:
        raise InputError("text and text_a were both named; expected one text, or a pair")
    rows = read_rows(path, header)
    first = next(rows, None)
    if header and first is not None and _numbered(names.values(), first):
        rows = read_rows(path, False)
        first = next(rows, None)
    if first is None:
        raise InputError(f"{path}: holds no rows")
    if ending(path) == ".txt" and not labelled and not names:  # nothing to check: a third of the time of what follows
        yield Example(text=first["text"])
        for row in rows:
            yield Example(text=row["text"])
        return
    called = {role: names.get(role, role) for role in _ROLES}
    there = {role for role in _ROLES if pick(first, called[role]) is not None or called[role] in first}
    paired = ({"text_a", "text_b"} <= there and "text" not in names) or "text_a" in names
    if labelled and column == "label" and "labels" in there and "label" not in there:
        column = "labels"
    wanted = (["text_a", "text_b"] if paired else ["text"]) + ([column] if labelled else [])
    lost = [role for role in wanted if role not in there]
    if lost:
        name = called[lost[0]]
        raise InputError(
            f"{path}: has no column {name!r}{nearest(name, first)}; found the columns {', '.join(map(str, first))}, "
            f"expected {called['text']} (or {called['text_a']} and {called['text_b']})"
            f"{f' and {called[column]}' if labelled else ''}"
            + ("" if lost[0] in names or fixed else f"; --column {lost[0]}=NAME says what the file calls it")
        )
    for number, row in enumerate(itertools.chain([first], rows), 1):
        yield _example(row, called, wanted, there, f"{path}: row {number}")


def _numbered(names: Iterable[Any], first: Mapping[str, Any]) -> bool:
    """Whether all columns are named by numbers, which no header has."""
    told = [str(name) for name in names]
    return bool(told) and all(name.isdecimal() and name not in first for name in told)


_ROLES = ("text", "text_a", "text_b", "text_c", "label", "labels", "score", "choices", "id", "language")


def _example(row: dict[str, Any], called: dict[str, str], wanted: list[str], there: set[str], where: str) -> Example:
    values: dict[str, Any] = {}
    for role in wanted:
        value = pick(row, called[role])
        if role == "score":
            values[role] = _number(value, where, called[role])
            continue
        if role == "labels":
            values[role] = _several(value, where, called[role])
            continue
        if isinstance(value, bool | int | float) and role == "label" and value == value:  # NaN means: missing
            value = str(value)
        if not isinstance(value, str) or (role == "label" and not value):
            raise InputError(f"{where} has no text in column {called[role]!r} (found {value!r})")
        values[role] = value
    choices = (pick(row, called["choices"]) if "choices" in there else None) or []
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        choices = []  # a column of another meaning; whoever needs choices says that there are none
    further = {role: pick(row, called[role]) if role in there else None for role in ("id", "language", "text_c")}
    paired = "text_a" in wanted
    return Example(
        text=values["text_a" if paired else "text"], pair=values["text_b"] if paired else None,
        label=values.get("label"), labels=values.get("labels"), score=values.get("score"), choices=tuple(choices),
        id=None if further["id"] is None else str(further["id"]),
        language=None if further["language"] is None else str(further["language"]),
        third=further["text_c"] if isinstance(further["text_c"], str) else None,
    )  # fmt: skip


def _number(value: Any, where: str, name: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"{where} has no number in column {name!r} (found {value!r})")
    return found


def _several(value: Any, where: str, name: str) -> tuple[str, ...]:
    """Labels out of a list, or out of a text with | between them; none is allowed."""
    found = [part.strip() for part in value.split("|") if part.strip()] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(label, str) and label for label in found):
        raise InputError(f"{where} has no list of labels in column {name!r} (found {value!r}); expected texts, or a|b")
    return tuple(dict.fromkeys(found))
