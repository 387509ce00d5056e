"""Google's TensorFlow 1 checkpoints (and the variables of TF-Hub modules), read without TensorFlow.

``NAME.index`` is a LevelDB table of variable names to ``BundleEntryProto``; ``NAME.data-00000-of-00001`` and its
siblings hold the bytes (tensorflow ``core/protobuf/tensor_bundle.proto``, ``core/util/tensor_bundle``).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from halbert.errors import InputError, WeightsError
from halbert.files import exists, require_file
from halbert.weights.leveldb import Damaged, masked_crc32c, read_table, varint

# Training state beside the weights, by the names TensorFlow's and Google's optimisers give it. Nothing else is ignored.
_SLOT = re.compile(r"(^|/)(adam_m|adam_v|lamb_m|lamb_v|Adam|Adam_1)$")
_COUNTER = re.compile(r"^(global_step|beta1_power|beta2_power)$")
_SCOPE = "module/"  # around every variable of a module saved by the program that used it
# DataType of tensorflow/core/framework/types.proto: the floating-point ones.
_FLOATS: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 14: np.dtype("<u2"), 19: np.dtype("<f2")}
_BFLOAT16 = 14
_CHUNK = 1 << 22


class Variable(NamedTuple):
    """Where a variable's bytes are, and what they mean."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


def is_checkpoint(place: Path) -> bool:
    """Whether a path is a folder that holds a checkpoint, or the checkpoint itself (``NAME`` or ``NAME.index``)."""
    return bool(indexes(place)) if exists(place) and place.is_dir() else _prefix_of(place) is not None


def indexes(folder: Path) -> list[Path]:
    """The index files of a folder: its own, or those of the ``variables`` folder of a TF-Hub module."""
    return sorted(folder.glob("*.index")) or sorted((folder / "variables").glob("variables.index"))


def _prefix_of(place: Path) -> Path | None:
    if place.name in ("", ".index"):
        return None
    prefix = place.with_name(place.name.removesuffix(".index"))
    index = prefix.with_name(prefix.name + ".index")
    return prefix if exists(index) and index.is_file() else None


def find(place: Path) -> Path:
    """The path of a checkpoint without ``.index``. Of several in one folder, the one its ``checkpoint`` file names.

    Raises :class:`InputError` when there is none, or several and nothing to choose by.
    """
    if not place.is_dir():
        prefix = _prefix_of(place)
        if prefix is None:
            raise InputError(
                f"{place}: no such folder, and no checkpoint of that name: {place.name}.index is not there"
            )
        return prefix
    found = indexes(place)
    state = place / "checkpoint"
    if len(found) > 1 and state.is_file() and state.stat().st_size < 1 << 20:
        told = re.match(r'model_checkpoint_path: *"([^"\n]+)"', state.read_text("utf-8", "replace"))
        # Only the last part: the path is that of the machine that trained.
        found = [f for f in found if told and f.name == Path(told[1]).name + ".index"] or found
    if not found:
        raise InputError(f"{place}: holds no checkpoint: there is no file that ends in .index")
    if len(found) > 1:
        names = ", ".join(f.name.removesuffix(".index") for f in found[:4])
        raise InputError(f"{place}: holds {len(found)} checkpoints ({names}); name one: {place}/NAME")
    return found[0].with_name(found[0].name.removesuffix(".index"))


