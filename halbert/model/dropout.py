"""Dropout, with draws that cost little on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_STEPS = 1 << 15  # what a share of kept numbers is counted in


class Dropout(nn.Module):
    """Each number is left out with probability ``p`` in training, and the others grow by ``1 / (1 - p)``.

    On a CPU ``p`` is taken to the nearest of 32,768 steps, and the growth is of that.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training or not self.p:
            return x
        if left_to_torch(x):
            return functional.dropout(x, self.p)
        found: Tensor = _Drop.apply(x, factors(x.shape, self.p, x.dtype))
        return found

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"p={self.p}"


def left_to_torch(x: Tensor) -> bool:
    """Whether torch's own operations are the better ones: on GPUs, and in compiled code."""
    return x.device.type != "cpu" or torch.compiler.is_compiling()


def factors(shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
    """0 where a number is left out, and what it is multiplied by where it stays.

    torch draws a number of its own for each element and compares one at a time: 4.6 ns. Here 64 bits are drawn for four
    of them, and compared by subtraction and a shift of the sign, many at a time. The bits are SFC64's, which numpy draws
    in 1.8 ns where torch's generator takes 4.3; its seed is a draw of torch's, which a recomputed block makes again.
    """
    count = shape.numel()
    seed = int(torch.empty((), dtype=torch.int64).random_())
    drawn = np.random.Generator(np.random.SFC64(seed)).integers(-(2**63), 2**63 - 1, -(-count // 4), endpoint=True)
    bits = torch.from_numpy(drawn).view(torch.int16)
    bits.bitwise_right_shift_(1).sub_(_share(p) - _STEPS // 2).bitwise_right_shift_(15)
    return bits[:count].view(shape).to(dtype).mul_(-growth(p))  # -1 where a number stays


def growth(p: float) -> float:
    """What the numbers that stay are multiplied by."""
    return _STEPS / _share(p)


def _share(p: float) -> int:
    return max(1, round((1 - p) * _STEPS))


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        return x * factors

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None]:
        return d * ctx.saved_tensors[0], None


class DroppedAttention(torch.autograd.Function):
    """Scaled dot-product attention with dropout of its probabilities, on a CPU.

    torch's fused kernel for CPUs has no dropout, and what it does instead takes three times as long as this.
    """

    @staticmethod
    def forward(ctx: Any, q_BASD: Tensor, k_BASD: Tensor, v_BASD: Tensor, bias_B1SS: Tensor | None, p: float) -> Tensor:
        """Mixed values (B, A, S, D); ``bias_B1SS`` (or (B, 1, 1, S)) is added to the scores."""
        ctx.scale = q_BASD.shape[-1] ** -0.5
        scores_BASS = (q_BASD @ k_BASD.transpose(-1, -2)).mul_(ctx.scale)
        if bias_B1SS is not None:
            scores_BASS.add_(bias_B1SS)
        probs_BASS = torch.softmax(scores_BASS, -1)
        factors_BASS = factors(probs_BASS.shape, p, probs_BASS.dtype)
        ctx.save_for_backward(q_BASD, k_BASD, v_BASD, probs_BASS, factors_BASS)
        return (probs_BASS * factors_BASS) @ v_BASD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_BASD: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and values."""
        q_BASD, k_BASD, v_BASD, probs_BASS, factors_BASS = ctx.saved_tensors
        dv_BASD = (probs_BASS * factors_BASS).transpose(-1, -2) @ d_BASD
        d_BASS = (d_BASD @ v_BASD.transpose(-1, -2)).mul_(factors_BASS)
        d_BASS = torch._softmax_backward_data(d_BASS, probs_BASS, -1, probs_BASS.dtype).mul_(ctx.scale)
        return d_BASS @ k_BASD, d_BASS.transpose(-1, -2) @ q_BASD, dv_BASD, None, None
