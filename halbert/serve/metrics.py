"""What the server counts, in Prometheus' form."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from halbert.serve.dispatcher import Dispatcher
from halbert.serve.jobs import Answer
from halbert.serve.part import Part

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One registry a server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("halbert_requests", "Requests answered", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "halbert_request_seconds", "From request to answer", ["route"], buckets=_SECONDS, registry=own
        )
        self.stages = Histogram(
            "halbert_stage_seconds", "By stage: wait, tokenize, compute", ["stage"], buckets=_SECONDS, registry=own
        )
        self.tokens = Counter("halbert_tokens", "Tokens computed, special ones included", ["model"], registry=own)
        self.texts = Counter("halbert_texts", "Texts computed", ["model"], registry=own)
        self.places = Counter("halbert_places", "Positions computed", ["model"], registry=own)
        self.padding = Counter("halbert_padding", "Those of them that only fill batches up", ["model"], registry=own)
        self.batches = Histogram(
            "halbert_batch_texts", "Texts computed together", ["model"], buckets=_TEXTS, registry=own
        )
        self.errors = Counter("halbert_errors", "Jobs that ended in an error", ["model", "status"], registry=own)
        self.waiting = Gauge("halbert_queue_tokens", "Tokens that wait, estimated", registry=own)
        self.wait = Gauge(
            "halbert_queue_seconds", "How long the last of them will wait, at the present pace", registry=own
        )
        self.pace = Gauge("halbert_pace_tokens", "Tokens a second that were last computed", registry=own)
        self.restarts = Counter("halbert_worker_restarts", "Workers that died and came back", registry=own)
        self._restarts = 0  # of them counted

    def observe(self, part: Part, answer: Answer) -> None:
        """Count a job."""
        model = part.job.model if answer.status != 404 else "unknown"
        self.tokens.labels(model).inc(answer.tokens)
        self.texts.labels(model).inc(0 if answer.error else len(part.job.texts))
        self.places.labels(model).inc(answer.places)
        self.padding.labels(model).inc(answer.padding)
        for rows in answer.batches:
            self.batches.labels(model).observe(rows)
        if answer.error:
            self.errors.labels(model, str(answer.status)).inc()
        self.stages.labels("wait").observe(max(0.0, part.sent - part.put))
        if answer.group == answer.number:  # once for all that were computed together
            for stage, seconds in answer.seconds.items():
                self.stages.labels(stage).observe(seconds)

    def told(self, dispatcher: Dispatcher) -> bytes:
        """All of it, as text."""
        self.waiting.set(dispatcher.queue.tokens)
        self.wait.set(dispatcher.queue.seconds)
        self.pace.set(dispatcher.queue.pace)
        self.restarts.inc(dispatcher.restarts - self._restarts)
        self._restarts = dispatcher.restarts
        return generate_latest(self.registry)
