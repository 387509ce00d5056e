"""What becomes of every single character: tables for ``str.translate``, filled as characters are met.

Two oracles disagree about characters (``TextSpec.compat``). ``google``: the rules of ``tokenization.py``
(google-research/bert) over Unicode 14.0.0, whatever Python runs. ``transformers``: BertTokenizer's, which are those of
the ``tokenizers`` library, asked here for one character at a time.
"""

from __future__ import annotations

import abc
import bisect
import functools
import re
import unicodedata
from pathlib import Path

from tokenizers import normalizers, pre_tokenizers

from halbert.errors import InputError
from halbert.spec import TextSpec

# Characters that ``str.split`` takes for white space, but both oracles remove, joining what stands around them.
JOINERS = re.compile("[\x0b\x0c\x1c-\x1f\x85]")
# NFD sorts combining characters, so these depend on their neighbours: combining, but no Mn, which is removed anyway.
# (A list, because finding them takes 0.3 s; a test compares it with the database.)
SORTED = re.compile(
    "[\u1715\u1734\u1b44\u1baa\u1bf2\u1bf3\u302e\u302f\ua953\ua9c0\U000111c0\U00011235\U0001134d\U000116b6\U0001193d"
    "\U00016ff0\U00016ff1\U0001d15e-\U0001d166\U0001d16d-\U0001d172\U0001d1bb-\U0001d1c0]"
)
SIGMA = "\u03a3"
# The blocks that Google's code takes for Chinese characters.
_CHINESE = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip


_SURROGATE = re.compile("[\ud800-\udfff]")


def refuse_surrogates(text: str) -> None:
    """Raise :class:`InputError` for half a character, which no file in UTF-8 can hold."""
    if found := _SURROGATE.search(text):
        raise InputError(
            f"the text holds a lone surrogate (U+{ord(found[0]):04X}), half a character; decode it again, or replace it"
        )


@functools.cache
def _runs() -> tuple[list[int], str]:
    starts, classes = [], []
    for line in Path(__file__).with_name("unicode14.txt").read_text("ascii").splitlines():
        if not line.startswith("#"):
            start, _, kind = line.partition(" ")
            starts.append(int(start, 16))
            classes.append(kind)
    return starts, "".join(classes)


def category(character: str) -> str:
    """One of the classes of ``unicode14.txt``: C, Z, P, M, U or -."""
    starts, classes = _runs()
    return classes[bisect.bisect_right(starts, ord(character)) - 1]


def is_punctuation(character: str) -> bool:
    """Google's ``_is_punctuation``: every ASCII character that is no letter, digit or space, and the P categories."""
    code = ord(character)
    if code < 128:
        return 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return category(character) == "P"


# In the table's place of characters that depend on their neighbours, and of half characters: no text can hold it.
ASK = "\ud800"
# A word that no text can hold, where one line ends and the next begins.
SEAM = "\udfff"


