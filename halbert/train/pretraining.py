"""Pre-training: a corpus and a recipe in, a bundle out; and the masked-piece score on held-out text."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import platform
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from halbert import presets
from halbert.bundle import Bundle
from halbert.data.corpus import Corpus
from halbert.data.instances import PretrainBatch
from halbert.data.plan import START, Plan, Position
from halbert.errors import InputError, SpecError
from halbert.files import sha256, write_bytes
from halbert.heads import HeadSpec
from halbert.model import Model
from halbert.model.arrays import arrays_of
from halbert.processes import processor
from halbert.spec import EncoderSpec, ModelSpec, PretrainSpec, from_dict
from halbert.text import Tokenizer
from halbert.train.curve import draw_curve
from halbert.train.distributed import ALONE, World, from_first, joined, mean_over, shard
from halbert.train.folder import RunFolder
from halbert.train.journal import Journal, Report, thinned
from halbert.train.loader import Loaded, loaded
from halbert.train.loop import LossOf, Run
from halbert.train.objectives import Meaning, pretraining_loss
from halbert.train.preview import preview
from halbert.train.recipe import PretrainRecipe, Stage
from halbert.train.translations import bring_together
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
    if recipe.encoder.get("vocab_size", tokenizer.vocab_size) != tokenizer.vocab_size:
        raise SpecError(
            f"recipe [encoder]: vocab_size is {recipe.encoder['vocab_size']}, the tokenizer has {tokenizer.vocab_size:,} pieces; "
            "leave it out"
        )
    encoder = from_dict(EncoderSpec, fields, "recipe [encoder]")
    if fields.get("pooler") != "none" and encoder.type_vocab_size < 2:
        raise SpecError("type_vocab_size is 1, and pairs of texts (sentence_objective) need 2 segments")
    if recipe.longest > encoder.max_position_embeddings:
        raise SpecError(f"length {recipe.longest} exceeds max_position_embeddings {encoder.max_position_embeddings}")
    return ModelSpec(
        encoder=encoder, text=tokenizer.spec, pretraining=from_dict(PretrainSpec, pretraining, "recipe [pretraining]")
    )


def pretraining_heads(spec: PretrainSpec) -> dict[str, HeadSpec]:
    """The heads an objective needs."""
    heads = {"mlm": HeadSpec(kind="mlm")}
    return heads if spec.sentence_objective == "none" else {**heads, "pair": HeadSpec(kind="pair")}


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
    tokenizer: Tokenizer,
    out: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    resume: bool = False,
    report: Report | None = None,
    tell: Callable[[str], None] | None = None,
) -> Bundle:
    """Pre-train the model a recipe describes and return its bundle, saved to ``out`` if given.

    What belongs to the run lies in ``out/training``: the recipe, ``journal.jsonl``, TensorBoard's events, checkpoints and
    the picture of the loss. With ``resume`` the run goes on from its last checkpoint. ``tell`` is given lines for people.
    Under torchrun every process calls this, and the first one writes.

    Raises :class:`InputError` when the corpus was made with another tokenizer or ``out`` holds something else, and
    :class:`halbert.errors.Stopped` after SIGTERM.
    """
    spec = spec_of_recipe(recipe, tokenizer)
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
    with joined() as world:
        say = tell if tell is not None and world.first else _silent
        place = RunFolder(out, recipe, corpus, resume, world) if out is not None else None
        try:
            heads = pretraining_heads(spec.pretraining)
            model = Model(spec.encoder, heads).initialize(recipe.seed)
            found = place.checkpoints.latest() if place else None
            loss_of = _begun(model, recipe, corpus, place, world, say, fresh=found is None)
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
                summary = run.take(batches)
            journal.close()
            bundle = Bundle(
                spec, tokenizer, arrays_of(model), heads, name=name or (Path(out).name if out else "pretrained"),
                provenance={
                    "training": {
                        "kind": "pretraining", **summary, "processes": world.size, "machine": hardware(world),
                        "recipe": msgspec.to_builtins(recipe.named()),
                        "corpus": summary_of(corpus),
                        "journal": thinned(journal.entries),
                    }
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


def _begun(
    model: Model,
    recipe: PretrainRecipe,
    corpus: Corpus,
    place: RunFolder | None,
    world: World,
    say: Callable[[str], None],
    fresh: bool,
) -> LossOf:
    """Give the model the start of its recipe, unless its run goes on (``fresh``), and return what is asked of it.

    Tables are made by the first process. The one that knows translations is made once for a run, and kept in its folder.
    """
    parallel = recipe.start_parallel
    widths = model.spec.embedding_size, model.spec.hidden_size
    V = model.spec.vocab_size

    def start(width: int) -> np.ndarray:
        say(f"Counting which pieces stand near each other, for {width} numbers a piece to start from")
        return piece_embeddings(corpus, width, recipe.seed, Corpus(parallel) if parallel else None)

    first: np.ndarray | None = None
    if recipe.start == "pmi-svd" and fresh:
        first = from_first(lambda: start(widths[0]), (V, widths[0]), world)
        with torch.no_grad():
            model.encoder.embeddings.piece.weight.copy_(torch.from_numpy(first))
    if not recipe.translation_weight:
        return pretraining_loss
    file = place.place / "translations.npy" if place else None

    def translations() -> np.ndarray:
        if file is not None and file.exists():
            try:
                return np.load(file, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise InputError(f"{file}: cannot be read: {error}; it is made again when it is removed") from None
        began = first if first is not None and widths[0] == widths[1] else start(widths[1])
        say("Learning which texts translate each other")
        table = bring_together(began, Corpus(parallel), recipe.seed)
        if file is not None:
            written = io.BytesIO()
            np.save(written, table, allow_pickle=False)
            write_bytes(file, written.getvalue())
        return table

    table = from_first(translations, (V, widths[1]), world)
    meaning = Meaning(torch.from_numpy(table).to(world.device), recipe.translation_weight)
    return functools.partial(pretraining_loss, meaning=meaning)


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
