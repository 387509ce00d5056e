"""A corpus on disk: documents of sentences of ids, as memory-mapped arrays and a manifest. Never pairs, never masks.

One shard is three files: ``ids-K.npy`` (uint16, or uint32 for vocabularies above 65,536), ``sentences-K.npy`` (int64,
where each sentence begins in the ids, and the end) and ``documents-K.npy`` (int64, where each document begins in the
sentences, and the end).
"""

from __future__ import annotations

import os
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from halbert.data.sentences import split_sentences
from halbert.errors import InputError
from halbert.files import read_json, read_lines, sha256, whole_folder, write_json
from halbert.spec import from_dict
from halbert.text import Tokenizer
from halbert.version import __version__

SHARD_TOKENS = 1 << 24
_BATCH_SENTENCES = 4096


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and hashes of one shard's files."""

    documents: int
    sentences: int
    tokens: int
    sha256: dict[str, str]


class CorpusManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``manifest.json``: what the corpus is made of, and with which tokenizer."""

    format: int
    halbert: str
    tokenizer: str
    vocab_size: int
    documents: int
    sentences: int
    tokens: int
    characters: int
    inputs: dict[str, str]
    note: str
    shards: list[Shard]
    unknown: int = 0  # pieces; not counted by releases that had no such field


class CorpusShard:
    """The three arrays of one shard, memory-mapped."""

    def __init__(self, folder: Path, number: int, vocab_size: int) -> None:
        arrays = []
        for kind in ("ids", "sentences", "documents"):
            path = folder / f"{kind}-{number:05d}.npy"
            try:
                arrays.append(np.load(path, mmap_mode="r", allow_pickle=False))
            except (OSError, ValueError, EOFError, tokenize.TokenError) as error:  # numpy parses the header as Python
                raise InputError(f"{path}: cannot be read: {error}") from None
        self.ids, self.sentences, self.documents = arrays
        if (
            any(array.ndim != 1 or array.dtype.kind not in "iu" or not len(array) for array in arrays)
            or not _leads_through(self.sentences, len(self.ids))
            or not _leads_through(self.documents, len(self.sentences) - 1)
            or self.ids.max() >= vocab_size
        ):
            raise InputError(
                f"{folder}: shard {number} is damaged: its offsets do not lead through its ids, or its ids leave the vocabulary"
            )
        self.vocab_size = vocab_size


def _leads_through(offsets: np.ndarray, end: int) -> bool:
    return bool(len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == end and (offsets[1:] > offsets[:-1]).all())


class Corpus:
    """A corpus folder, opened."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        if not path.exists():
            raise InputError(f"{self.folder}: is no corpus: it holds no manifest.json; make one with: halbert corpus")
        self.manifest = from_dict(CorpusManifest, read_json(path), str(path))

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raise :class:`InputError` unless the corpus was made with this tokenizer."""
        if tokenizer.fingerprint != self.manifest.tokenizer:
            raise InputError(
                f"{self.folder}: was made with another tokenizer (fingerprint {self.manifest.tokenizer[:12]}, "
                f"this one is {tokenizer.fingerprint[:12]}); build the corpus again"
            )

    def shard(self, number: int) -> CorpusShard:
        """Open one shard."""
        return CorpusShard(self.folder, number, self.manifest.vocab_size)

    def __len__(self) -> int:
        return len(self.manifest.shards)


def read_documents(path: str | os.PathLike[str]) -> Iterator[list[str]]:
    """Documents of a text file as lists of paragraphs: a blank line ends a document, a line is a paragraph."""
    paragraphs: list[str] = []
    for line in read_lines(path):
        if line.strip():
            paragraphs.append(line)
        elif paragraphs:
            yield paragraphs
            paragraphs = []
    if paragraphs:
        yield paragraphs


def build_corpus(
    documents: Iterable[Sequence[str]],
    tokenizer: Tokenizer,
    out: str | os.PathLike[str],
    *,
    inputs: dict[str, str] | None = None,
    note: str = "",
    shard_tokens: int = SHARD_TOKENS,
) -> Corpus:
    """Write a corpus of ``documents`` (each a sequence of paragraphs); memory is bounded by a shard.

    Raises :class:`InputError` when there is no text, or ``out`` holds something else.
    """
    with whole_folder(out) as folder:
        writer = _Writer(folder, tokenizer, shard_tokens)
        for document in documents:
            writer.add([s for paragraph in document for s in split_sentences(paragraph)])
        shards = writer.finish()
        if not shards:
            raise InputError("the input holds no text; a corpus needs at least one sentence")
        manifest = CorpusManifest(
            format=1, halbert=__version__, tokenizer=tokenizer.fingerprint, vocab_size=tokenizer.vocab_size,
            documents=sum(s.documents for s in shards), sentences=sum(s.sentences for s in shards),
            tokens=sum(s.tokens for s in shards), characters=writer.characters, inputs=inputs or {}, note=note,
            shards=shards, unknown=writer.unknown,
        )  # fmt: skip
        write_json(folder / "manifest.json", msgspec.to_builtins(manifest))
    return Corpus(out)


class _Writer:
    """Collects sentences, encodes them in bulk, and closes a shard when it is full."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, shard_tokens: int) -> None:
        self.folder, self.tokenizer, self.shard_tokens = folder, tokenizer, shard_tokens
        self.dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
        self.shards: list[Shard] = []
        self.characters = self.unknown = 0
        self._waiting: list[list[str]] = []
        self._waiting_sentences = 0
        self._reset()

    def _reset(self) -> None:
        self.ids: list[np.ndarray] = []
        self.lengths: list[int] = []
        self.documents: list[int] = []
        self.tokens = 0

    def add(self, sentences: list[str]) -> None:
        if sentences:
            self._waiting.append(sentences)
            self._waiting_sentences += len(sentences)
            self.characters += sum(map(len, sentences))
        if self._waiting_sentences >= _BATCH_SENTENCES:
            self._encode()

    def _encode(self) -> None:
        encoded = iter(self.tokenizer.arrays([s for document in self._waiting for s in document]))
        for document in self._waiting:
            kept = [ids for ids in (next(encoded) for _ in document) if len(ids)]
            if not kept:
                continue
            self.documents.append(len(kept))
            for ids in kept:
                self.ids.append(ids.astype(self.dtype))
                self.lengths.append(len(ids))
                self.tokens += len(ids)
            if self.tokens >= self.shard_tokens:
                self._close()
        self._waiting, self._waiting_sentences = [], 0

    def _close(self) -> None:
        if not self.documents:
            return
        number = len(self.shards)
        arrays: dict[str, Any] = {
            "ids": np.concatenate(self.ids),
            "sentences": np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64),
            "documents": np.concatenate([[0], np.cumsum(self.documents)]).astype(np.int64),
        }
        self.unknown += int(np.count_nonzero(arrays["ids"] == self.tokenizer.special_ids["unk"]))
        hashes = {}
        for kind, array in arrays.items():
            path = self.folder / f"{kind}-{number:05d}.npy"
            np.save(path, array, allow_pickle=False)
            hashes[path.name] = sha256(path)
        self.shards.append(
            Shard(documents=len(self.documents), sentences=len(self.lengths), tokens=self.tokens, sha256=hashes)
        )
        self._reset()

    def finish(self) -> list[Shard]:
        self._encode()
        self._close()
        return self.shards
