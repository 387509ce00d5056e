"""Optimisers of the two papers, as their code has them and as textbooks have them.

``adamw``         Loshchilov and Hutter 2019: with bias correction (torch's own fused kernel)
``adamw-google``  google-research/bert ``optimization.py``: without bias correction
``lamb``          You et al. 2020, algorithm 2: with bias correction
``lamb-google``   google-research/albert ``lamb_optimizer.py``: without bias correction

Biases and LayerNorm parameters are neither decayed nor, in LAMB, given a trust ratio. In all four, epsilon is added to
the square root of the second moment and the decay is decoupled from the moments. Parameters may be sharded (DTensor).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, Shard

from halbert.errors import SpecError
from halbert.spec import ForeignSpec

if TYPE_CHECKING:
    from halbert.spec import EncoderSpec
    from halbert.train.recipe import FinetuneRecipe, PretrainRecipe

Groups = list[dict[str, Any]]
# A float32 counter stays at 2**24 when 1 is added, and 0.999 to that power is 0: no bias is left to correct.
END_OF_TIME = float(2**24)
# Elements of one block of a CPU step: four such arrays of float32 stay in a core's second-level cache.
BLOCK = 1 << 18


def decays(name: str) -> bool:
    """Whether a parameter is decayed and, in LAMB, given a trust ratio: all but biases and LayerNorm's two vectors."""
    *_, owner, kind = ("", *name.split("."))
    return kind != "bias" and "norm" not in owner.lower()


def parameter_groups(model: nn.Module, weight_decay: float) -> Groups:
    """The model's parameters, each once however many layers use it, as a decayed group and a plain one."""
    decayed: list[tuple[str, nn.Parameter]] = []
    plain: list[tuple[str, nn.Parameter]] = []
    for name, parameter in model.named_parameters():
        (decayed if decays(name) else plain).append((name, parameter))
    groups: Groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def depth(name: str, layers: int, last: Mapping[str, int]) -> int:
    """How many layers lie between a parameter and the heads; ``last`` has the last layer of each shared part."""
    if name.startswith("heads.") or "pooler" in name:
        return 0
    part = ".".join(name.split(".")[1:3])  # encoder.attention.GROUP.…
    return layers - 1 - last[part] if part in last else layers


def by_layer(groups: Groups, decay: float, spec: EncoderSpec) -> Groups:
    """The groups divided by depth, each with the ``scale`` of its rate: ``decay`` to the power of the depth.

    Layers that share their parameters have the scale of the last one that uses them; embeddings and projection count as
    one layer below all others. (Howard and Ruder 2018, 3.2; ELECTRA, appendix.)
    """
    if isinstance(spec, ForeignSpec):
        raise SpecError(f"layer_decay: the layers of another architecture ({spec.model_type}) cannot be told apart")
    last = {
        f"{part}.{spec.group_of(part, layer)}": layer
        for part in ("attention", "ffn")
        for layer in range(spec.num_hidden_layers)
    }
    found: Groups = []
    for group in groups:
        parts: dict[int, list[Any]] = {}
        for name, parameter in group["params"]:
            parts.setdefault(depth(name, spec.num_hidden_layers, last), []).append((name, parameter))
        found += [{**group, "params": params, "scale": decay**d} for d, params in sorted(parts.items())]
    return found


