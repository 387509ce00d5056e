"""Dropout, with draws that cost little on a CPU."""

from __future__ import annotations

from typing import Any

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
        found: Tensor = _Drop.apply(x, kept(x.shape, self.p), growth(self.p))
        return found

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"p={self.p}"


def left_to_torch(x: Tensor) -> bool:
    """Whether torch's own operations are the better ones: on GPUs, and in compiled code."""
    return x.device.type != "cpu" or torch.compiler.is_compiling()


def kept(shape: torch.Size, p: float) -> Tensor:
    """-1 where a number stays, 0 where it is left out, as int16.

    torch draws a number of its own for each element and compares one at a time: 4.6 ns. Here 64 bits are drawn for four
    of them, and compared by subtraction and a shift of the sign, many at a time: 0.7 ns.
    """
    count = shape.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    bits.bitwise_right_shift_(1).sub_(_share(p) - _STEPS // 2).bitwise_right_shift_(15)
    return bits[:count].view(shape)


def growth(p: float) -> float:
    """What the numbers that stay are multiplied by."""
    return _STEPS / _share(p)


def _share(p: float) -> int:
    return max(1, round((1 - p) * _STEPS))


def dropped(x: Tensor, kept: Tensor, growth: float) -> Tensor:
    """``x`` without what is left out."""
    return kept.to(x.dtype).mul_(-growth).mul_(x)


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, growth: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.growth = growth
        return dropped(x, kept, growth)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None, None]:
        return dropped(d, ctx.saved_tensors[0], ctx.growth), None, None


class DroppedAttention(torch.autograd.Function):
    """Scaled dot-product attention with dropout of its probabilities, on a CPU.

    torch's fused kernel for CPUs has no dropout, and what it does instead takes three times as long as this.
    """

    @staticmethod
    def forward(ctx: Any, q_BASD: Tensor, k_BASD: Tensor, v_BASD: Tensor, bias_B1SS: Tensor | None, p: float) -> Tensor:
        """Mixed values (B, A, S, D); ``bias_B1SS`` (or (B, 1, 1, S)) is added to the scores."""
        ctx.scale, ctx.growth = q_BASD.shape[-1] ** -0.5, growth(p)
        scores_BASS = (q_BASD @ k_BASD.transpose(-1, -2)).mul_(ctx.scale)
        if bias_B1SS is not None:
            scores_BASS.add_(bias_B1SS)
        probs_BASS = torch.softmax(scores_BASS, -1)
        kept_BASS = kept(probs_BASS.shape, p)
        ctx.save_for_backward(q_BASD, k_BASD, v_BASD, probs_BASS, kept_BASS)
        return dropped(probs_BASS, kept_BASS, ctx.growth) @ v_BASD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_BASD: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and values."""
        q_BASD, k_BASD, v_BASD, probs_BASS, kept_BASS = ctx.saved_tensors
        dv_BASD = dropped(probs_BASS, kept_BASS, ctx.growth).transpose(-1, -2) @ d_BASD
        d_BASS = dropped(d_BASD @ v_BASD.transpose(-1, -2), kept_BASS, ctx.growth)
        d_BASS = torch._softmax_backward_data(d_BASS, probs_BASS, -1, probs_BASS.dtype).mul_(ctx.scale)
        return d_BASS @ k_BASD, d_BASS.transpose(-1, -2) @ q_BASD, dv_BASD, None, None
