"""The multilingual pair in the box: texts of some 300 languages, vocabulary, corpora, two trainings, alignment, scores.

    python -m models.multilingual --data DIR --work DIR [--only NAME] [--export]

What is in the work folder already is not made again, and a training that was stopped goes on where it was, so that the
same command can be given until it is done. ``--export`` writes the bundles to ``halbert/models/``.
"""

from __future__ import annotations

import csv
import functools
import json
import random
import statistics
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halbert.bundle import Bundle
from halbert.compare.machine import describe_machine
from halbert.compare.probes.retrieval import found_share, read_parallel
from halbert.data.corpus import Corpus, build_corpus, merge_corpora
from halbert.data.instances import IGNORED
from halbert.data.readers import Example
from halbert.files import write_json
from halbert.model.arrays import model_of
from halbert.run.evaluation import class_chances
from halbert.run.predictor import Predictor, load
from halbert.source import load_bundle, resolve_tokenizer
from halbert.spec import TextSpec
from halbert.tasks.table import get_task
from halbert.text import Tokenizer
from halbert.text.learn import count_words, learn_from_counts, weigh
from halbert.train.finetuning import finetune, finetune_once, usual_recipe
from halbert.train.pretraining import held_out_batches, masked_scores
from models.atlas import Atlas
from models.making import asked, export, filled, table_of, trained, training_of
from models.tongues import ENGLISH, Texts, held_out_verses, named_rows, read_texts

NAMES = ("bert-mini-100", "albert-mini-100")
VOCABULARY, EXPONENT, COVERAGE = 28_000, 0.7, 0.9995
TEXT = TextSpec(kind="unigram", lower_case=True, strip_accents=False)
SHARD_TOKENS = 1 << 15  # small shards, so that a window of them holds many languages
LICENCE = "cc-by-sa-4.0"
VERSES = 400  # of a language, by which its masked pieces are judged
ALIGNED = 700  # pairs of a language, at most, that the alignment learns from
TEXTS = (
    "New Testaments in 84 languages (CC0, public domain, CC BY 3.0 Brazil, CC BY 4.0, CC BY-SA 4.0; four short books and 16 "
    "other chapters held out), the training sentences of SIB-200 in 197 (FLORES-200, CC BY-SA 4.0), African Storybook and Pratham "
    "Books stories marked CC BY or public domain, the Universal Declaration of Human Rights in those of them that have it (a "
    "document of the United Nations, in the public domain by nltk_data, which carries the same texts), and seven OpenStax "
    "textbooks in English (CC BY 3.0, copyright 2014 OpenStax College)"
)

SENTENCES = (
    "In the beginning was the [MASK].", "The children went to [MASK].", "Am Anfang war das [MASK].", "Elle a ouvert la [MASK].",
    "Jesús le [MASK].", "Mungu alimwambia [MASK].", "В начале было [MASK].", "أنا أحب [MASK].", "我[MASK]你。", "ฉันรัก[MASK]",
)  # fmt: skip


def prepare(data: Path, place: Path) -> tuple[Tokenizer, Corpus, Corpus, Corpus]:
    """The tokenizer, and the corpora to learn from, to start from and to be judged by; made once in a folder."""
    texts: Texts | None = None
    if not (place / "tokenizer").exists():
        texts = read_texts(data)
        counts = {language: _words(texts, language) for language in texts.languages()}
        weighed = weigh({language: words for language, words in counts.items() if words}, EXPONENT)
        learn_from_counts(weighed, VOCABULARY, TEXT, coverage=COVERAGE).save(place / "tokenizer")
    tokenizer = resolve_tokenizer(str(place / "tokenizer"))
    if not (place / "train/manifest.json").exists():
        texts = texts or read_texts(data)
        for language in texts.languages():
            if not (place / "by-language" / language / "manifest.json").exists():
                build_corpus(
                    texts.documents(language), tokenizer, place / "by-language" / language, language=language,
                    shard_tokens=SHARD_TOKENS, note=TEXTS,
                )  # fmt: skip
        merge_corpora([place / "by-language" / language for language in texts.languages()], place / "train")
    if not (place / "parallel/manifest.json").exists():
        build_corpus((texts or read_texts(data)).parallel(), tokenizer, place / "parallel", note=TEXTS, whole=True)
    if not (place / "held-out/manifest.json").exists():
        verses = held_out_verses(data)
        documents = ([verse] for language in sorted(verses) for verse in verses[language])
        build_corpus(documents, tokenizer, place / "held-out", note="verses that were held out")
    return tokenizer, *(Corpus(place / name) for name in ("train", "parallel", "held-out"))  # type: ignore[return-value]


