"""What both programs of this folder do: train a model or go on with it, judge its masked pieces, put it into the box."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halbert.bundle import Bundle
from halbert.data.corpus import Corpus
from halbert.data.pairs import NO_LABEL
from halbert.data.plan import Plan
from halbert.files import write_json
from halbert.model.arrays import model_of
from halbert.run.predictor import load
from halbert.source import load_bundle
from halbert.spec import PretrainSpec
from halbert.text import Tokenizer
from halbert.train.journal import thinned
from halbert.train.pretraining import held_out_batches, masked_scores, pretrain
from halbert.train.recipe import read_recipe

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks/results/models.json"
LENGTH, BATCHES = 128, 200
PAIR_BATCHES = 100
CURVE = 50  # entries of a model's journal that go into the box, whose files are to be 50 MB at most


def asked(what: str, names: Sequence[str]) -> argparse.Namespace:
    """The options of both programs."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the texts")
    parser.add_argument("--work", type=Path, required=True, help="folder for corpora, checkpoints and models")
    parser.add_argument("--only", nargs="*", choices=names, default=list(names))
    parser.add_argument("--seeds", type=int, default=3, help="of the fine-tunings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipes")
    parser.add_argument("--export", action="store_true", help="write the bundles to halbert/models/")
    return parser.parse_args()


def trained(recipe: str, tokenizer: Tokenizer, out: Path, changes: list[str]) -> Bundle:
    """The model of a recipe: as it is in its folder, or trained to its end, from where it was stopped."""
    if not (out / "halbert.json").exists():
        pretrain(
            read_recipe(recipe, changes), tokenizer, out, resume=out.exists(), tell=print,
            report=lambda e: _tell(out.name, e),
        )  # fmt: skip
    return load_bundle(out)


def _tell(name: str, entry: dict[str, Any]) -> None:
    if entry["step"] % 200 == 0:
        print(
            f"{name} {entry['step']}: loss {entry['masked_loss']:.3f}, masked {entry['masked_accuracy']:.3f}, "
            f"{entry['tokens_per_second']:,.0f} pieces/s",
            file=sys.stderr, flush=True,
        )  # fmt: skip


def training_of(bundle: Bundle) -> dict[str, Any]:
    """What a card says of the training: pieces read, time, precision, machine."""
    told = bundle.provenance["training"]
    threads, device = told["machine"]["threads"], told["machine"]["device"]
    return {
        "tokens": told["tokens"], "seconds": told["seconds"], "precision": told["precision"], "threads": threads,
        "machine": f"{threads} core{'s' * (threads > 1)} of {device}",
    }  # fmt: skip


def masked(bundle: Bundle, tokenizer: Tokenizer, held_out: Corpus) -> dict[str, Any]:
    """Masked pieces (single ones, 15 %) of text that was held out."""
    batches = held_out_batches(held_out, tokenizer, LENGTH, 4096, seed=1)[:BATCHES]
    scores = masked_scores(model_of(bundle.spec.encoder, bundle.heads, bundle.arrays).eval(), batches)
    counts, accuracy = np.array(scores.counts), np.array(scores.accuracies)
    return {
        "masked_accuracy": float(np.average(accuracy, weights=counts)),
        "masked_standard_error": float(accuracy.std(ddof=1) / np.sqrt(len(accuracy))),
        "masked_loss": float(np.average(scores.losses, weights=counts)), "masked": int(counts.sum()),
    }  # fmt: skip


@torch.inference_mode()
def pair_accuracy(bundle: Any, corpus: Corpus, length: int, objective: str) -> dict[str, float] | None:
    """Share of held-out pairs of an objective whose label the pair head gives, with its standard error."""
    if "pair" not in bundle.heads:
        return None
    spec = PretrainSpec(sentence_objective=objective, masking="piece")  # type: ignore[arg-type]
    plan = Plan(corpus, bundle.tokenizer, spec, length=length, batch_tokens=4096, seed=1, static_shapes=False)
    model = model_of(bundle.spec.encoder, bundle.heads, bundle.arrays).eval()
    right, n = 0, 0
    for batch, _ in itertools.islice(plan.batches(), PAIR_BATCHES):
        ids, mask, segments = (torch.from_numpy(a) for a in batch[:3])
        guess = model.answer("pair", model(ids, mask, segments)).argmax(-1).numpy()
        known = batch.pair_labels != NO_LABEL
        right, n = right + int((guess == batch.pair_labels)[known].sum()), n + int(known.sum())
    share = right / n
    return {"value": share, "standard_error": float(np.sqrt(share * (1 - share) / n)), "n": n}


def filled(bundle: Bundle, sentences: Sequence[str]) -> list[dict[str, Any]]:
    """What a model fills into everyday sentences, its five first pieces."""
    predictor = load(bundle, precision="fp32")
    return [
        {"text": text, "pieces": [[row["piece"], round(row["probability"], 3)] for row in predictor.fill(text)[0][:5]]}
        for text in sentences
    ]


def table_of(filled_in: list[dict[str, Any]]) -> list[str]:
    """A card's table of filled sentences."""
    return ["| sentence | its first three pieces |", "|---|---|"] + [
        f"| {row['text']} | {', '.join(f'{piece} {100 * p:.0f} %' for piece, p in row['pieces'][:3])} |"
        for row in filled_in
    ]


def unigram(train: Corpus, held_out: Corpus, tokenizer: Tokenizer) -> dict[str, float]:
    """What a predictor scores that knows only how frequent each piece is: always the most frequent, and the entropy."""
    size = tokenizer.vocab_size
    counts = np.zeros(size, np.int64)
    for number in range(len(train)):
        counts += np.bincount(np.asarray(train.shard(number).ids), minlength=size)
    share = (counts + 1) / (counts.sum() + size)
    batches = held_out_batches(held_out, tokenizer, LENGTH, 4096, seed=1)[:BATCHES]
    hidden = np.concatenate([batch.labels[: batch.masked] for batch in batches])
    return {"accuracy": float(np.mean(hidden == counts.argmax())), "loss": float(-np.log(share[hidden]).mean())}


def export(name: str, bundle: Bundle, licence: str, about: str, told: dict[str, Any]) -> None:
    """Write a bundle to the package, in half precision, with its card; and its figures to the results."""
    training = {**bundle.provenance["training"], "journal": thinned(bundle.provenance["training"]["journal"], CURVE)}
    provenance = {**bundle.provenance, "training": training, "licence": licence, "about": about}
    place = ROOT / "halbert/models" / name
    bundle.replace(name=name, provenance=provenance).save(place, overwrite=True, dtype="float16")
    if (place / "spiece.model").exists():  # which says the same in half the bytes
        (place / "tokenizer.json").unlink(missing_ok=True)
    file = place / "provenance.json"
    file.write_text(
        json.dumps(json.loads(file.read_text("utf-8")), ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8"
    )
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    write_json(RESULTS, {**results, name: told})
