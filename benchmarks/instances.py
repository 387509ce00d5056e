"""From a corpus' shards to batches with pieces hidden: tokens a second of one core, by stage, and the share of padding.

    make bench-instances      (or: python -m benchmarks.instances --data DIR --out benchmarks/results/instances.json)

A corpus of English prose is built once; then every combination of objective, masking and length draws one epoch of it
in each of several rounds. Seconds are processor time of this process. The stages: reading (the shards of a window put
together), pairs, order (shuffling, buckets or packing), rows (ids, segments and masks of batches) and masking. Beside
it stands the same work by ``halbert/data/faithful.py``, which draws as Google's generators do, an instance and a piece
at a time; how much padding other numbers of shapes would leave; and how often a pair's label can be told without
reading the text.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from halbert.compare.machine import describe_machine
from halbert.data import instances, plan
from halbert.data.corpus import Corpus, build_corpus
from halbert.data.faithful import Generator
from halbert.data.pairs import NO_LABEL, SECOND, Pairs, draw_pairs
from halbert.data.plan import Plan, bucket_lengths
from halbert.files import write_json
from halbert.spec import PretrainSpec, TextSpec
from halbert.text import Tokenizer
from halbert.text.tokenizer import open_tokenizer

ROOT = Path(__file__).parent.parent
BATCH_TOKENS = 4096
WAYS = [("nsp", "piece"), ("sop", "word"), ("sop", "ngram")]
LENGTHS = (128, 512)
STAGES = {"reading": (plan, "_text_of"), "pairs": (plan, "draw_pairs"), "masking": (instances, "mask_batch")}


def documents_of(data: Path) -> Iterator[list[str]]:
    """Documents as lists of paragraphs."""
    for file in sorted((data / "english_text").glob("*.txt.gz")):
        paragraphs: list[str] = []
        for line in [*gzip.decompress(file.read_bytes()).decode().splitlines(), ""]:
            if line:
                paragraphs.append(line)
            elif paragraphs:
                yield paragraphs
                paragraphs = []


class Clock:
    """Adds up the processor time that functions of a module take while it is entered."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._kept: dict[str, Callable[..., Any]] = {}

    def __enter__(self) -> Clock:
        for stage, (module, name) in STAGES.items():
            self._kept[stage] = getattr(module, name)
            setattr(module, name, self._timed(stage, self._kept[stage]))
        return self

    def __exit__(self, *_: object) -> None:
        for stage, (module, name) in STAGES.items():
            setattr(module, name, self._kept[stage])

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            before = time.process_time()
            try:
                return function(*values, **named)
            finally:
                self.seconds[stage] += time.process_time() - before

        return call


def epoch(made: Plan, number: int) -> dict[str, Any]:
    """One epoch: seconds by stage, tokens, padding."""
    tokens = places = masked = spare = batches = 0
    shapes: dict[str, int] = {}
    opening = drawing = 0.0
    with Clock() as clock:
        for w in range(len(made.windows(number))):
            before = time.process_time()
            window = made.window(number, w)
            opening += time.process_time() - before
            for offset in range(len(window)):
                before = time.process_time()
                batch = window.batch(offset)
                drawing += time.process_time() - before
                tokens += int(batch.mask.sum())
                places += batch.mask.size
                masked += batch.masked
                spare += len(batch.positions) - batch.masked
                shape = "x".join(map(str, batch.ids.shape))
                shapes[shape] = shapes.get(shape, 0) + 1
                batches += 1
    seconds = clock.seconds
    seconds["order"] = opening - seconds["reading"] - seconds["pairs"]
    seconds["rows"] = drawing - seconds["masking"]
    return {
        "tokens": tokens,
        "batches": batches,
        "padding": 1 - tokens / places,
        "masked": masked / tokens,
        "positions_that_only_fill": spare / (masked + spare),
        "shapes": shapes,
        "seconds": seconds,
        "all": opening + drawing,
    }


def measure(corpus: Corpus, tokenizer: Tokenizer, rounds: int) -> Iterator[dict[str, Any]]:
    """Every combination in turn, in every round; medians."""
    ways = [(*way, length, packed) for way in WAYS for length in LENGTHS for packed in (False, True)]
    plans = {
        way: Plan(
            corpus,
            tokenizer,
            PretrainSpec(sentence_objective=way[0], masking=way[1]),
            length=way[2],
            batch_tokens=BATCH_TOKENS,
            seed=0,
            packed=way[3],
        )
        for way in ways
    }
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways:
            found[way].append(epoch(plans[way], number))
    for (objective, masking, length, packed), epochs in found.items():
        first = epochs[0]
        rates = [e["tokens"] / e["all"] for e in epochs]
        both = [e["tokens"] / (e["seconds"]["pairs"] + e["seconds"]["masking"]) for e in epochs]
        yield {
            "objective": objective,
            "masking": masking,
            "length": length,
            "packed": packed,
            **{name: first[name] for name in ("tokens", "batches", "shapes")},
            **{name: round(first[name], 5) for name in ("padding", "masked", "positions_that_only_fill")},
            "seconds": {
                stage: round(statistics.median(e["seconds"][stage] for e in epochs), 4) for stage in first["seconds"]
            },
            "tokens_per_second": [int(rate) for rate in rates],
            "median": int(statistics.median(rates)),
            "pairs_and_masks_alone": int(statistics.median(both)),
        }


