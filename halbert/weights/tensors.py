"""Tensor files: ``model.safetensors``, single or sharded, read with every name and size checked, and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file

from halbert.errors import WeightsError
from halbert.files import confined, read_json, require_file
from halbert.weights.names import BUFFERS

Dtype = Literal["float32", "float16", "bfloat16"]


def read_tensors(folder: Path, allow_pickle: bool = False) -> dict[str, np.ndarray]:
    """All tensors of ``model.safetensors`` or of the shards that ``model.safetensors.index.json`` lists.

    bfloat16 comes back as float32. ``allow_pickle`` reads ``pytorch_model.bin`` where there is nothing else. Raises
    :class:`WeightsError` for damaged files, pickles that are not allowed, and shards outside.
    """
    single = folder / "model.safetensors"
    if single.exists():
        return _read_file(single)
    if single.with_name("model.safetensors.index.json").exists():
        return _read_shards(single.with_name("model.safetensors.index.json"), _read_file)
    pickles = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt"))
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
    table = read_json(index)
    places = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(places, dict) or not places:
        raise WeightsError(f"{index}: has no weight_map of tensor names to files")
    tensors: dict[str, np.ndarray] = {}
    for name in sorted(set(map(str, places.values()))):
        tensors |= read_file(confined(index.parent, name, index))
    lost = sorted(set(places) - tensors.keys())
    if lost:
        raise WeightsError(f"{index}: lists {lost[0]}, which is in none of the shards")
    return tensors


def _read_file(path: Path) -> dict[str, np.ndarray]:
    require_file(path, "safetensors file")
    tensors: dict[str, np.ndarray] = {}
    try:
        # safe_open checks the header against the file's size before anything is allocated.
        with safe_open(path, framework="numpy") as opened:
            names = list(opened.keys())
            narrow = {name for name in names if opened.get_slice(name).get_dtype() == "BF16"}
            for name in names:
                if name not in narrow:
                    tensors[name] = opened.get_tensor(name)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:  # the last: a type numpy lacks
        raise WeightsError(f"{path}: is not a valid safetensors file: {error}") from None
    if narrow:
        tensors |= _read_bfloat16(path, narrow)
    return check_floats(tensors, path)


def check_floats(tensors: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The same tensors. Raises :class:`WeightsError` when one holds anything but floating-point numbers."""
    for name, array in tensors.items():
        if array.dtype.kind != "f" and not name.endswith(BUFFERS):
            raise WeightsError(f"{path}: {name} holds {array.dtype}, expected floating-point numbers")
    return tensors


def _read_bfloat16(path: Path, names: set[str]) -> dict[str, np.ndarray]:
    """numpy has no bfloat16: its 16 bits are the upper half of a float32."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    tensors = {}
    for name in names:
        begin, end = header[name]["data_offsets"]
        raw = np.memmap(path, np.uint16, "r", offset=8 + size + begin, shape=((end - begin) // 2,))
        tensors[name] = (raw.astype(np.uint32) << 16).view(np.float32).reshape(header[name]["shape"])
    return tensors


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], dtype: Dtype = "float32") -> None:
    """Write one safetensors file, tensors in order of name; nothing is copied that has the right form already."""
    narrow = bfloat16 if dtype == "bfloat16" else lambda array: np.ascontiguousarray(array, dtype)
    ordered = {name: narrow(tensors[name]) for name in sorted(tensors)}
    described = {
        name: TensorSpec(dtype=dtype, shape=tensors[name].shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
        for name, array in ordered.items()
    }
    serialize_file(described, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it readable by its owner only


def bfloat16(array: np.ndarray) -> np.ndarray:
    """The 16 bits (uint16) of each number as bfloat16, rounded to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)
