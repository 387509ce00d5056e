"""``pytorch_model.bin``: read by torch with ``weights_only=True``, and only where the user says so."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from halbert.errors import WeightsError, missing_extra
from halbert.files import require_file
from halbert.weights.tensors import check_floats

SHARED = 4  # times the size of a file its tensors may have together


def read_pickle(path: Path) -> dict[str, np.ndarray]:
    """The tensors of one file (bfloat16 as float32).

    Raises :class:`WeightsError` when it holds anything but tensors by name, :class:`MissingExtra` without torch.
    """
    try:
        import torch
    except ImportError:
        raise missing_extra("torch", "train", "reading pytorch_model.bin") from None
    require_file(path, "PyTorch file")
    size = path.stat().st_size
    _check_packing(path, size)
    try:
        with warnings.catch_warnings(action="ignore"):  # about the age of the file's format
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # a damaged pickle fails in every way there is
        told = (str(fault).splitlines() or [type(fault).__name__])[0][:200]
        raise WeightsError(f"{path}: holds more than tensors, or is damaged; refused: {told}") from None

    def plain(value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized

    if not isinstance(found, dict) or not all(map(plain, found.values())):
        raise WeightsError(f"{path}: is no table of tensors by name")
    # A tensor may be a view that repeats few numbers, and many of them may be of the same; two or three are, in real files.
    spent = [tensor.numel() * tensor.element_size() for tensor in found.values()]
    if max(spent, default=0) > size or sum(spent) > SHARED * size:
        raise WeightsError(f"{path}: its tensors have {sum(spent):,} bytes, the file {size:,}; refused")
    tensors = {}
    for name, tensor in found.items():
        if tensor.is_floating_point() and tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        tensors[str(name)] = tensor.detach().contiguous().numpy()
    return check_floats(tensors, path)


def _check_packing(path: Path, size: int) -> None:
    """torch stores what it saves as it is; what is packed could have any size. Raises :class:`WeightsError`."""
    if not zipfile.is_zipfile(path):  # the form of before torch 1.6
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return  # is what torch will say
    if sum(member.file_size for member in members) > size:
        raise WeightsError(f"{path}: unpacks to more than its {size:,} bytes; refused")
