"""Pre-training: a corpus and a recipe in, a bundle out; and the masked-piece score on held-out text."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from halbert.bundle import Bundle
from halbert.cluster import ClusterLike, connection
from halbert.data.corpus import Corpus
from halbert.data.instances import PretrainBatch
from halbert.data.plan import START, Plan, Position
from halbert.errors import InputError, SpecError
from halbert.files import sha256
from halbert.model import Model
from halbert.model.arrays import arrays_of
from halbert.processes import processor
from halbert.spec import PretrainSpec
from halbert.text import Tokenizer
from halbert.train.curve import draw_curve
from halbert.train.distributed import ALONE, World, joined, mean_over, shard
from halbert.train.folder import RunFolder
from halbert.train.journal import Journal, Report, thinned
from halbert.train.loader import Loaded, loaded
from halbert.train.loop import Run
from halbert.train.objectives import pretraining_loss
from halbert.train.positions import lengthened
from halbert.train.preview import preview
from halbert.train.recipe import PretrainRecipe, Stage
from halbert.train.start import base_of, begun, pretraining_heads, spec_of_recipe, tokenizer_of, weights_hash


class Reader:
    """A recipe's batches of a corpus, phase after phase, from any step on."""

    def __init__(self, recipe: PretrainRecipe, corpus: Corpus, tokenizer: Tokenizer, spec: PretrainSpec) -> None:
        self.recipe, self.corpus, self.tokenizer, self.spec = recipe, corpus, tokenizer, spec

    def plan(self, stage: Stage) -> Plan:
        """What is read in one phase."""
        recipe = self.recipe
        return Plan(
            self.corpus, self.tokenizer, self.spec, length=stage.length, batch_tokens=stage.batch_tokens,
            seed=recipe.seed, window_shards=recipe.window_shards, language_exponent=recipe.language_exponent,
            packed=recipe.packing == "pack", split_long=recipe.long_sentences == "split",
        )  # fmt: skip

    def batches(self, step: int, position: Position, world: World = ALONE) -> Generator[Loaded]:
        """This process's batches for every step from ``step`` on; a new phase begins with a new epoch."""
        for stage in self.recipe.stages():
            if stage.end <= step:
                continue
            if step <= stage.begin and stage.begin > 0:
                position = Position(position.epoch + 1)
            # Only functions and values reach a worker process, which opens the corpus for itself.
            source = loaded(
                functools.partial(self.plan, stage), position,
                rank=world.rank, size=world.size, workers=self.recipe.workers,
            )  # fmt: skip
            with contextlib.closing(source):
                for _ in range((stage.end - max(stage.begin, step)) * self.recipe.accumulate // world.size):
                    found = next(source)
                    position = found.after
                    yield found


def pretrain(
    recipe: PretrainRecipe,
    tokenizer: Tokenizer | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    resume: bool = False,
    report: Report | None = None,
    tell: Callable[[str], None] | None = None,
    cluster: ClusterLike | None = None,
    workers: int | None = None,
) -> Bundle:
    """Pre-train the model a recipe describes and return its bundle, saved to ``out`` if given.

    What belongs to the run lies in ``out/training``: the recipe, ``journal.jsonl``, TensorBoard's events, checkpoints and
    the picture of the loss. With ``resume`` the run goes on from its last checkpoint. ``tell`` is given lines for people.
    A recipe that starts from a model needs no ``tokenizer``: it is the model's. Under torchrun every process calls this,
    and the first one writes. With ``cluster`` (:func:`halbert.cluster.connection`) Ray starts that many ``workers`` (one for
    every GPU, or every machine), which all see the corpus and ``out``, and starts them again when one is lost.

    Raises :class:`InputError` when the corpus was made with another tokenizer or ``out`` holds something else, and
    :class:`halbert.errors.Stopped` after SIGTERM.
    """
    base = base_of(recipe, tokenizer)
    if tokenizer is None:
        tokenizer = tokenizer_of(base)
    spec = spec_of_recipe(recipe, tokenizer, base)
    if not recipe.corpus:
        raise SpecError('the recipe names no corpus; add corpus = "FOLDER" or --set corpus=FOLDER')
    if recipe.translation_weight and not recipe.start_parallel:
        raise SpecError(
            "translation_weight needs a corpus of texts in several languages; add --set start_parallel=FOLDER, or "
            "--set translation_weight=0"
        )
    corpus = Corpus(recipe.corpus)
    reader = Reader(recipe, corpus, tokenizer, spec.pretraining)
    plans = [reader.plan(stage) for stage in recipe.stages()]  # checks tokenizer and numbers
    if workers is not None and cluster is None:
        raise InputError(
            "workers are a cluster's: add --engine ray (cluster= in Python), or start processes by torchrun"
        )
    if (connect := connection(cluster)) is not None:
        from halbert.train.spread import pretrain_spread  # whose processes call this function

        if out is None:
            raise InputError("a training by a cluster needs out, a folder that all of its machines see")
        del base
        return pretrain_spread(
            recipe,
            tokenizer,
            Path(out),
            connect=connect,
            name=name,
            workers=workers,
            resume=resume,
            report=report,
            tell=tell,
        )
    with joined() as world:
        say = tell if tell is not None and world.first else _silent
        start = weights_hash(base) if world.first and base else ""  # who writes compares
        place = RunFolder(out, recipe, corpus, resume, world, start) if out is not None else None
        try:
            heads = pretraining_heads(spec.pretraining)
            model = Model(spec.encoder, heads).initialize(recipe.seed)
            found = place.checkpoints.latest() if place else None
            loss_of = begun(
                model, recipe, spec.pretraining.sentence_objective, corpus, base, place, world, say, fresh=found is None
            )
            kept: dict[str, Any] = (
                {} if base is None else {"warnings": base.warnings, "origins": _kept_origins(base, recipe)}
            )
            told = {} if base is None else {"base": base.as_base()}
            del base  # its weights, which may be large
            model.to(world.device)
            model.checkpoint_activations = recipe.checkpoint_activations == "layer"
            if recipe.strategy == "fsdp":
                shard(model)
            first, _ = next(plans[0].batches())  # a corpus of which nothing can be masked is refused here
            journal = place.journal(report) if place and world.first else Journal(None, report if world.first else None)
            run = Run(
                model, loss_of, recipe, steps=recipe.steps, warmup=recipe.warmup_steps, journal=journal,
                seed=recipe.seed, world=world, checkpoints=place.checkpoints if place else None,
            )  # fmt: skip
            if run.resume(found):
                say(f"Going on after step {run.progress.step:,}, {run.progress.tokens:,} pieces")
            elif _heard(tell, world):  # its two steps are every process's, since each waits for the others in them
                preview(run, recipe, spec, first, plans[0], tokenizer, say)
            del found
            now = run.progress
            position = Position(**now.position) if now.position else START
            with contextlib.closing(reader.batches(now.step, position, world)) as batches:
                copied = recipe.new_positions == "copied" and recipe.start_model is None  # whose positions are trained
                summary = run.take(lengthened(batches, recipe.stages(), run) if copied else batches)
            journal.close()
            bundle = Bundle(
                spec, tokenizer, arrays_of(model), heads, name=name or (Path(out).name if out else "pretrained"), **kept,
                provenance={
                    **told,
                    "training": {
                        "kind": "pretraining", **summary, "processes": world.size, "machine": hardware(world),
                        "recipe": msgspec.to_builtins(recipe.named()),
                        "corpus": summary_of(corpus),
                        "journal": thinned(journal.entries),
                    },
                },
            )  # fmt: skip
            if place and world.first:
                place.finish(bundle)
                draw_curve(journal.entries, place.place)
        except BaseException:
            if place and world.first:
                place.abandon()
            raise
    return bundle


def _kept_origins(base: Bundle, recipe: PretrainRecipe) -> dict[str, str]:
    """Where the fields came from that a model has from the one it began with."""
    chosen = {*recipe.encoder, *recipe.pretraining, "pooler", "sentence_objective"}
    return {} if recipe.preset else {field: why for field, why in base.origins.items() if field not in chosen}


_MOST_INPUTS = 100  # named in a model's provenance


def summary_of(corpus: Corpus) -> dict[str, Any]:
    """What a corpus is, without the list of its shards; of many inputs only how many they were."""
    told: dict[str, Any] = msgspec.to_builtins(corpus.manifest)
    for name in ("inputs", "skipped"):
        if len(told[name]) > _MOST_INPUTS:
            told[name] = len(told[name])
    return {**told, "shards": len(corpus), "sha256": sha256(corpus.folder / "manifest.json")}


def hardware(world: World) -> dict[str, Any]:
    """What a run was computed on."""
    gpu = world.device.type == "cuda"
    name = torch.cuda.get_device_name(world.device) if gpu else processor()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__, "system": platform.system()}


def _heard(tell: Callable[[str], None] | None, world: World) -> bool:
    """Whether any process has somebody to tell."""
    return bool(mean_over(torch.full((1,), float(tell is not None), device=world.device), world)[0] > 0)


def _silent(_: str) -> None:
    """Nobody listens."""


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
