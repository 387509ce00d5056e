"""Google's tokenizers, re-stated slowly and from the rules alone: oracles for the tests.

``tokenization.py`` of google-research/bert (eedf571) and google-research/albert (b772393). Nothing of Halbert's text code is used.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable


def is_whitespace(c: str) -> bool:
    return c in " \t\n\r" or unicodedata.category(c) == "Zs"


def is_control(c: str) -> bool:
    return c not in "\t\n\r" and unicodedata.category(c) in ("Cc", "Cf")


def is_punctuation(c: str) -> bool:
    n = ord(c)
    ascii_sign = 33 <= n <= 47 or 58 <= n <= 64 or 91 <= n <= 96 or 123 <= n <= 126
    return ascii_sign or unicodedata.category(c).startswith("P")


def is_chinese(c: str) -> bool:
    n = ord(c)
    return (
        0x4E00 <= n <= 0x9FFF or 0x3400 <= n <= 0x4DBF or 0x20000 <= n <= 0x2A6DF or 0x2A700 <= n <= 0x2B73F
        or 0x2B740 <= n <= 0x2B81F or 0x2B820 <= n <= 0x2CEAF or 0xF900 <= n <= 0xFAFF or 0x2F800 <= n <= 0x2FA1F
    )  # fmt: skip


def basic(text: str, lower: bool, strip: bool, chinese: bool = True) -> list[str]:
    """``BasicTokenizer.tokenize``; Google has one switch for ``lower`` and ``strip``."""
    cleaned = ""
    for c in text:
        if ord(c) in (0, 0xFFFD) or is_control(c):
            continue
        cleaned += " " if is_whitespace(c) else c
    padded = "".join(f" {c} " if chinese and is_chinese(c) else c for c in cleaned)
    found: list[str] = []
    for token in padded.split():
        if lower:
            token = token.lower()
        if strip:
            token = "".join(c for c in unicodedata.normalize("NFD", token) if unicodedata.category(c) != "Mn")
        words: list[list[str]] = []
        new = True
        for c in token:
            if is_punctuation(c):
                words.append([c])
                new = True
            else:
                if new:
                    words.append([])
                new = False
                words[-1].append(c)
        found += ["".join(word) for word in words]
    return " ".join(found).split()


def wordpiece(word: str, vocab: dict[str, int], limit: int = 200) -> list[str]:
    """``WordpieceTokenizer.tokenize`` of one word."""
    if len(word) > limit:
        return ["[UNK]"]
    pieces: list[str] = []
    start = 0
    while start < len(word):
        end = len(word)
        while start < end:
            piece = ("##" if start else "") + word[start:end]
            if piece in vocab:
                break
            end -= 1
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


def full(text: str, vocab: dict[str, int], lower: bool, strip: bool) -> list[int]:
    """``FullTokenizer.tokenize``, as ids."""
    return [vocab[piece] for word in basic(text, lower, strip) for piece in wordpiece(word, vocab)]


def preprocess(text: str, lower: bool, keep_accents: bool) -> str:
    """ALBERT's ``preprocess_text``."""
    out = " ".join(text.strip().split())
    out = out.replace("``", '"').replace("''", '"')
    if not keep_accents:
        out = "".join(c for c in unicodedata.normalize("NFKD", out) if not unicodedata.combining(c))
    return out.lower() if lower else out


def encode_pieces(encode: Callable[[str], list[str]], text: str) -> list[str]:
    """ALBERT's ``encode_pieces`` on prepared text; ``encode`` is SentencePiece's."""
    found: list[str] = []
    for piece in encode(text):
        if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
            cut = encode(piece[:-1].replace("\u2581", ""))
            if piece[0] != "\u2581" and cut[0][0] == "\u2581":
                if len(cut[0]) == 1:
                    cut = cut[1:]
                else:
                    cut[0] = cut[0][1:]
            found += [*cut, piece[-1]]
        else:
            found.append(piece)
    return found
