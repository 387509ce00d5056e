"""``tokenizer.json``, all that transformers 5 writes of a tokenizer: read when it holds the rules of BERT or ALBERT."""

from __future__ import annotations

import base64
import binascii
import struct
from pathlib import Path
from typing import Any, Literal, NamedTuple

from halbert.errors import InputError
from halbert.files import read_json

# Numbers of the fields of SentencePiece's ``sentencepiece_model.proto`` (google/sentencepiece).
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE, _SCORE, _TYPE = 1, 2, 3
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_MODEL_TYPE, _VOCAB_SIZE, _UNK, _BOS, _EOS, _PAD = 3, 4, 40, 41, 42, 43
_CHARSMAP = 2
_UNIGRAM = 1
_LARGEST = 3.4e38  # of a score, in single precision
# What a tokenizer of each kind has in these fields of its model or of a step before it, if it says anything of them.
_EXPECTED: dict[str, dict[str, tuple[Any, ...]]] = {
    "WordPiece": {
        "continuing_subword_prefix": ("##",),
        "unk_token": ("[UNK]",),
        "max_input_chars_per_word": (100, 200),  # of transformers, and of what Halbert writes for Google's rules
    },
    "Unigram": {
        "byte_fallback": (False, None),
        "replacement": ("▁",),
        "prepend_scheme": ("always",),
        "add_prefix_space": (True,),
    },
}


class TokenizerJson(NamedTuple):
    """What the file says; a switch that it does not tell is ``None``."""

    kind: Literal["wordpiece", "unigram"]
    vocab: list[str]
    lower_case: bool | None
    strip_accents: bool | None
    chinese_chars: bool | None
    model: bytes = b""  # of a unigram tokenizer, as SentencePiece reads it


def read_tokenizer_json(path: Path) -> TokenizerJson:
    """Read a ``tokenizer.json``. Raises :class:`InputError` when it holds another kind of tokenizer, or other rules."""
    told = read_json(path)
    model: Any = told.get("model") if isinstance(told, dict) else None
    kind = model.get("type") if isinstance(model, dict) else None
    if kind not in ("WordPiece", "Unigram"):
        raise InputError(f"{path}: holds a tokenizer of the kind {kind!r}; expected WordPiece or Unigram")
    split = _steps(told.get("pre_tokenizer"), "pretokenizers")
    for rule, allowed in _EXPECTED[kind].items():
        for part in (model, *split):
            if part.get(rule, allowed[0]) not in allowed:
                raise InputError(f"{path}: {rule} is {part[rule]!r}; Halbert reads tokenizers with {allowed[0]!r}")
    normal = _steps(told.get("normalizer"), "normalizers")
    return (_wordpiece if kind == "WordPiece" else _unigram)(path, told, normal, split)


def _steps(rule: Any, parts: str) -> list[dict[str, Any]]:
    """The steps of a sequence, or the one step there is."""
    steps = rule.get(parts, [rule]) if isinstance(rule, dict) else []
    return [step if isinstance(step, dict) else {} for step in steps] if isinstance(steps, list) else []


def _kinds(steps: list[dict[str, Any]]) -> list[Any]:
    return [step.get("type") for step in steps]


def _wordpiece(path: Path, told: dict[str, Any], normal: list[dict[str, Any]], split: list[Any]) -> TokenizerJson:
    if _kinds(normal + split) != ["BertNormalizer", "BertPreTokenizer"]:
        raise InputError(f"{path}: holds WordPiece with the rules {_kinds(normal + split)}; expected those of BERT")
    table = told["model"].get("vocab")
    if not isinstance(table, dict) or sorted(map(repr, table.values())) != sorted(map(repr, range(len(table)))):
        raise InputError(f"{path}: its vocabulary does not number the tokens from 0 without a gap")
    if normal[0].get("clean_text") is False:
        raise InputError(f"{path}: clean_text is false; Halbert always cleans, as both originals do")
    lower, strip, chinese = (
        value if isinstance(value := normal[0].get(name), bool) else None
        for name in ("lowercase", "strip_accents", "handle_chinese_chars")
    )
    return TokenizerJson("wordpiece", sorted(table, key=table.__getitem__), lower, strip, chinese)


def _unigram(path: Path, told: dict[str, Any], normal: list[dict[str, Any]], split: list[Any]) -> TokenizerJson:
    kinds = _kinds(normal)
    strip, lower = "NFKD" in kinds, "Lowercase" in kinds
    expected = ["Replace", "Replace", *["NFKD", "StripAccents"] * strip, *["Lowercase"] * lower]
    quotes = [(step.get("pattern"), step.get("content")) for step in normal[:2]]
    if (
        kinds not in (expected, [*expected, "Precompiled"])
        or quotes != [({"String": old}, '"') for old in ("``", "''")]
        or _kinds(split) != ["WhitespaceSplit", "Metaspace"]
    ):
        raise InputError(f"{path}: holds Unigram with the rules {kinds + _kinds(split)}; expected those of ALBERT")
    pieces, unknown = told["model"].get("vocab"), told["model"].get("unk_id")
    if not isinstance(pieces, list) or not all(map(_scored, pieces)) or type(unknown) is not int:
        raise InputError(f"{path}: its vocabulary is no list of pieces and scores with the number of the unknown one")
    charsmap = normal[-1].get("precompiled_charsmap") if kinds[-1] == "Precompiled" else ""
    try:
        table = base64.b64decode(charsmap or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InputError(f"{path}: its table of characters is not in base64") from None
    added = told.get("added_tokens")
    tokens = [token for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    special = {str(token.get("content")) for token in tokens if token.get("special")}
    model = _sentencepiece([(token, float(score)) for token, score in pieces], unknown, special, table)
    return TokenizerJson("unigram", [token for token, _ in pieces], lower, strip, None, model)


def _scored(piece: Any) -> bool:
    if not isinstance(piece, list) or len(piece) != 2 or type(piece[1]) not in (int, float):
        return False
    return isinstance(piece[0], str) and abs(piece[1]) <= _LARGEST


def _sentencepiece(pieces: list[tuple[str, float]], unknown: int, special: set[str], charsmap: bytes) -> bytes:
    """The SentencePiece model these pieces came from."""
    places = {token: number for number, (token, _) in enumerate(pieces)}
    written = []
    for number, (token, score) in enumerate(pieces):
        # A score of exactly 0 is that of the symbols ALBERT's trainer was given, which are cut out before all else.
        kind = (
            _UNKNOWN
            if number == unknown
            else _CONTROL
            if token in special
            else _USER_DEFINED
            if score == 0
            else _NORMAL
        )
        piece = _field(_PIECE, token.encode("utf-8", "surrogatepass")) + _key(_SCORE, 5) + struct.pack("<f", score)
        written.append(_field(_PIECES, piece + _number(_TYPE, kind)))
    trainer = _number(_MODEL_TYPE, _UNIGRAM) + _number(_VOCAB_SIZE, len(pieces)) + _number(_UNK, unknown)
    trainer += _number(_BOS, -1) + _number(_EOS, -1) + _number(_PAD, places.get("<pad>", -1))
    return (
        b"".join(written)
        + _field(_TRAINER, trainer)
        + _field(_NORMALIZER, _field(_CHARSMAP, charsmap) if charsmap else b"")
    )


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as 64 bits
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _number(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _field(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value
