"""Strict accounting: every tensor of a file is used once, and every tensor of the model is in the file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from halbert.errors import WeightsError
from halbert.weights.names import Entry


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def settle(entries: list[Entry], found: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Our arrays out of a file's tensors.

    Raises :class:`WeightsError` naming the first tensors that are missing, left over, wrongly shaped, or that should
    share one value and do not.
    """
    wanted = {name for entry in entries for name in entry.theirs}
    missing = sorted(wanted - found.keys())
    if missing:
        raise WeightsError(f"{where}: {len(missing)} tensors are missing: {_list(missing)}")
    extra = sorted(found.keys() - wanted)
    if extra:
        raise WeightsError(f"{where}: {len(extra)} tensors have no place in this architecture: {_list(extra)}")
    ours: dict[str, np.ndarray] = {}
    for entry in entries:
        for name in entry.theirs:
            if found[name].shape != entry.shape:
                raise WeightsError(
                    f"{where}: {name} has shape {list(found[name].shape)}, the configuration expects {list(entry.shape)}"
                )
        first = found[entry.theirs[0]]
        for other in entry.theirs[1:]:
            if not np.array_equal(first, found[other]):
                raise WeightsError(f"{where}: {entry.theirs[0]} and {other} should be one shared tensor, but differ")
        ours[entry.ours] = first
    return ours
