"""Texts made harder to read without being given another meaning: what a model makes of words it has not seen."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from halbert.data.readers import Example

Change = Callable[[list[str], float, random.Random], list[str]]
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_BESIDE = {c: row[max(0, i - 1) : i] + row[i + 1 : i + 2] for row in _ROWS for i, c in enumerate(row)}
_EMOJI = (
    "\U0001f600",
    "\U0001f44d",
    "\U0001f525",
    "\U0001f937\u200d\u2640\ufe0f",
    "\u2764\ufe0f",
    "\U0001f1f0\U0001f1ea",
)
_SYLLABLES = tuple(c + v for c in ("b", "dr", "g", "kh", "l", "m", "nw", "r", "sz", "t", "v", "zh") for v in "aeiou")


def _slip(word: str, draw: random.Random) -> str:
    """One typing error after the first letter: two letters swapped, one left out, doubled, or its neighbour hit."""
    i = draw.randrange(1, len(word) - 1)
    kind = draw.randrange(4)
    if kind == 0:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if kind == 1:
        return word[:i] + word[i + 1 :]
    if kind == 2:
        return word[: i + 1] + word[i:]
    keys = _BESIDE.get(word[i].lower(), "")
    return word[:i] + (draw.choice(keys) if keys else word[i]) + word[i + 1 :]


def typos(words: list[str], share: float, draw: random.Random) -> list[str]:
    """A typing error in a share of the words of four letters and more."""
    return [_slip(word, draw) if len(word) > 3 and draw.random() < share else word for word in words]


def strangers(words: list[str], share: float, draw: random.Random) -> list[str]:
    """An invented name or an emoji put in before a share of the words."""
    found: list[str] = []
    for word in words:
        if draw.random() < share:
            name = "".join(draw.choice(_SYLLABLES) for _ in range(draw.randint(2, 4))).title()
            found.append(draw.choice((name, draw.choice(_EMOJI))))
        found.append(word)
    return found


def capitals(words: list[str], share: float, draw: random.Random) -> list[str]:
    """Everything in capitals."""
    return [word.upper() for word in words]


def disorder(words: list[str], share: float, draw: random.Random) -> list[str]:
    """Every three words in another order."""
    found: list[str] = []
    for start in range(0, len(words), 3):
        some = words[start : start + 3]
        draw.shuffle(some)
        found += some
    return found


def first_half(words: list[str], share: float, draw: random.Random) -> list[str]:
    """The first half of the words, rounded up."""
    return words[: -(-len(words) // 2)]


_VERBS = frozenset((
    "am", "is", "are", "was", "were", "be", "can", "could", "will", "would", "shall", "should", "must", "may", "might",
    "has", "have", "had", "does", "do", "did",
))  # fmt: skip


def negated(text: str) -> str | None:
    """The text with a *not* after its first auxiliary verb, or taken away where one stands there; ``None`` without such a
    verb. English."""
    words = text.split()
    for i, word in enumerate(words):
        if word.lower() in _VERBS:
            if i + 1 < len(words) and words[i + 1].lower() == "not":
                return " ".join(words[: i + 1] + words[i + 2 :])
            return " ".join([*words[: i + 1], "not", *words[i + 1 :]])
    return None


class Noise(NamedTuple):
    """One way of making texts harder, at one strength; ``respells``: it writes words that a vocabulary may not have."""

    name: str
    title: str
    change: Change
    share: float = 1.0
    respells: bool = True

    def disturb(self, text: str, index: int) -> str:
        """The text made harder; the same for every model, drawn from its number."""
        words = text.split()
        return " ".join(self.change(words, self.share, random.Random(f"{self.name} {index}")))

    def disturbed(self, examples: list[Example]) -> list[Example]:
        """Examples with every text made harder, of pairs both."""
        return [
            msgspec.structs.replace(
                e, text=self.disturb(e.text, i), pair=None if e.pair is None else self.disturb(e.pair, -1 - i)
            )
            for i, e in enumerate(examples)
        ]


NOISES = (
    Noise("typos_10", "a typing error in 10 % of the longer words", typos, 0.1),
    Noise("typos_30", "a typing error in 30 % of the longer words", typos, 0.3),
    Noise("strangers", "invented names and emoji before 30 % of the words", strangers, 0.3),
    Noise("capitals", "all in capitals", capitals),
    Noise("disorder", "every three words in another order", disorder, respells=False),
    Noise("first_half", "only the first half of the words", first_half, respells=False),
)
