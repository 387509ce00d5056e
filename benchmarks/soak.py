"""Ten minutes at twice the capacity, the worker killed twice; and the check that nothing was lost, changed or leaked.

    python -m benchmarks.soak --log soak.jsonl          runs it, writes a line for every request, and checks the log
    python -m benchmarks.soak --check soak.jsonl        checks a log again; status 1 names what is wrong

Lines: {"id", "status", "ms", "sha256", "cosine"} of requests (``cosine`` to the vector that the same model gives offline,
among other texts or alone: these are two graphs, and in int8 what rounds differently differs by up to 0.0007),
{"memory", "at"} every second, {"killed", "at"} with the number of processes, and first {"precision", "seconds", "rate", ...}.

What must hold: every id that was sent has one answer; an answer with 200 has a cosine of at least 0.9999 to the offline
vector; the only other answers are 429; the worker was killed twice; memory of the last third is not above that of the
second third by more than 5 %; the server ends with status 0.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import psutil

from benchmarks.clients import Connection, Server
from benchmarks.inference import DATA, ROOT
from benchmarks.serve import ask, captions, checkpoint, halbert, quantized
from halbert.compare.machine import describe_machine
from halbert.files import write_json
from halbert.run.openvino_backend import multiplies_bf16
from halbert.run.predictor import load

OUT = ROOT / "benchmarks/results/soak.json"
LEAST, GROWTH = 0.9999, 1.05
CLIENTS = 256  # at most so many requests are open at once


def check(lines: Iterable[dict[str, Any]]) -> list[str]:
    """What is wrong with a log, in words; nothing, if all is well."""
    rows = list(lines)
    sent = [row["id"] for row in rows if "sent" in row]
    answers = Counter(row["id"] for row in rows if "status" in row)
    wrong = []
    lost = [name for name in sent if not answers[name]]
    if lost or not sent:
        first = f", the first is {lost[0]}" if lost else ""
        wrong.append(f"{len(lost)} of {len(sent)} requests have no answer{first}")
    if twice := [name for name, count in answers.items() if count > 1]:
        wrong.append(f"{len(twice)} requests have several answers, the first is {twice[0]}")
    if unknown := answers.keys() - set(sent):
        wrong.append(f"{len(unknown)} answers are to nothing that was sent")
    statuses = Counter(row["status"] for row in rows if "status" in row)
    for status, count in sorted(statuses.items()):
        if status not in (200, 429):
            wrong.append(f"{count} answers have the status {status}")
    if not statuses[200]:
        wrong.append("nothing was answered with 200")
    off = [row for row in rows if row.get("status") == 200 and not row["cosine"] >= LEAST]
    if off:
        wrong.append(f"{len(off)} vectors are off, the first by a cosine of {off[0]['cosine']:.6f} ({off[0]['id']})")
    memory = [row["memory"] for row in rows if "memory" in row]
    third = len(memory) // 3
    if third < 3:
        wrong.append(f"memory was looked at {len(memory)} times, which says nothing")
    else:
        middle, last = statistics.median(memory[third : 2 * third]), statistics.median(memory[-third:])
        if last > GROWTH * middle:
            wrong.append(f"memory grew from {middle / 1e6:.0f} to {last / 1e6:.0f} MB")
    if sum(row.get("killed", 0) > 0 for row in rows) < 2:
        wrong.append("the worker was not killed twice")
    ended = [row["ended"] for row in rows if "ended" in row]
    if ended != [0]:
        wrong.append(f"the server ended with {ended or 'nothing'}, expected 0")
    return wrong


async def _soaking(
    server: Server, rate: float, seconds: float, texts: list[str], vectors: np.ndarray, log: TextIO
) -> None:
    """Ask at a rate, kill the worker after a sixth and a third of the time, and write everything down."""
    began = time.perf_counter()
    idle = [Connection(server.port) for _ in range(CLIENTS)]
    free = asyncio.Semaphore(CLIENTS)

    def say(**row: Any) -> None:
        log.write(json.dumps(row) + "\n")

    async def one(number: int) -> None:
        text = number % len(texts)
        name = f"soak-{number}"
        connection = idle.pop()
        say(id=name, sent=text)
        reply = await connection.post("/v1/embeddings", server.request(texts[text], encoding_format="base64"), name)
        idle.append(connection)
        free.release()
        row: dict[str, Any] = {"id": name, "status": reply.status, "ms": round(1e3 * reply.seconds, 2)}
        if reply.status == 200:
            found = np.frombuffer(base64.b64decode(json.loads(reply.body)["data"][0]["embedding"]), "<f4")
            lengths = np.linalg.norm(found) * np.linalg.norm(vectors[:, text], axis=-1)
            row["cosine"] = float((vectors[:, text] @ found / np.maximum(1e-12, lengths)).max())
            row["sha256"] = hashlib.sha256(found.tobytes()).hexdigest()[:16]
        say(**row)

    async def watch() -> None:
        while True:
            say(memory=server.memory(), at=round(time.perf_counter() - began, 2))
            await asyncio.sleep(1)

    async def kill() -> None:
        for moment in (seconds / 6, seconds / 3):  # so that what follows is the life of one worker
            await asyncio.sleep(max(0.0, began + moment - time.perf_counter()))
            found = server.tree[1:]
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            say(killed=len(found), at=round(time.perf_counter() - began, 2))

    others = [asyncio.create_task(watch()), asyncio.create_task(kill())]
    async with asyncio.TaskGroup() as group:
        number = 0
        while (now := time.perf_counter() - began) < seconds:
            if number / rate > now:
                await asyncio.sleep(number / rate - now)
            await free.acquire()
            group.create_task(one(number))
            number += 1
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for connection in idle:
        connection.close()


def soak(precision: str, seconds: float, data: Path, log: Path) -> dict[str, Any]:
    """Run it; returns what the results file says."""
    texts = captions(data)
    with tempfile.TemporaryDirectory() as folder:
        place, model = Path(folder), checkpoint()
        if precision == "int8":
            model = quantized(model, place / "int8")
        offline = load(str(model), precision=precision)  # type: ignore[arg-type]
        vectors = np.stack([offline.embed(texts), np.concatenate([offline.embed([text]) for text in texts])])
        del offline
        server = halbert(f"halbert {precision}", model, precision, place, "--max-wait", "0.2")
        machine = describe_machine()
        with log.open("w") as out:
            try:
                ask(server, 64, 3, texts)
                capacity = ask(server, 64, 6, texts)["rate"]
                about = {"precision": precision, "seconds": seconds, "capacity": capacity, "rate": 2 * capacity}
                out.write(json.dumps(about) + "\n")
                asyncio.run(_soaking(server, 2 * capacity, seconds, texts, vectors, out))
            finally:
                out.write(json.dumps({"ended": server.stop()}) + "\n")
    rows = [json.loads(line) for line in log.open()]
    statuses = Counter(str(row["status"]) for row in rows if "status" in row)
    seen = [row for row in rows if "memory" in row]
    memory = [row["memory"] for row in seen]
    by_minute = [
        int(statistics.median(row["memory"] for row in group))
        for _, group in itertools.groupby(seen, key=lambda row: row["at"] // 60)
    ]
    times = np.array([row["ms"] for row in rows if row.get("status") == 200] or [0.0])
    refused = np.array([row["ms"] for row in rows if row.get("status") == 429] or [0.0])
    return {
        "machine": machine, "created": time.strftime("%Y-%m-%d", time.gmtime()), "precision": precision, "seconds": seconds,
        "capacity": capacity, "asked_a_second": sum(statuses.values()) / seconds, "statuses": dict(statuses),
        "killed": sum(row.get("killed", 0) > 0 for row in rows), "least_cosine": min(r["cosine"] for r in rows if "cosine" in r),
        "ms": {"p50": float(np.quantile(times, 0.5)), "p99": float(np.quantile(times, 0.99))},
        "refused_ms": {"p50": float(np.quantile(refused, 0.5)), "p99": float(np.quantile(refused, 0.99))},
        "memory": {"least": min(memory), "most": max(memory), "last": memory[-1], "by_minute": by_minute}, "wrong": check(rows),
    }  # fmt: skip


def main() -> None:
    """Run and check, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--check", type=Path, metavar="LOG")
    parser.add_argument("--precision", default="bf16" if multiplies_bf16() else "int8")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.check:
        wrong = check(json.loads(line) for line in options.check.open())
    else:
        found = soak(options.precision, 60 * options.minutes, options.data, options.log)
        write_json(options.out, found)
        print(json.dumps({k: v for k, v in found.items() if k != "machine"}, indent=1))
        wrong = found["wrong"]
    if wrong:
        sys.exit("\n".join(wrong))
    print("nothing was lost, changed or leaked")


if __name__ == "__main__":
    main()
