"""Before a request reaches the application: its size and its pace, who asks, and how often; after it: headers and a line."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from halbert.serve.keys import Keys, Rate
from halbert.serve.queue import Full

Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]
log = logging.getLogger("halbert.serve.access")

OPEN = frozenset(("/", "/health", "/ready", "/live", "/openapi.json", "/metrics"))  # also without a key
ADMIN = "/admin/"
BODIES = 16  # of the largest size, that may be on their way at once
READ = 16  # times the largest size: a body that is said to be larger is not read at all
GONE = 499  # the client closed the connection; nobody sees it but the log
FAILED = "the server failed; its log has the cause under {}"  # under the request's number
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# The playground's own files and nothing else; whatever text is shown, none of it runs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", POLICY.encode()), (b"cache-control", b"no-store"),
)  # fmt: skip


class Refused(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, message: str, retry: float | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.retry, self.more = status, message, retry, more


class Guard:
    """An ASGI application around another."""

    def __init__(
        self,
        app: Any,
        *,
        keys: Keys,
        rate: Rate | None = None,
        most_bytes: int = 4 << 20,
        body_seconds: float = 10.0,
        answered: Callable[[Scope, int, float], None] = lambda scope, status, seconds: None,
        room: Callable[[str], None] = lambda client: None,
    ) -> None:
        self.app, self.keys, self.rate, self.answered, self.room = app, keys, rate, answered, room
        self.most_bytes, self.body_seconds = most_bytes, body_seconds
        self._reading = 0  # bytes of bodies that are not whole yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = {name.lower(): value for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        number = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["id"] = number
        status = 0

        async def sending(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                scope["state"]["timing"] = dict(message["headers"]).get(b"server-timing", b"").decode("latin-1")
                more = [(name, value) for name, value in HEADERS if name not in own]
                message["headers"] = [*message["headers"], (b"x-request-id", number.encode()), *more]
            await send(message)

        try:
            scope["state"]["client"] = self._client(scope, headers)
            if scope["method"] == "POST" and not scope["path"].startswith(ADMIN):
                try:  # before the body is read: who refuses must not be kept busy by refusing
                    self.room(scope["state"]["client"])
                except Full as full:
                    raise Refused(429, str(full), full.seconds, queue=full.state) from None
            body = await self._body(headers, receive)
            # HEAD: as GET, whose body uvicorn leaves out, since its own scope says HEAD.
            inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
            await self.app(inner, replayed(body, receive), sending)
        except Refused as refused:
            await _answer(sending, refused)
        except Exception:
            # The trace is for the log; the client is told the number under which it stands there.
            logging.getLogger("halbert.serve").exception("request %s failed", number)
            if not status:
                await _answer(sending, Refused(500, FAILED.format(number)))
        finally:
            seconds = time.perf_counter() - began
            status = status or GONE
            self.answered(scope, status, seconds)
            if log.isEnabledFor(logging.INFO):
                line = {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "id": number,
                    "client": scope["state"].get("client", ""), "method": scope["method"], "path": scope["path"][:200],
                    "status": status, "ms": round(1000 * seconds, 1),
                }  # fmt: skip
                log.info(json.dumps(line))

    def _client(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        """Who asks. Raises :class:`Refused` for a key that is none, and for who asks too often."""
        path = scope["path"]
        address = _host((scope.get("client") or ("", 0))[0])
        admin = path.startswith(ADMIN)
        client = address
        if admin or (self.keys and path not in OPEN and not path.startswith("/page/")):
            kind, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            name = self.keys.known(key.strip(), admin) if kind.lower() == "bearer" else None
            if name is None:
                self._paced(address)  # who tries keys does so at the same pace
                raise Refused(401, "this route needs an API key: Authorization: Bearer KEY")
            client = name
        if scope["method"] == "POST":
            self._paced(client)
        return client

    def _paced(self, client: str) -> None:
        if self.rate is not None and (wait := self.rate.wait(client)):
            raise Refused(429, f"more than {self.rate.each:g} requests a second", wait)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, within its limits of size and time."""
        if headers.get(b"content-encoding", b"identity").lower() not in (b"", b"identity"):
            raise Refused(415, "bodies are read as they are; send it without Content-Encoding")
        length = headers.get(b"content-length", b"0")
        too_large = Refused(413, f"the body is larger than {self.most_bytes:,} bytes")
        # Some clients read no answer before all is sent, which is read and thrown away; who asks first is told first.
        thrown = length.isdigit() and int(length) > self.most_bytes and b"expect" not in headers
        if not length.isdigit() or int(length) > (READ if thrown else 1) * self.most_bytes:
            raise too_large
        parts: list[bytes] = []
        size = 0
        if self._reading > BODIES * self.most_bytes:
            raise Refused(503, "too many large bodies are on their way; try again", 1)
        try:
            async with asyncio.timeout(self.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the connection ended before the body did")
                    if not thrown:
                        parts.append(message.get("body", b""))
                        size += len(parts[-1])
                        self._reading += len(parts[-1])
                    if size > self.most_bytes or (thrown and not message.get("more_body")):
                        raise too_large
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise Refused(408, f"the body took longer than {self.body_seconds:g} s") from None
        finally:
            self._reading -= size


def _host(address: str) -> str:
    """An address as a client's name: of IPv6 the network, of which one host has all addresses."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def replayed(body: bytes, receive: Receive) -> Receive:
    """A receive that gives a whole body first."""
    first = True

    async def replay() -> Any:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


def told(message: str, status: int, **more: Any) -> dict[str, Any]:
    """The body of an error, in the form OpenAI's clients read."""
    kind = {
        401: "authentication_error",
        408: "timeout",
        413: "too_large",
        429: "overloaded",
        503: "unavailable",
        504: "timeout",
    }
    return {"error": {"message": message, "type": kind.get(status, "invalid_request_error" if status < 500 else "server_error"),
                      "param": None, "code": status}, **more}  # fmt: skip


async def _answer(send: Send, refused: Refused) -> None:
    body = json.dumps(told(refused.message, refused.status, **refused.more)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.retry is not None:
        headers.append((b"retry-after", str(math.ceil(refused.retry)).encode()))
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refused.status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
