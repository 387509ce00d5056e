"""One of two processes that hold half of every parameter each: ``python -m tests.train.sharded MEETING RANK``.

Says "all equal" when each optimiser ends where it ends with whole tensors, and when LAMB with the norms of halves, which
would be wrong, ends elsewhere; and when a run that goes on from a checkpoint ends where it ends in one go.
"""

from __future__ import annotations

import sys
import warnings

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from halbert.model import Model
from halbert.train import optimizers
from halbert.train.checkpoints import restore, taken
from halbert.train.distributed import leave
from halbert.train.optimizers import clip_gradients, make_optimizer
from halbert.train.positions import copy_positions
from halbert.train.recipe import PretrainRecipe
from tests import small, tiny
from tests.train.made import trust_ratios


def descend(
    model: Model, kind: str, sharded: bool, stopped: int = -1
) -> tuple[dict[str, torch.Tensor], dict[str, float], float]:
    def begin(model: Model) -> torch.optim.Optimizer:
        if sharded:
            fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
            assert all(isinstance(p, DTensor) for p in model.parameters())
        return make_optimizer(model, PretrainRecipe(optimizer=kind, weight_decay=0.1))  # type: ignore[arg-type]

    optimizer = begin(model)
    for step in range(5):
        if step == stopped:
            found, model = taken(model, optimizer, {}), make()
            optimizer = begin(model)
            restore(model, optimizer, found)
        # Both processes see the same rows, so the mean of their gradients is each one's.
        ids = torch.arange(18).view(2, 9) * (step + 3) % 101
        loss = everything(model, ids)
        optimizer.zero_grad()
        loss.backward()
        norm = clip_gradients(model.parameters(), 0.1)
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 1e-2
        optimizer.step()
    ends = {n: p.full_tensor() if isinstance(p, DTensor) else p for n, p in model.named_parameters()}
    return {n: p.detach().clone() for n, p in ends.items()}, trust_ratios(optimizer), float(norm)


def everything(model: Model, ids: torch.Tensor) -> torch.Tensor:
    output = model(ids)
    states = output.last_BSH.pow(3).mean()
    return states + output.pooled_BH.pow(2).mean()


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[n] - b[n]).abs().max()) for n in a)


def main(meeting: str, rank: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    for kind in ("adamw", "adamw-google", "lamb", "lamb-google"):
        whole, ratios, norm = descend(make(), kind, sharded=False)
        shared, shared_ratios, shared_norm = descend(make(), kind, sharded=True)
        assert abs(norm - shared_norm) < 1e-5 * norm, (kind, norm, shared_norm)
        assert furthest(whole, shared) < 1e-6, (kind, furthest(whole, shared))
        resumed, _, _ = descend(make(), kind, sharded=True, stopped=3)
        assert furthest(resumed, shared) == 0, (kind, furthest(resumed, shared))
        assert ratios.keys() == shared_ratios.keys()
        assert all(abs(ratios[n] - shared_ratios[n]) < 1e-4 * ratios[n] for n in ratios), kind
        if kind.startswith("lamb"):
            right, optimizers._spread = optimizers._spread, lambda tensor: None
            wrong, _, _ = descend(make(), kind, sharded=True)
            optimizers._spread = right
            assert furthest(whole, wrong) > 1e-4, kind
    table = make().encoder.embeddings.position.weight
    half = descend_nowhere()
    copy_positions(table, 5, 12)
    copy_positions(half, 5, 12)
    assert torch.equal(half.full_tensor(), table)
    print("all equal")
    leave()


def descend_nowhere() -> DTensor:
    """Half of a table of positions, as it is at first."""
    model = make()
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    half = model.encoder.embeddings.position.weight
    assert isinstance(half, DTensor)
    return half


def make() -> Model:
    return Model(small.encoder(**small.ALBERT), {"mlm": tiny.HEADS["mlm"]}).initialize(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
