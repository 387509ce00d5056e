"""What waits of a request, and what the worker has of it."""

from __future__ import annotations

import asyncio

import msgspec

from halbert.serve.jobs import Answer, Job


class Part(msgspec.Struct, kw_only=True, eq=False):
    """Some texts of a request, waiting or with the worker."""

    job: Job
    client: str
    tokens: int
    done: asyncio.Future[Answer]
    waiting: bool = False
    tries: int = 0
    put: float = 0.0
    sent: float = 0.0


class Underway(msgspec.Struct, eq=False):
    """A gulp with the worker: its jobs that are not answered yet, its tokens, and since when it may be computed."""

    numbers: set[int]
    tokens: int
    since: float
