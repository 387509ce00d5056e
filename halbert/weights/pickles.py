"""``pytorch_model.bin``: read by torch with ``weights_only=True``, and only where the user says so."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from halbert.errors import WeightsError, missing_extra
from halbert.files import require_file
from halbert.weights.tensors import check_floats


def read_pickle(path: Path) -> dict[str, np.ndarray]:
    """The tensors of one file (bfloat16 as float32).

    Raises :class:`WeightsError` when it holds anything but tensors by name, :class:`MissingExtra` without torch.
    """
    try:
        import torch
    except ImportError:
        raise missing_extra("torch", "train", "reading pytorch_model.bin") from None
    require_file(path, "PyTorch file")
    try:
        with warnings.catch_warnings(action="ignore"):  # about the age of the file's format
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # a damaged pickle fails in every way there is
        told = (str(fault).splitlines() or [type(fault).__name__])[0][:200]
        raise WeightsError(f"{path}: holds more than tensors, or is damaged; refused: {told}") from None
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise WeightsError(f"{path}: is no table of tensors by name")
    tensors = {}
    for name, tensor in found.items():
        if tensor.is_floating_point() and tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        tensors[str(name)] = tensor.detach().contiguous().numpy()
    return check_floats(tensors, path)
