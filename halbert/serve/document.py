"""The OpenAPI document: what the framework cannot know of routes whose answers are made by hand."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel

from halbert.serve.asking import DEADLINE
from halbert.serve.guard import ADMIN, OPEN

STATUSES = {
    400: "Not HTTP, or a body that is no JSON", 401: "No API key, or one that is none", 404: "No such model",
    408: "The body came too slowly", 413: "Too large, or more tokens than the model reads", 415: "A Content-Encoding",
    422: "Not a request of this form", 429: "Too many requests, or the queue is full; Retry-After says when",
    500: "The server failed", 503: "Not ready, or shutting down", 504: "Not computed within the request's own time",
}  # fmt: skip
METRICS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int


class Vector(BaseModel):
    """One text's vector, as numbers or base64 of float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Vectors(BaseModel):
    """OpenAI's answer of ``/v1/embeddings``."""

    object: Literal["list"]
    data: list[Vector]
    model: str
    usage: Usage


class Labelled(BaseModel):
    """A label and its probability, or its logit."""

    label: str
    score: float


class Ranked(BaseModel):
    """A text's place among those that were given, and its score."""

    index: int
    score: float
    text: str | None = None


class Piece(BaseModel):
    """A piece and its characters in the text; special ones have none."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Results(BaseModel):
    """An answer for each text, as ``halbert predict`` writes it."""

    model: str
    results: list[Any]


class Compared(BaseModel):
    """What each model makes of a text, by the model's name; ``error`` where it fails."""

    models: dict[str, dict[str, Any]]


def documented(app: FastAPI) -> None:
    """Put into an application's document who needs a key, and the header that all routes with a model hear."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            document.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    if path not in OPEN:
                        operation["security"] = [{"key": []}] if path.startswith(ADMIN) else [{"key": []}, {}]
                    if method == "post" and not path.startswith(ADMIN):
                        operation.setdefault("parameters", []).append(_TIMEOUT)
        assert app.openapi_schema is not None  # plain() has put it there
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


_TIMEOUT = {
    "name": DEADLINE, "in": "header", "required": False, "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e6},
    "description": "Seconds after which nobody wants the answer any more (504)",
}  # fmt: skip
