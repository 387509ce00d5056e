"""Files to a corpus, by all cores: the same bytes for any number of them, and going on where a run was stopped.

The inputs are cut into blocks (``halbert.data.blocks``), and each block becomes a shard, worked on by one process. Finished
shards lie in ``.NAME.part`` beside the corpus, with a record that holds the hashes of block and shard; the same command
reads the inputs again, but encodes only blocks that are not in the record or whose shards are not what was written. At the
end they get their place in the corpus, which takes its name when it is whole.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from halbert.cluster import Cluster, ClusterLike, connection
from halbert.data import blocks, documents
from halbert.data.blocks import Block, Cutter, paragraphs
from halbert.data.corpus import Corpus, link_shard
from halbert.data.documents import TOLD, Documents
from halbert.data.duplicates import (
    Thinning,
    all_doubles,
    drop_all,
    mark_duplicates,
    paragraph_key,
    thin,
)
from halbert.data.inputs import Input, find_inputs, size_of
from halbert.data.manifest import (
    Cuts,
    Dropped,
    Shard,
    Skipped,
    Source,
    check_corpus,
    manifest_of,
    write_manifest,
)
from halbert.data.record import Piece, Record
from halbert.data.shards import ShardWriter
from halbert.data.spread import encode_spread
from halbert.errors import HalbertError, InputError
from halbert.files import whole_folder
from halbert.memory import give_back
from halbert.processes import check_started, cores, in_order, open_pool
from halbert.text import Tokenizer
from halbert.version import __version__

# Chunks that each of several processes remembers: their table, twice as long, just does not grow beyond 32 MB.
CHUNKS = 390_000
MOST_BAD = 0.1  # of the lines of an input, for the others to be taken for text
Progress = Callable[[int, int], None]


class Encoder:
    """Makes shards out of blocks, in one process."""

    def __init__(self, tokenizer: Tokenizer, folder: Path, dedupe: bool, whole: bool) -> None:
        self.tokenizer, self.folder, self.dedupe, self.whole = tokenizer, folder, dedupe, whole

    def __call__(self, block: Block, content: memoryview | None = None) -> Piece:
        """Encode a block, whose parts lie in ``content`` if that is given."""
        writer = ShardWriter(self.tokenizer, self.whole)
        lines = 0
        for part in block.parts:
            found = Documents(part, content)
            for some, ends in found:
                writer.add(some, [paragraph_key(p) for p in some] if self.dedupe else None, ends)
            lines += found.lines
        shard = writer.save(self.folder, block.number, block.language)
        cut = Cuts(lines=block.cut.lines + lines, documents=block.cut.documents)
        return Piece(number=block.number, key=block.key, shard=shard, cut=cut)


_encoder: Encoder | None = None


def _prepare(tokenizer: Tokenizer, folder: Path, dedupe: bool, whole: bool) -> None:
    """In a worker."""
    global _encoder
    tokenizer.remember_less(CHUNKS)
    _encoder = Encoder(tokenizer, folder, dedupe, whole)


def _encode(block: Block) -> Piece:
    assert _encoder is not None
    piece = _encoder(block)
    give_back()  # blocks leave holes: without this a process grows from block to block, if ever more slowly
    return piece


def encode_files(
    files: Sequence[str | os.PathLike[str]],
    tokenizer: Tokenizer,
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    language: str = "",
    dedupe: bool = False,
    whole: bool = False,
    skip_bad: bool = False,
    column: str = "text",
    licence: str = "",
    note: str = "",
    command: str = "",
    progress: Progress | None = None,
    cluster: ClusterLike | None = None,
    overwrite: bool = False,
) -> Corpus:
    """Write a corpus of text files, JSON Lines and Parquet, local or at an address that fsspec reads.

    ``files`` as in :func:`halbert.data.inputs.find_inputs`; ``progress`` is told how many bytes of how many are done.
    ``column`` is the field of JSON Lines, or the column of Parquet, that holds the texts.
    ``whole`` keeps every paragraph as one sentence, as texts have to be that translate each other (``start_parallel``).
    With ``cluster`` (:func:`halbert.cluster.connection`) its workers encode, to the same bytes: the inputs are read and the
    shards written by this machine.
    Memory does not follow the size of the input. A run that was stopped goes on when it is called again in the same way.
    ``skip_bad``: lines and rows that cannot be read are left out and listed, and so are whole files where that is more than a
    tenth of them, or where nothing can be read after some place.
    Raises :class:`InputError` naming file and line when an input cannot be read, when there is no text, and when ``out`` is
    there or another command has begun it; ``overwrite`` replaces both, but nothing that is no corpus.
    """
    check_started()
    target = check_corpus(out, overwrite)
    skipped: list[Skipped] = []
    inputs = find_inputs(files, language, skipped if skip_bad else None, column)
    told: Progress = progress or (lambda done, total: None)
    job = {
        "halbert": __version__, "tokenizer": tokenizer.fingerprint, "dedupe": dedupe, "whole": whole,
        "inputs": hashlib.sha256(repr([(item.language, item.name) for item in inputs]).encode()).hexdigest(),
        "sizes": [blocks.SHARD_BYTES, blocks.SLACK, documents.LONGEST_LINE, documents.LONGEST_ROW],
    }  # fmt: skip
    if column != "text":
        job["column"] = column
    if skip_bad:
        job["skip_bad"] = True
    total = 0 if skip_bad else sum(map(size_of, inputs))  # what is not there is named before anything is made
    record = Record(target, job, overwrite)
    try:
        if skip_bad:
            inputs, bad, checked = _readable(inputs, told)
            skipped += bad
            total, told = sum(map(size_of, inputs)), _beyond(checked, told)
        cutter = Cutter(inputs, record.spool)
        with open_pool(workers, _prepare, (tokenizer, record.folder, dedupe, whole)) as pool:
            connect = connection(cluster)
            if connect is None:
                encoder = Encoder(tokenizer, record.folder, dedupe, whole)
                _encode_all(cutter, record, pool, workers or cores(), encoder, told, total)
            else:
                make = functools.partial(Encoder, tokenizer, dedupe=dedupe, whole=whole)
                cutter.sources += _encode_there(connect, inputs, record, make, workers, told, total)
            if not any(piece.shard for piece in record.pieces.values()):
                why = "".join(f"; left out: {each.reason}" for each in skipped[:1])
                raise InputError(f"the input holds no text; a corpus needs at least one sentence{why}")
            with whole_folder(target, overwrite) as folder:
                shards, dropped = _place(record, folder, dedupe, pool, tokenizer.special_ids["unk"])
                manifest = manifest_of(
                    shards, tokenizer.fingerprint, tokenizer.vocab_size, inputs=cutter.sources, skipped=skipped,
                    duplicates=dropped, licence=licence, note=note, command=command,
                    cut=Cuts(
                        lines=sum(p.cut.lines for p in record.pieces.values()),
                        documents=sum(p.cut.documents for p in record.pieces.values()),
                    ),
                )  # fmt: skip
                write_manifest(folder, manifest)
    except BaseException as error:
        if not record.pieces or (isinstance(error, InputError) and not any(p.shard for p in record.pieces.values())):
            record.remove()
        record.close()
        raise
    record.remove()  # while it is held, so that nobody else takes it in between
    record.close()
    return Corpus(out)


def _readable(inputs: list[Input], told: Progress) -> tuple[list[Input], list[Skipped], int]:
    """Those inputs that can be read to the end, what of them or of the others cannot, and how many bytes were read.

    ``told`` takes all for half of the work, since what can be read is read again.
    """
    good, skipped, read, whole = [], [], 0, 0
    for item in inputs:
        with contextlib.suppress(InputError):
            whole += size_of(item)

    def moved(count: int) -> None:
        nonlocal read
        read += count
        told(read, max(2 * whole, read))

    def skip(item: Input, reason: str, rows: int = 0) -> None:
        # The name instead of the path: where it lay on this machine is nobody else's business.
        skipped.append(Skipped(name=item.name, reason=reason.replace(item.path, item.name), rows=rows))

    for item in inputs:
        parts: list[Documents] = []
        try:
            count = sum(1 for _ in paragraphs(item, parts.append, moved))
        except InputError as error:
            skip(item, str(error))
            continue
        bad, lines = sum(part.bad for part in parts), [line for part in parts for line in part.told]
        if bad > MOST_BAD * (bad + count):
            skip(item, f"{lines[0]} ({bad:,} of its lines are at fault, too many to leave out)")
            continue
        good.append(item)
        if bad:
            skip(item, "; ".join(lines[:TOLD]), bad)
    return good, skipped, read


def _beyond(checked: int, told: Progress) -> Progress:
    """Progress that goes on after so many bytes."""
    return lambda done, total: told(checked + done, checked + total)


def _encode_all(
    cutter: Cutter, record: Record, pool: Executor | None, workers: int, here: Encoder, told: Progress, total: int
) -> None:
    """Encode every block that is not finished."""
    waiting: dict[int, Block] = {}
    done = 0

    def finish(block: Block) -> None:
        nonlocal done
        if block.spool:
            block.spool.unlink()
        done += block.read
        give_back()
        told(done, max(total, done))

    def unfinished() -> Iterator[Block]:
        for block in cutter.blocks():
            if record.known(block):
                finish(block)
            else:
                waiting[block.number] = block
                yield block

    try:
        # No more ahead than keeps all busy: what waits has been unpacked to the disk.
        for piece in in_order(pool, _encode, unfinished(), workers + 1, here):
            record.add(piece)
            finish(waiting.pop(piece.number))
    except BrokenProcessPool:
        raise HalbertError(
            "a worker was ended by the system, perhaps for want of memory (or said above why it ended); give the same command "
            "again to go on, with a smaller --workers"
        ) from None


def _encode_there(
    connect: Callable[[], Cluster], inputs: list[Input], record: Record, make: Callable[..., Encoder],
    workers: int | None, told: Progress, total: int,
) -> list[Source]:  # fmt: skip
    """The same by a cluster."""
    read = 0

    def done(block: Block) -> None:
        nonlocal read
        read += block.read
        told(read, max(total, read))

    with connect() as cluster:
        return encode_spread(cluster, inputs, record, make, workers, done)


def _place(
    record: Record, folder: Path, dedupe: bool, pool: Executor | None, unknown: int
) -> tuple[list[Shard], Dropped]:
    """Number the finished shards and put them into the folder of the corpus, without duplicates if so asked."""
    finished = [(number, piece.shard) for number, piece in sorted(record.pieces.items()) if piece.shard]
    if not dedupe:
        return [link_shard(record.folder, shard, folder, new) for new, (_, shard) in enumerate(finished)], Dropped()
    mark_duplicates(record.folder, [number for number, _ in finished])
    left = [(number, shard) for number, shard in finished if not all_doubles(record.folder, number)]
    gone = [(number, shard) for number, shard in finished if all_doubles(record.folder, number)]
    jobs = [Thinning(record.folder, number, shard, folder, new, unknown) for new, (number, shard) in enumerate(left)]
    thinned = list(in_order(pool, thin, jobs))
    dropped = [drop for _, drop in thinned] + [drop_all(record.folder, number, shard) for number, shard in gone]
    return [shard for shard, _ in thinned], Dropped(
        paragraphs=sum(drop.paragraphs for drop in dropped), bytes=sum(drop.bytes for drop in dropped)
    )
