"""THE loop: pre-training and fine-tuning run through these lines alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from halbert.errors import HalbertError, InputError
from halbert.model import Model
from halbert.train.journal import Journal
from halbert.train.objectives import Loss
from halbert.train.optimizers import clip_gradients, make_optimizer
from halbert.train.recipe import FinetuneRecipe, PretrainRecipe
from halbert.train.schedule import rate_at

B = TypeVar("B")
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: str, device: torch.device) -> str:
    """``fp32``, ``bf16`` or ``fp16`` (GPU only); ``auto`` is bf16 where the hardware multiplies it."""
    if device.type == "cuda":
        capable = torch.cuda.is_bf16_supported()
    else:
        capable = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    if wanted == "fp16" and device.type != "cuda":
        raise InputError("precision fp16 was asked for, but only a GPU multiplies it; use precision=auto")
    if wanted == "bf16" and not capable:
        raise InputError("precision bf16 was asked for, but this machine cannot multiply bfloat16; use precision=fp32")
    return ("bf16" if capable else "fp32") if wanted == "auto" else wanted


def run_steps(
    model: Model,
    batches: Iterator[B],
    loss_of: Callable[[Model, B], Loss],
    tokens_of: Callable[[B], int],
    recipe: PretrainRecipe | FinetuneRecipe,
    *,
    steps: int,
    warmup: int,
    journal: Journal,
    seed: int,
    every: int = 10,
) -> dict[str, Any]:
    """Take ``steps`` optimiser steps over ``batches`` and return a summary: steps, tokens, seconds, precision.

    Dropout draws from ``seed``. Raises :class:`HalbertError` when the loss stops being a number, naming the step.
    """
    device = next(model.parameters()).device
    precision = choose_precision(recipe.precision, device)
    optimizer = make_optimizer(model, recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    torch.manual_seed(seed)
    model.train()
    began, tokens, sums, count = time.perf_counter(), 0, {}, 0  # type: ignore[var-annotated]
    for step in range(steps):
        batch = next(batches)
        rate = rate_at(recipe.schedule, step, recipe.learning_rate, warmup, steps, recipe.power)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, HALVES.get(precision), enabled=precision in HALVES):
            loss = loss_of(model, batch)
        scaler.scale(loss.total).backward()
        scaler.unscale_(optimizer)
        norm = clip_gradients(model.parameters(), recipe.clip)
        # In fp16 the scaler skips a step whose gradients overflow, and lowers its scale.
        if not (math.isfinite(float(norm)) or precision == "fp16") or not math.isfinite(float(loss.total.detach())):
            raise HalbertError(
                f"step {step + 1}: the loss or its gradient is not finite; lower learning_rate ({recipe.learning_rate}) "
                "or lengthen the warm-up"
            )
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        tokens += tokens_of(batch)
        for name, value in loss.parts.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        count += 1
        if count == every or step + 1 == steps:
            seconds = time.perf_counter() - began
            means = {name: value / count for name, value in sums.items()}
            journal.write(
                {
                    "step": step + 1, "steps": steps, "tokens": tokens, "seconds": round(seconds, 3),
                    "tokens_per_second": round(tokens / seconds, 1), "learning_rate": rate, **means,
                }
            )  # fmt: skip
            sums, count = {}, 0
    model.eval()
    return {"steps": steps, "tokens": tokens, "seconds": time.perf_counter() - began, "precision": precision}
