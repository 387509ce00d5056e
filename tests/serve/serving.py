"""A real server in a process of its own, and a client that says exactly what goes over the wire."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return self.json["error"]["message"]


class Server:
    """``halbert serve`` with whatever arguments, ready."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "halbert", "serve", *arguments, "--port", "0"],
            stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}, start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._new: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)", self.until("ready at"))[1])

    def _listen(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            self._new.put(line)
        self._new.put("")

    def until(self, words: str, seconds: float = 60) -> str:
        """The first line of the log that has these words."""
        ends = time.monotonic() + seconds
        while True:
            for line in self.lines:
                if words in line:
                    return line
            assert self.process.poll() is None or not self._new.empty(), self.lines
            assert time.monotonic() < ends, self.lines
            with contextlib.suppress(queue.Empty):
                self._new.get(timeout=0.2)

    def worker(self) -> int:
        """The process that computes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def ask(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, timeout: float = 60, **headers: str
    ) -> Reply:
        """One request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        if data is not None:
            named.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, named)
            found = connection.getresponse()
            return Reply(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        return self.ask("POST", path, body, **more)

    def get(self, path: str, **more: Any) -> Reply:
        return self.ask("GET", path, **more)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def close(self) -> None:
        """The pipe of its log is closed when nobody writes to it any more."""
        self._listener.join(10)
        self.process.stderr.close()

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        """Its exit status after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


@contextlib.contextmanager
def running(*arguments: str, **more: Any) -> Iterator[Server]:
    """A server that is gone afterwards."""
    server = Server(*arguments, **more)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.stop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.close()
