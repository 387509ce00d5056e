"""The tokenizer all else uses: ids, tokens, segments and character spans, always."""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np

from halbert.errors import InputError
from halbert.files import read_json, require_file
from halbert.spec import TextSpec
from halbert.text.tokenizer_json import read_tokenizer_json

T = TypeVar("T")

SPECIALS = {
    "wordpiece": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "unigram": {"pad": "<pad>", "unk": "<unk>", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
}


class Piece(NamedTuple):
    """One piece of a text: its id and the characters ``text[start:end]`` it stands for."""

    id: int
    start: int
    end: int


class Encoding(msgspec.Struct, frozen=True, kw_only=True):
    """A text or a pair as a model reads it; every list has one entry a token.

    ``segments`` is 0 for the first text with its special tokens and 1 for the second; ``spans`` are character offsets
    into the text the piece came from, ``None`` for special tokens; ``words`` numbers the words of each text from 0,
    ``None`` for special tokens; ``special`` marks the special tokens.
    """

    ids: list[int]
    tokens: list[str]
    segments: list[int]
    spans: list[tuple[int, int] | None]
    words: list[int | None]
    special: list[bool]


class Frame(NamedTuple):
    """The ids that stand before, between and behind the texts of a row; ``second``: the segment of a pair's second text."""

    begin: list[int]
    between: list[int]
    end: list[int]
    second: int = 1

    def room(self, max_length: int, paired: bool) -> int:
        """How many pieces of texts fit into ``max_length``."""
        return max_length - len(self.begin) - len(self.end) - (len(self.between) if paired else 0)

    def row(self, first: list[int], second: list[int] | None) -> tuple[list[int], list[int]]:
        """(ids, segments) of a text or a pair."""
        if second is None:
            ids = [*self.begin, *first, *self.end]
            return ids, [0] * len(ids)
        ids = [*self.begin, *first, *self.between]
        behind = len(second) + len(self.end)
        return [*ids, *second, *self.end], [0] * len(ids) + [self.second] * behind


class Tokenizer(abc.ABC):
    """Text to ids for one vocabulary. Subclasses supply the pieces; everything else is here."""

    spec: TextSpec
    vocab: list[str]
    frame: Frame
    starts_word: np.ndarray  # (V,) bool: whether a piece begins a word

    def __init__(self, spec: TextSpec, vocab: Sequence[str], where: str) -> None:
        self.spec = spec
        self.vocab = list(vocab)
        table = {token: i for i, token in enumerate(self.vocab)}
        if len(table) != len(self.vocab):
            raise InputError(f"{where}: the vocabulary holds {len(self.vocab) - len(table)} tokens twice")
        self.special: dict[str, str] = SPECIALS[spec.kind]
        lost = [token for token in self.special.values() if token not in table]
        if lost:
            raise InputError(f"{where}: the vocabulary lacks the special token {lost[0]!r}")
        self.special_ids: dict[str, int] = {name: table[token] for name, token in self.special.items()}
        sep = [self.special_ids["sep"]]
        self.frame = Frame([self.special_ids["cls"]], sep, sep)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the special ones included."""
        return len(self.vocab)

    @property
    def fingerprint(self) -> str:
        """sha256 over rules and vocabulary: equal fingerprints give equal ids."""
        return self._hashed(self.vocab)

    def _hashed(self, rules: Any) -> str:
        text = json.dumps([msgspec.to_builtins(self.spec), rules], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @abc.abstractmethod
    def __reduce__(self) -> tuple[Any, ...]:
        """For other processes: everything but what is remembered."""

    @abc.abstractmethod
    def remember_less(self, chunks: int) -> None:
        """Remember the ids of so many chunks at most (some 150 bytes each), where many processes share the memory."""

    @abc.abstractmethod
    def pieces(self, text: str) -> list[Piece]:
        """The pieces of a plain text, without special tokens."""

    @abc.abstractmethod
    def arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids (uint32) of many plain texts, without special tokens: the same ids as :meth:`pieces`, faster."""

    def bulk(self, texts: Sequence[str]) -> list[list[int]]:
        """:meth:`arrays` as lists."""
        return [ids.tolist() for ids in self.arrays(texts)]

    def unknown_alone(self, characters: Iterable[str]) -> list[str]:
        """Those of some characters that are unknown when they stand alone, in order."""
        ordered = sorted(characters)
        unknown = self.special_ids["unk"]
        return [c for c, ids in zip(ordered, self.arrays(ordered), strict=True) if unknown in ids]

    @abc.abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Readable text for ids; special tokens are left out."""

    @abc.abstractmethod
    def save(self, folder: Path, longest: int | None = None) -> None:
        """Write the vocabulary and ``tokenizer_config.json`` as transformers reads them; ``longest`` is how many pieces the
        model beside it reads (transformers cuts at nothing where that is not said)."""

    def _visible(self, ids: Iterable[int]) -> Iterable[str]:
        """The tokens of ids but for padding, [CLS] and [SEP]. Raises :class:`InputError` for an id that is none."""
        hidden = {self.special_ids[name] for name in ("pad", "cls", "sep")}
        for i in ids:
            if not 0 <= i < len(self.vocab):
                raise InputError(f"id {i} is outside the vocabulary of {len(self.vocab)} tokens")
            if i not in hidden:
                yield self.vocab[i]

    def _marked_pieces(self, text: str) -> list[Piece]:
        """Like :meth:`pieces`, but the mask token written in the text becomes the mask."""
        mask, found, start = self.special["mask"], [], 0
        while (at := text.find(mask, start)) >= 0:
            found += [Piece(i, s + start, e + start) for i, s, e in self.pieces(text[start:at])]
            found.append(Piece(self.special_ids["mask"], at, at + len(mask)))
            start = at + len(mask)
        return found + [Piece(i, s + start, e + start) for i, s, e in self.pieces(text[start:])]

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
        masks: bool = False,
    ) -> Encoding:
        """Encode a text or a pair as ``[CLS] text [SEP] (pair [SEP])``.

        ``max_length`` counts the special tokens; ``truncation`` says which text loses pieces at its end. With ``masks``,
        a mask token written in the text is the mask; otherwise it is text like any other. Raises :class:`InputError`
        when ``max_length`` leaves no room.
        """
        split = self._marked_pieces if masks else self.pieces
        first = split(text)
        second = None if pair is None else split(pair)
        if max_length is not None:
            first, second = _truncate(first, second, self.frame, max_length, truncation)
        return self._assemble(first, second)

    def windows(
        self, text: str, pair: str | None = None, *, max_length: int, stride: int, masks: bool = False
    ) -> list[Encoding]:
        """A long text as overlapping encodings of at most ``max_length`` pieces.

        The text is cut, or of a pair the second one, with the first before every window. Neighbours share ``stride``
        pieces; every piece is in at least one window. Raises :class:`InputError` when ``stride`` leaves no step forward.
        """
        split = self._marked_pieces if masks else self.pieces
        fixed = None if pair is None else split(text)
        long = split(text if pair is None else pair)
        room = self.frame.room(max_length, fixed is not None) - len(fixed or ())
        if not 0 <= stride < room:
            raise InputError(
                f"windows of {max_length} pieces leave room for {max(room, 0)} of the text; stride {stride} must be smaller"
            )
        starts = range(0, max(len(long) - stride, 1), room - stride)
        parts = [long[start : start + room] for start in starts]
        return [self._assemble(part, None) if fixed is None else self._assemble(fixed, part) for part in parts]

    def encode_batch(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
    ) -> list[tuple[list[int], list[int]]]:
        """(ids, segments) of many texts or pairs, special tokens included: :meth:`encode` without spans, faster."""
        firsts = self.bulk(texts)
        seconds = None if pairs is None else self.bulk(pairs)
        result = []
        for i, first in enumerate(firsts):
            second = None if seconds is None else seconds[i]
            if max_length is not None:
                first, second = _truncate(first, second, self.frame, max_length, truncation)
            result.append(self.frame.row(first, second))
        return result

    def _assemble(self, first: list[Piece], second: list[Piece] | None) -> Encoding:
        ids, segments = self.frame.row([p.id for p in first], None if second is None else [p.id for p in second])
        spans: list[tuple[int, int] | None] = [None] * len(self.frame.begin)
        words: list[int | None] = [None] * len(self.frame.begin)
        for pieces, behind in (
            (first, self.frame.between if second is not None else self.frame.end),
            (second, self.frame.end),
        ):
            word = -1
            for piece in pieces or ():
                # A text that was cut may begin inside a word.
                word = max(word + int(self.starts_word[piece.id]), 0)
                words.append(word)
            if pieces is not None:
                spans += [*((p.start, p.end) for p in pieces), *[None] * len(behind)]
                words += [None] * len(behind)
        return Encoding(
            ids=ids, tokens=[self.vocab[i] for i in ids], segments=segments, spans=spans, words=words,
            special=[span is None for span in spans],
        )  # fmt: skip


Truncation = Literal["longest_first", "only_first", "only_second"]


def _truncate(
    first: list[T], second: list[T] | None, frame: Frame, max_length: int, truncation: Truncation
) -> tuple[list[T], list[T] | None]:
    room = frame.room(max_length, second is not None)
    if room < 0:
        raise InputError(
            f"max_length {max_length} leaves no room beside the special tokens; expected at least {max_length - room}"
        )
    a, b = len(first), len(second or ())
    if a + b <= room:
        return first, second
    if second is None or truncation == "only_first":
        a = room - b
    elif truncation == "only_second":
        b = room - a
    else:
        # Cutting the longer one piece by piece (the second of two equals, as Google's and transformers' loops do) ends
        # here: the shorter keeps all, or both keep half.
        half = room // 2
        if a <= half:
            b = room - a
        elif b <= half:
            a = room - b
        else:
            a, b = room - half, half
    if min(a, b) < 0:
        kept = "second" if truncation == "only_first" else "first"
        raise InputError(f"max_length {max_length} has no room for the {kept} text alone, which is not to be cut")
    return first[:a], None if second is None else second[:b]


_CLASSES = (
    "BertTokenizer", "BertTokenizerFast", "AlbertTokenizer", "AlbertTokenizerFast", "PreTrainedTokenizerFast",
    "TokenizersBackend",
)  # fmt: skip


def told_text(folder: Path) -> tuple[TextSpec, dict[str, str]]:
    """The switches a Hugging Face folder states, and where each came from (the defaults are transformers').

    Raises :class:`InputError` when ``tokenizer_config.json`` is damaged.
    """
    config_file = folder / "tokenizer_config.json"
    config = read_json(config_file) if config_file.exists() else {}
    if not isinstance(config, dict):
        raise InputError(f"{config_file}: expected a JSON object")
    for name in ("do_lower_case", "keep_accents", "tokenize_chinese_chars", "strip_accents"):
        if not isinstance(config.get(name), bool | None):
            raise InputError(f"{config_file}: {name} is {config[name]!r}; expected true or false")
    kind = config.get("tokenizer_class")
    if kind is not None and kind not in _CLASSES:
        raise InputError(f"{config_file}: tokenizer_class is {kind!r}; Halbert reads {', '.join(_CLASSES)}")
    file = vocabulary_file(folder)
    unigram = file is not None and file.name == "spiece.model"
    place = {name: config_file.name for name, value in config.items() if value is not None}
    if file is not None and file.name == "tokenizer.json":
        rules = read_tokenizer_json(file)
        unigram = rules.kind == "unigram"
        told = {"do_lower_case": rules.lower_case, "tokenize_chinese_chars": rules.chinese_chars}
        if unigram:
            told["keep_accents"] = not rules.strip_accents
        else:
            told["strip_accents"] = rules.strip_accents
        for name, value in told.items():
            if value is not None:
                config[name], place[name] = value, file.name
    lower = config.get("do_lower_case") is not False
    if unigram:
        strip, accents = not config.get("keep_accents", False), "keep_accents"
    else:
        strip, accents = lower if config.get("strip_accents") is None else config["strip_accents"], "strip_accents"
    default = "assumed: transformers' default"
    origins = {
        "kind": file.name if file else "assumed: there is no vocabulary",
        "compat": "assumed: transformers' rules, as for every Hugging Face folder",
        "lower_case": place.get("do_lower_case", default),
        "strip_accents": place.get(accents, default if unigram else "assumed: as lower_case"),
        "chinese_chars": place.get("tokenize_chinese_chars", default),
    }
    spec = TextSpec(
        kind="unigram" if unigram else "wordpiece", lower_case=lower, strip_accents=strip,
        chinese_chars=config.get("tokenize_chinese_chars") is not False,
    )  # fmt: skip
    return spec, origins


def vocabulary_file(folder: Path) -> Path | None:
    """The vocabulary of a Hugging Face folder: SentencePiece first, then the plain list, then transformers 5's file."""
    for name in ("spiece.model", "vocab.txt", "tokenizer.json"):
        if (folder / name).exists():
            return folder / name
    return None


def load_tokenizer(folder: Path, spec: TextSpec | None = None) -> Tokenizer:
    """The tokenizer of a model folder: ``vocab.txt`` (WordPiece) or ``spiece.model`` (unigram), or ``tokenizer.json``.

    Without ``spec`` the switches come from ``tokenizer_config.json``. Raises :class:`InputError` when neither file is
    there or one is damaged.
    """
    spec = spec or told_text(folder)[0]
    own = "spiece.model" if spec.kind == "unigram" else "vocab.txt"
    for name in (own, "tokenizer.json"):
        if (folder / name).exists():
            return open_tokenizer(folder / name, spec)
    raise InputError(f"{folder}: found neither vocab.txt (WordPiece) nor spiece.model (unigram)")


def open_tokenizer(file: Path, spec: TextSpec) -> Tokenizer:
    """The tokenizer of one vocabulary file, whatever its name. Raises :class:`InputError` when it is damaged."""
    from halbert.text.unigram import Unigram
    from halbert.text.wordpiece import WordPiece, read_vocab

    told = read_tokenizer_json(file) if file.suffix == ".json" else None
    if told and told.kind != spec.kind:
        raise InputError(f"{file}: holds a {told.kind} tokenizer; expected {spec.kind}")
    if spec.kind == "unigram":
        model = told.model if told else require_file(file, "SentencePiece model").read_bytes()
        return Unigram(model, spec, str(file))
    return WordPiece(told.vocab if told else read_vocab(file), spec, str(file))


# Above this share of tokens with upper-case letters a vocabulary was learnt from cased text: of Google's cased ones it is
# a third, of its lower-cased ones none.
CASED = 0.01


def upper_case(vocab: Sequence[str]) -> list[str]:
    """The tokens, special ones apart, that hold an upper-case letter: a vocabulary of lower-cased text has none."""
    return [token for token in vocab if token[:1] not in ("[", "<") and token != token.lower()]
