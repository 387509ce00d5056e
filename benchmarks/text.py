"""Tokenising a corpus: Halbert beside ``tokenizers`` and ``sentencepiece``, in one run, on the same two cores.

    make bench-text           (or: python -m benchmarks.text --data DIR --out benchmarks/results/text.json)

Every engine starts with nothing remembered, gets the same lines in batches of 1,000, and is timed while it encodes them
into what it gives to those who build a corpus: lists of ids from the peers, arrays of ids from Halbert. (Reading files
and comparing ids is not counted.) Peers run in their two natural ways, two threads in one process and two processes of
one thread each; the faster one counts. Halbert runs as two processes, as a corpus is built.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from halbert.compare.machine import describe_machine
from halbert.files import write_json

BATCH = 1_000
ROOT = Path(__file__).parent.parent
Encode = Callable[[list[str]], Sequence[Any]]

WORDPIECE = {
    "English": "bert-base-uncased-vocab.txt",
    "Chinese": "bert-base-chinese-vocab.txt",
    "Thai": "bert-base-multilingual-cased-vocab.txt",
    "Arabic": "bert-base-multilingual-cased-vocab.txt",
}
UNIGRAM = "albert-v1-30k-spiece.model"
PIECES = 8_000  # of the models learnt here


def lines_of(data: Path, language: str) -> list[str]:
    """The text of one language, a paragraph a line."""
    if language == "English":
        files = sorted((data / "english_text").glob("*.txt.gz"))
        return [line for f in files for line in gzip.decompress(f.read_bytes()).decode().splitlines() if line]
    code = {"Chinese": "zho", "Thai": "tha", "Arabic": "arb"}[language]
    found: list[str] = []
    for file in sorted((data / "bible").glob(f"{code}*.tsv.gz")):
        found += [line.split("\t")[1] for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    if not found:  # not every language has a Bible there
        for part in ("train", "dev", "test"):
            for line in gzip.decompress((data / "sib200" / f"{part}.tsv.gz").read_bytes()).decode().splitlines():
                if re.match(code, line):
                    found.append(line.split("\t")[3])
    return found


def engine(name: str, vocabulary: Path, threads: int) -> Encode:
    """A fresh tokenizer that turns lines into ids."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    lower = "uncased" in vocabulary.name or "chinese" in vocabulary.name
    if name == "halbert":
        from halbert.spec import TextSpec
        from halbert.text.tokenizer import open_tokenizer

        kind = "unigram" if vocabulary.suffix == ".model" else "wordpiece"
        fold = lower or vocabulary.name == UNIGRAM
        return open_tokenizer(vocabulary, TextSpec(kind=kind, lower_case=fold, strip_accents=fold)).arrays
    if "sentencepiece" in name:
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
        if name == "sentencepiece":
            return lambda lines: processor.encode(lines, num_threads=threads)
        rule, prepare = _digit_comma(processor), _preprocess_text(vocabulary.name == UNIGRAM)
        return lambda lines: rule(processor.encode(list(map(prepare, lines)), num_threads=threads))
    from halbert.spec import TextSpec
    from halbert.text.wordpiece import fast_wordpiece, read_vocab

    fast = fast_wordpiece(read_vocab(vocabulary), TextSpec(lower_case=lower, strip_accents=lower))
    encode = fast.encode_batch if name == "encode_batch" else fast.encode_batch_fast
    return lambda lines: [found.ids for found in encode(lines, add_special_tokens=False)]


def learnt(lines: list[str], language: str, place: Path) -> Path:
    """To ALBERT's English model these languages are one unknown piece after the other, so they get one of their own."""
    from halbert.spec import TextSpec
    from halbert.text.learn import learn_vocabulary

    spec = TextSpec(kind="unigram", lower_case=False, strip_accents=False)
    learn_vocabulary(lines, PIECES, spec).save(place / language)
    return place / language / "spiece.model"


def work(name: str, vocabulary: Path, threads: int, lines: list[str], barrier: Any, queue: Any, prepared: bool) -> None:
    """One process: encode all lines, report time, tokens and the peak of its memory."""
    encode = engine(name, vocabulary, threads)
    seconds, tokens = 0.0, 0
    barrier.wait()
    for start in range(0, len(lines), BATCH):
        batch = lines[start : start + BATCH]
        if prepared:  # SentencePiece knows nothing of ALBERT's text preparation: alone, it gets prepared text
            batch = list(map(_preprocess_text(vocabulary.name == UNIGRAM), batch))
        before = time.perf_counter()
        found = encode(batch)
        seconds += time.perf_counter() - before
        tokens += sum(map(len, found))
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    queue.put((seconds, tokens, peak))


def _preprocess_text(fold: bool) -> Callable[[str], str]:
    """Google's text preparation for ALBERT (google-research/albert ``tokenization.py``), a line at once."""

    def prepare(line: str) -> str:
        line = " ".join(line.split()).replace("``", '"').replace("''", '"')
        if not fold:
            return line
        if not line.isascii():
            line = "".join([c for c in unicodedata.normalize("NFKD", line) if not unicodedata.combining(c)])
        return line.lower()

    return prepare


