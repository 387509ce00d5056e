"""WordPiece (Google's ``tokenization.py``): words by the rules of the spec, then greedy longest match."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from halbert.files import read_lines, require_file, write_bytes, write_json
from halbert.spec import TextSpec
from halbert.text.bulk import Bulk
from halbert.text.characters import ASK, JOINERS, SEAM, bert_normalizer, characters
from halbert.text.chunks import Remembered, as_array
from halbert.text.tokenizer import SPECIALS, Piece, Tokenizer

# The longest word that is looked up at all, in characters: the two oracles differ.
WORD_LIMIT = {"google": 200, "transformers": 100}
# Characters of longer chunks that are worked out at once.
SLICE = 1 << 16
# Pieces are looked for by as many characters, then among the shorter ones.
_KEY, _SHORT = 3, (2, 1)
# The id of ``SEAM``: the highest character, since ids are remembered as characters.
_SEAM_ID = 0x10FFFF


def read_vocab(path: Path) -> list[str]:
    """A ``vocab.txt``: one token a line, the id is the line number from 0. Empty lines at the end are none."""
    data = require_file(path, "vocabulary").read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\r"
    # Line by line only where that is needed: to read carriage returns, or to name the line at fault.
    vocab = list(read_lines(path, "vocabulary")) if "\r" in text or path.suffix == ".gz" else text.split("\n")
    while vocab and not vocab[-1]:
        vocab.pop()
    return vocab


class WordPiece(Tokenizer):
    """Greedy longest match of words against the vocabulary, continuations marked ``##``."""

    def __init__(self, vocab: Sequence[str], spec: TextSpec, where: str = "vocabulary") -> None:
        super().__init__(spec, vocab, where)
        self.starts_word = np.array([not token.startswith("##") for token in self.vocab])
        ids = {token: chr(i) for i, token in enumerate(self.vocab)}
        self._first = {token: i for token, i in ids.items() if not token.startswith("##")}
        # A word may begin with "##" only where its rules do not part the two signs, which none does.
        self._first[SEAM] = chr(_SEAM_ID)
        self._inside = {token[2:]: i for token, i in ids.items() if token.startswith("##")}
        self._first_lengths, self._inside_lengths = _lengths(self._first), _lengths(self._inside)
        self._limit = WORD_LIMIT[spec.compat]
        self._unknown = ids[self.special["unk"]]
        self._characters = characters(spec)
        self._words: Remembered[str] = Remembered(self._match)
        self._bulk = Bulk(self._lines)
        self._located: Remembered[tuple[Piece, ...]] = Remembered(self._locate)

    def __reduce__(self) -> tuple[Any, ...]:
        return WordPiece, (self.vocab, self.spec)

    def remember_less(self, chunks: int) -> None:
        self._bulk.limit(chunks)
        self._words.limit(128 * chunks)  # words repeat more than chunks do

    def _match(self, word: str) -> str:
        """Pieces of one word, longest first (``WordpieceTokenizer.tokenize``)."""
        size = len(word)
        if size > self._limit:
            return self._unknown
        found: list[str] = []
        table, lengths, start = self._first, self._first_lengths, 0
        while start < size:
            for length in lengths.get(word[start : start + _KEY], _SHORT):
                piece = table.get(word[start : start + length])
                if piece is not None:
                    break
            else:
                return self._unknown
            found.append(piece)
            table, lengths, start = self._inside, self._inside_lengths, start + length
        return "".join(found)

    def _endless(self, chunk: str) -> str:
        """The pieces of a chunk without end, slice by slice, the last word of each carried over."""
        found, carried = [], ""
        for start in range(0, len(chunk), SLICE):
            normal = chunk[start : start + SLICE].translate(self._characters)
            if ASK in normal:
                return "".join(map(self._words.__getitem__, self._characters.split(chunk)))
            words = (carried + normal).split()
            # Of a word that is longer than any may be, its being too long is all that matters.
            carried = words.pop()[: self._limit + 1] if words and not normal.endswith(" ") else ""
            found.append("".join(map(self._words.__getitem__, words)))
        return "".join(found) + (self._words[carried] if carried else "")

    def arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        return self._bulk.arrays(texts)

    def _lines(self, lines: str) -> tuple[np.ndarray, np.ndarray]:
        """What :class:`Bulk` asks for."""
        if len(lines) > SLICE and "\n" not in lines:
            found = as_array(self._endless(lines))
        else:
            found = as_array("".join(map(self._words.__getitem__, self._characters.split_lines(lines))))
        seams = np.flatnonzero(found == _SEAM_ID)
        ends = np.append(seams - np.arange(len(seams)), len(found) - len(seams))
        return np.diff(ends, prepend=0), np.delete(found, seams)

    def pieces(self, text: str) -> list[Piece]:
        found: list[Piece] = []
        for part in _CHUNK.finditer(text):
            start = part.start()
            found += [Piece(i, start + a, start + b) for i, a, b in self._located[part[0]]]
        return found

    def _locate(self, chunk: str) -> tuple[Piece, ...]:
        """The pieces of a chunk and where each came from."""
        words = self._characters.split(JOINERS.sub("", chunk))
        origin = self._characters.origins(chunk)
        found: list[Piece] = []
        at = 0
        for word in words:
            known = self._words[word]
            end = at + len(word)
            for i in map(ord, known):
                # An unknown word is one piece, whatever its length.
                size = len(word) if known == self._unknown else len(self.vocab[i]) - 2 * (not self.starts_word[i])
                found.append(Piece(i, origin[at], origin[at + size - 1] + 1))
                at += size
            at = end
        return tuple(found)

    def decode(self, ids: Iterable[int]) -> str:
        words: list[str] = []
        for token in self._visible(ids):
            if token.startswith("##") and words:
                words[-1] += token[2:]
            else:
                words.append(token)
        return " ".join(words)

    def save(self, folder: Path, longest: int | None = None) -> None:
        write_bytes(folder / "vocab.txt", ("\n".join(self.vocab) + "\n").encode())
        google = self.spec.compat == "google"
        if google:
            # transformers' BertTokenizer has a word limit of its own; a class that takes the file as it is keeps Google's.
            write_bytes(folder / "tokenizer.json", fast_wordpiece(self.vocab, self.spec).to_str(pretty=False).encode())
        write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "PreTrainedTokenizerFast" if google else "BertTokenizer",
                "do_lower_case": self.spec.lower_case,
                "strip_accents": self.spec.strip_accents,
                "tokenize_chinese_chars": self.spec.chinese_chars,
                **({"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]} if google else {}),
                **({"model_max_length": longest} if longest else {}),
                **{f"{name}_token": token for name, token in self.special.items()},
            },
        )


