"""Files to a corpus: speed on English prose, peak memory of all processes for hard inputs, and what Google's way costs.

    make bench-corpus         (or: python -m benchmarks.corpus [--small] --data DIR --out benchmarks/results/corpus.json)

Every case is one run of ``halbert corpus`` in processes of its own, with nothing remembered, on all cores, timed from its
start to its end. Memory is the sum of the resident sizes of the whole process tree (pages that processes share count
once for each), asked for 20 times a second. The texts are the English prose of the data folder, repeated; a line, or a
document, of 2 GB is the same text without line feeds, or without blank lines.

Google's scheme (``create_pretraining_data.py``) writes every pair with its masks, ten times with other masks. Its
generator, as ``halbert.data.faithful`` draws it (pieces, NSP, 128, 20 predictions), is timed on a sample of the prose, of
which the text is tokenised beforehand; the bytes of its TFRecord are computed: each instance is one record (16 bytes of
framing) of seven features of fixed length, whose numbers are written as varints as protocol buffers do.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.written import put, told
from halbert.compare.machine import describe_machine
from halbert.data.corpus import read_documents
from halbert.data.faithful import Document, Instance, generate
from halbert.data.manifest import read_manifest
from halbert.data.sentences import split_sentences
from halbert.files import write_json
from halbert.processes import cores
from halbert.spec import TextSpec
from halbert.text import Tokenizer
from halbert.text.tokenizer import open_tokenizer

ROOT = Path(__file__).parent.parent
MB = 1_000_000
LENGTH, PREDICTIONS, DUPLICATES = 128, 20, 10
Make = Callable[[Path], list[str]]


def prose_of(data: Path) -> bytes:
    """All English prose, a blank line between files."""
    files = sorted((data / "english_text").glob("*.txt.gz"))
    return b"\n\n".join(gzip.decompress(file.read_bytes()) for file in files) + b"\n\n"


def repeated(text: bytes, size: int, name: str) -> Make:
    """One file of so many bytes."""

    def make(folder: Path) -> list[str]:
        with (folder / name).open("wb") as stream:
            while stream.tell() < size:
                stream.write(text[: size - stream.tell()] if size - stream.tell() < len(text) else text)
            # The last character may have been cut.
            stream.write(b"\n")
        return [str(folder / name)]

    return make


def files_of(text: bytes, count: int, languages: int) -> Make:
    """Many small files: of one language, or each of its own."""

    def make(folder: Path) -> list[str]:
        size, names = 4096 if languages == 1 else 1 << 20, []
        for number in range(count):
            begin = number * size % (len(text) - size)
            code = f"{chr(97 + number // 26 % 26)}{chr(97 + number % 26)}"
            path = folder / f"{number // 1000:03d}" / f"{number:06d}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text[begin : begin + size])
            names.append(f"{code}={path}")
        return [str(folder)] if languages == 1 else names

    return make


def measured(arguments: list[str], out: Path) -> dict[str, Any]:
    """Run ``halbert corpus``: seconds and the peak of its process tree."""
    command = [sys.executable, "-m", "halbert", "corpus", *arguments, "--out", str(out), "--quiet"]
    began = time.perf_counter()
    process = psutil.Popen(command)
    peak = used = 0.0
    while process.poll() is None:
        try:
            tree = [process, *process.children(recursive=True)]
            peak = max(peak, sum(each.memory_info().rss for each in tree))
            used = max(used, sum(sum(each.cpu_times()[:2]) for each in tree))
        except psutil.Error:
            pass  # one of them has just ended
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(command)[:400]}: ended with {process.returncode}")
    manifest = read_manifest(out)
    size = sum(source.bytes for source in manifest.inputs)
    written = sum(file.stat().st_size for file in out.iterdir())
    return {
        "bytes": size,
        "files": len(manifest.inputs),
        "languages": len(manifest.languages),
        "shards": len(manifest.shards),
        "tokens": manifest.tokens,
        "cut": {"lines": manifest.cut.lines, "documents": manifest.cut.documents},
        "seconds": round(seconds, 2),
        "processor_seconds": round(used, 2),
        "megabytes_per_second": round(size / MB / seconds, 2),
        "peak_bytes": int(peak),
        "written_bytes_per_megabyte": int(written / (size / MB)),
    }


def google(data: Path, tokenizer: Tokenizer, size: int) -> dict[str, Any]:
    """Google's scheme on a sample: seconds and bytes for a megabyte of text."""
    documents: list[Document] = []
    taken = 0
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "speeches.txt"
        file.write_bytes(gzip.decompress((data / "english_text" / "us_president_speeches.txt.gz").read_bytes()))
        for document in read_documents(file):
            sentences = [sentence for paragraph in document for sentence in split_sentences(paragraph)]
            taken += sum(len(sentence.encode()) for sentence in sentences)
            encoded = [[tokenizer.vocab[i] for i in ids] for ids in tokenizer.bulk(sentences) if ids]
            documents.append(encoded)
            if taken >= size:
                break
    began = time.process_time()
    found = generate(
        documents, tokenizer.vocab, "nsp", "piece", length=LENGTH, predictions=PREDICTIONS, duplicates=DUPLICATES
    )
    seconds = time.process_time() - began
    ids = {token: i for i, token in enumerate(tokenizer.vocab)}
    sizes = [record_bytes(instance, ids) for instance in found]
    return {
        "text_bytes": taken,
        "duplicates": DUPLICATES,
        "length": LENGTH,
        "predictions": PREDICTIONS,
        "instances": len(found),
        "processor_seconds_per_megabyte": round(seconds / (taken / MB), 2),
        "written_bytes_per_megabyte": int(sum(sizes) / (taken / MB)),
    }


