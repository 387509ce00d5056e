"""A text that can be learnt, and recipes small enough to learn it in a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from halbert.data.corpus import Corpus, build_corpus
from halbert.model import Model
from halbert.train.journal import Journal
from halbert.train.loop import LossOf, Run
from halbert.train.optimizers import Lamb
from halbert.train.recipe import FinetuneRecipe, PretrainRecipe
from tests import tiny

# Every word says what stands beside it.
CHAINS = ["the cat sat on a mat .", "wa dog eat 1 2 !", "wanted un want runn world ?"]
DOCUMENTS = [[CHAINS[(i + k) % 3] for k in range(6)] for i in range(12)]

ENCODER = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def corpus(folder: Path, **options: Any) -> Corpus:
    return build_corpus(DOCUMENTS, tiny.tokenizer(), folder, **options)


def recipe(corpus: Corpus | None = None, **changes: Any) -> PretrainRecipe:
    fields: dict[str, Any] = {
        "corpus": str(corpus.folder) if corpus else "", "encoder": ENCODER, "steps": 4, "warmup_steps": 1, "length": 32,
        "batch_tokens": 256, "learning_rate": 1e-2, "precision": "fp32", "workers": 0, **changes,
    }  # fmt: skip
    return PretrainRecipe(**fields)


def tuning(**changes: Any) -> FinetuneRecipe:
    fields: dict[str, Any] = {
        "epochs": 1, "learning_rate": 5e-3, "batch_size": 8, "length": 16, "precision": "fp32", **changes
    }  # fmt: skip
    return FinetuneRecipe(**fields)


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


class Batch(NamedTuple):
    """Ids (B, S) and nothing hidden by padding."""

    ids: torch.Tensor
    mask: np.ndarray


def batch(ids: torch.Tensor, tokens: int | None = None) -> Batch:
    """What the loop needs of a batch; ``tokens`` real pieces."""
    return Batch(ids, np.ones(ids.numel() if tokens is None else tokens, np.int64))


def trust_ratios(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """By parameter name, the ratios of LAMB's last step; empty for the other optimisers and before the first step."""
    if not isinstance(optimizer, Lamb) or not optimizer.ratios:
        return {}
    named = [
        (name, optimizer.ratios[p])
        for group in optimizer.param_groups
        for name, p in zip(group.get("param_names", ()), group["params"], strict=True)
        if p in optimizer.ratios
    ]
    return dict(zip([name for name, _ in named], torch.stack([r for _, r in named]).tolist(), strict=True))


def run_steps(
    model: Model,
    batches: Iterator[Any],
    loss_of: LossOf,
    recipe: Any,
    *,
    steps: int,
    warmup: int,
    journal: Journal,
    seed: int,
) -> dict[str, Any]:
    """``steps`` optimiser steps over ``batches``, in one process and without checkpoints; see :meth:`Run.take`."""
    return Run(model, loss_of, recipe, steps=steps, warmup=warmup, journal=journal, seed=seed).take(batches)