def _words(texts: Texts, language: str) -> Counter[str]:
    """How often words occur in a language's own texts."""
    own = (p for document in texts.alone.get(language, []) for p in document)
    return count_words(own, TEXT) + count_words(texts.same.get(language, {}).values(), TEXT)


def align(bundle: Bundle, data: Path, place: Path, seed: int = 0) -> Bundle:
    """The model after contrastive learning of verses and sentences with their translations (``--task embed``)."""
    out = place / f"{bundle.name}-aligned"
    if not (out / "halbert.json").exists():
        texts, draw = read_texts(data), random.Random(seed)
        pairs = []
        for language in sorted(texts.same):
            names = list(texts.same[language])
            for name in draw.sample(names, min(ALIGNED, len(names))):
                other = ENGLISH if name in texts.same[ENGLISH] else draw.choice(texts.said[name])
                if other != language:
                    pairs.append((texts.same[language][name], texts.same[other][name]))
        draw.shuffle(pairs)
        for file, some in (("pairs-train.csv", pairs[1000:]), ("pairs-dev.csv", pairs[:1000])):
            with (place / file).open("w", encoding="utf-8", newline="") as written:
                csv.writer(written).writerows([("text_a", "text_b"), *some])
        changes = {"epochs": 1, "batch_size": 256, "length": 32, "learning_rate": 5e-4, "seed": seed}
        finetune(
            bundle, train=place / "pairs-train.csv", dev=place / "pairs-dev.csv", out=out, task="embed", changes=changes,
            resume=(place / f"{out.name}.training").exists(), tell=print,
        )  # fmt: skip
    return load_bundle(out)


def retrieval(predictor: Predictor, pairs: dict[str, list[Example]]) -> dict[str, float]:
    """By language, the share of translations that are nearest, both ways."""
    found = {}
    for language, some in pairs.items():
        sides = (
            predictor.embed(texts, pooling="mean") for texts in ([e.text for e in some], [e.pair or "" for e in some])
        )
        found[language] = found_share(*sides)
    return found


def translations_found(bundle: Bundle, data: Path) -> dict[str, float]:
    """By Tatoeba's languages, up to 1,000 pairs of each."""
    found = retrieval(load(bundle), read_parallel(data / "tatoeba/tatoeba.tsv.gz", most=1000))
    print(f"  {bundle.name}: translations found {_mean(found):.3f}", file=sys.stderr, flush=True)
    return found


def trigrams(texts: Sequence[str], size: int = 1 << 14) -> np.ndarray:
    """Hashed counts (N, size) of three characters, of a reader that knows no language."""
    rows = np.zeros((len(texts), size), np.float32)
    for row, text in zip(rows, texts, strict=True):
        padded = f" {text.lower()} "
        for i in range(len(padded) - 2):
            row[zlib.crc32(padded[i : i + 3].encode()) % size] += 1
    return rows


def topics(data: Path, split: str) -> dict[str, list[Example]]:
    """SIB-200 by its own codes of languages and scripts."""
    found: dict[str, list[Example]] = {}
    for row in named_rows(data / f"sib200/{split}.tsv.gz"):
        found.setdefault(row["lang"], []).append(Example(text=row["text"], label=row["category"]))
    return found


def lessons(data: Path, everywhere: bool) -> list[Example]:
    """What topics are learnt from: SIB-200's English sentences, or a tenth of them in all languages, another one in each."""
    train = topics(data, "train")
    return [e for i, some in enumerate(train.values()) for e in some[i % 10 :: 10]] if everywhere else train["eng_Latn"]


def transfer(bundle: Bundle, data: Path, seed: int, everywhere: bool, **changes: Any) -> dict[str, float]:
    """By language, accuracy on SIB-200's test of a model that learnt the topics from English, or from all languages."""
    row, epochs = get_task("classify"), 3 if everywhere else 15
    how = {"seed": seed, "keep": "last", "length": 64, "epochs": epochs, "batch_size": 16, **changes}
    recipe = usual_recipe(row, bundle.spec.encoder, how)
    run = finetune_once(bundle, row, lessons(data, everywhere), [], recipe)
    predictor = load(run.bundle)
    numbers = {label: i for i, label in enumerate(run.bundle.heads["label"].labels)}
    return {
        language: float(
            np.mean(class_chances(predictor, some, 64).argmax(1) == [numbers.get(e.label or "", -1) for e in some])
        )
        for language, some in topics(data, "test").items()
    }


