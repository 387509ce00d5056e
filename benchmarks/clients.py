"""A client that costs little, since it shares the cores with the server it measures: HTTP/1.1 over kept connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil


class Reply(NamedTuple):
    """What came back, and after how long; status 0: nothing, the connection ended."""

    status: int
    body: bytes
    seconds: float


class Connection:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes, name: str = "") -> Reply:
        """One request, whose number is ``name``."""
        began = time.perf_counter()
        try:
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
            told = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Request-Id: {name}\r\n"
            )
            self._writer.write(f"{told}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert self._reader is not None
            head = await self._reader.readuntil(b"\r\n\r\n")
            lower = head.lower()
            length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
            found = await self._reader.readexactly(length)
            if b"connection: close" in lower:
                self.close()
            return Reply(int(head[9:12]), found, time.perf_counter() - began)
        except (OSError, asyncio.IncompleteReadError, IndexError):
            self.close()
            return Reply(0, b"", time.perf_counter() - began)

    def close(self) -> None:
        """End the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class Server:
    """A server's processes."""

    def __init__(
        self, name: str, command: Sequence[str], port: int, ready: str, log: Path, body: dict[str, Any]
    ) -> None:
        self.name, self.command, self.port, self.body = name, list(command), port, body
        with log.open("wb") as out:
            began = time.perf_counter()
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=1):
                break
            if self.process.poll() is not None or time.perf_counter() - began > 180:
                self.stop()
                raise SystemExit(f"{name}: did not start; its last words:\n{log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.05)
        self.started = time.perf_counter() - began

    @property
    def tree(self) -> list[psutil.Process]:
        """The process and those it started."""
        whole = psutil.Process(self.process.pid)
        return [whole, *whole.children(recursive=True)]

    def memory(self) -> int:
        """Bytes that all its processes hold, what they share counted once."""
        total = 0
        for process in self.tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total

    def stop(self) -> int | None:
        """SIGTERM, and its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.poll()

    def request(self, text: str, **more: Any) -> bytes:
        """The body that asks for one text's vector."""
        return json.dumps({**self.body, **more, "input": text}).encode()


def free_port() -> int:
    """A port nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def texts_in_turn(texts: Sequence[str]) -> Iterator[str]:
    """The texts, round and round, none of them equal to one before."""
    number = 0
    while True:
        for text in texts:
            yield f"{text} {number}" if number else text
        number += 1
