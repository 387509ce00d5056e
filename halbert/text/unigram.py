"""ALBERT's unigram tokenizer: Google's ``preprocess_text`` and ``encode_pieces`` around ``sentencepiece``."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from halbert.errors import InputError
from halbert.files import write_bytes, write_json
from halbert.spec import TextSpec
from halbert.text.tokenizer import Piece, Tokenizer

SPACE = "\u2581"


def preprocess(text: str, spec: TextSpec) -> tuple[str, list[tuple[int, int]]]:
    """Google's ``preprocess_text``, and for every character of the result the characters it came from.

    White space is folded, ```` `` ```` and ``''`` become ``"``, then NFKD without combining marks (unless accents are
    kept) and lower-casing (google-research/albert ``tokenization.py``).
    """
    chars: list[str] = []
    origin: list[tuple[int, int]] = []
    i, n = 0, len(text)
    while i < n:
        c = text[i]
        if c.isspace():
            if chars and chars[-1] != " ":
                chars.append(" ")
                origin.append((i, i + 1))
            i += 1
        elif c in "`'" and text[i : i + 2] == c * 2:
            chars.append('"')
            origin.append((i, i + 2))
            i += 2
        else:
            folded = c if not spec.strip_accents else unicodedata.normalize("NFKD", c)
            for out in folded:
                if not (spec.strip_accents and unicodedata.combining(out)):
                    chars.append(out)
                    origin.append((i, i + 1))
            i += 1
    if chars and chars[-1] == " ":
        chars.pop()
        origin.pop()
    if not spec.lower_case:
        return "".join(chars), origin
    # Lower-casing may lengthen a character, and looks at its neighbours only for the final sigma, which keeps lengths.
    widths = [len(c.lower()) for c in chars]
    return "".join(chars).lower(), [o for o, width in zip(origin, widths, strict=True) for _ in range(width)]


class Unigram(Tokenizer):
    """A SentencePiece unigram model with ALBERT's text preparation and digit-comma rule."""

    def __init__(self, model: bytes, spec: TextSpec, where: str = "model") -> None:
        self._engine = sentencepiece.SentencePieceProcessor()
        try:
            self._engine.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise InputError(f"{where}: is not a SentencePiece model: {error}") from None
        self._model = model
        vocab = [self._engine.IdToPiece(i) for i in range(self._engine.GetPieceSize())]
        super().__init__(spec, vocab, where)
        self.starts_word = np.array([token.startswith(SPACE) for token in vocab])
        # Pieces such as "2000," are cut before the comma and read again (google-research/albert, encode_pieces).
        self._digit_comma = {i for i, t in enumerate(vocab) if len(t) > 1 and t[-1] == "," and t[-2].isdigit()}

    def pieces(self, text: str) -> list[Piece]:
        prepared, origin = preprocess(text, self.spec)
        if not prepared:
            return []
        mapped = self._engine.EncodeAsOffsetMapping(prepared)  # character offsets, leading spaces included
        found: list[Piece] = []
        for piece, (begin, end) in zip(mapped["ids"], mapped["offsets"], strict=True):
            if piece not in self._digit_comma:
                found.append(self._located(piece, begin, end, prepared, origin))
                continue
            parts = self._cut(piece)
            at = end - sum(len(self.vocab[part].replace(SPACE, "")) for part in parts)
            for part in parts:
                size = len(self.vocab[part].replace(SPACE, ""))
                found.append(self._located(part, at, at + size, prepared, origin))
                at += size
        return found

    def _located(self, i: int, begin: int, end: int, prepared: str, origin: list[tuple[int, int]]) -> Piece:
        while begin < end and prepared[begin] == " ":
            begin += 1
        if begin == end:
            at = origin[begin][0] if begin < len(origin) else origin[-1][1]
            return Piece(i, at, at)
        return Piece(i, origin[begin][0], origin[end - 1][1])

    def _cut(self, piece: int) -> list[int]:
        token = self.vocab[piece]
        parts = self._engine.EncodeAsPieces(token[:-1].replace(SPACE, ""))
        if token[0] != SPACE and parts and parts[0][0] == SPACE:
            parts = parts[1:] if len(parts[0]) == 1 else [parts[0][1:], *parts[1:]]
        return [self._engine.PieceToId(part) for part in [*parts, token[-1]]]

    def bulk(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._engine.EncodeAsIds([preprocess(text, self.spec)[0] for text in texts])
        for row, ids in enumerate(found):
            if not self._digit_comma.isdisjoint(ids):
                found[row] = [j for i in ids for j in (self._cut(i) if i in self._digit_comma else [i])]
        return found

    def decode(self, ids: Iterable[int]) -> str:
        hidden = {self.special_ids[name] for name in ("pad", "cls", "sep")}
        words: list[str] = []
        for i in ids:
            if not 0 <= i < len(self.vocab):
                raise InputError(f"id {i} is outside the vocabulary of {len(self.vocab)} tokens")
            if i not in hidden:
                # Control symbols print as nothing in sentencepiece; a mask should stay visible.
                words.append(f" {self.vocab[i]} " if i == self.special_ids["mask"] else self.vocab[i])
        return " ".join("".join(words).replace(SPACE, " ").split())

    def save(self, folder: Path) -> None:
        write_bytes(folder / "spiece.model", self._model)
        write_bytes(folder / "tokenizer.json", self._fast().to_str(pretty=False).encode())
        write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "AlbertTokenizer",
                "do_lower_case": self.spec.lower_case,
                "keep_accents": not self.spec.strip_accents,
                **{f"{name}_token": token for name, token in self.special.items()},
            },
        )

    def _fast(self) -> tokenizers.Tokenizer:
        """The same rules for the ``tokenizers`` library, but for the digit-comma rule, which it cannot express.

        Without it, transformers 5 converts ``spiece.model`` itself and gives every word after a ``(`` or ``-`` a space
        it does not have.
        """
        pieces = [(token, self._engine.GetScore(i)) for i, token in enumerate(self.vocab)]
        fast = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=self.special_ids["unk"], byte_fallback=False))
        steps: list[normalizers.Normalizer] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        if self.spec.strip_accents:
            steps += [normalizers.NFKD(), normalizers.StripAccents()]
        if self.spec.lower_case:
            steps.append(normalizers.Lowercase())
        if charsmap := _proto_bytes(_proto_bytes(self._model, 3), 2):  # normalizer_spec, precompiled_charsmap
            steps.append(normalizers.Precompiled(charsmap))
        fast.normalizer = normalizers.Sequence(steps)
        fast.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
        fast.decoder = decoders.Metaspace()
        cls, sep = self.special["cls"], self.special["sep"]
        fast.post_processor = processors.TemplateProcessing(
            single=f"{cls}:0 $A:0 {sep}:0",
            pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
            special_tokens=[(cls, self.special_ids["cls"]), (sep, self.special_ids["sep"])],
        )
        fast.add_special_tokens(list(self.special.values()))
        return fast


def _proto_bytes(message: bytes, number: int) -> bytes:
    """The first length-delimited field ``number`` of a protocol buffer message; empty when it has none."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        size = varint() if key & 7 == 2 else 0
        if key & 7 == 2 and key >> 3 == number:
            return message[at : at + size]
        at += {1: 8, 2: size, 5: 4}.get(key & 7, 0)
        if key & 7 == 0:
            varint()
    return b""
