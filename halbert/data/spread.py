"""Blocks encoded by the workers of a cluster: their text goes out with them, their shards come back, nothing else is shared.

Where all workers are on this machine, they read plain files and write shards themselves.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from halbert.cluster import Cluster, Parcel
from halbert.data import blocks
from halbert.data.blocks import Block, Cutter
from halbert.data.inputs import Input
from halbert.data.manifest import Source
from halbert.data.record import Piece, Record
from halbert.errors import InputError
from halbert.files import write_bytes

Encode = Callable[[Block, memoryview | None], Piece]


class Made(NamedTuple):
    """What became of a block: its record, and the sizes of the files of its shard, by name; of one that was finished nothing.

    The files of a shard without sizes are in their place already.
    """

    block: Block
    piece: Piece | None
    sizes: dict[str, int]


def cut(
    inputs: Sequence[Input], spool: Path, finished: Mapping[int, str], sizes: tuple[int, int], here: bool
) -> Iterator[Parcel | Block | list[Source]]:
    """All blocks in their order, of which those without parts are finished, and at the end what the inputs were.

    Their bytes go with them, but for files that lie where the workers are (``here``): of what is unpacked as much would lie
    on the disk as they are slow. ``finished`` has the keys of blocks by number. This runs in another process, where the
    driver's ``sizes`` of blocks count.
    """
    blocks.SHARD_BYTES, blocks.SLACK = sizes
    cutter = Cutter(inputs, spool)
    for block in cutter.blocks():
        sent: Parcel | Block = block._replace(spool=None)
        if finished.get(block.number) == block.key:
            sent = block._replace(spool=None, parts=[])
        elif block.spool or not here:
            sent = Parcel(sent, b"".join([_read(Path(part.path), part.begin, part.end) for part in block.parts]))
        if block.spool:
            block.spool.unlink()
        yield sent
    yield cutter.sources


def _read(path: Path, begin: int, end: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(begin)
        found = stream.read(end - begin)
    if len(found) != end - begin:
        raise InputError(f"{path}: has become shorter while it was read")
    return found


class Worker:
    """Makes shards out of blocks, somewhere; ``make`` is given the folder where they are written.

    Those of blocks that come without their bytes are written to ``folder``.
    """

    def __init__(self, make: Callable[[Path], Encode], folder: Path) -> None:
        self.make, self.folder = make, folder

    def __call__(self, sent: Parcel | Block | list[Source]) -> Parcel | Made | list[Source]:
        """A block's shard."""
        if isinstance(sent, list):
            return sent
        if isinstance(sent, Block):
            found = self.make(self.folder)(sent, None) if sent.parts else None
            return Made(sent._replace(parts=[]), found, {})
        block: Block = sent.item
        with tempfile.TemporaryDirectory() as place:
            begin, parts = 0, []
            for part in block.parts:
                size = part.end - part.begin
                parts.append(part._replace(begin=begin, end=begin + size))
                begin += size
            piece = self.make(Path(place))(block._replace(parts=parts), sent.data)
            files = [Path(place) / name for name in (piece.shard.sha256 if piece.shard else {})]
            sizes = [file.stat().st_size for file in files]
            data, begin = np.empty(sum(sizes), np.uint8).data, 0
            for made, size in zip(files, sizes, strict=True):
                with made.open("rb") as stream:
                    stream.readinto(data[begin : begin + size])
                begin += size
        return Parcel(
            Made(block._replace(parts=[]), piece, dict(zip((f.name for f in files), sizes, strict=True))), data
        )

    def named(self, sent: Parcel | Block | list[Source]) -> str:
        """What an item is, for people."""
        if isinstance(sent, list):
            return "the end of the inputs"
        block: Block = sent.item if isinstance(sent, Parcel) else sent
        return (
            f"block {block.number} ({', '.join(f'{part.shown} from line {part.line:,}' for part in block.parts[:3])})"
        )


def encode_spread(
    cluster: Cluster,
    inputs: Sequence[Input],
    record: Record,
    make: Callable[[Path], Encode],
    workers: int | None,
    done: Callable[[Block], None],
) -> list[Source]:
    """Encode every block that is not finished by a cluster; ``done`` is told of each. Returns what the inputs were."""
    # The task that reads was started somewhere else on this machine.
    there = [item if item.remote else item._replace(path=str(Path(item.path).resolve())) for item in inputs]
    sizes = blocks.SHARD_BYTES, blocks.SLACK
    here = cluster.only_here
    source = functools.partial(cut, there, record.spool.resolve(), record.verified(), sizes, here)
    sources: list[Source] = []
    for made in cluster.stream(source, Worker, (make, record.folder.resolve()), workers=workers):
        if isinstance(made, list):
            sources = made
            continue
        about: Made = made.item if isinstance(made, Parcel) else made
        if about.piece is None:
            record.known(about.block)
        else:
            begin = 0
            for name, size in about.sizes.items():
                write_bytes(record.folder / name, made.data[begin : begin + size])
                begin += size
            record.add(about.piece)
        done(about.block)
    return sources
