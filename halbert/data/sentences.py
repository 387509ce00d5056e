"""Paragraph to sentences, by rule: stops, abbreviations, initials, ellipses, quotes, and the stops of other scripts."""

from __future__ import annotations

import re

# A run of stops, what closes after it, a blank, and what opens the next sentence, which is no small letter. Every
# alternative begins with a stop (the look-ahead says so once more), which lets the search leap from stop to stop; runs are
# matched whole or not at all, so that a page of dots takes linear time. The stops of Chinese, Japanese, Devanagari, Khmer,
# Tibetan and Burmese need no white space after them. After what is quoted Japanese goes on with a particle.
_STOP = re.compile(
    r"""(?=[.!?…؟۔։።。！？｡．।॥។༎။])(?:
        (?<![.!?…؟۔։።])([.!?…؟۔։።]++["'”’»)\]“‘«›]*+)\x20["'“‘«(\[„‚‹¿¡–—-]*+([^\W_a-z])
        | (?:[。！？｡]|．(?!\d))++(?:[”’」』）〉》】]++(?![とっがはをのもに、，])|(?![”’」』）〉》】]))\x20?
        | [।॥។༎။]++["'”’»)\]]*+\x20?
    )""",
    re.VERBOSE,
)
_ABBREVIATIONS = frozenset(
    """adj al approx aug bros bzw ca capt cf cmdr co col corp cpl dec dept dr dra e.g esp eq ed feb fr gen gov hon hr i.e
    inc ing jan jr lt ltd maj messrs mlle mme mr mrs ms mt nov nr oct ph.d prof pvt rep rev sen sep sept sgt sr sra srta
    st str supt u.a usw vgl viz vs""".split()  # noqa: SIM905 - a list of words reads better
)
# Ordinary words too: abbreviations only where a number follows.
_BEFORE_NUMBERS = frozenset(
    "art ch eqs fig figs jul jun mar apr no nos nr p par pp ref refs sec vol vols".split()  # noqa: SIM905
)
_OPENING = "\"'“‘«([„‚‹¿¡–—-"


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, white space folded, in order; nothing but white space is lost."""
    # Folding every text would take a third of the time; what is printable has no other white space than blanks.
    folded = paragraph.isprintable() and "  " not in paragraph
    text = paragraph.strip() if folded else " ".join(paragraph.split())
    sentences, start = [], 0
    for stop in _STOP.finditer(text):
        end = stop.end(1)
        if end < 0:
            end = stop.end()
            sentences.append(text[start:end].rstrip())
            start = end
            continue
        first = stop[2]
        if first.islower():
            continue
        begin = stop.start()
        if text[begin] == "." and text[begin + 1] not in ".!?…" and _goes_on(text, start, begin, first):
            continue
        sentences.append(text[start:end])
        start = end + 1
    if start < len(text):
        sentences.append(text[start:])
    return sentences


def _goes_on(text: str, start: int, stop: int, first: str) -> bool:
    """Whether the full stop at ``stop`` belongs to an abbreviation or an initial; ``first`` is what comes after it."""
    word = text[max(start, text.rfind(" ", start, stop) + 1) : stop].lstrip(_OPENING)
    if len(word) == 1:
        return word.isalpha()
    if len(word) > 6:
        return False
    bare = word.lower()
    if bare in _ABBREVIATIONS or (bare in _BEFORE_NUMBERS and first.isdigit()):
        return True
    # e.g., i.e., U.S., z.B., p.m.: single letters with stops between.
    return bare[1:2] == "." and all(len(part) == 1 and part.isalpha() for part in bare.split("."))
