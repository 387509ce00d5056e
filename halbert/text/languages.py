"""How well a tokenizer fits a language: its characters, unknown pieces, pieces per word."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from halbert.errors import InputError, missing_extra
from halbert.files import read_lines
from halbert.text.tokenizer import Tokenizer

try:
    from babel import Locale, UnknownLocaleError
except ImportError:
    raise missing_extra("babel", "text", "naming languages and their characters") from None


_TOGETHER = 256  # texts that are read at once


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """One language under one tokenizer. ``None``: CLDR does not know the language, or there is no text.

    ``characters`` counts the letters and marks with which CLDR writes the language's own months, days, countries and
    languages; ``covered`` is the share of them that do not become [UNK] alone. Of the given text: ``unknown`` is the share
    of [UNK] among the pieces, ``pieces_per_word`` counts words between white space, which some scripts hardly use, so
    ``pieces_per_character`` stands beside it.
    """

    code: str
    name: str
    characters: int | None
    covered: float | None
    missing: str
    words: int
    unknown: float | None
    pieces_per_word: float | None
    pieces_per_character: float | None


@functools.cache
def _locale(code: str) -> Locale | None:
    """CLDR's entry for a code such as ``de``, ``deu``, ``zh-Hant``, ``deu_Latn``; None where it has none."""
    parts = code.replace("-", "_").split("_")
    for size in range(len(parts), 0, -1):
        try:
            return Locale.parse("_".join(parts[:size]))
        except (UnknownLocaleError, ValueError, TypeError):
            continue
    return None


def name_of(code: str) -> str:
    """English name of a language, with the script where the code says one; the code itself where CLDR has no name."""
    parts = code.replace("-", "_").split("_")
    english = Locale("en")
    found = _locale(code)
    name = english.languages.get(found.language if found else parts[0].lower()) or english.languages.get(
        parts[0].lower()
    )
    scripts = [english.scripts[p.title()] for p in parts[1:] if p.title() in english.scripts]
    return f"{name} ({scripts[0]})" if name and scripts else str(name or code)


def with_names() -> list[str]:
    """Codes of all languages that CLDR has an entry for, without scripts and regions."""
    from babel.localedata import locale_identifiers

    return sorted(code for code in locale_identifiers() if "_" not in code)


@functools.cache
def names_of(code: str) -> dict[str, dict[str, str]]:
    """What a language calls countries, languages and currencies, each by its own code; nothing where CLDR has no entry."""
    found = _locale(code)
    if found is None:
        return {"country": {}, "language": {}, "currency": {}}
    return {
        "country": {k: v for k, v in found.territories.items() if len(k) == 2},  # the others are groups of them
        "language": {k: v for k, v in found.languages.items() if "_" not in k},
        "currency": dict(found.currencies.items()),
    }


def characters_of(code: str) -> set[str] | None:
    """The letters and marks of a language, or None where CLDR has no words in it.

    CLDR's sets of exemplar characters are not part of ``babel``; its words are, and hold the same letters.
    """
    found = _locale(code)
    if found is None:
        return None
    words: list[str] = []

    def collect(value: Any, depth: int = 0) -> None:
        if isinstance(value, str):
            words.append(value)
        elif isinstance(value, dict) and depth < 5:
            for part in value.values():
                collect(part, depth + 1)

    for table in (found.months, found.days, found.territories, found.languages):
        collect(dict(table))
    letters = {c for word in words for c in word.lower() if unicodedata.category(c)[0] in "LM"}
    # Names of foreign places bring foreign letters; a script of one's own does not borrow from the Latin one.
    own = {c for c in letters if not c.isascii()}
    latin = sum("LATIN" in unicodedata.name(c, "") for c in own)
    found_letters = letters if not own or latin * 2 > len(own) else own
    # Some entries hold little more than a name; no alphabet has fewer letters than this.
    return found_letters if len(found_letters) >= 12 else None


def measure(tokenizer: Tokenizer, code: str, texts: Iterable[str]) -> Fit:
    """How a tokenizer fits a language, by CLDR's words and by the given texts (a few in memory at a time)."""
    unknown = tokenizer.special_ids["unk"]
    letters = characters_of(code)
    lost = tokenizer.unknown_alone(letters or ())
    words = characters = pieces = unknowns = 0
    rest = iter(texts)
    while some := list(itertools.islice(rest, _TOGETHER)):
        parts = [word for text in some for word in text.split()]
        words += len(parts)
        characters += sum(map(len, parts))
        ids = np.concatenate(tokenizer.arrays(some))
        pieces += len(ids)
        unknowns += int(np.count_nonzero(ids == unknown))
    return Fit(
        code=code, name=name_of(code), characters=len(letters) if letters else None,
        covered=1 - len(lost) / len(letters) if letters else None, missing="".join(lost[:40]), words=words,
        unknown=unknowns / pieces if pieces else None, pieces_per_word=pieces / words if words else None,
        pieces_per_character=pieces / characters if characters else None,
    )  # fmt: skip


def language_files(folder: Path) -> list[tuple[str, Path]]:
    """(code, file) of every ``CODE.txt`` or ``CODE.txt.gz`` in a folder, in order. Raises :class:`InputError` for none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; expected one with files named by language code, such as de.txt")
    found = [
        (f.name.removesuffix(".gz").removesuffix(".txt"), f) for f in sorted(folder.iterdir()) if ".txt" in f.suffixes
    ]
    if not found:
        raise InputError(f"{folder}: holds no file named CODE.txt or CODE.txt.gz, such as de.txt")
    return found


def measure_file(tokenizer: Tokenizer, code: str, file: Path) -> Fit:
    """:func:`measure` for a file of one text a line."""
    return measure(tokenizer, code, read_lines(file))
