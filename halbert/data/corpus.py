"""A corpus on disk: documents of sentences of ids, as memory-mapped arrays and a manifest. Never pairs, never masks.

Here it is opened, checked, made of texts in memory, and put together out of others; ``halbert.data.encoding`` makes one of
files. What a shard consists of is in ``halbert.data.shards``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from halbert.data.manifest import (
    CorpusManifest,
    Cuts,
    Dropped,
    Shard,
    Source,
    check_corpus,
    manifest_of,
    read_manifest,
    write_manifest,
)
from halbert.data.shards import CorpusShard, ShardWriter, file_name
from halbert.errors import InputError
from halbert.files import confined, read_lines, sha256, whole_folder
from halbert.text import Tokenizer

SHARD_TOKENS = 1 << 24


class Corpus:
    """A corpus folder, opened. A shard's files are compared with their hashes when it is opened for the first time."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.manifest: CorpusManifest = read_manifest(self.folder)
        self._verified: set[int] = set()

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raise :class:`InputError` unless the corpus was made with this tokenizer."""
        if tokenizer.fingerprint != self.manifest.tokenizer:
            raise InputError(
                f"{self.folder}: was made with another tokenizer (fingerprint {self.manifest.tokenizer[:12]}, "
                f"this one is {tokenizer.fingerprint[:12]}); build the corpus again"
            )

    def shard(self, number: int) -> CorpusShard:
        """Open one shard. Raises :class:`InputError` when a file of it is missing or is not what was written."""
        if number not in self._verified:
            self.verify(number)
            self._verified.add(number)
        return CorpusShard(self.folder, number, self.manifest.vocab_size)

    def verify(self, number: int) -> None:
        """Compare a shard's files with their hashes. Raises :class:`InputError` naming the file at fault."""
        for name, digest in self.manifest.shards[number].sha256.items():
            path = confined(self.folder, name, self.folder / "manifest.json")
            if not path.is_file():
                raise InputError(f"{path}: is missing; the corpus is not whole: copy or build it again")
            try:
                found = sha256(path)
            except OSError as error:
                raise InputError(f"{path}: cannot be read: {error.strerror}") from None
            if found != digest:
                raise InputError(
                    f"{path}: is damaged: its sha256 is {found[:12]}…, the manifest says {digest[:12]}…; copy or build it again"
                )

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
    language: str = "",
    shard_tokens: int = SHARD_TOKENS,
    whole: bool = False,
) -> Corpus:
    """Write a corpus of ``documents`` (each a sequence of paragraphs); memory is bounded by a shard.

    ``inputs`` are names of what was read with their hashes; ``whole`` keeps a paragraph as one sentence. Raises
    :class:`InputError` when there is no text, or ``out`` holds something else.
    """
    with whole_folder(out) as folder:
        writer = ShardWriter(tokenizer, whole)
        shards: list[Shard] = []
        waiting = 0  # characters, of which a shard's tokens are never more
        for document in documents:
            writer.add(document)
            waiting += sum(map(len, document))
            if writer.tokens + waiting >= shard_tokens:
                writer.encode()
                waiting = 0
            if writer.tokens >= shard_tokens and (shard := writer.save(folder, len(shards), language)):
                shards.append(shard)
        if shard := writer.save(folder, len(shards), language):
            shards.append(shard)
        if not shards:
            raise InputError("the input holds no text; a corpus needs at least one sentence")
        sources = [Source(name=name, sha256=digest, language=language) for name, digest in (inputs or {}).items()]
        write_manifest(
            folder, manifest_of(shards, tokenizer.fingerprint, tokenizer.vocab_size, inputs=sources, note=note)
        )
    return Corpus(out)


def merge_corpora(
    folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], overwrite: bool = False
) -> Corpus:
    """Put corpora that were made with the same tokenizer together, shard after shard in the order given.

    The files are linked where the file system can, else copied, and compared with their hashes. Paragraphs that two of the
    corpora share stay. Raises :class:`InputError` when tokenizers differ, a file is damaged, or ``out`` holds something else;
    ``overwrite`` replaces a corpus.
    """
    check_corpus(out, overwrite)
    corpora = [Corpus(folder) for folder in folders]
    if not corpora:
        raise InputError("no corpus was given; expected the folders of those to put together")
    first = corpora[0]
    for other in corpora[1:]:
        if other.manifest.tokenizer != first.manifest.tokenizer:
            raise InputError(
                f"{other.folder}: was made with another tokenizer (fingerprint {other.manifest.tokenizer[:12]}) than "
                f"{first.folder} ({first.manifest.tokenizer[:12]}); build it again with the same one"
            )
    with whole_folder(out, overwrite) as folder:
        shards: list[Shard] = []
        for corpus in corpora:
            for number, shard in enumerate(corpus.manifest.shards):
                corpus.verify(number)
                shards.append(link_shard(corpus.folder, shard, folder, len(shards)))
        told = [corpus.manifest for corpus in corpora]
        merged = manifest_of(
            shards, first.manifest.tokenizer, first.manifest.vocab_size,
            inputs=[source for m in told for source in m.inputs],
            skipped=[skipped for m in told for skipped in m.skipped],
            # Shards of the first format do not tell these.
            characters=sum(m.characters for m in told), unknown=sum(m.unknown for m in told),
            cut=Cuts(lines=sum(m.cut.lines for m in told), documents=sum(m.cut.documents for m in told)),
            duplicates=Dropped(
                paragraphs=sum(m.duplicates.paragraphs for m in told), bytes=sum(m.duplicates.bytes for m in told)
            ),
            **{name: _together(getattr(m, name) for m in told) for name in ("note", "licence", "command")},
        )  # fmt: skip
        write_manifest(folder, merged)
    return Corpus(out)


def _together(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))


def link_shard(source: Path, shard: Shard, folder: Path, number: int) -> Shard:
    """Give a shard's files, which are never changed again, a number in another folder."""
    hashes = {}
    for name, digest in shard.sha256.items():
        new = file_name(name.partition("-")[0], number)
        try:
            os.link(source / name, folder / new)
        except OSError:  # another file system, or one without links
            try:
                shutil.copyfile(source / name, folder / new)
            except OSError as error:  # which names the file that was read, where the other's disk is full
                raise OSError(error.errno, error.strerror, str(folder / new)) from None
        hashes[new] = digest
    return Shard(**{name: getattr(shard, name) for name in shard.__struct_fields__} | {"sha256": hashes})
