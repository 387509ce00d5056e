"""ALBERT's unigram tokenizer: Google's ``preprocess_text`` and ``encode_pieces`` around ``sentencepiece``."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from halbert.errors import InputError
from halbert.files import write_bytes, write_json
from halbert.spec import TextSpec
from halbert.text.bulk import Bulk
from halbert.text.characters import nfkd, refuse_surrogates
from halbert.text.chunks import Remembered
from halbert.text.tokenizer import Piece, Tokenizer

SPACE = "\u2581"
# Characters of longer chunks that are cut out at once, and those that two slices share.
SLICE, _SHARED = 1 << 14, 512
_NONE = np.zeros(0, np.uint32)
_CHUNK = re.compile(r"\S+")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


class _WithoutAccents(dict[int, str]):
    """Code point to its NFKD without combining marks: the only ones whose order depends on their neighbours."""

    def __missing__(self, code: int) -> str:
        self[code] = found = "".join(c for c in nfkd(chr(code)) if not unicodedata.combining(c))
        return found


_WITHOUT_ACCENTS = _WithoutAccents()


def prepare(chunk: str, spec: TextSpec) -> str:
    """Google's ``preprocess_text`` (google-research/albert ``tokenization.py``) for text without white space.

    ```` `` ```` and ``''`` become ``"``, then NFKD without combining marks (unless accents are kept), then lower case.
    """
    chunk = chunk.replace("``", '"').replace("''", '"')
    if spec.strip_accents and not chunk.isascii():
        # Where most is ASCII, looking up only what is not is faster.
        if len(chunk.encode("utf-8", "surrogatepass")) < 1.2 * len(chunk):
            chunk = _NOT_ASCII.sub(lambda part: part[0].translate(_WITHOUT_ACCENTS), chunk)
        else:
            chunk = chunk.translate(_WITHOUT_ACCENTS)
    return chunk.lower() if spec.lower_case else chunk


def prepare_located(chunk: str, spec: TextSpec) -> tuple[str, list[tuple[int, int]]]:
    """:func:`prepare`, and for every character of the result the characters it came from."""
    if chunk.isascii() and "``" not in chunk and "''" not in chunk:
        return prepare(chunk, spec), [(i, i + 1) for i in range(len(chunk))]
    chars: list[str] = []
    origin: list[tuple[int, int]] = []
    i = 0
    while i < len(chunk):
        c, width = chunk[i], 1
        if c in "`'" and chunk[i + 1 : i + 2] == c:
            c, width = '"', 2
        for out in nfkd(c) if spec.strip_accents else c:
            if not (spec.strip_accents and unicodedata.combining(out)):
                chars.append(out)
                origin.append((i, i + width))
        i += width
    if not spec.lower_case:
        return "".join(chars), origin
    # Lower-casing may lengthen a character, and looks at its neighbours only for the final sigma, which keeps lengths.
    widths = [len(c.lower()) for c in chars]
    return "".join(chars).lower(), [o for o, width in zip(origin, widths, strict=True) for _ in range(width)]


class Unigram(Tokenizer):
    """A SentencePiece unigram model with ALBERT's text preparation and digit-comma rule.

    Defined chunk by chunk: pieces never cross white space, so the best segmentation of a text is that of its chunks,
    and sums of few scores are more exact than sums of many. (A model whose pieces do cross is given whole texts.)
    """

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
        table = {token: i for i, token in enumerate(vocab)}
        # What a piece that begins a word is inside of one.
        self._inside = {i: table[t[1:]] for i, t in enumerate(vocab) if t[:1] == SPACE and t[1:] in table}
        self._ends_in_comma = np.isin(np.arange(len(vocab)), list(self._digit_comma))
        self._crosses = self._parts_differ()
        self._bulk = Bulk(self._lines)
        self._located: Remembered[tuple[Piece, ...]] = Remembered(self._locate)

    def __reduce__(self) -> tuple[Any, ...]:
        return Unigram, (self._model, self.spec)

    def remember_less(self, chunks: int) -> None:
        self._bulk.limit(chunks)

    def _parts_differ(self) -> bool:
        """Whether the model treats a text otherwise than its chunks one after the other."""
        if any(SPACE in token[1:] for token in self.vocab):
            return True
        encode = self._engine.EncodeAsIds
        return encode(" a  b c ") != [*encode("a"), *encode("b"), *encode("c")]

    def _chunk(self, chunk: str) -> np.ndarray:
        refuse_surrogates(chunk)
        ids = self._cut_out(prepare(chunk, self.spec))[0].astype(np.uint32)
        return self._without_commas(ids, np.array([len(ids)]))[1]

    def _cut_out(self, prepared: str) -> np.ndarray:
        """SentencePiece's pieces of a chunk and where they begin and end (3, pieces).

        A chunk without end is cut out by slices that overlap, since SentencePiece takes 500 bytes for a character. Two
        slices are joined where both begin a piece, next to the middle of what they share: so far from both ends, the
        best path of each is that of the whole.
        """
        size = len(prepared) if self._crosses else SLICE
        settled: list[np.ndarray] = []
        last = self._slice(prepared, 0, size)
        end = size
        while end < len(prepared):
            start, middle = end - _SHARED, end - _SHARED // 2
            new = self._slice(prepared, start, size)
            seam = start
            if new.size and last.size:
                shared = last[1, last[1] > start]
                both = np.intersect1d(shared, new[1])
                if len(both):
                    seam = int(both[np.argmin(abs(both - middle))])
                elif len(shared):  # a pattern that each slice cuts in another phase: go on from a piece of the first
                    start = seam = int(shared[np.argmin(abs(shared - middle))])
                    new = self._slice(prepared, start, size)
                    new[0, 0] = self._inside.get(int(new[0, 0]), new[0, 0])
                elif last[0, -1] == new[0, 0]:  # nothing of it is known: one piece
                    new[1, 0] = seam = int(last[1, -1])
            settled.append(last[:, last[1] < seam])
            last = new[:, new[1] >= seam]
            end = start + size
        return np.concatenate([*settled, last], 1)

    def _slice(self, prepared: str, start: int, size: int) -> np.ndarray:
        """The pieces of a part; inside a chunk, without one for the space that SentencePiece puts before it."""
        mapped = self._engine.EncodeAsOffsetMapping(prepared[start : start + size])
        found = np.empty((3, len(mapped["ids"])), np.int32)
        found[0] = mapped["ids"]
        found[1:] = start + np.array(mapped["offsets"], np.int32).reshape(-1, 2).T
        return found[:, 1:] if start and found.size and found[1, 0] == found[2, 0] else found

    def _without_commas(self, ids: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(counts, ids) of lines after Google's rule: pieces such as "2000," are cut before the comma and read again."""
        where = np.flatnonzero(self._ends_in_comma.take(ids))
        if not len(where):
            return counts, ids
        several = np.ones(len(ids), np.int64)
        cut = {int(piece): self._cut(int(piece)) for piece in np.unique(ids[where])}
        several[where] = [len(cut[piece]) for piece in ids[where].tolist()]
        found = np.repeat(ids, several)
        places = (np.cumsum(several) - several)[where]
        for piece, parts in cut.items():
            for at, part in enumerate(parts):
                found[places[ids[where] == piece] + at] = part
        lines = np.searchsorted(np.cumsum(counts), where, "right")
        return counts + np.bincount(lines, several[where] - 1, len(counts)).astype(np.int64), found

    def _parts(self, text: str) -> list[tuple[int, str]]:
        """(start, chunk) of everything between white space; of a model that crosses it, the whole text."""
        if not self._crosses:
            return [(part.start(), part[0]) for part in _CHUNK.finditer(text)]
        return [(len(text) - len(text.lstrip()), text.strip())] if text.strip() else []

    def arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        if self._crosses:
            return [self._chunk(" ".join(text.split())) for text in texts]
        return self._bulk.arrays(texts)

    def _lines(self, lines: str) -> tuple[np.ndarray, np.ndarray]:
        """What :class:`Bulk` asks for."""
        refuse_surrogates(lines)
        chunks = lines.split("\n")
        parts = lines.split()
        if parts != chunks:  # white space beyond that of ASCII is left in some
            each = [np.concatenate([_NONE, *map(self._chunk, chunk.split())]) for chunk in chunks]
            return np.array(list(map(len, each))), np.concatenate(each)
        parts = prepare(lines, self.spec).split("\n")
        if max(map(len, parts)) > SLICE:
            each = [self._cut_out(part)[0].astype(np.uint32) for part in parts]
            return self._without_commas(np.concatenate(each), np.array(list(map(len, each))))
        found = self._engine.EncodeAsIds(parts, num_threads=1)
        ids = np.fromiter(chain.from_iterable(found), np.uint32)
        return self._without_commas(ids, np.fromiter(map(len, found), np.int64, len(found)))

    def pieces(self, text: str) -> list[Piece]:
        found: list[Piece] = []
        for start, chunk in self._parts(text):
            found += [Piece(i, start + a, start + b) for i, a, b in self._located[chunk]]
        return found

    def _locate(self, chunk: str) -> tuple[Piece, ...]:
        refuse_surrogates(chunk)
        prepared, origin = prepare_located(chunk, self.spec)
        if not prepared:
            return ()
        found: list[Piece] = []
        if len(prepared) > SLICE:
            pieces = self._cut_out(prepared).T.tolist()
        else:  # single texts come this way, and arrays of few numbers are slow
            mapped = self._engine.EncodeAsOffsetMapping(prepared)
            pieces = [(i, begin, end) for i, (begin, end) in zip(mapped["ids"], mapped["offsets"], strict=True)]
        for piece, begin, end in pieces:  # leading spaces included
            if piece not in self._digit_comma:
                found.append(self._traced(piece, begin, end, prepared, origin))
                continue
            parts = self._cut(piece)
            at = end - sum(len(self.vocab[part].replace(SPACE, "")) for part in parts)
            for part in parts:
                size = len(self.vocab[part].replace(SPACE, ""))
                found.append(self._traced(part, at, at + size, prepared, origin))
                at += size
        return tuple(found)

    def _traced(self, i: int, begin: int, end: int, prepared: str, origin: list[tuple[int, int]]) -> Piece:
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

    def decode(self, ids: Iterable[int]) -> str:
        # Control symbols print as nothing in sentencepiece; a mask should stay visible.
        mask = self.special["mask"]
        words = [f" {token} " if token == mask else token for token in self._visible(ids)]
        return " ".join("".join(words).replace(SPACE, " ").split())

    def save(self, folder: Path, longest: int | None = None) -> None:
        write_bytes(folder / "spiece.model", self._model)
        write_bytes(folder / "tokenizer.json", self._fast().to_str(pretty=False).encode())
        write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "AlbertTokenizer",
                "do_lower_case": self.spec.lower_case,
                "keep_accents": not self.spec.strip_accents,
                # transformers' own ALBERT tokenizer leaves segments out unless they are asked for.
                "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
                **({"model_max_length": longest} if longest else {}),
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