def _digit_comma(processor: Any) -> Callable[[list[list[int]]], list[list[int]]]:
    """Google's rule for pieces such as "2000," (``encode_pieces``), on ids; pieces are cut once."""
    cut: dict[int, list[int]] = {}
    for i in range(processor.vocab_size()):
        token = processor.id_to_piece(i)
        if len(token) > 1 and token[-1] == "," and token[-2].isdigit():
            parts = processor.encode(token[:-1].replace("\u2581", ""), out_type=str)
            if token[0] != "\u2581" and parts[0][0] == "\u2581":
                parts = parts[1:] if len(parts[0]) == 1 else [parts[0][1:], *parts[1:]]
            cut[i] = [processor.piece_to_id(part) for part in [*parts, ","]]

    def rule(found: list[list[int]]) -> list[list[int]]:
        return [ids if cut.keys().isdisjoint(ids) else [j for i in ids for j in cut.get(i, [i])] for ids in found]

    return rule


def measured(name: str, vocabulary: Path, lines: list[str], processes: int, threads: int) -> dict[str, Any]:
    """Seconds of the slowest of the processes that share the lines."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(processes), context.Queue()
    half = len(lines) // 2
    parts = [lines] if processes == 1 else [lines[:half], lines[half:]]
    prepared = name == "sentencepiece"
    jobs = [
        context.Process(target=work, args=(name, vocabulary, threads, part, barrier, queue, prepared)) for part in parts
    ]
    for job in jobs:
        job.start()
    found = [queue.get() for _ in jobs]
    for job in jobs:
        job.join()
    return {
        "seconds": max(f[0] for f in found),
        "tokens": sum(f[1] for f in found),
        "peak_bytes": max(f[2] for f in found),
    }


def compare(kind: str, language: str, data: Path, rounds: int, place: Path) -> dict[str, Any]:
    """One language and kind of tokenizer: every engine in turn, in every round."""
    lines = lines_of(data, language)
    size = sum(len(line.encode()) for line in lines)
    vocabulary = data / "vocab" / (WORDPIECE[language] if kind == "wordpiece" else UNIGRAM)
    if kind == "unigram" and language != "English":
        vocabulary = learnt(lines, language, place)
    peers = (
        ("encode_batch", "encode_batch_fast") if kind == "wordpiece" else ("sentencepiece", "google + sentencepiece")
    )
    ways = {("halbert", 2, 1): []} | {(peer, p, t): [] for peer in peers for p, t in ((1, 2), (2, 1))}  # type: ignore[var-annotated]
    for _ in range(rounds):
        for way, found in ways.items():
            found.append(measured(way[0], vocabulary, lines, *way[1:]))
    engines = [
        {
            "engine": name,
            "processes": processes,
            "threads": threads,
            "megabytes_per_second": [round(size / 1e6 / f["seconds"], 2) for f in found],
            "median": round(size / 1e6 / statistics.median(f["seconds"] for f in found), 2),
            "tokens": found[0]["tokens"],
            "peak_bytes": max(f["peak_bytes"] for f in found),
        }
        for (name, processes, threads), found in ways.items()
    ]
    ours, best = engines[0], max(engines[1:], key=lambda e: e["median"])
    # Every line's ids beside those of a peer that does the same work, preparation and digit-comma rule included.
    mine, theirs = engine("halbert", vocabulary, 1), engine(peers[-1], vocabulary, 2)
    differ = sum(
        list(a) != list(b)
        for start in range(0, len(lines), BATCH)
        for a, b in zip(mine(lines[start : start + BATCH]), theirs(lines[start : start + BATCH]), strict=True)
    )
    return {
        "kind": kind,
        "language": language,
        "bytes": size,
        "lines": len(lines),
        "engines": engines,
        "ratio_to_the_fastest_peer": round(ours["median"] / best["median"], 2),
        "lines_that_differ": differ,
    }


def printed(one: dict[str, Any]) -> dict[str, Any]:
    """Show one comparison, and hand it on."""
    print(f"{one['kind']}, {one['language']}, {one['bytes'] / 1e6:.1f} MB: {one['lines_that_differ']} lines differ")
    ours = one["engines"][0]["median"]
    for each in one["engines"]:
        print(
            f"  {each['engine']:24}{each['processes']} processes x {each['threads']} threads "
            f"{each['median']:8.1f} MB/s   1/{ours / each['median']:.2f}   peak {each['peak_bytes'] / 1e6:.0f} MB",
            flush=True,
        )
    return one


def main() -> None:
    """Run all, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with the texts")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/text.json"))
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the small languages; English has one")
    parser.add_argument("--language", choices=WORDPIECE, help="only this one; nothing is written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = [
            printed(compare(kind, language, options.data, 1 if language == "English" else options.rounds, Path(place)))
            for kind in ("wordpiece", "unigram")
            for language in ([options.language] if options.language else WORDPIECE)
        ]
    if options.language:
        return
    result = {
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": "make bench-text",
        "machine": describe_machine(),
        "comparisons": found,
    }
    write_json(options.out, result)
    print(f"wrote {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
