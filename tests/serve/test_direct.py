"""Well-formed requests pass the framework by: nobody can tell from the answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from halbert.serve import schemas
from halbert.serve.app import Settings, create_app
from halbert.serve.direct import Direct
from halbert.serve.dispatcher import Failed, Result
from halbert.serve.jobs import Answer
from halbert.serve.keys import Keys
from halbert.serve.metrics import Metrics
from halbert.serve.queue import Full

TEXTS = st.text(max_size=5) | st.sampled_from(["\ud800", "a\x00b", "﻿a"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from(["float", "base64", "cls", "right"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
FORMS = [
    schemas.Embeddings,
    schemas.Embed,
    schemas.Predict,
    schemas.Rerank,
    schemas.Fill,
    schemas.Classify,
    schemas.Answer,
]


@given(st.data(), st.sampled_from(FORMS))
def test_what_passes_by_would_have_been_accepted_as_it_is(data, form):
    fields = {name: VALUES | TEXTS for name in form.model_fields}
    body = json.dumps(data.draw(st.fixed_dictionaries({}, optional=fields)), ensure_ascii=data.draw(st.booleans()))
    sent = body.encode("utf-8", "surrogatepass")
    try:
        found = form.model_validate_json(sent)
    except ValidationError:
        return
    assert found == form.model_validate(json.loads(sent))


class Queue:
    most_tokens = 9

    def check(self, tokens: int, client: str = "") -> None:
        pass


class Dispatcher:
    """As much of one as the routes ask."""

    accepting = True
    queue = Queue()

    def __init__(self, answer: Any) -> None:
        self.described = [{"name": "m", "heads": {"mlm": "mlm"}, "width": 2, "precision": "fp32", "longest": 9}]
        self.answer, self.asked = answer, []

    def away(self) -> float:
        return 0.0

    async def ask(self, *what: Any, **more: Any) -> Result:
        self.asked.append((what, more))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


VECTORS = Result(
    answers=[Answer(number=0, vectors=np.float32([1, 2]).tobytes(), width=2)], tokens=3, seconds={"wait": 0.5}
)
ANSWERS = {
    "vectors": VECTORS, "full": Full("full", 3.0, {"requests": 1}), "failed": Failed("no", 413), "unknown": RuntimeError("a secret"),
}  # fmt: skip
BODIES = {
    "right": b'{"input": "a"}', "base64": b'{"input": ["a"], "encoding_format": "base64"}', "wrong field": b'{"inputs": "a"}',
    "wrong type": b'{"input": 3}', "no JSON": b'{"input": ', "empty": b"", "not UTF-8": b'{"input": "\xff"}',
    "of another width": b'{"input": "a", "dimensions": 7}', "unknown model": b'{"input": "a", "model": "x"}',
}  # fmt: skip
KINDS = {
    "json": b"application/json; charset=utf-8",
    "form": b"application/x-www-form-urlencoded",
    "none": b"",
    "lines": b"application/jsonlines",
}


def answered(app: Any, body: bytes, kind: bytes) -> tuple[int, Any, dict[bytes, bytes]]:
    """Status, body as JSON and headers (but its length) that the whole application sends."""
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"x-request-id", b"one"), *([(b"content-type", kind)] if kind else [])]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/embeddings", "raw_path": b"/v1/embeddings", "query_string": b"",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "scheme": "http", "root_path": "",
        "http_version": "1.1", "asgi": {"version": "3.0"},
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    told = dict(sent[0]["headers"])
    told.pop(b"content-length")
    return sent[0]["status"], json.loads(b"".join(m.get("body", b"") for m in sent[1:])), told


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_same_answer_either_way(answer, body, kind):
    found = []
    for direct in (True, False):
        dispatcher = Dispatcher(ANSWERS[answer])
        guard = create_app(dispatcher, Settings(keys=Keys([], [])), Metrics())
        assert isinstance(guard.app, Direct) and "/v1/embeddings" in guard.app.routes
        if not direct:
            guard.app = guard.app.app
        found.append((answered(guard, BODIES[body], KINDS[kind]), dispatcher.asked))
    assert found[0] == found[1]
    right = kind == "json" and body in ("right", "base64")
    assert bool(found[0][1]) == right
    status = {"vectors": 200, "full": 429, "failed": 413, "unknown": 500}[answer] if right else found[0][0][0]
    assert found[0][0][0] == status and (right or 400 <= status < 500)


def test_a_well_formed_request_does_not_touch_the_framework():
    guard = create_app(Dispatcher(VECTORS), Settings(keys=Keys([], [])), Metrics())

    async def untouched(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it was asked")

    guard.app.app = untouched
    assert answered(guard, BODIES["right"], KINDS["json"])[0] == 200
    assert answered(guard, BODIES["wrong type"], KINDS["json"])[0] == 500
