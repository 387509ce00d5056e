"""Fine-tuning: a bundle, a task and labelled files in, a bundle with a head out."""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from halbert.bundle import Bundle
from halbert.data.batches import group_by_count, pad_rows
from halbert.data.features import Features, check_labels, encode_examples, label_order
from halbert.data.readers import Example, read_examples
from halbert.errors import SpecError
from halbert.files import check_target
from halbert.heads import HeadSpec
from halbert.model import Model
from halbert.model.arrays import arrays_of
from halbert.source import resolve_bundle
from halbert.tasks.metrics import Score, score
from halbert.tasks.table import Task, get_task
from halbert.train.journal import Journal, Report
from halbert.train.loop import run_steps
from halbert.train.objectives import LabelledBatch, label_loss
from halbert.train.recipe import FinetuneRecipe


class FinetuneRun(msgspec.Struct, frozen=True, kw_only=True):
    """One seed's outcome: the bundle, its dev scores by metric, the summary of the loop, how many rows were cut."""

    bundle: Bundle
    scores: dict[str, Score]
    summary: dict[str, Any]
    cut: int


def _batches(features: Features, recipe: FinetuneRecipe, pad_id: int) -> Iterator[LabelledBatch]:
    lengths = np.array([len(ids) for ids, _ in features.encoded])
    for epoch in itertools.count():
        rng = np.random.default_rng((recipe.seed, epoch))
        for group in group_by_count(lengths, recipe.batch_size, rng):
            rows = pad_rows([features.encoded[i] for i in group], pad_id, most=recipe.length)
            yield LabelledBatch(rows, torch.tensor([features.classes[i] for i in group]))


def start_model(bundle: Bundle, head: HeadSpec, seed: int) -> Model:
    """The bundle's encoder with a fresh head; without a pooler where the head does not read one.

    An encoder that has no pooler but needs one gets a fresh one too, as transformers does.
    """
    wanted = "tanh" if head.row.states == "pooled" else "none"
    encoder = msgspec.structs.replace(bundle.spec.encoder, pooler=wanted)
    model = Model(encoder, {head.kind: head}).initialize(seed)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, array in bundle.arrays.items():
            if name in own and name.startswith("encoder."):
                own[name].copy_(torch.from_numpy(np.array(array, np.float32)))
    return model


def finetune_once(
    bundle: Bundle,
    task: Task,
    train: Sequence[Example],
    dev: Sequence[Example],
    recipe: FinetuneRecipe,
    *,
    where: str = "training data",
    report: Report | None = None,
) -> FinetuneRun:
    """Fine-tune with one seed and score on ``dev``. Raises :class:`InputError` for labels that cannot be used."""
    labels = label_order(train, where)
    if recipe.length > bundle.spec.encoder.max_position_embeddings:
        raise SpecError(
            f"length {recipe.length} exceeds this model's {bundle.spec.encoder.max_position_embeddings} positions"
        )
    assert task.head is not None
    head = HeadSpec(kind=task.head, labels=labels)
    tokenizer = bundle.tokenizer
    features = encode_examples(train, tokenizer, recipe.length, labels)
    dev_features = encode_examples(dev, tokenizer, recipe.length, labels)
    model = start_model(bundle, head, recipe.seed).to("cuda" if torch.cuda.is_available() else "cpu")
    steps = recipe.epochs * -(-len(train) // recipe.batch_size)
    journal = Journal(None, report)
    summary = run_steps(
        model, _batches(features, recipe, tokenizer.special_ids["pad"]), label_loss, recipe,
        steps=steps, warmup=int(recipe.warmup_share * steps), journal=journal, seed=recipe.seed,
    )  # fmt: skip
    guesses = classify(model, dev_features, tokenizer.special_ids["pad"])
    scores = {name: score(name, dev_features.classes, guesses) for name in task.metrics}
    spec = msgspec.structs.replace(bundle.spec, encoder=model.spec)
    tuned = Bundle(
        spec, tokenizer, arrays_of(model), {head.kind: head}, name=bundle.name,
        origins=bundle.origins, warnings=bundle.warnings,
        provenance={
            "base": {"name": bundle.name, **{k: v for k, v in bundle.provenance.items() if k != "training"}},
            "training": {
                "kind": "finetuning", "task": task.kind, "recipe": msgspec.to_builtins(recipe), "examples": len(train),
                "cut": features.cut, **summary, "dev": msgspec.to_builtins(scores), "journal": journal.entries,
            },
        },
    )  # fmt: skip
    return FinetuneRun(bundle=tuned, scores=scores, summary=summary, cut=features.cut)


@torch.inference_mode()
def classify(model: Model, features: Features, pad_id: int, rows: int = 64) -> list[int]:
    """The class number of every example, in order."""
    order = np.argsort([-len(ids) for ids, _ in features.encoded], kind="stable")
    guesses = [0] * len(order)
    device = next(model.parameters()).device
    for start in range(0, len(order), rows):
        group = order[start : start + rows]
        batch = pad_rows([features.encoded[i] for i in group], pad_id, most=model.spec.max_position_embeddings)
        ids, mask, segments = (torch.from_numpy(array).to(device) for array in batch)
        found = model.answer("label", model(ids, mask, segments)).argmax(-1).tolist()
        for row, guess in zip(group, found, strict=True):
            guesses[row] = guess
    return guesses


def finetune(
    model: str | Bundle,
    *,
    train: str | os.PathLike[str],
    dev: str | os.PathLike[str],
    out: str | os.PathLike[str],
    task: str = "classify",
    recipe: FinetuneRecipe | None = None,
    seeds: int = 1,
    report: Report | None = None,
) -> list[FinetuneRun]:
    """Fine-tune with ``seeds`` seeds and save the run whose first metric is the median; return all runs.

    Raises :class:`InputError` for unusable files before anything is trained.
    """
    recipe = recipe or FinetuneRecipe()
    if seeds < 1:
        raise SpecError(f"seeds is {seeds}; expected at least 1")
    check_target(out)
    row = get_task(task)
    examples, dev_examples = read_examples(train), read_examples(dev)
    check_labels(dev_examples, label_order(examples, str(train)), str(dev))
    bundle = model if isinstance(model, Bundle) else resolve_bundle(model)
    runs = [
        finetune_once(
            bundle, row, examples, dev_examples, msgspec.structs.replace(recipe, seed=recipe.seed + i),
            where=str(train), report=report,
        )
        for i in range(seeds)
    ]  # fmt: skip
    middle = statistics.median_low([run.scores[row.metrics[0]].value or 0.0 for run in runs])
    chosen = next(run for run in runs if (run.scores[row.metrics[0]].value or 0.0) == middle)
    chosen.bundle.replace(name=Path(out).name).save(out)
    return runs
