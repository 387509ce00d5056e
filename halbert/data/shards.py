"""One shard of a corpus: three memory-mapped arrays, and how they are made.

``ids-K.npy`` (uint16, or uint32 for vocabularies above 65,536), ``sentences-K.npy`` (int64, where each sentence begins in
the ids, and the end) and ``documents-K.npy`` (int64, where each document begins in the sentences, and the end).
"""

from __future__ import annotations

import errno
import os
import tokenize
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halbert.data.manifest import Shard
from halbert.data.sentences import split_sentences
from halbert.errors import InputError
from halbert.files import sha256
from halbert.text import Tokenizer

KINDS = ("ids", "sentences", "documents")
_BATCH_SENTENCES = 4096


class CorpusShard:
    """The three arrays of one shard, memory-mapped."""

    def __init__(self, folder: Path, number: int, vocab_size: int) -> None:
        arrays = []
        for kind in KINDS:
            path = folder / file_name(kind, number)
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


def _leads_through(offsets: np.ndarray, end: int) -> bool:
    return bool(len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == end and (offsets[1:] > offsets[:-1]).all())


def file_name(kind: str, number: int) -> str:
    """What a file of a shard is called."""
    return f"{kind}-{number:05d}.npy"


def save_shard(folder: Path, number: int, arrays: dict[str, np.ndarray], **counts: int | str) -> Shard:
    """Write a shard's files, each whole or not at all; ``counts`` are what the arrays do not show."""
    hashes = {}
    for kind, array in arrays.items():
        path = folder / file_name(kind, number)
        part = path.with_name(f".{path.name}")
        try:
            with part.open("wb") as stream:
                np.save(stream, array, allow_pickle=False)
        except OSError as error:
            if error.errno is not None:
                raise
            # numpy says how much it could write, and not why; there is one reason.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        hashes[path.name] = sha256(part)
        os.replace(part, path)
    return Shard(
        documents=len(arrays["documents"]) - 1, sentences=len(arrays["sentences"]) - 1, tokens=len(arrays["ids"]),
        sha256=hashes, **counts,  # type: ignore[arg-type]
    )  # fmt: skip


def offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where things of these lengths begin, and the end."""
    found = np.zeros(len(lengths) + 1, "<i8")
    np.cumsum(lengths, out=found[1:])
    return found


class ShardWriter:
    """Takes documents as lists of paragraphs, encodes their sentences in bulk, and makes the arrays of a shard.

    ``whole``: a paragraph is a sentence as it is, which texts are that translate each other.
    """

    def __init__(self, tokenizer: Tokenizer, whole: bool = False) -> None:
        self.tokenizer, self.whole = tokenizer, whole
        self.dtype = "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"
        self._reset()

    def _reset(self) -> None:
        self._ids: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._paragraphs: list[np.ndarray] = []
        self._documents: list[int] = []
        self._waiting: list[str] = []
        self._waiting_paragraphs: list[tuple[int, int, int, int]] = []
        self._waiting_documents: list[int] = []
        self._open = self._carried = 0  # sentences of a document that has not ended: waiting, and encoded
        self.tokens = self.characters = self.bytes = 0

    def add(self, document: Sequence[str], keys: Sequence[int] | None = None, ends: bool = True) -> None:
        """Add a document, or with ``ends`` false a part that others follow; ``keys`` tell its paragraphs from others."""
        before = len(self._waiting)
        for i, paragraph in enumerate(document):
            sentences = [" ".join(paragraph.split())] if self.whole else split_sentences(paragraph)
            self._waiting += sentences
            characters = sum(map(len, sentences))
            size = (
                characters if paragraph.isascii() else sum(len(s.encode("utf-8", "surrogatepass")) for s in sentences)
            )
            self.characters += characters
            self.bytes += size
            if keys is not None:
                self._waiting_paragraphs.append((len(sentences), characters, size, keys[i]))
        self._open += len(self._waiting) - before
        if ends:
            self._waiting_documents.append(self._open)
            self._open = 0
        if len(self._waiting) >= _BATCH_SENTENCES:
            self.encode()

    def encode(self) -> None:
        """Encode what waits."""
        kept = np.zeros(1, np.int64)
        if self._waiting:
            found = self.tokenizer.arrays(self._waiting)
            lengths = np.fromiter(map(len, found), np.int64, len(found))
            self._ids.append(np.concatenate(found).astype(self.dtype))
            self.tokens += len(self._ids[-1])
            # Sentences of nothing but what a tokenizer leaves out have no pieces, and are none.
            kept = offsets(lengths > 0)
            self._lengths.append(lengths[lengths > 0])
            if self._waiting_paragraphs:
                table = np.array(self._waiting_paragraphs, np.uint64).reshape(-1, 4)
                table[:, 0] = np.diff(kept[offsets(table[:, 0].astype(np.int64))])
                self._paragraphs.append(table[table[:, 0] > 0])
        counts = np.diff(kept[offsets([*self._waiting_documents, self._open])]).tolist()
        counts[0] += self._carried
        self._carried = counts.pop()
        self._documents += [count for count in counts if count]
        self._waiting, self._waiting_paragraphs, self._waiting_documents, self._open = [], [], [], 0

    def save(self, folder: Path, number: int, language: str = "") -> Shard | None:
        """Write everything added so far as one shard, unless there is nothing, and begin anew."""
        self.encode()
        if self._carried:
            self._documents.append(self._carried)
        shard = None
        if self._documents:
            arrays = {
                "ids": np.concatenate(self._ids),
                "sentences": offsets(np.concatenate(self._lengths)),
                "documents": offsets(self._documents),
            }
            if self._paragraphs:
                arrays["paragraphs"] = np.concatenate(self._paragraphs)
            unknown = int(np.count_nonzero(arrays["ids"] == self.tokenizer.special_ids["unk"]))
            shard = save_shard(
                folder, number, arrays, language=language, characters=self.characters, bytes=self.bytes, unknown=unknown
            )
        self._reset()
        return shard
