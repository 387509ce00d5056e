"""A model's matrices in int8, and what the engine must know to compute with them: one file beside the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save

from halbert.errors import WeightsError
from halbert.files import write_bytes
from halbert.heads import HeadSpec
from halbert.spec import EncoderSpec
from halbert.weights import names
from halbert.weights.tensors import read_file

FOLDER = "engines/int8"
ENGINE, CERTIFICATE = f"{FOLDER}/int8.safetensors", f"{FOLDER}/certificate.json"


class Int8(NamedTuple):
    """Matrices as whole numbers: ``weights[name] * scales[name][:, None]``, applied to inputs divided by ``smooth``.

    ``weights`` (O, I) int8 and ``scales`` (O,) float32 by the name of the array; ``smooth`` (I,) float32 by group of dense
    layers that read the same input; ``ranges`` (lowest, highest) of that input by application. An application without a
    range reads its input as it is. ``plain`` are the model's other arrays, so that nothing else is needed to run it.
    """

    weights: dict[str, np.ndarray]
    scales: dict[str, np.ndarray]
    smooth: dict[str, np.ndarray]
    ranges: dict[str, tuple[float, float]]
    plain: dict[str, np.ndarray]


def matrices_of(group: str) -> list[str]:
    """The matrices of a group: an attention's query, key and value read the same input, every other reads its own."""
    place, _, part = group.rpartition(".")
    return [f"{place}.{name}.weight" for name in (("query", "key", "value") if part == "input" else (part,))]


def save_int8(path: Path, found: Int8) -> None:
    """Write one safetensors file. The same matrices, the same bytes."""
    tensors: dict[str, np.ndarray] = {}
    for kind in ("weights", "scales", "smooth", "plain"):
        tensors |= {f"{kind}/{name}": array for name, array in getattr(found, kind).items()}
    tensors |= {f"ranges/{point}": np.array(limits, np.float32) for point, limits in found.ranges.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}))


def load_int8(path: Path, spec: EncoderSpec, heads: Mapping[str, HeadSpec]) -> Int8:
    """Read the file for such a model. Raises :class:`WeightsError` when the two do not belong together."""
    found = Int8({}, {}, {}, {}, {})
    for key, array in read_file(path, integers=True).items():
        kind, _, name = key.partition("/")
        if kind not in Int8._fields or array.dtype != (np.int8 if kind == "weights" else np.float32):
            raise WeightsError(f"{path}: holds {key} ({array.dtype}), which is no part of an int8 engine")
        if kind == "ranges":
            if array.shape != (2,) or not array[0] < array[1]:
                raise WeightsError(f"{path}: {key} is no range")
            found.ranges[name] = (float(array[0]), float(array[1]))
        else:
            getattr(found, kind)[name] = array
    wanted = {entry.ours: tuple(entry.shape) for entry in names.expected(spec, dict(heads), names.layout_of(spec))}
    for name in sorted(wanted.keys() | found.weights.keys() | found.plain.keys()):
        whole, plain = found.weights.get(name), found.plain.get(name)
        one = plain if whole is None else whole
        fits = one is not None and one.shape == wanted.get(name) and (whole is None or plain is None)
        scales = found.scales.get(name)
        if not fits or (whole is not None and (scales is None or scales.shape != whole.shape[:1])):
            raise WeightsError(f"{path}: {name} does not fit the model beside it; quantize the model again")
    for group, factors in found.smooth.items():
        matrix = found.weights.get(matrices_of(group)[0])
        if matrix is None or factors.shape != matrix.shape[1:] or not (np.isfinite(factors) & (factors > 0)).all():
            raise WeightsError(f"{path}: {group} has no factors that fit the model beside it; quantize the model again")
    return found
