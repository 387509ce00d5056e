"""What a pre-training is about to do, before its first step: an example of each kind, its size, and how long it will take."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import torch

from halbert.data.instances import IGNORED, PretrainBatch
from halbert.data.pairs import LABEL_NAMES, NO_LABEL
from halbert.data.plan import Plan
from halbert.spec import ModelSpec
from halbert.text import Tokenizer
from halbert.train.loop import Run
from halbert.train.recipe import PretrainRecipe, describe

SHOWN = 40  # pieces of an example
LOOKED_AT = 20  # batches, for one example of each label
BACKWARD = 3  # a forward and a backward pass together cost three forward passes


def preview(
    run: Run, recipe: PretrainRecipe, spec: ModelSpec, first: PretrainBatch, plan: Plan, tokenizer: Tokenizer,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Tell all of it; takes two steps' time (and that of compiling), and changes no weight."""
    say(describe(recipe, spec))
    batches = [first, *(batch for batch, _ in itertools.islice(plan.batches(), LOOKED_AT))]
    for line in examples(batches, tokenizer, spec.pretraining.sentence_objective):
        say(line)
    if recipe.compile:
        say("Compiling; each of up to six shapes of batch takes some tens of seconds once")
    began = time.perf_counter()
    measure(run, batches[0])
    compiling = time.perf_counter() - began
    if recipe.compile:
        say(f"Compiled the first shape in {compiling:.0f} s")
    seconds = measure(run, batches[0]) * recipe.accumulate / run.world.size
    say(estimate(seconds, recipe, spec, run))


def measure(run: Run, batch: PretrainBatch) -> float:
    """Seconds of one batch forward and backward."""
    run.model.train()
    began = time.perf_counter()
    run.gradients_of(batch, 0)
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    run.optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - began


def estimate(seconds: float, recipe: PretrainRecipe, spec: ModelSpec, run: Run) -> str:
    """Time in all from that of a step of the first phase, the arithmetic, and what it takes of the machine."""
    stages = recipe.stages()
    steps = [stage.end - stage.begin for stage in stages]
    each_step = [
        float(
            BACKWARD * (stage.batch_tokens // stage.length) * recipe.accumulate * spec.encoder.count_flops(stage.length)
        )
        for stage in stages
    ]
    flops = sum(n * each for n, each in zip(steps, each_step, strict=True))
    hours = seconds * flops / each_step[0] / 3600
    who = "GPU" if run.device.type == "cuda" else "core"
    each = run.world.size * (1 if who == "GPU" else torch.get_num_threads())
    size = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min" if hours > 1 / 60 else f"{3600 * hours:.0f} s"
    return f"{seconds:.3g} s a step: about {size} for all ({hours * each:.2g} {who}-hours, {flops:.2g} operations)"


def examples(batches: list[PretrainBatch], tokenizer: Tokenizer, objective: str) -> list[str]:
    """One example of each pair label: its pieces, those that are hidden as ``[what is seen: what it was]``."""
    found: dict[int, str] = {}
    wanted = {NO_LABEL} if objective == "none" else {0, 1}
    for batch in batches:
        width = batch.ids.shape[1]
        begins = np.arange(len(batch.ids)) * width if batch.starts is None else batch.starts
        for begin, label in zip(begins.tolist(), batch.pair_labels.tolist(), strict=True):
            if batch.mask.flat[begin] and label in wanted and label not in found:
                name = LABEL_NAMES[objective][label] if label != NO_LABEL else "text"
                found[label] = f"{name.replace('_', ' ')}: {decoded(batch, begin, tokenizer)}"
        if found.keys() >= wanted:
            break
    return [found[label] for label in sorted(found)]


def decoded(batch: PretrainBatch, begin: int, tokenizer: Tokenizer) -> str:
    """The first pieces of an instance, which begins at this place of the flat batch, as a reader would write them down."""
    ids, width = batch.ids.ravel(), batch.ids.shape[1]
    real = batch.labels != IGNORED
    was = dict(zip(batch.positions[real].tolist(), batch.labels[real].tolist(), strict=True))
    own = batch.mask if batch.sequence is None else batch.sequence
    rest = own.ravel()[begin : begin - begin % width + width]
    size = int(np.count_nonzero(rest == rest[0]))
    pieces = []
    for place in range(begin, begin + min(SHOWN, size)):
        piece = tokenizer.vocab[int(ids[place])]
        truth = was.get(place)
        pieces.append(piece if truth is None else f"[{piece.strip('[]')}: {tokenizer.vocab[truth]}]")
    return " ".join(pieces) + (" …" if size > SHOWN else "")