class TimelessAdamW(torch.optim.AdamW):
    """AdamW without bias correction: torch's fused kernel with its clock set to where nothing is left to correct.

    The first step is therefore ``0.1 / sqrt(0.001)`` = 3.16 times as long as with the correction.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {
                    "step": torch.tensor(END_OF_TIME, dtype=torch.float32, device=p.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }


class Lamb(torch.optim.Optimizer):
    """Adam's direction plus the decay, scaled for each tensor by ``|weights| / |direction|`` (1 where either is 0).

    A group's ``adapt`` says whether its tensors get that trust ratio; ``bias_correction`` tells the paper's algorithm
    from Google's code. Norms are those of whole tensors, also where each process holds a part of them.
    """

    def __init__(
        self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
        weight_decay: float = 0.01, *, adapt: bool = True, bias_correction: bool = True,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "adapt": adapt,
            "bias_correction": bias_correction, "step": 0,
        }  # fmt: skip
        super().__init__(params, defaults)
        self.ratios: dict[Tensor, Tensor] = {}
        self._room: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["step"] += 1
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    self.state[p] = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            kinds: dict[Any, list[Tensor]] = {}  # the kernels take one device and one type at a time
            for p in parameters:
                if self._alone(p):
                    self._step_in_blocks(group, p)
                else:
                    kinds.setdefault((p.device, p.dtype, _spread(p)), []).append(p)
            for (*_, spread), together in kinds.items():
                self._step_together(group, together, spread)
        return loss

    @staticmethod
    def _alone(p: Tensor) -> bool:
        """Whether a tensor is best updated by itself: whole, and in main memory."""
        return p.device.type == "cpu" and not isinstance(p, DTensor)

    def _step_in_blocks(self, group: dict[str, Any], p: Tensor) -> None:
        """One tensor in main memory: all that is to be done to a block is done while it lies in the cache."""
        state, p_N = self.state[p], p.view(-1)
        g_N, m_N, v_N = p.grad.reshape(-1), state["exp_avg"].view(-1), state["exp_avg_sq"].view(-1)
        u_N = self._scratch(p)[: len(p_N)]
        clock, weights, directions = _clock(group, p.device), [], []
        for start in range(0, len(p_N), BLOCK):
            part = slice(start, start + BLOCK)
            u, w = u_N[part].zero_(), p_N[part]
            _direct(group, [u], [g_N[part]], [m_N[part]], [v_N[part]], [w], clock)
            if group["adapt"]:
                weights.append(torch.dot(w, w))
                directions.append(torch.dot(u, u))
        ratio = 1.0
        if group["adapt"]:
            squares = torch.stack([torch.stack(weights), torch.stack(directions)]).sum(1, dtype=torch.float64)
            self.ratios[p] = _ratios(*squares)
            ratio = float(self.ratios[p])
        p_N.add_(u_N, alpha=-group["lr"] * ratio)

    def _scratch(self, p: Tensor) -> Tensor:
        """Room for one direction, as large as the largest tensor of this kind and made once."""
        key = (p.device, p.dtype)
        if key not in self._room or self._room[key].numel() < p.numel():
            most = max(q.numel() for group in self.param_groups for q in group["params"] if (q.device, q.dtype) == key)
            self._room[key] = torch.empty(most, dtype=p.dtype, device=p.device)
        return self._room[key]

    def _step_together(self, group: dict[str, Any], parameters: list[Tensor], spread: Any) -> None:
        """All tensors of a kind in a few kernels, and all norms in one message where tensors are sharded."""
        ps = [_local(p) for p in parameters]
        gs = [_local(p.grad) for p in parameters]
        ms = [_local(self.state[p]["exp_avg"]) for p in parameters]
        vs = [_local(self.state[p]["exp_avg_sq"]) for p in parameters]
        us = [torch.zeros_like(p) for p in ps]
        _direct(group, us, gs, ms, vs, ps, _clock(group, ps[0].device))
        if group["adapt"]:
            squares = torch.stack(torch._foreach_norm([*ps, *us])).square()
            if spread is not None:
                mesh, dims = spread
                for dim in dims:
                    distributed.all_reduce(squares, group=mesh.get_group(dim))
            ratios = _ratios(*squares.view(2, -1)).to(us[0].dtype)
            self.ratios.update(zip(parameters, ratios.unbind(), strict=True))
            torch._foreach_mul_(us, list(ratios.unbind()))
        torch._foreach_add_(ps, us, alpha=-group["lr"])


def _direct(
    group: dict[str, Any], us: list[Tensor], gs: list[Tensor], ms: list[Tensor], vs: list[Tensor], ps: list[Tensor],
    clock: Tensor,
) -> None:  # fmt: skip
    """Advance the moments and add Adam's direction and the decay to ``us``, which hold zeros."""
    beta1, beta2 = group["betas"]
    # torch's kernel subtracts lr times the direction from its "parameters": with lr = -1 it leaves the direction itself.
    torch._fused_adamw_(
        us, gs, ms, vs, [], [clock] * len(us), lr=-1.0, beta1=beta1, beta2=beta2, weight_decay=0.0, eps=group["eps"],
        amsgrad=False, maximize=False,
    )  # fmt: skip
    if group["weight_decay"]:
        torch._foreach_add_(us, ps, alpha=group["weight_decay"])


def _clock(group: dict[str, Any], device: torch.device) -> Tensor:
    steps = float(group["step"]) if group["bias_correction"] else END_OF_TIME
    return torch.full((), steps, dtype=torch.float32, device=device)


def _ratios(weights: Tensor, directions: Tensor) -> Tensor:
    """Trust ratios from squared norms."""
    return torch.where((weights > 0) & (directions > 0), (weights / directions).sqrt(), torch.ones_like(weights))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _spread(tensor: Tensor) -> Any:
    """The mesh and those of its dimensions over which a tensor is cut, or None for a whole one."""
    if not isinstance(tensor, DTensor):
        return None
    return tensor.device_mesh, tuple(i for i, place in enumerate(tensor.placements) if isinstance(place, Shard))


def make_optimizer(model: nn.Module, recipe: PretrainRecipe | FinetuneRecipe) -> torch.optim.Optimizer:
    """The optimiser a recipe names, over all the model's parameters; its rate has to be set before each step.

    Call it after the model was moved, wrapped or sharded.
    """
    groups = parameter_groups(model, recipe.weight_decay)
    if recipe.layer_decay < 1:
        groups = by_layer(groups, recipe.layer_decay, model.spec)
    rate, betas, eps = recipe.learning_rate, recipe.betas, recipe.epsilon
    match recipe.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=eps, fused=True)
        case "adamw-google":
            return TimelessAdamW(groups, rate, betas, eps)
        case "lamb" | "lamb-google":
            for group in groups:
                group["adapt"] = decays(group["params"][0][0])
            return Lamb(groups, rate, betas, eps, bias_correction=recipe.optimizer == "lamb")


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], most: float) -> Tensor:
    """Scale the gradients down to the global norm ``most`` if theirs is larger, and return the norm they had.

    As TensorFlow's ``clip_by_global_norm``: ``g * most / max(norm, most)``.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    if norm.device.type == "cpu":
        if norm > most:  # a pass over all gradients that most steps do not need
            torch._foreach_mul_([_local(g) for g in gradients], float(most / norm))
    else:
        torch._foreach_mul_([_local(g) for g in gradients], most / norm.clamp(min=most))  # without waiting for it
    return norm
