"""Many short texts from a file to a file: flat memory, the speed of the API, and a run that is killed and goes on.

    python -m benchmarks.inference --only million [--million 1000000]

The texts are real and all different: sentences of English books and speeches, cut to 3 to 12 words. The model has the
shape of the smallest released BERT and random weights, so that everything around the model weighs most. ``embed`` and
``predict`` run as commands of their own; what they hold in memory is read from /proc ten times a second. The tokenizer
remembers the words it meets (bounded, see ``docs/limits.md``), and new texts bring new words: how much that is, and that
nothing else grows, is measured apart, by texts whose words are known.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from halbert import presets
from halbert.bundle import random_bundle
from halbert.files import sha256
from halbert.heads import HeadSpec
from halbert.run.parts import PART, chunks
from halbert.source import load_bundle

SHAPE = "bert-tiny"
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
# In a process of its own, as the commands are: seconds of one call over all texts, the model warm.
_API = """
import json, sys, time
import halbert
texts = open(sys.argv[2], encoding="utf-8").read().split("\\n")[:-1]
model = halbert.load(sys.argv[1])
model.embed(texts[:2000])
began = time.perf_counter()
model.embed(texts)
print(json.dumps(len(texts) / (time.perf_counter() - began)))
"""


def sentences(data: Path, seed: int = 0) -> Iterator[str]:
    """Pieces of 3 to 12 words, no two equal, in the order of the books."""
    draw = random.Random(seed)
    seen: set[bytes] = set()
    for file in sorted((data / "english_text").glob("*.txt.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            for line in stream:
                for sentence in _SENTENCE.split(line.strip()):
                    words = sentence.split()
                    while len(words) >= 3:
                        count = draw.randint(3, 12)
                        text, words = " ".join(words[:count]), words[count:]
                        key = hashlib.blake2b(text.encode(), digest_size=8).digest()
                        if key not in seen:
                            seen.add(key)
                            yield text


def write_texts(file: Path, data: Path, count: int) -> None:
    """The first ``count`` of them, one a line."""
    written = 0
    with file.open("w", encoding="utf-8") as stream:
        for text in sentences(data):
            stream.write(text + "\n")
            written += 1
            if written == count:
                return
    raise SystemExit(f"{data}: holds {written:,} different texts; {count:,} were asked for")


class Job:
    """A running command, watched."""

    def __init__(self, arguments: list[str], output: Path) -> None:
        self.output, self.began = output, time.perf_counter()
        self.parts = output.with_name(f".{output.name}.parts")
        self.samples: list[tuple[float, int, int]] = []  # seconds, finished parts, bytes resident
        command = [sys.executable, "-W", "ignore", "-m", "halbert", *arguments, "--output", str(output), "--quiet"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def watch(self, until: int | None = None) -> None:
        """Until it ends, or has finished ``until`` parts."""
        while self.process.poll() is None:
            done = len(list(self.parts.glob("[0-9]*")))
            if until is not None and done >= until:
                return
            if (memory := _resident(self.process.pid)) is not None:
                self.samples.append((round(time.perf_counter() - self.began, 2), done, memory))
            time.sleep(0.1)
        if self.process.wait():
            assert self.process.stderr is not None
            raise SystemExit(f"{self.output}: ended with {self.process.returncode}: {self.process.stderr.read()}")
        self.seconds = time.perf_counter() - self.began

    def kill(self) -> None:
        """As a machine that goes down would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def told(self, count: int) -> dict[str, Any]:
        """Its speed, and what it held: from a fifth of the texts on it should be a level line."""
        steady = [s for s in self.samples if s[1] * PART >= count / 5 and self.parts_left(s, count)]
        if len(steady) < 3:
            steady = self.samples[len(self.samples) // 5 :]
        _, parts, memory = (np.array(column, float) for column in zip(*steady, strict=True))
        slope = float(np.polyfit(parts * PART, memory, 1)[0]) if len(set(parts)) > 1 else 0.0
        return {
            "seconds": round(self.seconds, 1), "texts_per_second": round(count / self.seconds),
            "memory_after_a_fifth": int(memory[0]), "memory_at_the_end": int(memory[-1]),
            "memory_peak": int(max(s[2] for s in self.samples)),
            "slope_bytes_per_text": round(slope, 3), "samples": self.samples[:: max(len(self.samples) // 60, 1)],
        }  # fmt: skip

    def parts_left(self, sample: tuple[float, int, int], count: int) -> bool:
        """Whether it was still answering: joining the parts is no more than copying files."""
        return 0 < sample[1] < -(-count // PART)

    def rate(self) -> float | None:
        """Texts a second between the first part and the last."""
        first = next((s for s in self.samples if s[1] > 0), None)
        last = next((s for s in self.samples if first and s[1] == max(t[1] for t in self.samples)), None)
        if first is None or last is None or last[1] == first[1]:
            return None
        return (last[1] - first[1]) * PART / (last[0] - first[0])


def _resident(pid: int) -> int | None:
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmRSS:\s+(\d+)", told)
    return 1024 * int(found[1]) if found else None


def models(place: Path, real: Path) -> tuple[Path, Path]:
    """One that embeds and one that classifies."""
    import msgspec

    tokenizer = load_bundle(real).tokenizer
    spec = presets.get(SHAPE).spec
    encoder = msgspec.structs.replace(spec.encoder, vocab_size=tokenizer.vocab_size)
    spec = msgspec.structs.replace(spec, encoder=encoder, text=tokenizer.spec)
    heads = {"label": HeadSpec(kind="label", labels=("a", "b", "c"))}
    return (
        random_bundle(spec, tokenizer, 0, {}, SHAPE).save(place / "embeds"),
        random_bundle(spec, tokenizer, 0, heads, SHAPE).save(place / "classifies"),
    )


def remembered(model: Path, texts: Path, count: int) -> tuple[int, int]:
    """Bytes that the tokenizer keeps of a fifth of the texts, and of all."""
    tokenizer: Any = load_bundle(model).tokenizer
    sizes = []
    with texts.open(encoding="utf-8") as stream:
        for chunk in chunks((line.rstrip("\n") for line in stream), -(-count // 5)):
            tokenizer.encode_batch(chunk)
            sizes.append(tokenizer._bulk._table.nbytes + tokenizer._bulk._pool.nbytes + tokenizer._words._bytes)
    return sizes[0], sizes[-1]


def million(place: Path, real: Path, data: Path, count: int, rounds: int) -> dict[str, Any]:
    """Everything about ``count`` texts."""
    texts, sample = place / "texts.txt", place / "sample.txt"
    write_texts(texts, data, count)
    lines = texts.read_text("utf-8").splitlines(keepends=True)[: max(count // 10, 3 * PART)]
    sample.write_text("".join(lines), "utf-8")
    embeds, classifies = models(place, real)
    found: dict[str, Any] = {"texts": count, "model": SHAPE, "sample": len(lines)}

    once = Job(["embed", str(embeds), "--input", str(texts)], place / "once.npy")
    once.watch()
    found["embed"] = once.told(count)
    _say("embed", found["embed"])

    first = Job(["embed", str(embeds), "--input", str(texts)], place / "again.npy")
    first.watch(until=-(-count // PART) // 2)
    first.kill()
    kept = len(list(first.parts.glob("[0-9]*")))
    second = Job(["embed", str(embeds), "--input", str(texts)], place / "again.npy")
    second.watch()
    same = sha256(place / "once.npy") == sha256(place / "again.npy")
    found["killed"] = {
        "parts_kept": kept, "of": -(-count // PART), "seconds_after": round(second.seconds, 1), "same_bytes": same,
    }  # fmt: skip
    print(f"  killed after {kept} parts, gone on: {'the same bytes' if same else 'OTHER BYTES'}", file=sys.stderr)
    for name in ("once.npy", "again.npy"):
        os.unlink(place / name)

    predicted = Job(["predict", str(classifies), "--input", str(texts)], place / "answers.jsonl")
    predicted.watch()
    with (place / "answers.jsonl").open("rb") as stream:
        assert sum(1 for _ in stream) == count
    found["predict"] = predicted.told(count)
    _say("predict", found["predict"])

    fifth, every = remembered(embeds, texts, count)
    found |= {"remembered_after_a_fifth": fifth, "remembered_bytes": every}
    again = place / "again.txt"
    again.write_text("".join(lines) * (count // len(lines)), "utf-8")
    found["known"] = {"added": {}}
    for verb, model, ending in (("embed", embeds, "npy"), ("predict", classifies, "jsonl")):
        job = Job([verb, str(model), "--input", str(again)], place / f"known.{ending}")
        job.watch()
        told = job.told(count)
        found["known"]["added"][verb] = told["memory_at_the_end"] - told["memory_after_a_fifth"]
        _say(f"{verb}, known words", told)
        job.output.unlink()

    rates: dict[str, list[float]] = {"api": [], "command": []}
    for _ in range(rounds):
        asked = [sys.executable, "-W", "ignore", "-c", _API, str(embeds), str(sample)]
        rates["api"].append(round(json.loads(subprocess.run(asked, check=True, capture_output=True).stdout)))
        job = Job(["embed", str(embeds), "--input", str(sample)], place / "sample.npy")
        job.watch()
        rates["command"].append(round(job.rate() or len(lines) / job.seconds))
    ratio = statistics.median(b / a for a, b in zip(rates["api"], rates["command"], strict=True))
    found["beside_the_api"] = {**rates, "ratio": round(ratio, 3)}
    print(f"  command against API: {ratio:.3f}", file=sys.stderr)
    return found


def _say(name: str, told: dict[str, Any]) -> None:
    print(
        f"  {name}: {told['texts_per_second']:,} texts/s, {told['memory_after_a_fifth'] / 1e6:.0f} MB after a fifth, "
        f"{told['memory_at_the_end'] / 1e6:.0f} MB at the end, {told['slope_bytes_per_text']} bytes a text",
        file=sys.stderr, flush=True,
    )  # fmt: skip
