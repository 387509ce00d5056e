"""The engines that ``benchmarks/pretrain.py`` puts side by side, each in a process of its own.

    python -m benchmarks.trainers ENGINE SHAPE BATCHES      then a number of steps a line on standard input

All take the same instances: Halbert in its own batches, transformers in random ones padded to their longest row, as its
data collators make them. A step is forward, backward, clipping and a fused AdamW.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from halbert.data.instances import PretrainBatch
from halbert.memory import kept_memory
from halbert.spec import EncoderSpec

ENGINES = (
    "halbert", "halbert compiled", "halbert packed", "transformers fp32", "transformers bf16", "transformers bf16 kept",
    "transformers bf16 compiled",
)  # fmt: skip
RATE = 1e-4


def ours(spec: EncoderSpec, batches: list[PretrainBatch], compiled: bool, precision: str) -> Callable[[int], int]:
    """Halbert's own loop: dropout, clipping, AdamW with decay, a rate by step."""
    from halbert.heads import HeadSpec
    from halbert.model import Model
    from halbert.train.journal import Journal
    from halbert.train.loop import Run
    from halbert.train.objectives import pretraining_loss
    from halbert.train.recipe import PretrainRecipe

    model = Model(spec, {"mlm": HeadSpec(kind="mlm"), "pair": HeadSpec(kind="pair")}).initialize(0).to(device())
    recipe = PretrainRecipe(
        steps=1_000_000, learning_rate=RATE, compile=compiled, precision=precision, spike_factor=1e6, workers=0
    )
    run = Run(model, pretraining_loss, recipe, steps=recipe.steps, warmup=100, journal=Journal(), seed=0)
    source = cycle(batches)

    def take(steps: int) -> int:
        before, run.steps = run.progress.tokens, run.progress.step + steps
        run.take(source)
        return run.progress.tokens - before

    return take


def theirs(
    spec: EncoderSpec, batches: list[dict[str, np.ndarray]], precision: str, compiled: bool
) -> Callable[[int], int]:
    """transformers' own model for pre-training, with SDPA attention and torch's fused AdamW."""
    import transformers

    shared = spec.num_hidden_groups < spec.num_hidden_layers
    fields = {
        "vocab_size": spec.vocab_size, "hidden_size": spec.hidden_size, "num_hidden_layers": spec.num_hidden_layers,
        "num_attention_heads": spec.num_attention_heads, "intermediate_size": spec.intermediate_size,
        "hidden_act": spec.hidden_act, "hidden_dropout_prob": spec.hidden_dropout_prob,
        "attention_probs_dropout_prob": spec.attention_probs_dropout_prob, "attn_implementation": "sdpa",
    }  # fmt: skip
    if shared:
        config = transformers.AlbertConfig(**fields, embedding_size=spec.embedding_size)
        model: Any = transformers.AlbertForPreTraining(config)
    else:
        model = transformers.BertForPreTraining(transformers.BertConfig(**fields))
    model.to(device()).train()
    pair = "sentence_order_label" if shared else "next_sentence_label"
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    called = torch.compile(model) if compiled else model
    source = cycle(batches)

    def take(steps: int) -> int:
        tokens = 0
        for _ in range(steps):
            batch = {name: torch.from_numpy(array).to(device()) for name, array in next(source).items()}
            batch[pair] = batch.pop("pair_labels")
            with torch.autocast(device().type, torch.bfloat16, enabled=precision == "bf16"):
                loss = called(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            assert torch.isfinite(loss.detach())
            tokens += int(batch["attention_mask"].sum())
        return tokens

    return take


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cycle(batches: list[Any]) -> Iterator[Any]:
    """The batches, over and over."""
    while True:
        yield from batches


def read(folder: Path, kind: str) -> list[Any]:
    """Batches that ``benchmarks/pretrain.py`` wrote."""
    found: list[Any] = []
    for file in sorted(folder.glob(f"{kind}-*.npz")):
        with np.load(file) as arrays:
            fields = dict(arrays)
        found.append(PretrainBatch(**fields) if kind != "theirs" else fields)
    return found


def main() -> None:
    """Make one engine ready, then take steps."""
    name, shape, folder = sys.argv[1], msgspec.json.decode(sys.argv[2], type=EncoderSpec), Path(sys.argv[3])
    sys.stdout, out = sys.stderr, sys.stdout
    torch.manual_seed(0)
    capable = torch.cuda.is_available() or torch.cpu.get_capabilities().get("avx512_bf16", False)
    if name.startswith("halbert"):
        precision = "fp32" if "fp32" in name or not capable else "bf16"
        batches = read(folder, "packed" if "packed" in name else "ours")
        take = ours(shape, batches, "compiled" in name, precision)
    else:
        precision = "bf16" if "bf16" in name else "fp32"
        take = theirs(shape, read(folder, "theirs"), precision, "compiled" in name)
    print(json.dumps({"threads": torch.get_num_threads(), "precision": precision}), file=out, flush=True)
    with kept_memory() if "kept" in name else contextlib.nullcontext():
        answer(take, out)


def answer(take: Callable[[int], int], out: Any) -> None:
    """Take as many steps as each line asks for, and tell."""
    for line in sys.stdin:
        began = time.perf_counter()
        tokens = take(int(line))
        if device().type == "cuda":
            torch.cuda.synchronize()
        told = {"seconds": time.perf_counter() - began, "tokens": tokens}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if device().type == "cuda":
            memory = torch.cuda.max_memory_allocated()
        print(json.dumps({**told, "memory": memory}), file=out, flush=True)


if __name__ == "__main__":
    main()
