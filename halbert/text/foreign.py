"""The tokenizer of an encoder of another architecture: whatever ``tokenizer.json`` says, through the ``tokenizers`` library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from halbert.errors import InputError, missing_extra
from halbert.spec import TextSpec
from halbert.text.tokenizer import Frame, Piece, Tokenizer

_SPACES = ("\u0120", "\u2581")  # how a byte-level BPE and a SentencePiece model write the space before a word
MOST_PIECES = 1 << 24  # an id beyond is no vocabulary, but a file that asks for memory


class ForeignTokenizer(Tokenizer):
    """Pieces by the library; what stands around them as the library puts it.

    ``special``: its tokens by our names; ``segmented``: whether the model tells a pair's texts apart by segments.
    ``longest``: what its own folder says of the length, if anything.
    """

    def __init__(self, rules: str, special: dict[str, str], segmented: bool, longest: int | None = None) -> None:
        self._told = (rules, special, segmented, longest)
        self._fast = tokenizers.Tokenizer.from_str(rules)
        self._fast.no_padding()
        self._fast.no_truncation()
        table = self._fast.get_vocab(with_added_tokens=True)
        largest = max(table.values(), default=0)
        if largest >= MOST_PIECES:
            raise InputError(f"the tokenizer has a piece with the id {largest:,}; expected fewer than {MOST_PIECES:,}")
        self.vocab = [""] * (largest + 1)
        for token, number in table.items():
            self.vocab[number] = token
        self.spec = TextSpec(kind="other", lower_case=self._split("A") == self._split("a"), strip_accents=False)
        self.special = special
        self.special_ids = {name: table[token] for name, token in special.items()}
        self.segmented, self.longest = segmented, longest
        spaces = any(token.startswith(_SPACES) for token in self.vocab)
        self.starts_word = np.array([t.startswith(_SPACES) if spaces else not t.startswith("##") for t in self.vocab])
        self.frame = self._frame()

    @classmethod
    def read(cls, folder: Path, segmented: bool) -> ForeignTokenizer:
        """The tokenizer of a folder, by transformers. Raises :class:`InputError` where there is none."""
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise missing_extra("transformers", "others", "an encoder of another architecture") from None
        try:
            found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_fast=True)
            rules = found.backend_tokenizer.to_str()
        except Exception as fault:  # every kind fails in its own way
            raise InputError(
                f"{folder}: transformers cannot read its tokenizer: {str(fault).splitlines()[0][:300]}"
            ) from None
        told = {name: getattr(found, f"{name}_token") for name in ("pad", "unk", "cls", "sep", "mask")}
        told["cls"], told["sep"] = told["cls"] or found.bos_token, told["sep"] or found.eos_token
        told["unk"] = told["unk"] or told["mask"] or told["pad"]  # byte-level ones know everything
        lost = [name for name in ("pad", "cls", "sep") if told[name] is None]
        if lost:
            raise InputError(f"{folder}: its tokenizer has no {lost[0]} token; every encoder's has one")
        longest = found.model_max_length
        special = {name: str(token) for name, token in told.items() if token is not None}
        return cls(rules, special, segmented, int(longest) if longest < 1 << 24 else None)

    def _split(self, text: str) -> list[int]:
        found: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return found

    def _frame(self) -> Frame:
        """What the library puts before, between and behind two texts."""
        told = self._fast.encode("a", "a")
        sides = told.sequence_ids
        first, second = sides.index(0), sides.index(1)
        end = len(sides) - 1 - sides[::-1].index(0)
        last = len(sides) - 1 - sides[::-1].index(1)
        return Frame(told.ids[:first], told.ids[end + 1 : second], told.ids[last + 1 :], int(self.segmented))

    def __reduce__(self) -> tuple[Any, ...]:
        return ForeignTokenizer, self._told

    @property
    def fingerprint(self) -> str:
        return self._hashed(self._told[0])

    def remember_less(self, chunks: int) -> None:
        pass  # nothing is remembered

    def pieces(self, text: str) -> list[Piece]:
        told = self._fast.encode(text, add_special_tokens=False)
        return [Piece(i, start, end) for i, (start, end) in zip(told.ids, told.offsets, strict=True)]

    def arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        many = self._fast.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(told.ids, np.uint32) for told in many]

    def decode(self, ids: Iterable[int]) -> str:
        told: str = self._fast.decode(list(ids), skip_special_tokens=True)
        return told

    def save(self, folder: Path, longest: int | None = None) -> None:
        raise InputError("a tokenizer of another architecture is not written by Halbert; copy its own files")
