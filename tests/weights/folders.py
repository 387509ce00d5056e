"""Making and damaging model folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from safetensors.numpy import load_file, save_file


def change_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """``change`` edits the configuration in place."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


def change_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray] | None]) -> None:
    """``change`` edits the tensors in place, or returns others."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file(change(tensors) or tensors, file, metadata={"format": "pt"})


def through_transformers(folder: Path, target: Path, dtype: Any = None, **how: Any) -> Path:
    """What transformers writes after reading ``folder``, with the tokenizer's files beside it."""
    config = json.loads((folder / "config.json").read_text())
    model, told = getattr(transformers, config["architectures"][0]).from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"], told
    (model if dtype is None else model.to(dtype)).save_pretrained(target, **how)
    for name in ("vocab.txt", "spiece.model", "tokenizer_config.json"):
        if (folder / name).exists():
            shutil.copy(folder / name, target)
    return target


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
