"""Pre-training: a corpus and a recipe in, a bundle out; and the masked-piece score on held-out text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from halbert import presets
from halbert.bundle import Bundle
from halbert.data.corpus import Corpus
from halbert.data.instances import PretrainBatch
from halbert.data.plan import Plan
from halbert.errors import InputError, SpecError
from halbert.files import check_target
from halbert.heads import HeadSpec
from halbert.model import Model
from halbert.model.arrays import arrays_of
from halbert.spec import EncoderSpec, ModelSpec, PretrainSpec, from_dict
from halbert.text import Tokenizer
from halbert.train.journal import Journal, Report
from halbert.train.loop import run_steps
from halbert.train.objectives import pretraining_loss
from halbert.train.recipe import PretrainRecipe
from halbert.train.warmstart import piece_embeddings


def spec_of_recipe(recipe: PretrainRecipe, tokenizer: Tokenizer) -> ModelSpec:
    """The model a recipe describes: its preset, or nothing, with the fields of its tables put over it.

    The vocabulary is the tokenizer's, and the text rules too. Raises :class:`SpecError` when fields are missing.
    """
    base = presets.get(recipe.preset).spec if recipe.preset else None
    fields: dict[str, Any] = {} if base is None else msgspec.structs.asdict(base.encoder)
    fields |= recipe.encoder
    fields["vocab_size"] = tokenizer.vocab_size
    if "hidden_size" in fields:
        fields.setdefault("embedding_size", fields["hidden_size"])
        fields.setdefault("intermediate_size", 4 * fields["hidden_size"])
    if "num_hidden_layers" in fields:
        fields.setdefault("num_hidden_groups", fields["num_hidden_layers"])
    pretraining: dict[str, Any] = {} if base is None else msgspec.structs.asdict(base.pretraining)
    pretraining |= recipe.pretraining
    if pretraining.get("sentence_objective") == "none":
        fields["pooler"] = "none"
    encoder = from_dict(EncoderSpec, fields, "recipe [encoder]")
    if recipe.longest > encoder.max_position_embeddings:
        raise SpecError(f"length {recipe.longest} exceeds max_position_embeddings {encoder.max_position_embeddings}")
    return ModelSpec(
        encoder=encoder, text=tokenizer.spec, pretraining=from_dict(PretrainSpec, pretraining, "recipe [pretraining]")
    )


def pretraining_heads(spec: PretrainSpec) -> dict[str, HeadSpec]:
    """The heads an objective needs."""
    heads = {"mlm": HeadSpec(kind="mlm")}
    return heads if spec.sentence_objective == "none" else {**heads, "pair": HeadSpec(kind="pair")}


def all_batches(
    corpus: Corpus, tokenizer: Tokenizer, spec: PretrainSpec, recipe: PretrainRecipe
) -> Iterator[PretrainBatch]:
    """Batches without end, epoch after epoch; a function of the recipe's seed alone."""
    plan = Plan(corpus, tokenizer, spec, length=recipe.length, batch_tokens=recipe.batch_tokens, seed=recipe.seed)
    return (batch for batch, _ in plan.batches())


def pretrain(
    recipe: PretrainRecipe,
    tokenizer: Tokenizer,
    out: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    report: Report | None = None,
) -> Bundle:
    """Pre-train the model a recipe describes and return its bundle (saved to ``out`` if given).

    Raises :class:`InputError` when the corpus was made with another tokenizer, or ``out`` holds something else.
    """
    if out is not None:
        check_target(out)
    if not recipe.corpus:
        raise SpecError('the recipe names no corpus; add corpus = "FOLDER" or --set corpus=FOLDER')
    corpus = Corpus(recipe.corpus)
    corpus.check_tokenizer(tokenizer)
    spec = spec_of_recipe(recipe, tokenizer)
    heads = pretraining_heads(spec.pretraining)
    model = Model(spec.encoder, heads).initialize(recipe.seed)
    if recipe.start == "pmi-svd":
        table = piece_embeddings(corpus, spec.encoder.embedding_size, recipe.seed)
        with torch.no_grad():
            model.encoder.embeddings.piece.weight.copy_(torch.from_numpy(table))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    if recipe.compile:
        model.compile()
    journal = Journal(None, report)
    summary = run_steps(
        model, all_batches(corpus, tokenizer, spec.pretraining, recipe), pretraining_loss,
        lambda batch: int(batch.mask.sum()), recipe,
        steps=recipe.steps, warmup=recipe.warmup_steps, journal=journal, seed=recipe.seed,
    )  # fmt: skip
    bundle = Bundle(
        spec, tokenizer, arrays_of(model), heads, name=name or (Path(out).name if out else "pretrained"),
        provenance={
            "training": {
                "kind": "pretraining", **summary,
                # The name only: where the corpus lay on this machine is nobody else's business.
                "recipe": msgspec.to_builtins(msgspec.structs.replace(recipe, corpus=Path(recipe.corpus).name)),
                "corpus": msgspec.to_builtins(corpus.manifest),
                "journal": journal.entries,
            }
        },
    )  # fmt: skip
    if out is not None:
        bundle.save(out)
    return bundle


def held_out_batches(
    corpus: Corpus, tokenizer: Tokenizer, length: int, batch_tokens: int, seed: int
) -> list[PretrainBatch]:
    """One fixed draw of masked pieces over a held-out corpus, the same for every model with this tokenizer."""
    spec = PretrainSpec(sentence_objective="none", masking="piece")
    plan = Plan(
        corpus, tokenizer, spec, length=length, batch_tokens=batch_tokens, seed=seed, static_shapes=False
    )  # fmt: skip
    return list(plan.epoch(0))


class MaskedScores(msgspec.Struct, frozen=True, kw_only=True):
    """Per held-out batch: mean loss, share right, and how many pieces were masked."""

    losses: list[float]
    accuracies: list[float]
    counts: list[int]


@torch.inference_mode()
def masked_scores(model: Model, batches: list[PretrainBatch]) -> MaskedScores:
    """Masked-piece loss (nats) and accuracy of a model with an ``mlm`` head on fixed batches, in fp32."""
    losses, accuracies, counts = [], [], []
    for batch in batches:
        loss = pretraining_loss(model, batch)
        losses.append(float(loss.parts["masked_loss"]))
        accuracies.append(float(loss.parts["masked_accuracy"]))
        counts.append(batch.masked)
    if not np.isfinite(losses).all():
        raise InputError("the masked-piece loss on held-out text is not finite")
    return MaskedScores(losses=losses, accuracies=accuracies, counts=counts)
