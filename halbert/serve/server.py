"""The server as a process: a socket, patience with slow clients, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from halbert.errors import InputError, missing_extra
from halbert.serve.app import Settings, create_app
from halbert.serve.dispatcher import Dispatcher
from halbert.serve.metrics import Metrics
from halbert.serve.traces import Traces
from halbert.source import resolve_spec

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

try:
    import uvicorn
    from uvicorn.loops.auto import auto_loop_factory
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    raise missing_extra("uvicorn", "serve", "serving") from None

log = logging.getLogger("halbert.serve")
IDLE_SECONDS = 60  # between requests on one connection
LARGEST_HEADERS = 16 << 10  # bytes


class Patience(HttpToolsProtocol):
    """HTTP/1.1 that closes a connection whose requests do not arrive in time, and reads no endless headers."""

    seconds = 10.0  # for a request's first line and headers

    def connection_made(self, transport: Any) -> None:
        """A client came: it has so long to say what it wants."""
        super().connection_made(transport)
        self._unread = 0  # bytes that came since the last piece of a body: of headers, or of trailers
        self._late: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._wait()

    def _wait(self) -> None:
        """So long from now something is to be complete."""
        self._arrived()
        self._late = self.loop.call_later(self.seconds, self._too_late)

    def _arrived(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if self.cycle is not None and not self.cycle.response_complete:  # an answer is on its way
            self._wait()
        elif not self.transport.is_closing():
            self.transport.close()

    def on_response_complete(self) -> None:
        """An answer is written; the rest of a body that was refused has so long to come, and is read by nobody."""
        unread = self.cycle is not None and self.cycle.more_body
        super().on_response_complete()
        if unread and not self.transport.is_closing():
            self._wait()

    def pause_writing(self) -> None:
        """More of an answer waits than the connection takes at once; of what waits something has to move."""
        super().pause_writing()
        self._unwritten = self.transport.get_write_buffer_size()
        self._stuck = self._stuck or self.loop.call_later(self.seconds, self._unmoved)

    def _unmoved(self) -> None:
        left, self._stuck = self.transport.get_write_buffer_size(), None
        if left >= self._unwritten:
            self.transport.abort()
        elif left:
            self._unwritten, self._stuck = left, self.loop.call_later(self.seconds, self._unmoved)

    def data_received(self, data: bytes) -> None:
        """More of a request. What is not a body is bounded here; a body is bounded by the application."""
        self._unread += len(data)
        super().data_received(data)
        if self._late is None and (self.cycle is None or self.cycle.response_complete):  # such as an empty line
            self._wait()
        if self._unread > LARGEST_HEADERS and not self.transport.is_closing():
            self.send_400_response(f"more than {LARGEST_HEADERS} bytes of headers")

    def on_message_begin(self) -> None:
        """Another request begins."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """Headers that came at once are bounded as well. Raises ValueError, which the parser answers with 400."""
        self._arrived()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > LARGEST_HEADERS:
            raise ValueError("too large")
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of a request is there."""
        self._unread = 0
        self._arrived()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._arrived()
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)


class Orderly(uvicorn.Server):
    """A server that ends with status 0 after SIGTERM; uvicorn's own raises the signal again when all is done."""

    stopped_by = 0

    def __init__(self, config: uvicorn.Config, dispatcher: Dispatcher) -> None:
        super().__init__(config)
        self.dispatcher = dispatcher

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the server; a second Ctrl-C does not wait for requests."""
        loop = asyncio.get_running_loop()

        def stop(number: int) -> None:
            self.stopped_by = number
            self.dispatcher.accepting = False  # whoever still asks, on a connection that is kept, is told
            self.handle_exit(number, None)

        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, stop, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def named(models: Sequence[str]) -> dict[str, str]:
    """NAME=MODEL, or models under their own names, made different. Raises :class:`InputError` for one that is not there."""
    found: dict[str, str] = {}
    for given in models:
        name, equals, model = given.partition("=")
        if equals and not name:
            raise InputError(f"{given}: has no name before the equals sign; expected NAME=MODEL")
        if not equals or "/" in name:
            name, model = Path(given).name or given, given
        stem, n = name, 2
        while name in found:
            name, n = f"{stem}-{n}", n + 1
        resolve_spec(model)
        found[name] = model
    if not found:
        raise InputError("no model was named; expected at least one")
    return found


def serve(
    models: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    precision: str = "auto",
    threads: int | None = None,
    settings: Settings,
    most_tokens: int = 200_000,
    most_seconds: float = 10.0,
    drain_seconds: float = 60.0,
    traces: bool = False,
    proxy: str | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; what was accepted is finished first. ``traces``: see :mod:`halbert.serve.traces`;
    ``proxy``: the address whose X-Forwarded-For says who asks.

    Raises :class:`InputError` for a model or an address that cannot be had.
    """
    chosen = named(models)
    _allow_files()
    metrics = Metrics()
    dispatcher = Dispatcher(
        chosen,
        precision=precision,
        threads=threads,
        most_tokens=most_tokens,
        most_seconds=most_seconds,
        observe=metrics.observe,
    )
    told = Traces() if traces else None
    app = create_app(dispatcher, settings, metrics, told)
    try:
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        reason = str(error.strerror or error).partition(" (")[0]  # what follows names the address again
        raise InputError(f"{host}:{port}: cannot be listened at: {reason}") from None
    # Head and body of an answer are two writes: without this the second waits for the first to be acknowledged, 40 ms.
    # asyncio sees to it only for sockets that were made by the number of the protocol.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    log.info("loading %s", ", ".join(chosen))
    patient = type("Patience", (Patience,), {"seconds": settings.body_seconds})
    config = uvicorn.Config(
        app, http=patient, ws="none", log_config=None, access_log=False, lifespan="on", timeout_keep_alive=IDLE_SECONDS,
        server_header=False, timeout_graceful_shutdown=int(drain_seconds),
        proxy_headers=proxy is not None, forwarded_allow_ips=proxy,
    )  # fmt: skip
    server = Orderly(config, dispatcher)
    with listening:
        try:
            with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
                runner.run(_run(server, listening, dispatcher))
        finally:
            if told is not None:
                told.close()
    if server.stopped_by == signal.SIGINT:
        raise KeyboardInterrupt


def _allow_files() -> None:
    """A connection is an open file, of which the usual limit is 1,024; as many as the system lets this process have."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(server: Orderly, listening: socket.socket, dispatcher: Dispatcher) -> None:
    await dispatcher.start()  # a model that cannot be had is an error of ours, before the server's own begin
    host, port = listening.getsockname()[:2]
    names = ", ".join(f"{m['name']} ({m['engine']}, {m['precision']})" for m in dispatcher.described)
    log.info("ready at http://%s:%s, process %s: %s", host, port, os.getpid(), names)
    await server.serve(sockets=[listening])
