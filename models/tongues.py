"""Texts in many languages: what the multilingual models learn from, what is held out, and the same text in several.

Licences: Bibles CC0 or in the public domain (por CC BY 3.0 Brazil, grc CC BY 4.0, amh and ind CC BY-SA 4.0), SIB-200's
sentences CC BY-SA 4.0 (FLORES-200), stories CC BY or in the public domain (those for non-commercial use are left out), the
Universal Declaration of Human Rights.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import gzip
import io
import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from halbert.data.corpus import read_documents

ENGLISH = "eng"
HELD_OUT_BOOKS = frozenset(("PHM", "2JO", "3JO", "JUD"))
_LOOSE = frozenset(("kbh", "gbi", "ake"))  # verse ids that cannot be relied on
# Codes of two letters that the Declaration's index has not, and varieties that stand under two codes of three.
_CODES = {
    "as": "asm", "de": "deu", "el": "ell", "ff": "ful", "hz": "her", "ki": "kik", "kj": "kua", "ms": "zsm", "or": "ory",
    "pt": "por", "sr": "srp", "tw": "twi", "cmn": "zho", "gug": "grn", "kng": "kon", "lav": "lvs", "pbu": "pbt", "sqi": "als",
    "src": "srd", "zlm": "zsm",
}  # fmt: skip
_AGAIN = frozenset(("adx", "khg"))  # the Tibetan stories once more
_UNLIKE = 0.3  # mean |log of the ratio of lengths| from which two texts do not say the same, paragraph by paragraph
_ARTICLES = 30  # of the Declaration, which end it
_TOGETHER = 24  # languages of one document of the same text
_EVERYDAY = ("SIB", "ASP-", "PB-", "UDHR-")  # what texts are called that are no verses
_TIMES = 4  # these among the parallel texts
Documents = Iterator[list[str]]


def _usual(code: str) -> str:
    """The one code under which a language is learnt."""
    return _CODES.get(code, code)


def rows_of(file: Path) -> Iterator[list[str]]:
    """The rows of a packed TSV file."""
    with gzip.open(file) as packed, io.TextIOWrapper(packed, "utf-8", newline="\n") as text:
        yield from (line.rstrip("\n").split("\t") for line in text)


def named_rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a packed TSV file with a header."""
    rows = rows_of(file)
    names = next(rows)
    yield from (dict(zip(names, row, strict=True)) for row in rows)


def held_out(verse: str) -> bool:
    """Four short books, and of the others each chapter with a chance of one in twenty: 16 of the New Testament."""
    book, chapter, _ = verse.split(".")
    return book in HELD_OUT_BOOKS or random.Random(f"{book}.{chapter}").random() < 0.05


@dataclasses.dataclass(frozen=True)
class Texts:
    """``alone``: documents by language; ``same``: by language, texts under the name of what they all say."""

    alone: dict[str, list[list[str]]]
    same: dict[str, dict[str, str]]

    @functools.cached_property
    def said(self) -> dict[str, list[str]]:
        """By what is said, the languages in which it is."""
        found: dict[str, list[str]] = defaultdict(list)
        for language in sorted(self.same):
            for name in self.same[language]:
                found[name].append(language)
        return dict(found)

    def languages(self) -> list[str]:
        """All codes, in order."""
        return sorted(self.alone.keys() | self.same.keys())

    def documents(self, language: str) -> Documents:
        """What is learnt of a language: its documents, its texts by themselves, and each beside a translation.

        Half of the translations are English. Which comes first is drawn.
        """
        yield from self.alone.get(language, [])
        mine = self.same.get(language, {})
        chapter: list[str] = []
        place = ""
        for name, text in mine.items():
            if name.rpartition(".")[0] != place and chapter:
                yield chapter
                chapter = []
            place = name.rpartition(".")[0]
            chapter.append(text)
        if chapter:
            yield chapter
        for name, text in mine.items():
            draw = random.Random(f"{language} {name}")
            other = ENGLISH if draw.random() < 0.5 and language != ENGLISH else draw.choice(self.said[name])
            if other != language and name in self.same[other]:
                pair = [text, self.same[other][name]]
                yield pair if draw.random() < 0.5 else pair[::-1]

    def parallel(self) -> Documents:
        """A document for each text and group of languages: the same in all of them, first in English where it is there.

        What is no verse comes several times, in other groups: most languages have nothing else.
        """
        for name, speaking in self.said.items():
            first = [ENGLISH] if ENGLISH in speaking else []
            rest = [language for language in speaking if language != ENGLISH]
            draw = random.Random(name)
            for _ in range(_TIMES if name.startswith(_EVERYDAY) else 1):
                languages = draw.sample(rest, len(rest))
                for start in range(0, len(languages), _TOGETHER):
                    some = first + languages[start : start + _TOGETHER]
                    if len(some) > 1:
                        yield [self.same[language][name] for language in some]


