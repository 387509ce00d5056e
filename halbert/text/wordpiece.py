"""WordPiece (Google's ``tokenization.py``), on the Hugging Face ``tokenizers`` library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from halbert.errors import InputError
from halbert.files import read_lines, write_bytes, write_json
from halbert.spec import TextSpec
from halbert.text.tokenizer import Piece, Tokenizer

# The longest word that is looked up at all, in characters: the two oracles differ.
WORD_LIMIT = {"google": 200, "transformers": 100}


def read_vocab(path: Path) -> list[str]:
    """A ``vocab.txt``: one token a line, the id is the line number from 0."""
    return list(read_lines(path, "vocabulary"))


def normalizer(spec: TextSpec) -> normalizers.Normalizer:
    """Cleaning, spaces around CJK characters, and the two switches of the spec."""
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=spec.strip_accents, lowercase=spec.lower_case
    )


class WordPiece(Tokenizer):
    """Greedy longest match of words against the vocabulary, continuations marked ``##``."""

    def __init__(self, vocab: Sequence[str], spec: TextSpec, where: str = "vocabulary") -> None:
        super().__init__(spec, vocab, where)
        self.starts_word = np.array([not token.startswith("##") for token in self.vocab])
        engine = tokenizers.Tokenizer(
            models.WordPiece(
                vocab={token: i for i, token in enumerate(self.vocab)},
                unk_token=self.special["unk"],
                max_input_chars_per_word=WORD_LIMIT[spec.compat],
            )
        )
        engine.normalizer = normalizer(spec)
        engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._engine = engine

    def pieces(self, text: str) -> list[Piece]:
        found = self._engine.encode(text, add_special_tokens=False)
        return [Piece(i, start, end) for i, (start, end) in zip(found.ids, found.offsets, strict=True)]

    def bulk(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._engine.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        hidden = {self.special_ids[name] for name in ("pad", "cls", "sep")}
        words: list[str] = []
        for i in ids:
            if not 0 <= i < len(self.vocab):
                raise InputError(f"id {i} is outside the vocabulary of {len(self.vocab)} tokens")
            if i in hidden:
                continue
            token = self.vocab[i]
            if token.startswith("##") and words:
                words[-1] += token[2:]
            else:
                words.append(token)
        return " ".join(words)

    def save(self, folder: Path) -> None:
        write_bytes(folder / "vocab.txt", ("\n".join(self.vocab) + "\n").encode())
        write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "BertTokenizer",
                "do_lower_case": self.spec.lower_case,
                "strip_accents": self.spec.strip_accents,
                "tokenize_chinese_chars": True,
                **{f"{name}_token": token for name, token in self.special.items()},
            },
        )
