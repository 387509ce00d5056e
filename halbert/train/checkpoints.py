"""Checkpoints of a run: written whole or not at all, verified when they are read, the last few kept.

A checkpoint is a folder ``step-00000200`` with ``weights.safetensors``, ``optimizer.safetensors``, ``state.json`` and
``SHA256SUMS`` (``sha256sum -c`` reads it). Nothing in it is a pickle.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from halbert.errors import InputError
from halbert.files import read_json, sha256

WEIGHTS, OPTIMIZER, STATE, SUMS = "weights.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS"


class Checkpoint(NamedTuple):
    """What a run needs to go on as if it had never stopped."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints in one folder, of which the last ``keep`` stay."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, ascending."""
        return sorted(int(place.name.removeprefix("step-")) for place in self.folder.glob("step-*") if place.is_dir())

    def place(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, found: Checkpoint) -> None:
        """Write a checkpoint, then remove those beyond ``keep``.

        Raises :class:`InputError` when it cannot be written, with a full disk for instance; earlier ones stay.
        """
        target = self.place(step)
        part = self.folder / f".writing-{step:08d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            part.mkdir()
            save_file(found.weights, part / WEIGHTS)
            save_file(found.optimizer, part / OPTIMIZER)
            (part / STATE).write_text(json.dumps(found.state, indent=2, allow_nan=False) + "\n", "utf-8")
            sums = [f"{sha256(part / name)}  {name}\n" for name in (OPTIMIZER, STATE, WEIGHTS)]
            (part / SUMS).write_text("".join(sums), "utf-8")
            for file in [*part.iterdir(), part]:
                _flush(file)
            if target.exists():  # of an earlier run that was damaged from here on
                shutil.rmtree(target)
            part.rename(target)
            _flush(self.folder)
            steps = self.steps()
            kept = [each for each in steps if each <= step][-self.keep :]
            for old in steps:  # later ones were damaged, else the run had gone on from there
                if old not in kept:
                    shutil.rmtree(self.place(old))
        except (OSError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)
            kept = self.steps()
            last = (
                f"the last checkpoint kept is that of step {kept[-1]:,}" if kept else "there is no earlier checkpoint"
            )
            raise InputError(f"{target}: cannot be written ({error}); {last}") from None

    def _sweep(self) -> None:
        for rest in self.folder.glob(".writing-*"):  # of a process that was killed
            shutil.rmtree(rest, ignore_errors=True)

    def latest(self) -> Checkpoint | None:
        """The last checkpoint that is whole; a damaged one is passed over with a warning. None if there is none."""
        for step in reversed(self.steps()):
            try:
                return self._read(self.place(step))
            except (InputError, OSError, SafetensorError, ValueError) as error:
                warnings.warn(f"{self.place(step)} is damaged ({error}) and is passed over", stacklevel=2)
        return None

    def _read(self, place: Path) -> Checkpoint:
        sums = (place / SUMS).read_text("utf-8").splitlines()
        for name in (OPTIMIZER, STATE, WEIGHTS):
            if f"{sha256(place / name)}  {name}" not in sums:
                raise InputError(f"{name} is not what was written")
        return Checkpoint(load_file(place / WEIGHTS), load_file(place / OPTIMIZER), read_json(place / STATE))


def _flush(path: Path) -> None:
    """To the disk, not only to the system's memory."""
    with contextlib.suppress(OSError, PermissionError):  # folders cannot be opened everywhere
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def taken(model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Checkpoint:
    """A run as it is. Tensors of which each process holds a part are put together, so every process has to call this."""
    weights = {name: _whole(p) for name, p in model.named_parameters()}
    told = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    groups = []
    for group in told["param_groups"]:
        numbers = group["params"]
        for name, number in zip(group["param_names"], numbers, strict=True):
            for key, value in told["state"].get(number, {}).items():
                tensors[f"{key}/{name}"] = _whole(value)
        groups.append({k: v for k, v in group.items() if k not in ("params", "param_names")})
    return Checkpoint(weights, tensors, {**state, "groups": groups})


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, found: Checkpoint) -> None:
    """Put a checkpoint into a model and its optimiser. Raises :class:`InputError` when they are of another shape."""
    own = dict(model.named_parameters())
    if own.keys() != found.weights.keys() or any(own[n].shape != w.shape for n, w in found.weights.items()):
        raise InputError("the checkpoint is of another model; continue with the recipe it was made with")
    with torch.no_grad():
        for name, p in own.items():
            p.copy_(_spread(found.weights[name], p))
    told = optimizer.state_dict()
    # In one order: a tensor is shared out by a message from the first process, and a set has another order in each of them.
    kinds = sorted({key.split("/", 1)[0] for key in found.optimizer})
    for group, kept in zip(told["param_groups"], found.state["groups"], strict=True):
        group |= {key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()}
        for name, number in zip(group["param_names"], group["params"], strict=True):
            state = {}
            for key in kinds:
                value = found.optimizer.get(f"{key}/{name}")
                if value is not None:
                    state[key] = _spread(value, own[name]) if value.shape == own[name].shape else value
            if state:
                told["state"][number] = state
    optimizer.load_state_dict(told)


def _whole(tensor: Tensor) -> Tensor:
    found = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return found.detach().to("cpu", copy=True).contiguous()


def _spread(value: Tensor, like: Tensor) -> Tensor:
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements) if isinstance(like, DTensor) else value
