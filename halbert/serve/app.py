"""The routes: OpenAI's embeddings, text-embeddings-inference's, one for each kind of head, and all models side by side."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import time
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any, NamedTuple

from halbert.errors import HalbertError, missing_extra
from halbert.serve import schemas
from halbert.serve.dispatcher import Dispatcher, Failed
from halbert.serve.estimate import MASK
from halbert.serve.guard import FAILED, Guard, Refused, Scope, told
from halbert.serve.keys import Keys, Rate
from halbert.serve.queue import Full
from halbert.source import resolve_spec
from halbert.version import __version__

try:
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    from halbert.serve import document
    from halbert.serve.asking import Ask, as_list, rows_of, timed, vectors_of
    from halbert.serve.direct import Direct
    from halbert.serve.metrics import Metrics
    from halbert.serve.replies import Json
    from halbert.serve.traces import Traces
except ImportError:
    raise missing_extra("fastapi", "serve", "serving") from None

AWAY = 5.0  # seconds without a worker, after which nobody is made to wait for it
MOST_CHARACTERS = 200_000  # of a request whose answer is many times its size: pieces
MOST_FILLED = 20_000  # masks of a request, times the pieces that are told of each
_OWN = frozenset((413, 422, 500))  # statuses that are one model's, not the server's
_FILES = {"page.css": "text/css", "page.js": "text/javascript"}


class Settings(NamedTuple):
    """What a server allows."""

    keys: Keys
    rate: Rate | None = None
    most_bytes: int = 4 << 20
    body_seconds: float = 10.0
    origins: tuple[str, ...] = ()


def create_app(dispatcher: Dispatcher, settings: Settings, metrics: Metrics, traces: Traces | None = None) -> Any:
    """The whole server as an ASGI application, around a dispatcher that was started; it stops it at the end."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await dispatcher.stop()

    app = FastAPI(
        title="Halbert", version=__version__, lifespan=lifespan, redoc_url=None, docs_url=None, redirect_slashes=False,
        description="BERT and ALBERT encoders: vectors, pieces, and the answers of their heads.",
        responses={status: {"description": what} for status, what in document.STATUSES.items()},
    )  # fmt: skip
    _errors(app)
    _openai(app, dispatcher)
    _tei(app, dispatcher)
    _heads(app, dispatcher)
    _house(app, dispatcher, settings, metrics)
    document.documented(app)
    known = {getattr(route, "path", "") for route in app.routes}

    def answered(scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in known else "other"  # a client must not be able to make up routes
        if path == "other" and scope["path"].removeprefix("/page/") in _FILES:
            path = "/page/{name}"
        metrics.requests.labels(path, str(status)).inc()
        metrics.seconds.labels(path).observe(seconds)
        if traces is not None:
            traces.answered(scope, path, status, seconds)

    def room(client: str) -> None:
        if dispatcher.away() > AWAY:
            raise Refused(503, "the model's process is being started anew; try again", 1)
        dispatcher.queue.check(1, client)

    guard = Guard(
        Direct(app), keys=settings.keys, rate=settings.rate, most_bytes=settings.most_bytes, body_seconds=settings.body_seconds,
        answered=answered, room=room,
    )  # fmt: skip
    if not settings.origins:
        return guard
    from starlette.middleware.cors import CORSMiddleware

    # Around everything, so that a page of another host can read refusals too.
    wrapped: Any = guard
    return CORSMiddleware(
        wrapped, allow_origins=settings.origins, allow_methods=["GET", "POST"], allow_headers=["*"],
        expose_headers=["retry-after", "x-request-id", "server-timing"],
    )  # fmt: skip


def _errors(app: FastAPI) -> None:
    @app.exception_handler(Full)
    async def full(_: Request, error: Full) -> Response:
        retry = {"retry-after": str(math.ceil(error.seconds))}
        return Json(told(str(error), 429, queue=error.state), 429, retry)

    @app.exception_handler(Failed)
    async def failed(_: Request, error: Failed) -> Response:
        return Json(told(str(error), error.status), error.status)

    @app.exception_handler(HalbertError)
    async def refused(_: Request, error: HalbertError) -> Response:
        return Json(told(str(error), 422), 422)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        kind = request.headers.get("content-type", "")
        if request.method == "POST" and "json" not in kind:  # else a page of another host could post without asking
            return Json(told("the body is read as JSON; send Content-Type: application/json", 422), 422)
        # Of a field that may be one text or a list of them there is an error for each.
        first = max(error.errors(), key=lambda e: (e["type"] != "string_type", len(e["loc"])))
        parts = [str(part) for part in first["loc"] if part != "body"]
        place = ".".join(part for part in parts if not part.startswith(("constrained-", "list["))) or "body"
        return Json(told(f"{place[:200]}: {first['msg']}", 422), 422)

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        return Json(told(str(error.detail), error.status_code), error.status_code, error.headers)

    @app.exception_handler(Exception)  # it is raised again afterwards, and the guard writes its trace into the log
    async def broken(request: Request, _: Exception) -> Response:
        return Json(told(FAILED.format(request.state.id), 500), 500)


def _openai(app: FastAPI, dispatcher: Dispatcher) -> None:
    began = int(time.time())

    @app.get("/v1/models", tags=["OpenAI"])
    async def models() -> dict[str, Any]:
        """The models that are served."""
        rows = [
            {"id": m["name"], "object": "model", "created": began, "owned_by": "halbert", **m}
            for m in dispatcher.described
        ]
        return {"object": "list", "data": rows}

    @app.get("/v1/models/{name}", tags=["OpenAI"])
    async def model(name: str) -> dict[str, Any]:
        """One of the models that are served."""
        for row in (await models())["data"]:
            if row["id"] == name:
                return dict(row)
        raise Failed(f"no model {name[:200]!r} is served", 404)

    @app.post("/v1/embeddings", response_model=document.Vectors, tags=["OpenAI"])
    async def embeddings(body: schemas.Embeddings, request: Request) -> Response:
        """A vector of length 1 for each text."""
        ask = Ask(request, dispatcher)
        model = ask.model(body.model)
        ask.check_width(model, body.dimensions)
        result = await ask.run("embed", model, as_list(body.input), normalize=True, strict=True)  # as OpenAI's are
        packed = body.encoding_format == "base64"
        rows = [
            {
                "object": "embedding", "index": i,
                "embedding": base64.b64encode(row.tobytes()).decode() if packed else row.tolist(),
            }
            for i, row in enumerate(vectors_of(result))
        ]  # fmt: skip
        usage = {"prompt_tokens": result.tokens, "total_tokens": result.tokens}
        return Json({"object": "list", "data": rows, "model": model, "usage": usage}, headers=timed(result))


def _tei(app: FastAPI, dispatcher: Dispatcher) -> None:
    @app.post("/embed", response_model=list[list[float]], tags=["text-embeddings-inference"])
    async def embed(body: schemas.Embed, request: Request) -> Response:
        """A vector for each text, of length 1 unless ``normalize`` is false."""
        ask = Ask(request, dispatcher)
        model = ask.model(body.model)
        ask.check_width(model, body.dimensions)
        more: dict[str, Any] = {} if body.pooling is None else {"pooling": body.pooling}
        unit = body.normalize is not False
        result = await ask.run(
            "embed", model, as_list(body.inputs), normalize=unit, strict=not body.truncate, **more
        )  # fmt: skip
        return Json([row.tolist() for row in vectors_of(result)], headers=timed(result))

    @app.post(
        "/predict",
        response_model=list[document.Labelled] | list[list[document.Labelled]],
        tags=["text-embeddings-inference"],
    )
    async def predict(body: schemas.Predict, request: Request) -> Response:
        """Labels with their scores, the likeliest first, for each text or pair."""
        ask = Ask(request, dispatcher)
        rows = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        alone = all(isinstance(row, str) for row in rows)  # a text, or a pair
        if alone and len(rows) > 2:
            raise Failed("inputs: a list of two texts is a pair; put each text into a list of its own", 422)
        some = [rows] if alone else [[row] if isinstance(row, str) else row for row in rows]
        split = [(str(row[0]), str(row[1]) if len(row) > 1 else None) for row in some]
        paired = {pair is not None for _, pair in split}
        if len(paired) > 1:
            raise Failed("inputs: single texts and pairs do not go together", 422)
        pairs = [pair or "" for _, pair in split] if paired == {True} else None
        raw: dict[str, Any] = {"raw": True} if body.raw_scores else {}
        result = await ask.run(
            "predict", ask.model(body.model, "label"), [text for text, _ in split], pairs, kinds=["label"],
            strict=not body.truncate, **raw,
        )  # fmt: skip
        told = rows_of(result) if body.raw_scores else [row["probabilities"] for row in rows_of(result)]
        ranked = [
            sorted(({"label": label, "score": p} for label, p in row.items()), key=lambda each: -each["score"])
            for row in told
        ]
        return Json(ranked[0] if alone else ranked, headers=timed(result))

    @app.post("/rerank", response_model=list[document.Ranked], tags=["text-embeddings-inference"])
    async def rerank(body: schemas.Rerank, request: Request) -> Response:
        """Texts by how well they fit a query, the best first, by a head that scores pairs."""
        ask = Ask(request, dispatcher)
        model = ask.model(body.model, "score")
        result = await ask.run(
            "predict", model, [body.query] * len(body.texts), body.texts, kinds=["score"], strict=not body.truncate
        )
        rows = [
            {"index": i, "score": row["score"], **({"text": body.texts[i]} if body.return_text else {})}
            for i, row in enumerate(rows_of(result))
        ]
        return Json(sorted(rows, key=lambda row: -row["score"]), headers=timed(result))

    @app.post("/tokenize", response_model=list[list[document.Piece]], tags=["text-embeddings-inference"])
    async def tokenize(body: schemas.Tokenize, request: Request) -> Response:
        """The pieces of each text, with their places in it."""
        ask = Ask(request, dispatcher)
        if (size := sum(map(len, as_list(body.inputs)))) > MOST_CHARACTERS:
            raise Failed(f"inputs: {size:,} characters; at most {MOST_CHARACTERS:,} are cut up at once", 413)
        result = await ask.run("tokenize", ask.model(body.model), as_list(body.inputs))
        rows = [[p for p in row if body.add_special_tokens or not p["special"]] for row in rows_of(result)]
        return Json(rows, headers=timed(result))

    @app.get("/info", tags=["text-embeddings-inference"])
    async def info() -> dict[str, Any]:
        """The first model, in text-embeddings-inference's words, and all of them in ours."""
        first = dispatcher.described[0]
        return {
            "model_id": first["name"], "model_dtype": first["precision"], "max_input_length": first["longest"],
            "max_batch_tokens": dispatcher.queue.most_tokens, "max_client_batch_size": schemas.MOST_TEXTS,
            "version": __version__, "models": dispatcher.described,
        }  # fmt: skip


def _heads(app: FastAPI, dispatcher: Dispatcher) -> None:
    @app.post("/v1/fill", response_model=document.Results, tags=["heads"])
    async def fill(body: schemas.Fill, request: Request) -> Response:
        """The likeliest pieces for every [MASK] of each text."""
        ask = Ask(request, dispatcher)
        model = ask.model(body.model, "mlm")
        if (size := body.top * sum(text.count(MASK) for text in as_list(body.inputs))) > MOST_FILLED:
            raise Failed(f"inputs: {size:,} pieces would be told (masks times top); at most {MOST_FILLED:,} are", 413)
        result = await ask.run("fill", model, as_list(body.inputs), top=body.top)
        return Json({"model": model, "results": rows_of(result)}, headers=timed(result))

    @app.post("/v1/classify", response_model=document.Results, tags=["heads"])
    async def classify(body: schemas.Classify, request: Request) -> Response:
        """A label with all probabilities, or a score, for each text or pair."""
        ask = Ask(request, dispatcher)
        texts, pairs = as_list(body.inputs), None if body.pairs is None else as_list(body.pairs)
        if pairs is not None and len(pairs) != len(texts):
            raise Failed(f"pairs: {len(pairs)} for {len(texts)} inputs; expected as many", 422)
        model = ask.model(body.model, "label", "score")
        result = await ask.run("predict", model, texts, pairs, kinds=["label", "score"], strict=not body.truncate)
        return Json({"model": model, "results": rows_of(result)}, headers=timed(result))

    @app.post("/v1/tag", response_model=document.Results, tags=["heads"])
    async def tag(body: schemas.Tag, request: Request) -> Response:
        """The entities of each text, with their places in it."""
        ask = Ask(request, dispatcher)
        model = ask.model(body.model, "tag")
        result = await ask.run("predict", model, as_list(body.inputs), kinds=["tag"], strict=not body.truncate)
        return Json({"model": model, "results": rows_of(result)}, headers=timed(result))

    @app.post("/v1/answer", response_model=document.Results, tags=["heads"])
    async def answer(body: schemas.Answer, request: Request) -> Response:
        """Where a text answers a question; a long text is read in windows."""
        ask = Ask(request, dispatcher)
        model = ask.model(body.model, "span")
        result = await ask.run("predict", model, [body.question], [body.context], kinds=["span"], long="window")
        return Json({"model": model, "results": rows_of(result)}, headers=timed(result))

    @app.post("/v1/compare", response_model=document.Compared, tags=["heads"])
    async def compare(body: schemas.Compare, request: Request) -> Response:
        """One text through all models: pieces, masks, heads, likeness, layers, attention, and the time of each; or ``error``,
        where one of several models fails."""
        ask = Ask(request, dispatcher)
        names = dict.fromkeys(ask.model(name) for name in body.models or [m["name"] for m in dispatcher.described])
        deepest = max(m["layers"] for m in dispatcher.described if m["name"] in names)
        if body.layer >= deepest:
            raise Failed(
                f"layer: {body.layer} is none; the deepest of these models has {deepest}, 0 to {deepest - 1}", 422
            )
        results: dict[str, Any] = {}
        failures = []
        for name in names:
            pair = [body.pair] if body.pair else None
            try:
                result = await ask.run("compare", name, [body.text], pair, layer=body.layer, precision=body.precision)
            except Failed as failure:  # one model's own is told beside the others' answers
                if failure.status not in _OWN:
                    raise
                failures.append(failure)
                results[name] = {"error": {"message": str(failure), "code": failure.status}}
            else:
                results[name] = {**rows_of(result)[0], "waited": result.seconds["wait"]}
        if len(failures) == len(names):  # then the first one's is the request's
            raise failures[0]
        return Json({"models": results})


def _house(app: FastAPI, dispatcher: Dispatcher, settings: Settings, metrics: Metrics) -> None:
    @app.get("/health", tags=["house"])
    @app.get("/ready", tags=["house"], include_in_schema=False)
    async def ready() -> Response:
        """Whether requests are answered now."""
        able = dispatcher.ready.is_set() and dispatcher.accepting
        state = "ready" if able else "stopping" if not dispatcher.accepting else "starting"
        return Json({"status": state}, 200 if able else 503)

    @app.get("/live", tags=["house"])
    async def live() -> dict[str, str]:
        """Whether the process is there."""
        return {"status": "alive"}

    @app.get("/metrics", responses=document.METRICS, response_class=Response, tags=["house"])
    async def metrics_told() -> Response:
        """Counters and histograms for Prometheus."""
        return Response(metrics.told(dispatcher), media_type="text/plain; version=0.0.4")

    @app.post("/admin/models", tags=["house"])
    async def swap(body: schemas.Swap) -> dict[str, Any]:
        """Take a model into service under a name, in place of the one that had it; no request is lost. Needs an admin key."""
        await asyncio.to_thread(resolve_spec, body.model)  # as the command does: what is there, and nothing is fetched
        await dispatcher.load(body.name, body.model)
        return {"models": [m["name"] for m in dispatcher.described]}

    page = resources.files("halbert").joinpath("serve", "page")

    @app.get("/", include_in_schema=False)
    async def playground() -> Response:
        return Response(page.joinpath("page.html").read_bytes(), media_type="text/html; charset=utf-8")

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in _FILES:
            raise HTTPException(404, "no such file")
        return Response(page.joinpath(name).read_bytes(), media_type=f"{_FILES[name]}; charset=utf-8")