def padding_by_shapes(corpus: Corpus, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The share of padding with one to eight widths, rows alone (no batch that is not full)."""
    found = []
    for length in LENGTHS:
        made = Plan(corpus, tokenizer, PretrainSpec(), length=length, batch_tokens=BATCH_TOKENS, seed=0)
        lengths = np.concatenate([made.window(0, w).pairs.lengths for w in range(len(made.windows(0)))])
        for shapes in (1, 2, 3, 4, 6, 8):
            widths = np.array(bucket_lengths(length, shapes))
            padded = widths[np.searchsorted(widths, lengths)]
            found.append({
                "length": length,
                "widths": widths.tolist(),
                "padding": round(1 - float(lengths.sum() / padded.sum()), 5),
            })  # fmt: skip
    return found


def given_away(corpus: Corpus, tokenizer: Tokenizer, length: int = 128) -> Iterator[dict[str, Any]]:
    """How often the pair label is found without reading: from the lengths of the two parts alone, and from these and
    their last pieces. Boosted trees, learnt on one half of a shard's pairs, tried on the other; 0.5 is nothing."""
    shard = corpus.shard(len(corpus) // 2)
    ids = np.asarray(shard.ids)
    closing = np.isin(np.arange(tokenizer.vocab_size), tokenizer.bulk([". ! ? \" '"])[0])
    for objective in ("nsp", "sop"):
        for faithful in (False, True):
            pairs = draw_pairs(shard, objective, length, (0,), faithful=faithful)  # type: ignore[arg-type]
            pairs = Pairs(*(field[pairs.label != NO_LABEL] for field in pairs))
            sizes = np.stack([pairs.a_end - pairs.a_start, pairs.b_end - pairs.b_start], 1)
            last = np.stack([ids[pairs.a_end - 1], ids[pairs.b_end - 1]], 1).astype(np.int64)
            half, found = len(sizes) // 2, {}
            for name, seen in (
                ("lengths", sizes),
                ("lengths_and_last_pieces", np.hstack([sizes, last, closing[last]])),
            ):
                trees = HistGradientBoostingClassifier(random_state=0).fit(seen[:half], pairs.label[:half])
                found[name] = round(float(trees.score(seen[half:], pairs.label[half:])), 4)
            second = round(float((pairs.label == SECOND).mean()), 4)
            yield {
                "objective": objective,
                "faithful": faithful,
                "length": length,
                "pairs": len(sizes),
                "second": second,
                **found,
            }


def one_by_one(corpus: Corpus, tokenizer: Tokenizer, length: int, most: int = 300_000) -> Iterator[dict[str, Any]]:
    """The same work an instance at a time, on the first documents."""
    shard, documents, size = corpus.shard(len(corpus) - 1), [], 0
    for d in range(len(shard.documents) - 1):
        edges = shard.sentences[shard.documents[d] : shard.documents[d + 1] + 1].tolist()
        documents.append([[tokenizer.vocab[i] for i in shard.ids[a:b]] for a, b in itertools.pairwise(edges)])
        size += edges[-1] - edges[0]
        if size > most:
            break
    for objective, masking in WAYS:
        if (objective, masking) == ("sop", "word"):
            continue  # neither of the generators draws this
        spec = PretrainSpec(sentence_objective=objective, masking=masking, faithful=True)  # type: ignore[arg-type]
        generator = Generator(spec, tokenizer.vocab, length=length, predictions=round(0.15 * length))
        before = time.process_time()
        drawn = generator.instances(documents, 1)
        seconds = time.process_time() - before
        tokens = sum(len(x.tokens) for x in drawn)
        yield {
            "objective": objective,
            "masking": masking,
            "length": length,
            "tokens": tokens,
            "tokens_per_second": int(tokens / seconds),
        }


def main() -> None:
    """Run all, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with the texts")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/instances.json"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    machine = describe_machine()
    tokenizer = open_tokenizer(options.data / "vocab" / "bert-base-uncased-vocab.txt", TextSpec())
    with tempfile.TemporaryDirectory() as place:
        corpus = build_corpus(documents_of(options.data), tokenizer, Path(place) / "corpus", shard_tokens=1 << 22)
        drawn = []
        for one in measure(corpus, tokenizer, options.rounds):
            drawn.append(one)
            print(
                f"{one['objective']:4} {one['masking']:5} {one['length']:4}{' packed' if one['packed'] else '':7} "
                f"{one['median'] / 1e6:6.2f} million tokens/s ({one['pairs_and_masks_alone'] / 1e6:.2f} pairs and masks alone), "
                f"padding {one['padding']:.2%}, seconds {one['seconds']}",
                flush=True,
            )
        slow = [one for length in LENGTHS for one in one_by_one(corpus, tokenizer, length)]
        for one in slow:
            print(
                f"one by one: {one['objective']} {one['masking']} {one['length']} {one['tokens_per_second'] / 1e6:.2f}"
            )
        given = list(given_away(corpus, tokenizer))
        for one in given:
            print(f"label given away: {one}")
        manifest = corpus.manifest
        result = {
            "created": time.strftime("%Y-%m-%d", time.gmtime()),
            "command": "make bench-instances",
            "machine": machine,
            "corpus": {
                name: getattr(manifest, name) for name in ("documents", "sentences", "tokens", "characters")
            } | {"shards": len(corpus)},
            "batch_tokens": BATCH_TOKENS,
            "drawn": drawn,
            "one_by_one": slow,
            "padding_by_shapes": padding_by_shapes(corpus, tokenizer),
            "labels_given_away": given,
        }  # fmt: skip
    write_json(options.out, result)
    print(f"wrote {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
