"""Tensor files: ``model.safetensors``, single or sharded, read with every name and size checked, and written."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file

from halbert.errors import WeightsError
from halbert.files import confined, read_json, require_file
from halbert.weights.names import BUFFERS

Dtype = Literal["float32", "float16", "bfloat16"]
_MAPPED = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U8": np.uint8,
}  # fmt: skip


def read_tensors(folder: Path, allow_pickle: bool = False) -> dict[str, np.ndarray]:
    """All tensors of ``model.safetensors`` or of the shards that ``model.safetensors.index.json`` lists.

    bfloat16 comes back as float32. ``allow_pickle`` reads ``pytorch_model.bin`` where there is nothing else. Raises
    :class:`WeightsError` for damaged files, pickles that are not allowed, and shards outside.
    """
    single = folder / "model.safetensors"
    if single.exists():
        return read_file(single)
    if single.with_name("model.safetensors.index.json").exists():
        return _read_shards(single.with_name("model.safetensors.index.json"), read_file)
    pickles = sorted(folder.glob("pytorch_model*.bin")) + sorted(folder.glob("*.pt"))
    if pickles and not allow_pickle:
        raise WeightsError(
            f"{pickles[0]}: is a pickle, which can run code when it is opened, so Halbert does not; if you trust it, "
            "halbert convert --allow-pickle reads its tensors and nothing else"
        )
    if pickles:
        from halbert.weights.pickles import read_pickle

        index = folder / "pytorch_model.bin.index.json"
        return _read_shards(index, read_pickle) if index.exists() else read_pickle(folder / "pytorch_model.bin")
    raise WeightsError(f"{folder}: found no model.safetensors and no model.safetensors.index.json")


def _read_shards(index: Path, read_file: Callable[[Path], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    places = _weight_map(index)
    tensors: dict[str, np.ndarray] = {}
    for name in sorted(set(places.values())):
        tensors |= read_file(confined(index.parent, name, index))
    lost = sorted(set(places) - tensors.keys())
    if lost:
        raise WeightsError(f"{index}: lists {lost[0]}, which is in none of the shards")
    return tensors


def tensor_names(folder: Path) -> set[str] | None:
    """Names of the tensors :func:`read_tensors` would read, from headers alone; None where there is no safetensors file.

    Raises :class:`WeightsError` for damaged files.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        try:
            with safe_open(single, framework="numpy") as opened:
                return set(opened.keys())
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{single}: is not a valid safetensors file: {error}") from None
    if not index.exists():
        return None
    return set(_weight_map(index))


def _weight_map(index: Path) -> dict[str, str]:
    table = read_json(index)
    places = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(places, dict) or not places:
        raise WeightsError(f"{index}: has no weight_map of tensor names to files")
    return {name: str(file) for name, file in places.items()}


def read_file(path: Path, integers: bool = False) -> dict[str, np.ndarray]:
    """All tensors of one safetensors file, mapped and read-only. Raises :class:`WeightsError` when it is damaged.

    Only floating-point numbers may be in it, unless ``integers`` are expected too.
    """
    require_file(path, "safetensors file")
    tensors: dict[str, np.ndarray] = {}
    try:
        # safe_open checks the header against the file's size before anything is allocated.
        with safe_open(path, framework="numpy") as opened:
            types = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118, not a dict
            for name, kind in types.items():
                if kind not in _MAPPED and kind != "BF16":
                    tensors[name] = opened.get_tensor(name)
        tensors |= _map(path, types)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:  # the last: a type numpy lacks
        raise WeightsError(f"{path}: is not a valid safetensors file: {error}") from None
    return tensors if integers else check_floats(tensors, path)


def _map(path: Path, types: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Views of the file's own pages, which processes share and the system may drop; bfloat16 is widened."""
    with path.open("rb") as stream:
        pages = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)  # see writable()
    size = int.from_bytes(pages[:8], "little")
    header = json.loads(pages[8 : 8 + size])
    tensors = {}
    for name, kind in types.items():
        begin, end = header[name]["data_offsets"]
        place, shape = 8 + size + begin, header[name]["shape"]
        if kind == "BF16":  # numpy has none: its 16 bits are the upper half of a float32
            raw = np.frombuffer(pages, np.uint16, (end - begin) // 2, place)
            tensors[name] = (raw.astype(np.uint32) << 16).view(np.float32).reshape(shape)
        elif kind in _MAPPED:
            width = np.dtype(_MAPPED[kind]).itemsize
            view = np.frombuffer(pages, _MAPPED[kind], (end - begin) // width, place).reshape(shape)
            tensors[name] = view if view.flags.aligned else view.copy()
            tensors[name].flags.writeable = False
    return tensors


def writable(array: np.ndarray) -> np.ndarray:
    """The same numbers for a library that takes no read-only array, though it only reads; copied if it cannot be had."""
    view = array.view()
    try:
        view.flags.writeable = True
    except ValueError:
        return array.copy()
    return view


def drop_pages(arrays: Iterable[np.ndarray]) -> None:
    """Let go of the mapped pages behind these arrays; whoever reads one again has it read from its file again."""
    owners = {}
    for array in arrays:
        base: object = array
        while isinstance(base, np.ndarray):
            base = base.base
        owner = base.obj if isinstance(base, memoryview) else base
        if isinstance(owner, mmap.mmap):
            owners[id(owner)] = owner
    for owner in owners.values():
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            owner.madvise(mmap.MADV_DONTNEED)


def check_floats(tensors: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The same tensors. Raises :class:`WeightsError` when one holds anything but floating-point numbers."""
    for name, array in tensors.items():
        if array.dtype.kind != "f" and not name.endswith(BUFFERS):
            raise WeightsError(f"{path}: {name} holds {array.dtype}, expected floating-point numbers")
    return tensors


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], dtype: Dtype = "float32") -> None:
    """Write one safetensors file, tensors in order of name; nothing is copied that has the right form already."""
    ordered = {name: _narrowed(name, tensors[name], dtype) for name in sorted(tensors)}
    described = {
        name: TensorSpec(dtype=dtype, shape=tensors[name].shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
        for name, array in ordered.items()
    }
    serialize_file(described, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it readable by its owner only


def _narrowed(name: str, array: np.ndarray, dtype: Dtype) -> np.ndarray:
    """The array in the format on disk. Raises :class:`WeightsError` when a number does not survive that."""
    largest = max(float(array.max()), -float(array.min())) if array.size else 0.0  # NaN, if there is one
    if not np.isfinite(largest):
        raise WeightsError(f"{name} holds NaN or infinity; a model with such a weight cannot compute anything")
    if dtype == "float16" and largest >= 65520:
        raise WeightsError(f"{name} holds {largest:g}, beyond the largest float16 (65,504); use bfloat16 or float32")
    return bfloat16(array) if dtype == "bfloat16" else np.ascontiguousarray(array, dtype)


def bfloat16(array: np.ndarray) -> np.ndarray:
    """The 16 bits (uint16) of each number as bfloat16, rounded to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)