def told_alike(a: list[str], b: list[str]) -> bool:
    """Whether two texts say the same paragraph by paragraph: as many of them, of lengths in proportion."""
    if len(a) != len(b) or not any(a) or not any(b):
        return False
    ratio = sum(map(len, a)) / sum(map(len, b))
    apart = sum(abs(math.log((len(x) + 10) / (len(y) * ratio + 10))) for x, y in zip(a, b, strict=True))
    return apart < _UNLIKE * len(a)


def _join(texts: Texts, title: str, told: dict[str, list[str]]) -> None:
    """One text as several languages tell it: where it is told as in English it goes to ``same``, else it stands alone."""
    first = told.get(ENGLISH, [])
    for language, paragraphs in told.items():
        alike = told_alike(first, paragraphs)
        if alike and language != ENGLISH and 2 * sum(map(str.__eq__, first, paragraphs)) > len(first):
            continue  # not translated
        if alike:
            named = {f"{title}.{i}": paragraph for i, paragraph in enumerate(paragraphs)}
            texts.same.setdefault(language, {}).update(named)
        else:
            texts.alone.setdefault(language, []).append(paragraphs)


def read_texts(data: Path) -> Texts:
    """Everything there is to learn from."""
    texts = Texts(defaultdict(list), defaultdict(dict))
    alone, same = texts.alone, texts.same
    for file in sorted((data / "bible").glob("*.tsv.gz")):
        code = file.name.split(".")[0]
        language, chapters = _usual(code[:3]), defaultdict(list)
        for verse, text in rows_of(file):
            if held_out(verse) or not text.strip():
                continue
            if code in _LOOSE or (language in same and verse in same[language]):
                chapters[verse.rpartition(".")[0]].append(text)  # a second text of a language
            else:
                same[language][verse] = text
        alone[language] += chapters.values()
    scripts: dict[str, str] = {}
    for row in named_rows(data / "sib200/train.tsv.gz"):
        scripts.setdefault(row["lang"][:3], row["lang"][4:])
        same[row["lang"][:3]].setdefault(f"SIB.{row['index_id']}.0", row["text"])
    for title, told in _stories(data).items():
        _join(texts, title, told)
    rights: dict[str, list[list[str]]] = {}
    for language, sections in _declarations(data, scripts):
        if language in rights:
            alone[language] += [section for section in sections if section]
        elif language in alone or language in same:  # by itself it is too little to learn a language from
            rights[language] = sections
    for article in range(_ARTICLES):
        _join(
            texts,
            f"UDHR-{article + 1}",
            {language: some[article] for language, some in rights.items() if some[article]},
        )
    for number, section in enumerate(read_documents(data / "english_text/openstax_textbooks.txt.gz")):
        if number % 20:
            alone[ENGLISH].append(section)
    return Texts(dict(alone), dict(same))


def _stories(data: Path) -> dict[str, dict[str, list[str]]]:
    """By story and language, its paragraphs; a second telling in a language is a story of its own."""
    codes = {row["bcp47"]: row["iso639_3"] for row in index_of(data / "udhr/index.tsv") if row["bcp47"]}
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    unfree = set()  # a translation may say CC BY where the English says NC
    with gzip.open(data / "stories/stories.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            story = json.loads(line)
            short = story["lang"].split("-")[0]
            title = f"{'PB' if story['collection'].startswith('pb') else 'ASP'}-{story['story']}"
            if "NC" in story["licence"]:
                unfree |= {title} if short == "en" else set()
            elif short not in _AGAIN:
                language = _usual(codes.get(short, short)[:3])
                again = title
                while language in found[again]:
                    again += "+"
                found[again][language] = story["paragraphs"]
    return {title: told for title, told in found.items() if title.rstrip("+") not in unfree}


def _declarations(data: Path, scripts: dict[str, str]) -> Iterator[tuple[str, list[list[str]]]]:
    """The Declaration's articles by language, the usual variety of each language first, in the script it is learnt in.

    The first article is left out, which Tatoeba has in 21 languages; so are headings, and texts that have other sections.
    """
    sections: dict[str, list[list[str]]] = defaultdict(list)
    for row in named_rows(data / "udhr/udhr.tsv.gz"):
        if row["unit"] == "title":
            sections[row["key"]].append([])
        elif sections[row["key"]]:
            sections[row["key"]][-1].append(row["text"])
    rows = []
    for row in index_of(data / "udhr/index.tsv"):
        language, key = _usual(row["iso639_3"]), row["key"]
        other = row["script"] != scripts.get(language, row["script"])
        rows.append(((other, "(" in row["name"], key.isdigit(), len(key), key), language))
    for (*_, key), language in sorted(rows):
        if len(sections[key]) > _ARTICLES:
            yield language, [[], *sections[key][1 - _ARTICLES :]]


def held_out_verses(data: Path) -> dict[str, list[str]]:
    """By language, verses that were not learnt from."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted((data / "bible").glob("*.tsv.gz")):
        rows = rows_of(file)
        found[file.name[:3]] += [text for verse, text in rows if held_out(verse) and text.strip()]
    return dict(found)


def index_of(file: Path) -> list[dict[str, str]]:
    """The rows of a folder's index."""
    with file.open(encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE))
