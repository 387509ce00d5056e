"""An audit of models that are trained for it: a BERT, and an ALBERT of its shape, of its parameter count, of its training time.

Text: the documentation inside the installed packages. Everything that is trained or scored is written to the output
folder, so that every figure can be had again with ``halbert audit`` on those files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from halbert.bundle import Bundle
from halbert.compare.audit import TEXTS, run_plan
from halbert.compare.claims import read_claims
from halbert.compare.documented import WHERE, read_task
from halbert.compare.kept import check_report
from halbert.compare.plan import (
    PROBES,
    DepthName,
    Plan,
    Progress,
    Silent,
    check_probes,
    command_for,
    depth_of,
)
from halbert.compare.subject import Subject
from halbert.data.corpus import build_corpus
from halbert.data.documentation import LIBRARIES, Paragraph, split_of, versions
from halbert.files import whole_folder
from halbert.presets import encoder
from halbert.run.backend import Precision
from halbert.spec import EncoderSpec, TextSpec
from halbert.text import Tokenizer
from halbert.text.learn import learn_vocabulary
from halbert.train.pretraining import pretrain
from halbert.train.recipe import FinetuneRecipe, PretrainRecipe

VOCABULARY = 6000
HIDDEN, LAYERS, HEADS = 128, 3, 2
NARROW = 64  # ALBERT's embedding width here: half of H, as E = 128 would be no factorisation at this size
LENGTH = 128
RECIPE = PretrainRecipe(length=LENGTH, batch_tokens=2048, learning_rate=1e-3, steps=1, warmup_steps=0, start="pmi-svd")
FINETUNING = FinetuneRecipe(epochs=4, learning_rate=1e-3, batch_size=16, length=64)
_TRIAL_STEPS = 20
TIMED = "albert-wide-timed"  # the pairing of ALBERT's Table 6: a wider ALBERT in BERT's training time


def wider(target: EncoderSpec) -> EncoderSpec:
    """ALBERT's sharing at (nearly) the target's parameter count: the number of heads and their width that come closest."""

    def at(heads: int, head_size: int) -> EncoderSpec:
        width = heads * head_size
        return msgspec.structs.replace(
            target, embedding_size=NARROW, num_hidden_groups=1, hidden_size=width, intermediate_size=4 * width,
            num_attention_heads=heads,
        )  # fmt: skip

    tried = (at(heads, size) for heads in range(1, 65) for size in range(40, 81, 2))
    return min(tried, key=lambda spec: abs(spec.count_encoder() - target.count_encoder()))


def designs(vocab_size: int) -> dict[str, tuple[EncoderSpec, str, str]]:
    """Name: (encoder, sentence objective, description)."""
    # Held equal: activation, dropout (0: no text is seen often), masking, tokenizer, text, tokens.
    bert = encoder(
        vocab_size, LAYERS, HIDDEN, HEADS,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=LENGTH,
    )  # fmt: skip
    albert = msgspec.structs.replace(bert, embedding_size=NARROW, num_hidden_groups=1)
    wide = wider(bert)
    return {
        "bert": (bert, "nsp", "BERT: every layer its own parameters, embeddings as wide as the layers, NSP"),
        "albert": (albert, "sop", "ALBERT of the same shape: one layer used three times, narrower embeddings, SOP"),
        "albert-wide": (wide, "sop", "ALBERT of BERT's parameter count: one wider layer used three times, SOP"),
    }


def trained_audit(
    *,
    out: str | os.PathLike[str],
    seconds: float,
    depth: DepthName = "usual",
    seeds: int | None = None,
    minutes: float | None = None,
    precision: Precision = "auto",
    threads: int | None = None,
    probes: Sequence[str] = PROBES,
    libraries: tuple[str, ...] = LIBRARIES,
    claims: str | os.PathLike[str] = "default",
    weights: Mapping[str, float] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Build text, task and models, then audit them. ``seconds`` of pre-training are meant for each model on average.

    All models learn from the same text, in the same number of steps, but for the last, which takes as many as fit into
    BERT's time. Returns what ``results.json`` holds.
    """
    progress = progress or Silent()
    check_report(out, overwrite)
    asked, wanted, looks = read_claims(claims), check_probes(probes), depth_of(depth, seeds)
    with whole_folder(out, overwrite) as folder:
        paragraphs, task = read_task(libraries, progress)
        with progress.task("Learning a vocabulary, building the corpus", 2) as step:
            tokenizer = learn_vocabulary((p.text for p in paragraphs if split_of(p) == "train"), VOCABULARY, TextSpec())
            step("vocabulary")
            note = f"docstrings of {', '.join(f'{n} {v}' for n, v in versions(libraries).items())}"
            build_corpus(_documents(paragraphs), tokenizer, folder / "data" / "corpus", note=note)
            step("corpus")
        task.write(folder / "data")
        recipes = _recipes(folder / "data" / "corpus", tokenizer, seconds, progress)
        subjects: dict[str, Subject] = {}
        for name in (*recipes, TIMED):
            recipe, description = recipes[name] if name in recipes else _in_time(subjects, recipes)
            with progress.task(f"Pre-training {name}", recipe.steps) as step:
                bundle = _pretrain(recipe, tokenizer, step, name)
            place = bundle.save(folder / "models" / name)
            subjects[name] = Subject(
                name=name, bundle=bundle.replace(folder=place), folder=place, description=description
            )
        # The redo command names files of this folder; everything measured is in them.
        home = Path(out).name
        command = command_for(
            [f"{home}/models/{name}" for name in subjects], ["classify"], [f"{home}/data/{task.name}-train.csv"],
            [f"{home}/data/{task.name}-test.csv"], seeds=seeds, depth=depth, precision=precision, threads=threads,
            recipe=FINETUNING, claims=claims, weights=weights,
        )  # fmt: skip
        plan = Plan(
            subjects=list(subjects.values()), tasks=[task],
            texts=[e.text for e in task.test][:TEXTS], texts_from=WHERE, probes=wanted, command=command,
            notes=_notes(list(subjects.values())), depth=looks, minutes=minutes, precision=precision, threads=threads, recipe=FINETUNING,
            claims=asked, weights=dict(weights or {}),
        )  # fmt: skip
        return run_plan(plan, folder, progress)