def _lengths(pieces: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """By the first characters of pieces: how long those pieces are, longest first, and what is always tried."""
    found: dict[str, int] = {}  # a bit for every length
    for piece in pieces:
        if len(piece) >= _KEY:
            key = piece[:_KEY]
            found[key] = found.get(key, 0) | 1 << len(piece)
    sets = {
        bits: (*(n for n in range(bits.bit_length(), 0, -1) if bits >> n & 1), *_SHORT) for bits in {*found.values()}
    }
    return {key: sets[bits] for key, bits in found.items()}


def fast_wordpiece(vocab: Sequence[str], spec: TextSpec) -> tokenizers.Tokenizer:
    """The same tokenizer for the ``tokenizers`` library, as far as its rules go (see ``tests/golden/text/modes.txt``)."""
    special, ids = SPECIALS["wordpiece"], {token: i for i, token in enumerate(vocab)}
    fast = tokenizers.Tokenizer(
        models.WordPiece(vocab=ids, unk_token=special["unk"], max_input_chars_per_word=WORD_LIMIT[spec.compat])
    )
    fast.normalizer = bert_normalizer(spec)
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.decoder = decoders.WordPiece()
    cls, sep = special["cls"], special["sep"]
    fast.post_processor = processors.BertProcessing((sep, ids[sep]), (cls, ids[cls]))
    fast.add_special_tokens(list(special.values()))
    return fast


# Chunks with the characters that join kept inside: white space is what str.split takes for it, but for those.
_CHUNK = re.compile(r"(?:[^\s\x0b\x0c\x1c-\x1f\x85]|[\x0b\x0c\x1c-\x1f\x85])+")