class Characters(dict[int, str], abc.ABC):
    """Code point to what it becomes: a space parts words, and white space and punctuation bring their own."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.spec = spec
        self[ord("\n")] = f" {SEAM} "

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = found = ASK if self.depends(character) or _SURROGATE.match(character) else self.become(character)
        return found

    @abc.abstractmethod
    def become(self, character: str) -> str:
        """What one character becomes, alone."""

    @abc.abstractmethod
    def words(self, text: str) -> list[str]:
        """The words of a text, exactly: for the characters that depend on their neighbours."""

    def split(self, chunk: str) -> list[str]:
        """The words of a text. Raises :class:`InputError` for half a character."""
        normal = chunk.translate(self)
        if ASK in normal:
            refuse_surrogates(chunk)
            return self.words(chunk)
        return normal.split()

    def split_lines(self, lines: str) -> list[str]:
        """:meth:`split` of every line, with ``SEAM`` between them."""
        normal = lines.translate(self)
        if ASK in normal:
            normal = f" {SEAM} ".join(" ".join(self.split(line)) for line in lines.split("\n"))
        return normal.split()

    def origins(self, chunk: str) -> list[int]:
        """For every character of the words of a chunk, the place of the character it is a part of."""
        found = []
        for i, character in enumerate(chunk):
            became = self[ord(character)]
            if became == ASK:
                became = self.become(character)
            found += [i] * (len(became) - became.count(" "))
        return found

    @abc.abstractmethod
    def depends(self, character: str) -> bool:
        """Whether what becomes of a character depends on its neighbours."""


class GoogleCharacters(Characters):
    """``BasicTokenizer`` of google-research/bert, with lower-casing and accent stripping as two switches."""

    def _clean(self, character: str) -> str:
        kind = category(character)
        if character in "\t\n\r" or kind == "Z":
            return " "
        if character in "\0\ufffd" or kind == "C":
            return ""
        if self.spec.chinese_chars and any(first <= ord(character) <= last for first, last in _CHINESE):
            return f" {character} "
        return character

    def _fold(self, token: str) -> str:
        """Lower-case and strip; what Unicode 14 did not assign stays as it is."""
        if self.spec.lower_case:
            token = token.lower() if _all_assigned(token) else "".join(_known(c, str.lower) for c in token)
        if self.spec.strip_accents:
            token = nfd(token)
            token = "".join(c for c in token if category(c) != "M")
        return "".join(f" {c} " if is_punctuation(c) else c for c in token)

    def become(self, character: str) -> str:
        cleaned = self._clean(character)
        return cleaned.replace(character, self._fold(character)) if cleaned.strip(" ") else cleaned

    def words(self, text: str) -> list[str]:
        tokens = "".join(map(self._clean, text)).split()
        return [word for token in tokens for word in self._fold(token).split()]

    def depends(self, character: str) -> bool:
        # str.lower looks around a capital sigma: at the end of a word it is another letter.
        return (self.spec.lower_case and character == SIGMA) or (
            self.spec.strip_accents and bool(SORTED.match(character))
        )


class TransformersCharacters(Characters):
    """BertNormalizer and BertPreTokenizer of the ``tokenizers`` library."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__(spec)
        self.normalizer = bert_normalizer(spec)
        self._split = pre_tokenizers.BertPreTokenizer()

    def become(self, character: str) -> str:
        normal = self.normalizer.normalize_str(character)
        if not normal or normal.isspace():
            return normal and " "
        words = [word for word, _ in self._split.pre_tokenize_str(normal)]
        # A letter joins its neighbours; anything the library parts from itself or from a letter stands alone.
        alone = len(words) != 1 or len(self._split.pre_tokenize_str(f"a{words[0]}a")) > 1 or normal != normal.strip()
        return f" {' '.join(words)} " if alone else normal

    def words(self, text: str) -> list[str]:
        return [word for word, _ in self._split.pre_tokenize_str(self.normalizer.normalize_str(text))]

    def depends(self, character: str) -> bool:
        return self.spec.strip_accents and bool(SORTED.match(character))


def bert_normalizer(spec: TextSpec) -> normalizers.Normalizer:
    """The library's cleaning, spaces around Chinese characters, and the two switches of the spec."""
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=spec.chinese_chars,
        strip_accents=spec.strip_accents,
        lowercase=spec.lower_case,
    )


def characters(spec: TextSpec) -> Characters:
    """The table for a specification."""
    return GoogleCharacters(spec) if spec.compat == "google" else TransformersCharacters(spec)


def _all_assigned(text: str) -> bool:
    return text.isascii() or all(category(c) != "U" for c in text)


def _known(character: str, change: object) -> str:
    return character if category(character) == "U" else change(character)  # type: ignore[operator]


def nfd(text: str) -> str:
    """Canonical decomposition as of Unicode 14 (that of an assigned character never changes)."""
    return _decompose("NFD", text)


def nfkd(text: str) -> str:
    """Compatibility decomposition as of Unicode 14."""
    return _decompose("NFKD", text)


def _decompose(form: str, text: str) -> str:
    if text.isascii():
        return text
    if unicodedata.unidata_version == "14.0.0" or _all_assigned(text):
        return unicodedata.normalize(form, text)  # type: ignore[arg-type]
    parts = re.split("([" + "".join(map(re.escape, {c for c in text if category(c) == "U"})) + "]+)", text)
    return "".join(p if i % 2 else unicodedata.normalize(form, p) for i, p in enumerate(parts))  # type: ignore[arg-type]
