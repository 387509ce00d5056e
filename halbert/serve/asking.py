"""A route's way to the dispatcher and back: which model, until when, and what is made of the answers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request

from halbert.serve.dispatcher import Dispatcher, Failed, Late, Result
from halbert.serve.guard import GONE

Found = TypeVar("Found")
DEADLINE = "halbert-timeout"  # header: seconds after which nobody wants the answer any more


class Ask:
    """A request on its way to the dispatcher: whose it is, until when, and whether anybody still waits."""

    def __init__(self, request: Request, dispatcher: Dispatcher) -> None:
        self.request, self.dispatcher = request, dispatcher
        self.began = time.perf_counter()

    def model(self, name: str | None, *kinds: str) -> str:
        """The model asked for; without a name the first, or the first with a head of one of these kinds."""
        described = self.dispatcher.described
        if name is None:
            found = [m["name"] for m in described if not kinds or set(kinds) & set(m["heads"].values())]
            if found:
                return str(found[0])
            raise Failed(f"no served model has a head of kind {' or '.join(kinds)}", 422)
        if name not in {m["name"] for m in described}:
            raise Failed(f"no model {name!r} is served; served: {', '.join(m['name'] for m in described)}", 404)
        return name

    def check_width(self, model: str, dimensions: int | None) -> None:
        """Raises :class:`Failed` where vectors of another width are asked for."""
        width = next(m["width"] for m in self.dispatcher.described if m["name"] == model)
        if dimensions not in (None, width):
            raise Failed(f"dimensions is {dimensions}; {model} has {width}", 422)

    async def run(
        self, operation: Any, model: str, texts: list[str], pairs: list[str] | None = None, **options: Any
    ) -> Result:
        """Ask, unless the client goes away first. Raises what :meth:`Dispatcher.ask` raises."""
        if not self.dispatcher.accepting:
            raise Failed("the server is shutting down", 503)
        given = self.request.headers.get(DEADLINE)
        try:
            deadline = None if given is None else float(given)
        except ValueError:
            deadline = math.nan
        if deadline is not None and not 0 < deadline < 1e6:
            raise Failed(f"the header {DEADLINE} is {given!r}; expected a number of seconds", 422)
        left = None if deadline is None else deadline - (time.perf_counter() - self.began)  # however often it asks
        work = self.dispatcher.ask(
            operation, model, texts, pairs, client=self.request.state.client, deadline=left, **options
        )
        try:
            return await self._unless_gone(work)
        except Late:
            raise Late(deadline or 0.0) from None  # as it was given

    async def _unless_gone(self, work: Coroutine[Any, Any, Found]) -> Found:
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Failed("the client went away", GONE)
        finally:
            for each in (task, gone):
                each.cancel()

    async def _gone(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass


def vectors_of(result: Result) -> list[np.ndarray]:
    """A request's vectors, a row a text."""
    return [row for a in result.answers for row in np.frombuffer(a.vectors or b"", "<f4").reshape(-1, a.width)]


def rows_of(result: Result) -> list[Any]:
    """A request's answers, one a text."""
    return [row for answer in result.answers for row in answer.rows or ()]


def timed(result: Result) -> dict[str, str]:
    """Headers that say where a request's time went."""
    return {"server-timing": ", ".join(f"{stage};dur={1000 * s:.1f}" for stage, s in result.seconds.items())}


def as_list(given: str | list[str]) -> list[str]:
    """One text or several, as several."""
    return [given] if isinstance(given, str) else given
