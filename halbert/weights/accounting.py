"""Strict accounting: every tensor of a file is used once, and every tensor of the model is in the file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from halbert.errors import WeightsError
from halbert.weights.names import Entry


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def check(entries: list[Entry], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Compare what an architecture needs with the names and shapes of a file.

    Raises :class:`WeightsError` naming the first tensors that are missing, left over or wrongly shaped.
    """
    wanted = {name for entry in entries for name in entry.theirs}
    missing = sorted(wanted - shapes.keys())
    if missing:
        raise WeightsError(f"{where}: {len(missing)} tensors are missing: {_list(missing)}")
    extra = sorted(shapes.keys() - wanted)
    if extra:
        raise WeightsError(f"{where}: {len(extra)} tensors have no place in this architecture: {_list(extra)}")
    for entry in entries:
        for name in entry.theirs:
            if shapes[name] != entry.file_shape:
                raise WeightsError(
                    f"{where}: {name} has shape {list(shapes[name])}, the configuration expects {list(entry.file_shape)}"
                )


def settle(entries: list[Entry], found: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Our arrays out of a file's tensors.

    Raises :class:`WeightsError` as :func:`check` does, and for tensors that should share one value and do not.
    """
    check(entries, {name: array.shape for name, array in found.items()}, where)
    ours: dict[str, np.ndarray] = {}
    for entry in entries:
        first = found[entry.theirs[0]]
        for other in entry.theirs[1:]:
            if not np.array_equal(first, found[other]):
                raise WeightsError(f"{where}: {entry.theirs[0]} and {other} should be one shared tensor, but differ")
        ours[entry.ours] = first
    return ours