def record_bytes(instance: Instance, ids: dict[str, int]) -> int:
    """A TFRecord of one instance as ``write_instance_to_example_files`` writes it."""
    size = len(instance.tokens)

    def filled(values: list[int], length: int) -> list[int]:
        return values + [0] * (length - len(values))

    numbers = {
        "input_ids": filled([ids[token] for token in instance.tokens], LENGTH),
        "input_mask": filled([1] * size, LENGTH),
        "segment_ids": filled(instance.segments, LENGTH),
        "masked_lm_positions": filled(instance.positions, PREDICTIONS),
        "masked_lm_ids": filled([ids[token] for token in instance.labels], PREDICTIONS),
        "next_sentence_labels": [int(instance.second)],
    }
    features = sum(_entry(name, _message(sum(map(_varint, values)))) for name, values in numbers.items())
    features += _entry("masked_lm_weights", _message(4 * PREDICTIONS))
    return 16 + _message(features)  # 8 bytes of length, 4 and 4 of checksums


def _varint(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))


def _message(size: int) -> int:
    """A field with a length before it."""
    return 1 + _varint(size) + size


def _entry(name: str, values: int) -> int:
    """An entry of the map of features: its name, and the feature around the list of values."""
    return _message(_message(len(name)) + _message(_message(values)))


def cases(text: bytes, scale: float) -> Iterator[tuple[str, Make, list[str]]]:
    """Name, input and options of every case."""
    giga = int(1000 * MB * scale)
    line, document = text.replace(b"\n", b" "), b"\n".join(part for part in text.split(b"\n") if part.strip()) + b"\n"
    yield "0.2 GB", repeated(text, giga // 5, "prose.txt"), []
    yield "0.2 GB, --dedupe", repeated(text, giga // 5, "prose.txt"), ["--dedupe"]
    yield "one line of 2 GB", repeated(line, 2 * giga, "line.txt"), []
    yield "one document of 2 GB", repeated(document, 2 * giga, "document.txt"), []
    yield "200,000 files", files_of(text, int(200_000 * scale), 1), []
    yield "200 languages", files_of(text, 200, 200), []
    yield "2 GB", repeated(text, 2 * giga, "prose.txt"), []
    yield "8 GB", repeated(text, 8 * giga, "prose.txt"), []


def lines(results: dict[str, Any]) -> list[str]:
    """The table of docs/pretraining.md."""
    google = results["google"]
    found = [
        told(results["machine"], results["created"], results["command"], "corpus.json"), "",
        "| input | MB/s | most memory of all processes | shards |", "|---|--:|--:|--:|",
    ]  # fmt: skip
    for one in results["cases"]:
        peak, speed = one["peak_bytes"] / MB, one["megabytes_per_second"]
        found.append(f"| {one['case']} | {speed:.1f} | {peak:,.0f} MB | {one['shards']} |")
    return [*found, "", (
        f"Google's scheme (pairs and masks stored {google['duplicates']} times) takes {google['times_as_much_processor_time']:g} times "
        f"the processor time for a megabyte of text (its generator as `halbert.data.faithful` draws it, without tokenising), and "
        f"{google['times_as_many_bytes']:g} times the room."
    )]  # fmt: skip


def main() -> None:
    """Run all, print a line for each, write the results and the table; or only the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with the texts")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/corpus.json"))
    parser.add_argument("--small", action="store_true", help="a hundredth of every size; nothing is written")
    parser.add_argument("--draw", action="store_true", help="only write the table of docs/pretraining.md again")
    options = parser.parse_args()
    if options.draw:
        put("pretraining.md", "corpus", lines(json.loads(options.out.read_text())))
        return
    vocabulary = options.data / "vocab" / "bert-base-uncased-vocab.txt"
    tokenizer = open_tokenizer(vocabulary, TextSpec())
    # Every character in ASCII, so that a file may end anywhere.
    text = prose_of(options.data).decode().encode("ascii", "ignore")
    found: list[dict[str, Any]] = []

    def write() -> None:
        ours = next(one for one in found if one["case"] == "0.2 GB")
        result = {
            "created": time.strftime("%Y-%m-%d", time.gmtime()),
            "command": "make bench-corpus",
            "machine": describe_machine(),
            "versions": {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow", "tokenizers")}
            | {"python": platform.python_version()},
            "workers": cores(),
            "load_at_the_start": [round(value, 2) for value in load],
            "cases": found,
            "google": {
                **theirs,
                "times_as_much_processor_time": round(
                    theirs["processor_seconds_per_megabyte"] / (ours["processor_seconds"] / (ours["bytes"] / MB)), 1
                ),
                "times_as_many_bytes": round(
                    theirs["written_bytes_per_megabyte"] / ours["written_bytes_per_megabyte"], 1
                ),
            },
        }
        write_json(options.out, result)

    load = os.getloadavg()
    theirs = google(options.data, tokenizer, MB // 4 if options.small else MB)
    print(f"Google's scheme: {json.dumps(theirs)}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "tokenizer"
        tokenizer.save(model)
        for name, make, more in cases(text, 0.01 if options.small else 1):
            folder, out = Path(place) / "in", Path(place) / "out"
            folder.mkdir()
            one = {"case": name, **measured([*make(folder), "--tokenizer", str(model), *more], out)}
            found.append(one)
            print(
                f"{name:22}{one['megabytes_per_second']:7.1f} MB/s  peak {one['peak_bytes'] / MB:6.0f} MB  "
                f"{one['processor_seconds'] / one['seconds']:.2f} cores  {one['shards']} shards, cut {one['cut']}",
                flush=True,
            )
            shutil.rmtree(folder)
            shutil.rmtree(out)
            if not options.small:
                write()
    if not options.small:
        put("pretraining.md", "corpus", lines(json.loads(options.out.read_text())))
        print(f"wrote {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
