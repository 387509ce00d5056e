"""The side of the queue that speaks HTTP: requests in, gulps to the worker, answers back; a dead worker comes back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from halbert.errors import HalbertError
from halbert.serve.jobs import HEAD, Answer, Gulp, Job, Load, Operation, Told, frame
from halbert.serve.queue import FairQueue

log = logging.getLogger("halbert.serve")
GULP = 4_096  # tokens that are computed together; more wait for their turn, so that nobody waits for long
AHEAD = 2  # gulps the worker has at a time: while one is answered the next is there
PART = 1_024  # tokens of a large request that wait as one
TRIES = 3  # of a job whose worker died
LETTERS = 3.0  # characters a token, until some were counted


class Failed(HalbertError):
    """A job was answered with an error, and the HTTP status that says which."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Late(Failed):
    """The request's own deadline passed before it was computed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not computed within the {seconds:g} s that the request allows", 504)


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


class Result(msgspec.Struct, kw_only=True):
    """A request's answers in its order, its tokens, and where its time went."""

    answers: list[Answer]
    tokens: int
    seconds: dict[str, float]


class Dispatcher:
    """Owns the queue and the worker. ``observe`` is told of every answer, for the metrics."""

    def __init__(
        self,
        models: dict[str, str],
        *,
        precision: str = "auto",
        threads: int | None = None,
        most_tokens: int = 200_000,
        most_seconds: float = 10.0,
        observe: Callable[[Part, Answer], None] | None = None,
    ) -> None:
        self.models = dict(models)
        self.precision, self.threads = precision, threads
        self.queue: FairQueue[Part] = FairQueue(most_tokens, most_seconds)
        self.observe = observe
        self.described: list[dict[str, Any]] = []
        self.ready = asyncio.Event()
        self.restarts = 0
        self.letters = LETTERS
        self.accepting = True
        self._numbers = itertools.count()
        self._out: dict[int, Part] = {}
        self._gulps: list[Underway] = []
        self._wake = asyncio.Event()
        self._loads: dict[int, asyncio.Future[Told]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the worker; returns when its models are loaded and warm. Raises :class:`HalbertError` where they cannot be."""
        await self._spawn()
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._supervise())]

    async def stop(self) -> None:
        """Finish what was accepted, then end the worker."""
        self.accepting = False
        while self.queue or self._out:
            await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), 5)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    @property
    def pid(self) -> int | None:
        """The worker's process number."""
        return None if self._process is None else self._process.pid

    def estimate(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[int]:
        """Tokens of each text, by its letters: the exact count is the worker's business."""
        longest = max((model["longest"] for model in self.described), default=512)
        seconds = pairs if pairs is not None else [""] * len(texts)
        return [
            2 + min(longest, int((len(text) + len(pair)) / self.letters))
            for text, pair in zip(texts, seconds, strict=True)
        ]

    async def ask(
        self,
        operation: Operation,
        model: str,
        texts: list[str],
        pairs: list[str] | None = None,
        *,
        client: str = "",
        deadline: float | None = None,
        **options: Any,
    ) -> Result:
        """All answers of a request, which is cut into parts where it is large.

        Raises :class:`halbert.serve.queue.Full` at once where there is no room, :class:`Failed` with the first error, and
        :class:`Late` after ``deadline`` seconds. When the caller is cancelled, what was not begun is dropped.
        """
        began = time.perf_counter()
        parts = self._parts(operation, model, texts, pairs, client, options)
        self.queue.put(parts)
        self._wake.set()
        try:
            async with asyncio.timeout(deadline):
                answers = [await part.done for part in parts]
        except TimeoutError:
            raise Late(deadline or 0.0) from None
        finally:
            for part in parts:  # of a request that was given up, what was not begun
                self.queue.drop(part)
        for answer in answers:
            if answer.error:
                raise Failed(answer.error, answer.status)
        spent = {stage: sum(a.seconds.get(stage, 0.0) for a in answers) for stage in ("tokenize", "compute")}
        waited = max((part.sent - part.put for part in parts), default=0.0)
        return Result(
            answers=answers, tokens=sum(a.tokens for a in answers),
            seconds={"wait": waited, **spent, "total": time.perf_counter() - began},
        )  # fmt: skip

    def _parts(
        self,
        operation: Operation,
        model: str,
        texts: list[str],
        pairs: list[str] | None,
        client: str,
        options: dict[str, Any],
    ) -> list[Part]:
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        parts: list[Part] = []
        for start, stop, tokens in cut(self.estimate(texts, pairs), PART):
            job = Job(
                number=next(self._numbers), model=model, operation=operation, texts=texts[start:stop],
                pairs=None if pairs is None else pairs[start:stop], options=options,
            )  # fmt: skip
            parts.append(Part(job=job, client=client, tokens=tokens, done=loop.create_future(), put=now))
        return parts

    async def load(self, name: str, model: str) -> None:
        """Take a model into service without losing a request. Raises :class:`Failed` where it cannot be had."""
        number = next(self._numbers)
        self._loads[number] = asyncio.get_running_loop().create_future()
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(frame(Load(number=number, name=name, model=model)))
        told = await self._loads[number]
        if told.error:
            raise Failed(told.error, 422)
        self.models[name] = model
        self.described = told.models

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "halbert.serve.worker", self.precision, str(self.threads or 0),
            *(f"{name}={model}" for name, model in self.models.items()),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        told = await self._read()
        if not isinstance(told, Told) or told.error:
            raise HalbertError(told.error if isinstance(told, Told) else "the worker ended before it was ready")
        self.described = told.models
        self.queue.pace = min(model["pace"] for model in told.models)
        self.ready.set()

    async def _read(self) -> Answer | Told | None:
        assert self._process is not None and self._process.stdout is not None
        try:
            (size,) = HEAD.unpack(await self._process.stdout.readexactly(HEAD.size))
            body = await self._process.stdout.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return msgspec.msgpack.decode(body, type=Answer | Told)

    async def _send(self) -> None:
        """Gulps to the worker, as long as it has fewer than it can look ahead."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.queue and len(self._gulps) < AHEAD and self.ready.is_set():
                parts = self.queue.take(GULP)
                now = time.perf_counter()
                for part in parts:
                    part.sent, part.tries = now, part.tries + 1
                    self._out[part.job.number] = part
                if parts:
                    tokens = sum(part.tokens for part in parts)
                    self._gulps.append(Underway({part.job.number for part in parts}, tokens, now))
                    assert self._process is not None and self._process.stdin is not None
                    self._process.stdin.write(frame(Gulp(jobs=[part.job for part in parts])))
                    with contextlib.suppress(ConnectionError):  # a dead worker is noticed where it is listened to
                        await self._process.stdin.drain()

    async def _supervise(self) -> None:
        """Answers from the worker; when it ends, another one, which gets what it was at."""
        while True:
            message = await self._read()
            if isinstance(message, Answer):
                self._finish(message)
            elif isinstance(message, Told):
                if message.number in self._loads:
                    self._loads.pop(message.number).set_result(message)
            else:
                await self._again()

    def _finish(self, answer: Answer) -> None:
        part = self._out.pop(answer.number, None)
        now = time.perf_counter()
        for gulp in self._gulps:
            gulp.numbers.discard(answer.number)
        if self._gulps and not self._gulps[0].numbers:
            done = self._gulps.pop(0)
            self.queue.observe(done.tokens, now - done.since, GULP)
            for gulp in self._gulps[:1]:
                gulp.since = now
        self._wake.set()
        if part is None:
            return
        if answer.tokens:
            letters = sum(map(len, part.job.texts)) + sum(map(len, part.job.pairs or ()))
            self.letters += 0.05 * (max(0.5, letters / answer.tokens) - self.letters)
        if not part.done.done():
            part.done.set_result(answer)
        if self.observe is not None:
            self.observe(part, answer)

    async def _again(self) -> None:
        assert self._process is not None
        self.ready.clear()
        code = await self._process.wait()
        self.restarts += 1
        lost = list(self._out.values())
        self._out.clear()
        self._gulps.clear()
        for told in self._loads.values():
            told.set_result(Told(models=[], error="the worker died while it loaded the model"))
        self._loads.clear()
        again = [part for part in lost if part.tries < TRIES and not part.done.done()]
        for part in lost:
            if part.tries >= TRIES and not part.done.done():
                message = f"the worker died {TRIES} times at this request"
                part.done.set_result(Answer(number=part.job.number, error=message, status=500))
        self.queue.put_back(again)
        log.warning("the worker ended with status %s; starting another (%d requests are asked again)", code, len(again))
        delay = 0.1
        while True:
            try:
                await self._spawn()
                break
            except (HalbertError, OSError) as error:
                log.error("the worker could not be started: %s; trying again in %.1f s", error, delay)
                await asyncio.sleep(delay)
                delay = min(10.0, 2 * delay)
        self._wake.set()


def cut(tokens: Sequence[int], most: int) -> list[tuple[int, int, int]]:
    """(start, stop, tokens) of runs of texts that have at most ``most`` tokens together, or are one text."""
    runs: list[tuple[int, int, int]] = []
    start = total = 0
    for i, count in enumerate(tokens):
        if i > start and total + count > most:
            runs.append((start, i, total))
            start, total = i, 0
        total += count
    if tokens:
        runs.append((start, len(tokens), total))
    return runs