def topics_by_trigrams(data: Path, everywhere: bool) -> dict[str, float]:
    """The same of a reader that knows no language: logistic regression (C = 10) on the TF-IDF of three characters."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    counts = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), sublinear_tf=True)
    reader = make_pipeline(counts, LogisticRegression(C=10, max_iter=1000))
    rows = lessons(data, everywhere)
    reader.fit([e.text for e in rows], [e.label for e in rows])
    return {
        language: float(np.mean(reader.predict([e.text for e in some]) == [e.label for e in some]))
        for language, some in topics(data, "test").items()
    }


def judge(bundle: Bundle, data: Path, seeds: int, told: dict[str, Any], save: Callable[[], None]) -> None:
    """Masked pieces, translations found, topics: what of it is not in ``told`` yet, which is saved after each."""
    steps: dict[str, Callable[[], Any]] = {
        "masked_by_language": lambda: masked_by_language(bundle, data),
        "retrieval": lambda: translations_found(bundle, data),
    }
    complete(told, steps, save)
    for what in ("zero_shot", "all_languages"):
        runs = told.setdefault(what, [])
        for seed in range(len(runs), seeds):
            runs.append(transfer(bundle, data, seed, everywhere=what == "all_languages"))
            save()
            print(f"  {bundle.name}: topics, {what} {_mean(runs[-1]):.3f}", file=sys.stderr, flush=True)


def complete(told: dict[str, Any], steps: dict[str, Callable[[], Any]], save: Callable[[], None]) -> None:
    """Make what is not there yet, and save it each time."""
    for step, make in steps.items():
        if step not in told:
            told[step] = make()
            save()


def masked_by_language(bundle: Bundle, data: Path) -> dict[str, dict[str, int]]:
    """By language, how many pieces of verses that were held out were hidden, and found; an [UNK] does not count.

    In rows as long as the model was trained with.
    """
    unknown, length = bundle.tokenizer.special_ids["unk"], bundle.provenance["training"]["recipe"]["length"]
    found = {}
    model = model_of(bundle.spec.encoder, bundle.heads, bundle.arrays).eval()
    with tempfile.TemporaryDirectory() as place:
        for language, verses in held_out_verses(data).items():
            if not verses:  # of some only the books that are learnt from are there
                continue
            corpus = build_corpus(([v] for v in verses[:VERSES]), bundle.tokenizer, f"{place}/{language}")
            batches = held_out_batches(corpus, bundle.tokenizer, length, 4096, seed=1)
            known = [b._replace(labels=np.where(b.labels == unknown, IGNORED, b.labels)) for b in batches]
            hidden = [int((b.labels[: b.masked] != IGNORED).sum()) for b in known]
            right = np.dot(masked_scores(model, known).accuracies, hidden)
            found[language] = {"hidden": sum(hidden), "found": round(float(right))}
    return found


def commonest_pieces(tokenizer: Tokenizer, data: Path) -> dict[str, float]:
    """By language, the share that its commonest piece has of the verses which were held out; an [UNK] does not count."""
    found = {}
    for language, texts in held_out_verses(data).items():
        if texts:
            counts = np.bincount(np.concatenate(tokenizer.arrays(texts)), minlength=tokenizer.vocab_size)
            known = np.delete(counts, tokenizer.special_ids["unk"])
            found[language] = float(known.max() / known.sum())
    return found


def vocabulary(tokenizer: Tokenizer, data: Path) -> dict[str, dict[str, float]]:
    """By SIB-200's languages, pieces a character and the share of [UNK], of its test sentences."""
    found = {}
    for language, some in topics(data, "test").items():
        ids = np.concatenate(tokenizer.arrays([e.text for e in some]))
        characters = sum(len(e.text) for e in some)
        unknown = float(np.mean(ids == tokenizer.special_ids["unk"]))
        found[language] = {"pieces": len(ids) / characters, "unknown": unknown, "texts": len(some)}
    return found


def _mean(shares: dict[str, float]) -> float:
    return statistics.mean(shares.values())


def baseline(data: Path) -> dict[str, float]:
    """What three characters find."""
    pairs = read_parallel(data / "tatoeba/tatoeba.tsv.gz", most=1000)
    return {
        language: found_share(trigrams([e.text for e in some]), trigrams([e.pair or "" for e in some]))
        for language, some in pairs.items()
    }


