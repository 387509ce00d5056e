"""Texts in words with a label for each: columns as CoNLL's shared tasks write them, CoNLL-U, and JSON Lines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from halbert.data.readers import Example, ending, pick, read_rows
from halbert.errors import InputError
from halbert.files import read_lines

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
TABLES = (".jsonl", ".parquet")


def read_tagged(
    path: str | os.PathLike[str], *, columns: Mapping[str, Any] | None = None, labelled: bool = True
) -> Iterator[Example]:
    """The texts of a file, one in memory at a time.

    Columns are divided by tabs, else by white space; an empty line ends a text. ``columns`` numbers them from 1: ``text``
    is the first unless told otherwise, ``label`` the last; in ``.conllu`` files they are FORM and UPOS, and may be told by
    CoNLL-U's names. JSON Lines and Parquet have the lists ``words`` (or ``tokens``) and ``tags`` (or ``labels``). Raises
    :class:`InputError` naming the line at fault.
    """
    path, told = Path(path), dict(columns or {})
    found = False
    source = _of_rows(path, told, labelled) if ending(path) in TABLES else _of_lines(path, told, labelled)
    for example in source:
        found = True
        yield example
    if not found:
        raise InputError(f"{path}: holds no words")


def _of_rows(path: Path, told: dict[str, Any], labelled: bool) -> Iterator[Example]:
    for number, row in enumerate(read_rows(path), 1):
        words = _list(row, told.get("text"), ("words", "tokens"), f"{path}: row {number}")
        tags = (
            _list(row, told.get("label"), ("tags", "ner_tags", "labels"), f"{path}: row {number}") if labelled else ()
        )
        if labelled and len(tags) != len(words):
            raise InputError(
                f"{path}: row {number} has {len(words)} words and {len(tags)} tags; expected as many of both"
            )
        if words:
            yield Example(text=" ".join(words), words=words, tags=tags)


def _list(row: dict[str, Any], told: str | None, usual: tuple[str, ...], where: str) -> tuple[str, ...]:
    names = (told,) if told else usual
    for name in names:
        value = pick(row, name)
        if isinstance(value, list) and all(isinstance(word, str | int) and word != "" for word in value):
            return tuple(map(str, value))
    raise InputError(f"{where} has no list of texts in column {' or '.join(names)}; found the columns {', '.join(row)}")


def _of_lines(path: Path, told: dict[str, Any], labelled: bool) -> Iterator[Example]:
    universal = ending(path) == ".conllu"
    word_at = _place(told.get("text", "form" if universal else "1"), path)
    tag_at = _place(told.get("label", "upos" if universal else "0"), path)
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(read_lines(path, "file of words and tags"), 1):
        if not line.strip():
            if words:
                yield Example(text=" ".join(words), words=tuple(words), tags=tuple(tags))
            words, tags = [], []
            continue
        if universal and line.startswith("#"):
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        if cells[0] == "-DOCSTART-" or (universal and not cells[0].isdigit()):
            continue  # a document begins; a contraction ("1-2") or a word that is not there ("8.1")
        needed = max(word_at, tag_at if labelled else 0, 1 if labelled and tag_at < 0 else 0)
        if len(cells) <= needed:
            raise InputError(
                f"{path}: line {number} has {len(cells)} columns, expected at least {needed + 1}: {line[:60]!r}"
            )
        word, tag = cells[word_at].strip(), cells[tag_at].strip() if labelled else "O"
        if not word or not tag:
            raise InputError(f"{path}: line {number} has no {'tag' if word else 'word'}: {line[:60]!r}")
        words.append(word)
        if labelled:
            tags.append(tag)
    if words:
        yield Example(text=" ".join(words), words=tuple(words), tags=tuple(tags))


def _place(name: str, path: Path) -> int:
    """A column's index: from a number from 1 (0 is the last), or from CoNLL-U's name."""
    if name.lower() in CONLLU:
        return CONLLU.index(name.lower())
    if not name.isdigit():
        raise InputError(f"{path}: the column {name!r} is neither a number nor one of {', '.join(CONLLU)}")
    return int(name) - 1
