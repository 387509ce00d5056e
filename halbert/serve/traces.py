"""OpenTelemetry: a span for every request and for each stage of it, without texts, to wherever the environment says."""

from __future__ import annotations

import re
import time
from typing import Any

from halbert.errors import missing_extra

_TIMING = re.compile(r"(\w+);dur=([0-9.]+)")
_STAGES = ("wait", "tokenize", "compute")  # in this order, one after the other


class Traces:
    """Spans by OTLP over HTTP; ``OTEL_EXPORTER_OTLP_ENDPOINT`` and its kin are the library's to read.

    A request that brings a ``traceparent`` (W3C Trace Context) is part of that trace. Raises
    :class:`halbert.errors.MissingExtra` where the libraries are not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise missing_extra("opentelemetry", "telemetry", "tracing requests") from None
        told = Resource.create()  # with what the environment says (OTEL_SERVICE_NAME)
        if str(told.attributes[SERVICE_NAME]).startswith("unknown_service"):
            told = told.merge(Resource({SERVICE_NAME: "halbert"}))
        self._provider = TracerProvider(resource=told)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("halbert.serve")
        self._context = TraceContextTextMapPropagator()

    def answered(self, scope: Any, route: str, status: int, seconds: float) -> None:
        """One request that is over."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        end = time.time_ns()
        begin = end - int(1e9 * seconds)
        span = self._tracer.start_span(
            f"{scope['method']} {route}", context=self._context.extract(headers), kind=SpanKind.SERVER, start_time=begin,
            attributes={
                "http.request.method": scope["method"], "http.route": route, "http.response.status_code": status,
                "halbert.request_id": scope["state"]["id"],
            },
        )  # fmt: skip
        if status >= 500 or not status:
            span.set_status(Status(StatusCode.ERROR))
        stages = {stage: float(ms) for stage, ms in _TIMING.findall(scope["state"].get("timing", ""))}
        moment = begin
        for stage in _STAGES:
            if stage in stages:
                part = self._tracer.start_span(stage, context=set_span_in_context(span), start_time=moment)
                moment = min(end, moment + int(1e6 * stages[stage]))
                part.end(moment)
        span.end(end)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
