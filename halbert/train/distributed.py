"""Several processes on one model: what torchrun tells each of them, and torch's own engines around the model."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from halbert.errors import HalbertError, InputError
from halbert.model import Model

Strategy = Literal["ddp", "fsdp"]


class World(NamedTuple):
    """This process: its number among how many, and its device."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0


ALONE = World(0, 1, torch.device("cpu"))


def choose_device() -> torch.device:
    """The GPU that is this process's, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def speaks() -> bool:
    """Whether this process is the one that writes to the terminal, before the processes have joined."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined() -> Iterator[World]:
    """This process as one of torchrun's (``RANK`` and ``WORLD_SIZE`` in the environment), or alone.

    Raises :class:`InputError` when the environment is only half of what torchrun sets.
    """
    device = choose_device()
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or distributed.is_initialized():
        own = distributed.is_initialized()
        yield World(distributed.get_rank() if own else 0, distributed.get_world_size() if own else 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the processes cannot join ({error}); start them with: torchrun --nproc-per-node N -m halbert …"
        ) from None
    try:
        yield World(distributed.get_rank(), distributed.get_world_size(), device)
    except BaseException:
        distributed.destroy_process_group()
        raise
    leave()


def leave() -> None:
    """Part from the other processes once all of them are done.

    gloo's threads hold tensors until the last message has gone both ways; where they outlive the interpreter, torch ends
    the process with SIGABRT though all its work is done (pytorch#190489, #179291).
    """
    with suppress(RuntimeError):  # another one is gone already, for reasons that it tells itself
        distributed.barrier()
    gc.collect()  # sharded models hold groups in cycles
    distributed.destroy_process_group()


def shard(model: Model) -> None:
    """Let each process hold a part of every block's parameters, gathered while the block runs (FSDP2)."""
    for block in model.encoder.modules():
        if type(block).__name__ in ("SelfAttention", "FeedForward"):
            fully_shard(block)
    fully_shard(model)


def together(module: nn.Module, world: World, strategy: Strategy) -> nn.Module:
    """The module whose gradients are the mean over all processes."""
    if world.size == 1 or strategy == "fsdp":
        return module
    return DistributedDataParallel(module, device_ids=[world.device] if world.device.type == "cuda" else None)


def alone(module: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """While a step's earlier parts are computed, gradients stay with their process."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()


def mean_over(values: Tensor, world: World) -> Tensor:
    """The mean of every process's numbers, for each of them."""
    if world.size > 1:
        distributed.all_reduce(values)
        values /= world.size
    return values


PATIENCE = timedelta(days=1)  # for one process; a step's messages keep torch's own limits, of minutes


def from_first(make: Callable[[], np.ndarray], shape: tuple[int, ...], world: World) -> np.ndarray:
    """What the first process makes, an array of float32, for all of them; the others wait as long as it takes.

    Raises what ``make`` raises, and in the other processes :class:`HalbertError`.
    """
    if world.size == 1:
        return make()
    group = distributed.new_group(timeout=PATIENCE, backend="gloo")  # also beside GPUs: the array is not on them
    made, fault = np.empty(shape, np.float32), None
    if world.first:
        try:
            made = np.ascontiguousarray(make(), np.float32)
        except Exception as error:  # is raised once the others know of it
            fault = error
    state = torch.tensor(float(fault is not None))
    distributed.broadcast(state, 0, group)
    if state > 0:
        raise fault or HalbertError("the first process says what is wrong")
    table = torch.from_numpy(made)
    distributed.broadcast(table, 0, group)
    distributed.destroy_process_group(group)
    return table.numpy()
