"""Paragraph to sentences, by rule: stops, abbreviations, initials, quotes, CJK and Devanagari."""

from __future__ import annotations

import re

# A stop, closing quotes or brackets, then white space before something that can open a sentence; CJK stops need none.
# Runs are matched whole or not at all (the look-behind and ``++``): a page of dots takes linear time.
_STOP = re.compile(r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s+["'“‘«(\[]*[^\W_a-zß-öø-ÿ])|[。！？]+[”’」』）]*|।""")
_ABBREVIATIONS = frozenset(
    """a.m al approx apr aug cf co corp dec dept dr e.g ed eq eqs etc feb fig figs i.e inc jan jr jul jun ltd mar mr mrs ms
    no nov oct p.m pp prof ref refs sep sept sr st u.k u.s vol vs""".split()  # noqa: SIM905 - a list of words reads better
)


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, white space folded, in order; nothing but white space is lost."""
    text = " ".join(paragraph.split())
    sentences, start = [], 0
    for stop in _STOP.finditer(text):
        if stop[0].startswith(".") and len(stop[0].rstrip("\"'”’»)]")) == 1:
            begin = max(start, text.rfind(" ", start, stop.start()) + 1)
            bare = text[begin : stop.start()].lower().lstrip("\"'“‘«([")
            if bare in _ABBREVIATIONS or (len(bare) == 1 and bare.isalpha()):
                continue
        sentence = text[start : stop.end()].strip()
        if sentence:
            sentences.append(sentence)
        start = stop.end()
    rest = text[start:].strip()
    return [*sentences, rest] if rest else sentences
