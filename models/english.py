"""The English pair in the box: texts, vocabulary, corpora, two trainings of each, scores, and the bundles with their cards.

    make models      (or: python -m models.english --data DIR --work DIR [--export])

What is in the work folder already is not made again, and a training that was stopped goes on where it was, so that the
same command can be given until it is done. ``--export`` writes the bundles to ``halbert/models/``.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from halbert.bundle import Bundle, random_bundle
from halbert.compare.machine import describe_machine
from halbert.data.corpus import Corpus, build_corpus
from halbert.data.labelled import DataFile
from halbert.files import write_json
from halbert.run.evaluation import class_chances
from halbert.run.predictor import load
from halbert.source import load_bundle, resolve_tokenizer
from halbert.spec import TextSpec
from halbert.tasks.table import get_task
from halbert.text import Tokenizer
from halbert.text.learn import count_words, learn_from_counts
from halbert.train.finetuning import finetune_once, usual_recipe
from models.making import (
    LENGTH,
    asked,
    export,
    filled,
    masked,
    pair_accuracy,
    table_of,
    trained,
    training_of,
    unigram,
)  # fmt: skip
from models.texts import documentation, english

NAMES = ("bert-mini-en", "albert-mini-en")
VOCABULARY = 12_000
LICENCE = "cc-by-4.0"
TEXTS = (
    "99 English novels of 1840 to 1920 (ELTeC-eng, public domain), seven OpenStax textbooks (CC BY 3.0, copyright 2014 "
    "OpenStax College), inaugural and State of the Union addresses of presidents of the United States (public domain), and "
    "the documentation inside the Python packages that Halbert installs (their own free licences)"
)
SENTENCES = (
    "Paris is the [MASK] of France.", "She opened the door and walked into the [MASK].", "The children played in the [MASK].",
    "He was born in the [MASK] of 1850.", "Water boils when it is [MASK].", "I would like a cup of [MASK].",
    "The heart pumps [MASK] through the body.", "They lived happily for many [MASK].", "The function returns a new [MASK].",
    "Good morning, my dear [MASK].",
)  # fmt: skip


def prepare(data: Path, place: Path) -> tuple[Tokenizer, Corpus, Corpus]:
    """The tokenizer, the corpus to learn from and the one that is held out; made once in a folder."""

    def texts(held_out: bool) -> Any:
        return itertools.chain(english(data, held_out), documentation(held_out))

    if not (place / "tokenizer").exists():
        counts = count_words((p for document in texts(False) for p in document), TextSpec())
        learn_from_counts(counts, VOCABULARY, TextSpec()).save(place / "tokenizer")
    tokenizer = resolve_tokenizer(str(place / "tokenizer"))
    made = []
    for name, held_out in (("train", False), ("held-out", True)):
        if not (place / name / "manifest.json").exists():
            build_corpus(texts(held_out), tokenizer, place / name, note=TEXTS)
        made.append(Corpus(place / name))
    return tokenizer, *made


def begun(name: str, tokenizer: Tokenizer, work: Path, changes: list[str]) -> Bundle:
    """A model after its first training, in half precision, which is how the second one found it."""
    half = work / f"{name}-first"
    if not half.exists():
        trained(name, tokenizer, work / "first" / name, changes).save(half, dtype="float16")
    return load_bundle(half)


def judge(bundle: Bundle, tokenizer: Tokenizer, held_out: Corpus) -> dict[str, Any]:
    """Masked pieces and pairs of text that was held out."""
    pairs = {f"{o}_accuracy": pair_accuracy(bundle, held_out, LENGTH, o) for o in ("sop", "nsp")}
    return {**masked(bundle, tokenizer, held_out), **pairs}


def sentiment(bundle: Bundle, data: Path, seed: int) -> dict[str, float | None]:
    """SST-2 with the usual settings of the encoder: accuracy of the dev and the test set."""
    row = get_task("sst2")
    train, dev, test = (
        DataFile(data / "glue/SST-2" / file, row.form, columns=row.columns, header=row.header)
        for file in ("train.tsv.gz", "dev.tsv", "test.tsv")
    )
    judged = list(test)
    recipe = usual_recipe(row, bundle.spec.encoder, {"seed": seed, "keep": "last"})
    run = finetune_once(bundle, row, train, dev, recipe)
    labels = run.bundle.heads["label"].labels
    guess = class_chances(load(run.bundle), judged, recipe.length).argmax(1)
    right = [labels[g] == e.label for g, e in zip(guess, judged, strict=True)]
    found = {"dev": run.scores["accuracy"].value, "test": statistics.mean(right)}
    print(f"  SST-2, {bundle.name}, seed {seed}: {found}", file=sys.stderr, flush=True)
    return found


def bag_of_words(data: Path) -> dict[str, float]:
    """SST-2 by words and pairs of words alone: TF-IDF and logistic regression (C = 10)."""
    row = get_task("sst2")
    files = {"train": "train.tsv.gz", "dev": "dev.tsv", "test": "test.tsv"}
    texts, labels = {}, {}
    for part, file in files.items():
        rows = list(DataFile(data / "glue/SST-2" / file, row.form, columns=row.columns, header=row.header))
        texts[part], labels[part] = [e.text for e in rows], [e.label for e in rows]
    words = TfidfVectorizer(ngram_range=(1, 2))
    model = LogisticRegression(C=10, max_iter=1000).fit(words.fit_transform(texts["train"]), labels["train"])
    return {part: float(model.score(words.transform(texts[part]), labels[part])) for part in ("dev", "test")}


def untrained(bundle: Bundle) -> Bundle:
    """The same network with drawn weights."""
    return random_bundle(bundle.spec, bundle.tokenizer, 0, {}, f"{bundle.name} from scratch")


def about(name: str, told: dict[str, Any]) -> str:
    """The card's own part: what it learnt from, what it can do, what it cannot."""
    other = next(n for n in NAMES if n != name)
    first, run, base = told["first_training"], told["training"], told["unigram"]
    pair = told["sop_accuracy"]
    lines = [
        f"Learnt from nothing, beside `{other}`, on the same text, with the same pieces, in the same steps: what differs "
        "between the two is one parameter group for all layers (or one for each) and the width of the embeddings.",
        "",
        f"**Text**: {TEXTS}. {told['train_tokens']:,} pieces, of which it read {first['tokens']:,} in "
        f"{first['seconds'] / 60:.0f} minutes ({first['machine']}, {first['precision']}; recipe `halbert/recipes/{name}.toml`), "
        f"then {run['tokens']:,} more in {run['seconds'] / 60:.0f} minutes, the rate warmed up again ({run['machine']}, "
        f"{run['precision']}; recipe `halbert/recipes/longer.toml`). Licence of the weights: CC BY 4.0.",
        "",
        "**Scores on text that was held out** (novels, textbooks, speeches, documentation):",
        "",
        "| what | score | a predictor that reads nothing |",
        "|---|--:|--:|",
        f"| masked pieces found ({told['masked']:,}) | {100 * told['masked_accuracy']:.1f} % (standard error "
        f"{100 * told['masked_standard_error']:.1f}) | {100 * base['accuracy']:.1f} % |",
        f"| masked-piece loss | {told['masked_loss']:.2f} | {base['loss']:.2f} |",
        f"| order of two texts (SOP, {pair['n']:,}) | {100 * pair['value']:.1f} % | 50 % |",
    ]
    for what, title in (("sst2", "fine-tuned"), ("sst2_from_scratch", "the same network from drawn weights")):
        tests = [100 * row["test"] for row in told.get(what, [])]
        if tests:
            lines.append(
                f"| SST-2 test, {title}, {len(tests)} seed{'s' * (len(tests) > 1)} | {statistics.mean(tests):.1f} % "
                f"({min(tests):.1f} to {max(tests):.1f}) | "
                "50.1 % |"
            )
    words = 100 * told["sst2_bag_of_words"]["test"]
    lines.append(
        f"| SST-2 test, a bag of words and pairs of words (TF-IDF, logistic regression) | {words:.1f} % | 50.1 % |"
    )
    lines += [
        "",
        "**Ten everyday sentences**, filled in as they come, also where they fail:",
        "",
        *table_of(told["filled"]),
    ]
    lines += [
        "",
        "**Limits**: a model of this size knows words and their company, few facts. Its text is of 1840 to 1920 for the most "
        "part, with the views of its time. English, lower-cased, at most 512 pieces of which it has seen 128.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Make what is missing, step by step; write the results; export when asked."""
    options = asked(__doc__, NAMES)
    options.work.mkdir(parents=True, exist_ok=True)
    tokenizer, train, held_out = prepare(options.data, options.work)
    for name in options.only:
        changes = [*options.set, f"corpus='{train.folder}'"]
        first = begun(name, tokenizer, options.work, changes)
        bundle = trained("longer", tokenizer, options.work / name, [*changes, f"start='{first.folder}'"])
        file = options.work / f"{name}.json"
        told: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        if "masked_accuracy" not in told:
            told |= {
                **judge(bundle, tokenizer, held_out), "filled": filled(bundle, SENTENCES),
                "unigram": unigram(train, held_out, tokenizer), "train_tokens": train.manifest.tokens,
                "parameters": bundle.spec.encoder.count_encoder(), "machine": describe_machine(),
                "created": time.strftime("%Y-%m-%d", time.gmtime()), "training": training_of(bundle),
                "first_training": training_of(first),
            }  # fmt: skip
            write_json(file, told)
        if "sst2_bag_of_words" not in told:
            told["sst2_bag_of_words"] = bag_of_words(options.data)
            write_json(file, told)
        for what, start in (("sst2", bundle), ("sst2_from_scratch", untrained(bundle))):
            for seed in range(len(told.get(what, [])), options.seeds):
                told[what] = [*told.get(what, []), sentiment(start, options.data, seed)]
                write_json(file, told)
        print(json.dumps({k: v for k, v in told.items() if k not in ("machine", "filled")}), flush=True)
        if options.export:
            export(name, bundle, LICENCE, about(name, told), told)


if __name__ == "__main__":
    main()