def _notes(subjects: list[Subject]) -> list[str]:
    *equal, timed = (s.bundle.provenance["training"]["tokens"] for s in subjects)
    took = [s.bundle.provenance["training"]["seconds"] for s in subjects]
    return [
        "All models learnt from the same text with the same tokenizer, the first three in the same number of steps "
        f"({min(equal):,} to {max(equal):,} pieces each; {TIMED} {timed:,}): seconds of training, not days. Their quality says "
        "something about the two designs at this budget, nothing about the released models.",
        "bert and albert have equal shape and equal tokens, which favours the one with more parameters. albert-wide has "
        "bert's parameter count and is wider, which favours it in quality and costs it time. "
        f"{TIMED} is the same model with as many steps as fit into bert's training time: {took[-1]:.0f} s, bert {took[0]:.0f} s.",
        "Each model has its own sentence objective (NSP or SOP); masking, dropout (0) and activation are the same.",
    ]


def _documents(paragraphs: list[Paragraph]) -> list[list[str]]:
    modules: dict[tuple[str, str], list[str]] = {}
    for p in paragraphs:
        if split_of(p) == "train":
            modules.setdefault((p.library, p.module), []).append(p.text)
    return list(modules.values())


def _recipes(
    corpus: Path, tokenizer: Tokenizer, seconds: float, progress: Progress
) -> dict[str, tuple[PretrainRecipe, str]]:
    """A recipe for each model but the last, with as many steps as the time of all allows: the pace is measured first."""
    trials = {
        name: msgspec.structs.replace(
            RECIPE, corpus=str(corpus), encoder=msgspec.structs.asdict(spec), steps=_TRIAL_STEPS, start="random",
            pretraining={"sentence_objective": objective, "masking": "piece"},
        )
        for name, (spec, objective, _) in designs(tokenizer.vocab_size).items()
    }  # fmt: skip
    pace: dict[str, float] = {}
    with progress.task("Measuring the pace of training", len(trials)) as step:
        for name, recipe in trials.items():
            journal = pretrain(recipe, tokenizer, name=name).provenance["training"]["journal"]
            # The first entry covers ten steps, the slow first ones among them; the pace is that of the rest.
            pace[name] = (journal[-1]["seconds"] - journal[0]["seconds"]) / (journal[-1]["step"] - journal[0]["step"])
            step(name)
    paces = sum(pace.values()) + pace["bert"]  # the last takes bert's time
    steps = max(20, int(seconds * (len(trials) + 1) / paces))
    described = designs(tokenizer.vocab_size)
    return {name: (_of_steps(recipe, steps), described[name][2]) for name, recipe in trials.items()}


def _of_steps(recipe: PretrainRecipe, steps: int) -> PretrainRecipe:
    return msgspec.structs.replace(recipe, steps=steps, warmup_steps=max(1, steps // 10), start=RECIPE.start)


def _in_time(
    trained: Mapping[str, Subject], recipes: Mapping[str, tuple[PretrainRecipe, str]]
) -> tuple[PretrainRecipe, str]:
    """The wider ALBERT with the steps it would have taken in the time that BERT's training took."""
    allowed, took = (trained[name].bundle.provenance["training"]["seconds"] for name in ("bert", "albert-wide"))
    recipe = recipes["albert-wide"][0]
    steps = max(1, round(recipe.steps * allowed / took))
    description = f"albert-wide in BERT's training time: {steps:,} steps instead of {recipe.steps:,}, SOP"
    return _of_steps(recipe, steps), description


def _pretrain(recipe: PretrainRecipe, tokenizer: Tokenizer, step: Any, name: str) -> Bundle:
    done = 0

    def report(entry: dict[str, Any]) -> None:
        nonlocal done
        step(f"loss {entry['masked_loss']:.2f}, {entry['tokens_per_second']:,.0f} pieces/s", entry["step"] - done)
        done = entry["step"]

    return pretrain(recipe, tokenizer, name=name, report=report)