class Checkpoint:
    """An opened checkpoint: ``variables`` by name, without optimiser state; bytes are read on demand.

    Raises :class:`WeightsError` naming file and fault when the index is damaged, shards are missing, or a variable
    reaches past its shard; all before any weight is read.
    """

    def __init__(self, prefix: Path) -> None:
        self.index = prefix.with_name(prefix.name + ".index")
        table = read_table(self.index)
        try:
            shards = _header(table.pop(b"", b""))
            entries = {key.decode(): _entry(key, value) for key, value in table.items()}
        except (Damaged, UnicodeDecodeError) as fault:
            raise WeightsError(f"{self.index}: is no valid checkpoint index: {fault}") from None
        self.shards = [prefix.with_name(f"{prefix.name}.data-{i:05}-of-{shards:05}") for i in range(shards)]
        if any("/.ATTRIBUTES/" in name or name == "_CHECKPOINTABLE_OBJECT_GRAPH" for name in entries):
            raise WeightsError(
                f"{self.index}: is a TensorFlow 2 object checkpoint, which does not store the variables' names; Halbert "
                "reads Google's original TensorFlow 1 releases"
            )
        kept = {name: entry for name, entry in entries.items() if not (_SLOT.search(name) or _COUNTER.match(name))}
        if kept and all(name.startswith(_SCOPE) for name in kept):
            kept = {name.removeprefix(_SCOPE): entry for name, entry in kept.items()}
        sizes = [require_file(shard, f"shard of {self.index.name}").stat().st_size for shard in self.shards]
        for name, entry in kept.items():
            self._check(name, entry, sizes)
        self.variables = kept

    def _check(self, name: str, entry: Variable, sizes: list[int]) -> None:
        dtype = _FLOATS.get(entry.dtype)
        if dtype is None:
            raise WeightsError(
                f"{self.index}: {name} is of TensorFlow type {entry.dtype}, expected floating-point numbers"
            )
        if len(entry.shape) > 4 or math.prod(entry.shape) * dtype.itemsize != entry.size:
            raise WeightsError(f"{self.index}: {name} has shape {list(entry.shape)} but {entry.size:,} bytes")
        if entry.shard >= len(sizes):
            raise WeightsError(f"{self.index}: {name} is in shard {entry.shard}, but there are {len(sizes)}")
        if entry.offset + entry.size > sizes[entry.shard]:
            raise WeightsError(
                f"{self.shards[entry.shard]}: {name} reaches to byte {entry.offset + entry.size:,}, but the file has "
                f"{sizes[entry.shard]:,}; it may be truncated"
            )

    @property
    def files(self) -> list[Path]:
        """The index and its shards."""
        return [self.index, *self.shards]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the variables, as stored."""
        return {name: entry.shape for name, entry in self.variables.items()}

    def read(self, name: str) -> np.ndarray:
        """One variable (bfloat16 as float32). Raises :class:`WeightsError` when its checksum does not match."""
        entry = self.variables[name]
        array = np.empty(entry.shape, _FLOATS[entry.dtype])
        target = array.reshape(-1).view(np.uint8)
        checksum = 0
        with self.shards[entry.shard].open("rb") as stream:
            stream.seek(entry.offset)
            for start in range(0, entry.size, _CHUNK):
                chunk = stream.read(min(_CHUNK, entry.size - start))
                checksum = google_crc32c.extend(checksum, chunk)
                target[start : start + len(chunk)] = np.frombuffer(chunk, np.uint8)
        if masked_crc32c(checksum) != entry.checksum:
            raise WeightsError(
                f"{self.shards[entry.shard]}: the checksum of {name} does not match; the file is damaged"
            )
        if entry.dtype == _BFLOAT16:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array


def _fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """(number, value) of a protocol buffer message's fields, in order."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = varint(message, at)
            found.append((key >> 3, value))
            continue
        if wire == 2:
            size, at = varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise Damaged(f"a field of wire type {wire}")
        if at + size > len(message):
            raise Damaged("a field reaches past the end of its message")
        data = message[at : at + size]
        found.append((key >> 3, data if wire == 2 else int.from_bytes(data, "little")))
        at += size
    return found


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise Damaged("a text where a number belongs")
    return value


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise Damaged("a number where a message belongs")
    return value


def _header(message: bytes) -> int:
    """Number of shards (``BundleHeaderProto``)."""
    if not message:
        raise Damaged("it has no header")
    values = {number: value for number, value in _fields(message)}
    shards = _number(values.get(1, 0))
    if not 1 <= shards <= 10_000:
        raise Damaged(f"{shards} shards; expected 1 to 10,000")
    if _number(values.get(2, 0)) != 0:
        raise Damaged("it was written on a big-endian machine")
    return shards


def _entry(key: bytes, message: bytes) -> Variable:
    """``BundleEntryProto``."""
    dtype = shard = offset = size = checksum = 0
    shape: list[int] = []
    for number, value in _fields(message):
        if number == 1:
            dtype = _number(value)
        elif number == 2:
            for field, dimension in _fields(_message(value)):
                if field == 2:
                    shape.append(_number(dict(_fields(_message(dimension))).get(1, 0)))
        elif number == 3:
            shard = _number(value)
        elif number == 4:
            offset = _number(value)
        elif number == 5:
            size = _number(value)
        elif number == 6:
            checksum = _number(value)
        elif number == 7:
            raise Damaged(f"the variable {key.decode('utf-8', 'replace')!r} is stored in slices, which no release uses")
    return Variable(dtype, tuple(shape), shard, offset, size, checksum)
