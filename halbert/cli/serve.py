"""``halbert serve``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import Precision, PrecisionChoice, Quiet, Threads
from halbert.cli.output import note
from halbert.errors import InputError

HELP = (
    "Serve models over HTTP: OpenAI's /v1/embeddings, text-embeddings-inference's routes, one for every kind of head, and a page "
    "at / where they stand side by side."
)
EXAMPLE = (
    "Example: halbert serve bert-mini-en albert-mini-en --port 8080\n\n"
    "curl -s localhost:8080/v1/embeddings -H 'Content-Type: application/json' -d '{\"input\": \"Hello world\"}'"
)
STOPPED = "requests that had been accepted were answered"


def run(
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="Models, each also as NAME=MODEL.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8080,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 for all of this machine's.")
    ] = "127.0.0.1",
    precision: Precision = PrecisionChoice.auto,
    threads: Threads = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="API keys, one a line (admin:KEY may change models); also in HALBERT_API_KEYS."
        ),
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Requests a second of every client.")] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="A web page's origin that may ask (CORS); repeatable.")
    ] = None,
    max_queue_tokens: Annotated[int, typer.Option(min=1, help="Tokens that may wait.")] = 200_000,
    max_wait: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may have to wait.")] = 10.0,
    max_bytes: Annotated[int, typer.Option(min=1024, help="Bytes of a request's body.")] = 4 << 20,
    patience: Annotated[
        float, typer.Option(min=0.1, help="Seconds that a request's headers may take, and its body.")
    ] = 10.0,
    proxy: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="A reverse proxy's address: clients are told apart by its X-Forwarded-For."
        ),
    ] = None,
    traces: Annotated[
        bool,
        typer.Option("--traces", help="Send OpenTelemetry spans to OTEL_EXPORTER_OTLP_ENDPOINT (extra: telemetry)."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.serve.app import Settings
    from halbert.serve.keys import Rate, read_keys
    from halbert.serve.server import serve

    if precision.value == "fp16":
        raise InputError("precision fp16 is for GPUs, and models are served on CPUs; use bf16, fp32 or auto")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING if quiet else logging.INFO, format="%(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # the server says itself when it loads, is ready and ends
    known = read_keys(keys)
    if not known and host not in ("127.0.0.1", "::1", "localhost"):
        note(f"listening at {host} without API keys: whoever reaches this machine may ask (--keys FILE)")
    settings = Settings(
        keys=known,
        rate=None if rate is None else Rate(rate),
        most_bytes=max_bytes,
        body_seconds=patience,
        origins=tuple(origin or ()),
    )
    serve(
        models, host=host, port=port, precision=precision.value, threads=threads, settings=settings,
        most_tokens=max_queue_tokens, most_seconds=max_wait, traces=traces, proxy=proxy,
    )  # fmt: skip
