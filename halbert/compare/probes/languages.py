"""Which languages a vocabulary can write: the letters of each, as CLDR's own words in it have them."""

from __future__ import annotations

import functools

from halbert.compare.measurement import Quantity
from halbert.compare.probes.learnt import Learnt
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.text.languages import characters_of, name_of, with_names

WHOLE = 0.99  # of a language's letters: from here it can be written


@functools.cache
def alphabets() -> dict[str, tuple[str, frozenset[str]]]:
    """code: (name, letters) of every language that CLDR has words in."""
    found = ((code, characters_of(code)) for code in with_names())
    return {code: (name_of(code), frozenset(letters)) for code, letters in found if letters}


class LanguagesProbe(Learnt):
    """Counted: what share of each language's letters and marks do not become [UNK]."""

    name = "languages"
    title = "Languages"
    drawn = "the vocabulary is a stand-in"

    def __init__(self) -> None:
        known = alphabets()
        self.names = [name for name, _ in known.values()]
        made = f"the letters with which CLDR writes months, days, countries and languages in {len(known)} languages"
        self.quantities = [
            Quantity(name="languages_written", title="Languages whose letters it has", unit="languages", statistic="exact",
                     better="higher", how=f"{made}; those of which at least {100 * WHOLE:.0f} % do not become [UNK]"),
            Quantity(name="letters_covered", title="Letters it has, over languages", unit="share", statistic="mean",
                     better="higher", how=f"{made}; share that does not become [UNK], mean over languages",
                     labels=self.names),
        ]  # fmt: skip

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One share a language."""
        alone = subject.bundle.tokenizer.unknown_alone
        shares = [1 - len(alone(letters)) / len(letters) for _, letters in alphabets().values()]
        return {"languages_written": float(sum(share >= WHOLE for share in shares)), "letters_covered": shares}
