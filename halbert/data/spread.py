"""Blocks encoded by the workers of a cluster: their text goes out with them, their shards come back, nothing else is shared."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from halbert.cluster import Cluster
from halbert.data import blocks
from halbert.data.blocks import Block, Cutter
from halbert.data.inputs import Input
from halbert.data.manifest import Source
from halbert.data.record import Piece, Record
from halbert.files import write_bytes

Encode = Callable[[Block], Piece]


class Sent(NamedTuple):
    """A block with the bytes of its parts; without them it is one that is finished."""

    block: Block
    data: list[bytes] | None


class Made(NamedTuple):
    """What became of a block: its record and the files of its shard, by name."""

    block: Block
    piece: Piece | None
    files: dict[str, bytes]


def cut(
    inputs: Sequence[Input], spool: Path, finished: Mapping[int, str], sizes: tuple[int, int]
) -> Iterator[Sent | list[Source]]:
    """All blocks in their order, and at the end what the inputs were; ``finished`` has the keys of blocks by number.

    This runs in another process, where the driver's ``sizes`` of blocks count.
    """
    blocks.SHARD_BYTES, blocks.SLACK = sizes
    cutter = Cutter(inputs, spool)
    for block in cutter.blocks():
        data = None
        if finished.get(block.number) != block.key:
            data = [_read(Path(part.path), part.begin, part.end) for part in block.parts]
        if block.spool:
            block.spool.unlink()
        yield Sent(block._replace(spool=None), data)
    yield cutter.sources


def _read(path: Path, begin: int, end: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(begin)
        return stream.read(end - begin)


class Worker:
    """Makes shards out of blocks, somewhere; ``make`` is given the folder where they are written."""

    def __init__(self, make: Callable[[Path], Encode]) -> None:
        self.make = make

    def __call__(self, sent: Sent | list[Source]) -> Made | list[Source]:
        """A block's shard."""
        if not isinstance(sent, Sent):
            return sent
        if sent.data is None:
            return Made(sent.block._replace(parts=[]), None, {})
        with tempfile.TemporaryDirectory() as place:
            file, begin, parts = Path(place) / "block", 0, []
            file.write_bytes(b"".join(sent.data))
            for part, data in zip(sent.block.parts, sent.data, strict=True):
                parts.append(part._replace(path=str(file), begin=begin, end=begin + len(data)))
                begin += len(data)
            piece = self.make(Path(place))(sent.block._replace(parts=parts))
            names = piece.shard.sha256 if piece.shard else {}
            files = {name: (Path(place) / name).read_bytes() for name in names}
        return Made(sent.block._replace(parts=[]), piece, files)


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
    source = functools.partial(cut, there, record.spool.resolve(), record.verified(), sizes)
    sources: list[Source] = []
    for made in cluster.stream(source, Worker, (make,), workers=workers):
        if not isinstance(made, Made):
            sources = made
            continue
        if made.piece is None:
            record.known(made.block)
        else:
            for name, data in made.files.items():
                write_bytes(record.folder / name, data)
            record.add(made.piece)
        done(made.block)
    return sources
