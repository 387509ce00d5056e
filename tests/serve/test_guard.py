"""What a request meets before the application: by itself, and behind a proxy."""

from __future__ import annotations

import asyncio
import json

import pytest

from halbert.serve.guard import BODIES, Guard, Refused
from halbert.serve.keys import Keys
from tests import small
from tests.serve.serving import running


def asked(guard, *messages, method="POST", client=("10.0.0.1", 1)):
    """(status, body) of a request whose body comes in these messages; the last is waited for without an end if it is None."""
    coming, sent = list(messages), []

    async def receive():
        message = coming.pop(0)
        if message is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": message, "more_body": bool(coming)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/embed", "headers": [], "client": client, "state": {}}

    async def run():
        await guard(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    return run()


async def answering(scope, receive, send):
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{scope['method']} {len(body)}".encode()})


def test_bodies_on_their_way_are_bounded_together():
    guard = Guard(answering, keys=Keys([], []), most_bytes=100, body_seconds=0.3)

    async def test():
        slow = [asyncio.create_task(asked(guard, b"x" * 99, None)) for _ in range(BODIES + 2)]
        await asyncio.sleep(0.05)
        status, body = await asked(guard, b"y")
        assert status == 503 and "large bodies" in json.loads(body)["error"]["message"]
        assert [(await task)[0] for task in slow] == [408] * (BODIES + 1) + [503]
        assert await asked(guard, b"y") == (200, b"POST 1")  # what was given up makes room

    asyncio.run(test())


def test_nobody_waits_for_a_worker_that_does_not_come_back():
    def room(client):
        raise Refused(503, f"none for {client}", 1)

    status, body = asyncio.run(asked(Guard(answering, keys=Keys([], []), room=room), b"y"))
    assert status == 503 and json.loads(body)["error"]["message"] == "none for 10.0.0.1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_a_network_of_ipv6_is_one_client(one, other, same):
    found = []
    guard = Guard(answering, keys=Keys([], []), room=found.append)
    for address in (one, other):
        asyncio.run(asked(guard, b"y", client=(address, 1)))
    assert (found[0] == found[1]) is same


@pytest.mark.parametrize("proxy", [None, "127.0.0.1"])
def test_a_proxy_is_believed_if_it_was_named(tmp_path, proxy):
    folder = small.bundle(("mlm",)).save(tmp_path / "model")
    more = ["--proxy", proxy] if proxy else []
    origin = "http://page.there"
    with running(str(folder), "--precision", "fp32", "--rate", "0.5", "--origin", origin, *more) as server:
        statuses = [
            server.post("/embed", {"inputs": "a"}, X_Forwarded_For=f"10.0.0.{i}", Origin=origin) for i in range(4)
        ]
        assert [reply.status for reply in statuses] == ([200] * 4 if proxy else [200, 429, 429, 429])
        heard = statuses[-1].headers["access-control-expose-headers"].lower()
        assert {"retry-after", "x-request-id", "server-timing"} <= {name.strip() for name in heard.split(",")}
