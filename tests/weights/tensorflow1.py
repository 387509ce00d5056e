"""A writer of TensorFlow checkpoints, for tests only: byte for byte what TensorFlow writes (see ``test_tensorflow1``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import google_crc32c
import numpy as np

GOLDEN = Path(__file__).parent.parent / "golden" / "tensorflow1"
DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}
BLOCK_SIZE = 262_144  # tensorflow/core/lib/io/table_options.h
RESTART_INTERVAL = 16


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    """A protocol buffer field; zero is left out, as in proto3."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value) if value else b""


def masked(checksum: int) -> int:
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def entry(dtype: int, shape: tuple[int, ...], shard: int, offset: int, size: int, checksum: int) -> bytes:
    shape_message = b"".join(field(2, field(1, n)) for n in shape)
    return (
        field(1, dtype) + field(2, shape_message) + field(3, shard) + field(4, offset) + field(5, size)
        + varint(6 << 3 | 5) + checksum.to_bytes(4, "little")
    )  # fmt: skip


def header(shards: int) -> bytes:
    return field(1, shards) + field(3, field(1, 1))  # little-endian, format version 1


class Block:
    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.data, self.restarts, self.count, self.last = bytearray(), [0], 0, b""

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.count < self.interval:
            while shared < min(len(key), len(self.last)) and key[shared] == self.last[shared]:
                shared += 1
        else:
            self.restarts.append(len(self.data))
            self.count = 0
        self.data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        self.last, self.count = key, self.count + 1

    def finish(self) -> bytes:
        return bytes(self.data) + b"".join(n.to_bytes(4, "little") for n in [*self.restarts, len(self.restarts)])

    @property
    def size(self) -> int:
        return len(self.data) + 4 * len(self.restarts) + 4


def separator(a: bytes, b: bytes) -> bytes:
    """The shortest key at or after ``a`` and before ``b``."""
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    if n < min(len(a), len(b)) and a[n] < 0xFF and a[n] + 1 < b[n]:
        return a[:n] + bytes([a[n] + 1])
    return a


def successor(key: bytes) -> bytes:
    for i, byte in enumerate(key):
        if byte != 0xFF:
            return key[:i] + bytes([byte + 1])
    return key


def table(entries: Mapping[bytes, bytes], block_size: int = BLOCK_SIZE) -> bytes:
    out = bytearray()

    def write(block: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(block))
        out.extend(block + b"\0" + masked(google_crc32c.value(block + b"\0")).to_bytes(4, "little"))
        return handle

    index, block, pending = Block(1), Block(RESTART_INTERVAL), None
    last = b""
    for key in sorted(entries):
        if pending is not None:
            index.add(separator(last, key), pending)
            pending = None
        block.add(key, entries[key])
        last = key
        if block.size >= block_size:
            pending, block = write(block.finish()), Block(RESTART_INTERVAL)
    if block.data:
        pending = write(block.finish())
    meta = write(Block(RESTART_INTERVAL).finish())
    if pending is not None:
        index.add(successor(last), pending)
    footer = meta + write(index.finish())
    return bytes(out) + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def write(
    prefix: Path,
    variables: Mapping[str, np.ndarray | tuple[tuple[int, ...], Callable[[], np.ndarray]]],
    shards: int = 1,
) -> Path:
    """A checkpoint; a variable is an array, or its shape and a function that makes it when its turn comes."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    entries = {b"": header(shards)}
    names = sorted(variables)
    for shard in range(shards):
        offset = 0
        with prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{shards:05}").open("wb") as stream:
            for name in names[shard::shards]:
                given = variables[name]
                array = np.asarray(given[1]() if isinstance(given, tuple) else given)
                data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                checksum = masked(google_crc32c.value(bytes(data)))
                stream.write(data)
                entries[name.encode()] = entry(
                    DTYPES[str(array.dtype)],
                    array.shape,
                    shard,
                    offset,
                    math.prod(array.shape) * array.itemsize,
                    checksum,
                )
                offset += len(data)
    prefix.with_name(prefix.name + ".index").write_bytes(table(entries))
    return prefix
