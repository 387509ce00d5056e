"""LevelDB tables: the sorted key-value file that TensorFlow keeps a checkpoint's index in.

Format: leveldb's ``doc/table_format.md``. A table is a run of blocks, each followed by one byte of compression type and
four of checksum, and ends with a footer that says where the block of block addresses is. Inside a block a key is
stored without the part it shares with the key before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from halbert.errors import WeightsError
from halbert.files import require_file

# The index of BERT-large has 22 KB. Whatever comes near this is no index of a BERT or ALBERT.
LARGEST = 64 << 20
LONGEST_KEY = 4096  # bytes; keys share what is before them, and could grow with the square of the file
_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5


class Damaged(ValueError):
    """Bytes that are not what the format says; the caller knows the file's name."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, next position) of a variable-length number. Raises :class:`Damaged`."""
    value = 0
    for i in range(10):
        if at + i >= len(data):
            break
        byte = data[at + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise Damaged("a number runs past the end")


def masked_crc32c(checksum: int) -> int:
    """A CRC32C as LevelDB stores it: rotated and shifted, so that checksums of checksums stay good ones."""
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_table(path: Path) -> dict[bytes, bytes]:
    """Every key and value of a table, in order.

    Raises :class:`WeightsError` naming the file and the fault: wrong magic, truncation, a block outside the file, a
    checksum that does not match, keys out of order.
    """
    size = require_file(path, "checkpoint index").stat().st_size
    if size > LARGEST:
        raise WeightsError(f"{path}: {size:,} bytes; the index of a checkpoint has at most {LARGEST:,}")
    data = path.read_bytes()
    try:
        return _table(data)
    except Damaged as fault:
        raise WeightsError(f"{path}: is no valid checkpoint index: {fault}") from None


def _table(data: bytes) -> dict[bytes, bytes]:
    if len(data) < _FOOTER:
        raise Damaged(f"{len(data)} bytes, too few for its footer; it may be truncated")
    footer = data[-_FOOTER:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise Damaged("it does not end with LevelDB's magic number; it may be truncated, or another kind of file")
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    found: dict[bytes, bytes] = {}
    last = None
    for _, address in _block(data, *index):
        handle, _ = _handle(address, 0)
        for key, value in _block(data, *handle):
            if last is not None and key <= last:
                raise Damaged(f"the key {key[:80]!r} is out of order")
            found[key] = value
            last = key
    return found


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end = offset + size
    if end + _TRAILER > len(data) - _FOOTER:
        raise Damaged(f"a block of {size:,} bytes at {offset:,} reaches past the end")
    if masked_crc32c(google_crc32c.value(data[offset : end + 1])) != int.from_bytes(data[end + 1 : end + 5], "little"):
        raise Damaged(f"the checksum of the block at {offset:,} does not match")
    if data[end] != 0:
        raise Damaged(f"the block at {offset:,} is compressed (type {data[end]}); TensorFlow writes plain ones")
    block = data[offset:end]
    restarts = int.from_bytes(block[-4:], "little")
    if len(block) < 4 or 4 * restarts + 4 > len(block):
        raise Damaged(f"the block at {offset:,} has an impossible number of restart points")
    stop = len(block) - 4 * restarts - 4
    at, key = 0, b""
    while at < stop:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + own + length > stop:
            raise Damaged(f"an entry of the block at {offset:,} reaches past its end")
        key = key[:shared] + block[at : at + own]
        at += own
        if len(key) > LONGEST_KEY:
            raise Damaged(f"a key of {len(key):,} bytes; a tensor's name has at most {LONGEST_KEY:,}")
        yield key, block[at : at + length]
        at += length