def about(name: str, told: dict[str, Any], learnt: Callable[[str], bool]) -> str:
    """The card's own part: what it learnt from, what it can do, what it cannot; ``learnt`` says whether from a language."""
    other = next(n for n in NAMES if n != name)
    run, plain = told["training"], told["plain"]
    masked = [row["found"] / row["hidden"] for row in plain["masked_by_language"].values() if row["hidden"]]

    def mean(*shares: dict[str, float]) -> str:
        codes = [code for code in shares[0] if learnt(code) and code[:3] != ENGLISH]
        return f"{100 * statistics.mean(each[code] for each in shares for code in codes):.1f} %"

    found = [code for code in told["pairs"] if learnt(code)]
    topics = [code for code in told["vocabulary"] if learnt(code) and code[:3] != ENGLISH]
    return "\n".join([
        f"Learnt from nothing, beside `{other}`, on the same text, with the same pieces, in the same steps: what differs between "
        "the two is one parameter group for all layers (or one for each) and the width of the embeddings.",
        "",
        f"**Text**: {TEXTS}. {told['train_tokens']:,} pieces of {told['languages']} languages, drawn with p^{EXPONENT}: each text "
        f"by itself, and most a second time beside a translation; it read {run['tokens']:,} in {run['seconds'] / 60:.0f} minutes "
        f"({run['machine']}, {run['precision']}); recipe `halbert/recipes/{name}.toml`. Lower-cased, accents kept, "
        "SentencePiece pieces after NFKC.",
        "",
        "| what | score | a predictor that knows no language |",
        "|---|--:|--:|",
        f"| masked pieces of held-out verses found, {len(masked)} languages | {100 * statistics.mean(masked):.1f} % | "
        f"{100 * statistics.mean(told['commonest'].values()):.1f} % (the language's own commonest piece) |",
        f"| Tatoeba, translations found, {len(found)} languages learnt from (rather too high: it chose the "
        f"method) | {mean(plain['retrieval'])} | {mean(told['trigrams'])} (three characters) |",
        f"| the same, aligned by `--task embed` | {mean(told['aligned']['retrieval'])} | |",
        f"| SIB-200, topics learnt in English, {len(topics)} other languages and scripts | {mean(*plain['zero_shot'])} | "
        f"{mean(told['topics_by_trigrams'][0])} (three characters, learnt alike), 25 % (the commonest topic) |",
        "",
        "**Filled in** as it comes, also where it fails:",
        "",
        *table_of(told["filled"]),
        "",
        "**Limits**: small, and learnt from little; most of its text is one book. At most 512 pieces, of which it has seen "
        f"{told['length']}: cut longer texts, or take them sentence by sentence. Pieces of other scripts come up where there "
        "was little text in one; one piece in forty of Japanese, twenty of Korean and thirteen to twenty-one of Chinese is [UNK]. In some "
        "languages it is no better than a predictor that knows none, and where topics are learnt in every language three "
        "characters are better in most: docs/languages.md has every one.",
    ])  # fmt: skip


def main() -> None:
    """Make what is missing, step by step; write the results; export when asked."""
    options = asked(__doc__, NAMES)
    options.work.mkdir(parents=True, exist_ok=True)
    tokenizer, train, parallel, _ = prepare(options.data, options.work)
    for name in options.only:
        corpora = [f"corpus='{train.folder}'", f"start_parallel='{parallel.folder}'"]
        bundle = trained(name, tokenizer, options.work / name, [*options.set, *corpora])
        file = options.work / f"{name}.json"
        told: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        steps: dict[str, Callable[[], Any]] = {
            "training": lambda b=bundle: training_of(b),
            "filled": lambda b=bundle: filled(b, SENTENCES),
            "commonest": lambda: commonest_pieces(tokenizer, options.data),
            "trigrams": lambda: baseline(options.data),
            "pairs": lambda: {k: len(v) for k, v in read_parallel(options.data / "tatoeba/tatoeba.tsv.gz", most=1000).items()},
            "vocabulary": lambda: vocabulary(tokenizer, options.data),
            "topics_by_trigrams": lambda: [topics_by_trigrams(options.data, everywhere) for everywhere in (False, True)],
            "seen": lambda: {code: share.tokens for code, share in sorted(train.manifest.languages.items())},
            "aligned": lambda b=bundle: {"retrieval": translations_found(align(b, options.data, options.work), options.data)},
        }  # fmt: skip
        save = functools.partial(write_json, file, told)
        judge(bundle, options.data, options.seeds, told.setdefault("plain", {}), save)
        complete(told, steps, save)
        told |= {
            "train_tokens": train.manifest.tokens, "languages": len(train.manifest.languages), "machine": describe_machine(),
            "parameters": bundle.spec.encoder.count_encoder(), "length": bundle.provenance["training"]["recipe"]["length"],
            "created": time.strftime("%Y-%m-%d", time.gmtime()),
        }  # fmt: skip
        write_json(file, told)
        if options.export:
            atlas = Atlas(options.data, told["seen"], held_out_verses(options.data))
            export(name, bundle, LICENCE, about(name, told, atlas.learnt), told)


if __name__ == "__main__":
    main()
