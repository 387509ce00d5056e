"""Texts with candidates of which one is right: SWAG, RACE, ARC, CommonsenseQA and their kin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from halbert.data.readers import Example, pick, read_rows
from halbert.errors import InputError, nearest


def read_choices(
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, Any] | None = None,
    labelled: bool = True,
    header: bool = True,
) -> Iterator[Example]:
    """Every row with its candidates and, as ``label``, the number of the right one (from 0, as text).

    ``choices`` is a list of texts, or of ``{"label", "text"}``, or ``{"label": […], "text": […]}``, or, by ``columns``,
    several columns of a table. A ``prefix`` (a question, the beginning of a sentence) is put before every candidate.
    ``label`` is a number from 0, a candidate's own label or letter, or its text. Raises :class:`InputError` naming the row.
    """
    path, called = (
        Path(path),
        {role: role for role in ("text", "choices", "label", "id", "prefix")} | dict(columns or {}),
    )
    number = 0
    for number, row in enumerate(read_rows(path, header), 1):
        where = f"{path}: row {number}"
        text = pick(row, called["text"])
        if not isinstance(text, str):
            raise InputError(
                f"{where} has no text in column {called['text']!r}{nearest(called['text'], row)}; "
                f"found the columns {', '.join(map(str, row))}"
            )
        texts, labels = _candidates(row, called["choices"], where)
        prefix = pick(row, called["prefix"])
        if isinstance(prefix, str) and prefix:
            texts = [f"{prefix} {choice}" for choice in texts]
        label = _right(pick(row, called["label"]), labels, texts, called["label"], where) if labelled else None
        key = pick(row, called["id"])
        yield Example(text=text, choices=tuple(texts), label=label, id=None if key is None else str(key))
    if not number:
        raise InputError(f"{path}: holds no rows")


def _candidates(row: Mapping[str, Any], name: str | Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """The candidates' texts and their own labels."""
    if not isinstance(name, str):
        found: Any = [row.get(column) for column in name]
        name = ", ".join(name)
    else:
        found = pick(row, name)
    labels = [chr(ord("A") + i) for i in range(26)]
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):
        labels, found = [str(label) for label in found.get("label", labels)], found["text"]
    elif isinstance(found, list) and found and all(isinstance(choice, Mapping) for choice in found):
        labels = [str(choice.get("label", letter)) for choice, letter in zip(found, labels, strict=False)]
        found = [choice.get("text") for choice in found]
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(choice, str) for choice in found):
        raise InputError(f"{where} has no list of at least two candidates in column {name!r} (found {found!r})")
    return found, labels[: len(found)]


def _right(label: Any, labels: list[str], texts: list[str], name: str, where: str) -> str:
    told = str(label) if isinstance(label, str | int) and not isinstance(label, bool) else ""
    if told in labels:
        return str(labels.index(told))
    if told.isascii() and told.isdigit() and int(told) < len(texts):
        return str(int(told))
    if told in texts:
        return str(texts.index(told))
    raise InputError(
        f"{where}: {label!r} in column {name!r} is none of the {len(texts)} candidates; expected a number from 0 to "
        f"{len(texts) - 1}, one of {', '.join(labels)}, or a candidate's text"
    )
