"""Text in many languages that every machine has: CLDR's names of countries, languages and currencies.

Which kind is a name of? Learnt from the English names, judged by other names in other languages; and the same names
in two languages are translations of each other.
"""

from __future__ import annotations

import random

from halbert.compare.plan import TaskData
from halbert.data.readers import Example
from halbert.text.languages import names_of, with_names

NAME = "kind-of-name"
WHERE = "CLDR's names of countries, languages and currencies"
_FEWEST = 60  # names of a kind, from which a language is taken
ROWS = 24  # of a kind, by which each language is judged
PAIRS = 120  # of a language
_THIRD = 3  # every third name is held out, in all languages


def read_task() -> TaskData:
    """English names to learn from, other English names to be judged by, and names of these same things in other languages.

    A name that is written as in English is left out: it would show nothing.
    """
    english = {kind: dict(sorted(names.items())) for kind, names in names_of("en").items()}
    held = {kind: set(list(names)[::_THIRD]) for kind, names in english.items()}
    rows: dict[bool, list[Example]] = {True: [], False: []}
    for kind, names in english.items():
        for key, text in names.items():
            rows[key in held[kind]].append(Example(text=text, label=kind))
    abroad = []
    for code in _codes():
        for kind, names in names_of(code).items():
            some = [text for key, text in sorted(names.items()) if key in held[kind] and text != english[kind].get(key)]
            drawn = random.Random(f"{code} {kind}").sample(some, min(ROWS, len(some)))
            abroad += [Example(text=text, label=kind, language=code) for text in drawn]
    return TaskData(name=NAME, where=WHERE, train=rows[False], test=rows[True], abroad=abroad)


def read_names() -> dict[str, list[Example]]:
    """By language, names and the English ones."""
    english, found = names_of("en"), {}
    for code in _codes():
        pairs = [
            Example(text=text, pair=english[kind][key], language=code)
            for kind, names in names_of(code).items() for key, text in sorted(names.items())
            if text != english[kind].get(key, text)
        ]  # fmt: skip
        found[code] = random.Random(code).sample(pairs, min(PAIRS, len(pairs)))
    return found


def _codes() -> list[str]:
    """Languages with names enough, but for English."""
    return [
        code for code in with_names() if code != "en" and min(map(len, names_of(code).values())) >= _FEWEST
    ]  # fmt: skip
