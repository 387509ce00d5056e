"""The side of the queue that speaks HTTP: requests in, gulps to the worker, answers back; a dead worker comes back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from halbert.errors import HalbertError
from halbert.serve.estimate import Estimate, cut
from halbert.serve.jobs import HEAD, LARGEST, Answer, Forget, Gulp, Job, Later, Load, Operation, Told, frame
from halbert.serve.part import Part, Underway
from halbert.serve.queue import FairQueue

log = logging.getLogger("halbert.serve")
GULP = 4_096  # tokens that are computed together; more wait for their turn, so that nobody waits for long
NEARLY = 0.7  # of a gulp's time, after which the next one goes to the worker: until then more may join it
AHEAD = 2  # gulps the worker has at a time: while one is answered the next is there
PART = 1_024  # tokens of a large request that wait as one
TRIES = 3  # of a job at which the worker died
HUNG = 60.0, 20.0  # a gulp's seconds, at least, and times what it should take, after which the worker is ended
STOPPING = 5.0  # seconds for what was accepted, once no connection is left


class Failed(HalbertError):
    """A job was answered with an error, and the HTTP status that says which."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Late(Failed):
    """The request's own deadline passed before it was computed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not computed within the {seconds:g} s that the request allows", 504)


class Result(msgspec.Struct, kw_only=True):
    """A request's answers in its order, its tokens, and where its time went."""

    answers: list[Answer]
    tokens: int
    seconds: dict[str, float]


class Dispatcher:
    """Owns the queue and the worker. ``observe`` is told of every answer, for the metrics.

    A job at which a worker may have died is a suspect: it is asked again with nothing beside it, so that no other is
    answered with its error. What was only waiting in the worker goes back into the queue.
    """

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
        self.accepting = True
        self.since: float | None = None  # when the last worker ended, while there is no other
        self.estimate = Estimate()
        self._numbers = itertools.count()
        self._editions = dict.fromkeys(self.models, next(self._numbers))  # what new requests are for
        self._held: Counter[tuple[str, int]] = Counter()  # requests under way, by model and edition
        self._out: dict[int, Part] = {}
        self._gulps: list[Underway] = []
        self._suspects: deque[Part] = deque()
        self._alone = -1  # the number of the suspect that was asked last
        self._wake = asyncio.Event()
        self._alarm = 0.0  # when it will be looked at again whether a gulp is due
        self._loads: dict[int, asyncio.Future[Told]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the worker; returns when its models are loaded and warm. Raises :class:`HalbertError` where they cannot be."""
        await self._spawn()
        self._tasks = [asyncio.create_task(work) for work in (self._send(), self._supervise(), self._watch())]
        for task in self._tasks:
            task.add_done_callback(_ended)

    async def stop(self, seconds: float = STOPPING) -> None:
        """Finish what was accepted, in so many seconds at most, then end the worker."""
        self.accepting = False
        until = time.perf_counter() + seconds
        while (self.queue or self._out or self._suspects) and time.perf_counter() < until:
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

    def away(self) -> float:
        """Seconds without a worker, of which there is one at most times."""
        return 0.0 if self.since is None else time.perf_counter() - self.since

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
        :class:`Late` after ``deadline`` seconds. When the caller is cancelled, what was not begun is dropped. All parts are
        answered by the model that is served now, also when another takes its place meanwhile.
        """
        began = time.perf_counter()
        parts = self._parts(operation, model, texts, pairs, client, options)
        self.queue.put(parts)
        self._wake.set()
        held = model, self._editions[model]
        self._held[held] += 1
        try:
            async with asyncio.timeout(deadline):
                answers = []
                for part in parts:
                    answers.append(answer := await part.done)
                    if answer.error:
                        raise Failed(answer.error, answer.status)
        except TimeoutError:
            raise Late(deadline or 0.0) from None
        finally:
            for part in parts:  # of a request that was given up, what was not begun
                self.queue.drop(part)
                part.done.cancel()
            self._held[held] -= 1
            self._forget(*held)
        groups = {a.group: a.seconds for a in answers}  # parts that were computed together took their time once
        spent = {stage: sum(s.get(stage, 0.0) for s in groups.values()) for stage in ("tokenize", "compute")}
        waited = max((part.sent - part.put for part in parts), default=0.0)
        return Result(
            answers=answers, tokens=sum(a.tokens for a in answers),
            seconds={"wait": waited, **spent, "total": time.perf_counter() - began},
        )  # fmt: skip

    def _parts(
        self, operation: Operation, model: str, texts: list[str], pairs: list[str] | None, client: str,
        options: dict[str, Any],
    ) -> list[Part]:  # fmt: skip
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        parts: list[Part] = []
        longest = max((described["longest"] for described in self.described), default=512)
        work = self.estimate.tokens(texts, pairs, longest, operation, options.get("long") == "window")
        for start, stop, tokens in cut(work, PART):
            job = Job(
                number=next(self._numbers), model=model, edition=self._editions[model], operation=operation, first=start,
                texts=texts[start:stop], pairs=None if pairs is None else pairs[start:stop], options=options,
            )  # fmt: skip
            parts.append(Part(job=job, client=client, tokens=tokens, done=loop.create_future(), put=now))
        return parts

    async def load(self, name: str, model: str) -> None:
        """Take a model into service without losing a request. Raises :class:`Failed` where it cannot be had."""
        if not self.ready.is_set():
            raise Failed("the worker is being started anew; try again in a few seconds", 503)
        number = next(self._numbers)
        self._loads[number] = asyncio.get_running_loop().create_future()
        try:
            await self._say(Load(number=number, name=name, model=model))
            told = await self._loads[number]
        finally:
            self._loads.pop(number, None)
        if told.error:
            raise Failed(told.error, 422)
        old = self._editions.get(name)
        self.models[name], self._editions[name] = model, number
        self.described = told.models
        if old is not None:
            self._forget(name, old)

    def _forget(self, name: str, edition: int) -> None:
        """Of a model that another has taken the place of the worker keeps what requests are left for."""
        if self._held[name, edition] == 0:
            del self._held[name, edition]
            if edition != self._editions[name]:
                self._write(Forget(model=name, edition=edition))

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "halbert.serve.worker", self.precision, str(self.threads or 0),
            json.dumps({name: (model, self._editions[name]) for name, model in self.models.items()}),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        told = await self._read()
        if not isinstance(told, Told) or told.error:
            raise HalbertError(told.error if isinstance(told, Told) else "the worker ended before it was ready")
        self.described = told.models
        self.queue.pace = min(model["pace"] for model in told.models)
        self.since = None
        self.ready.set()

    def _write(self, message: Gulp | Load | Forget) -> None:
        """Write to the worker. That it is dead is noticed where it is listened to."""
        assert self._process is not None and self._process.stdin is not None
        # Of a pipe whose other end is gone asyncio raises the first, uvloop the second.
        with contextlib.suppress(OSError, RuntimeError):
            self._process.stdin.write(frame(message))

    async def _say(self, message: Gulp | Load) -> None:
        """Write to the worker, as fast as it reads."""
        self._write(message)
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError, RuntimeError):
            await self._process.stdin.drain()

    async def _read(self) -> Answer | Later | Told | None:
        """The worker's next message, or ``None`` when it has ended, or is ended for saying what is none."""
        assert self._process is not None and self._process.stdout is not None
        try:
            (size,) = HEAD.unpack(await self._process.stdout.readexactly(HEAD.size))
            if size > LARGEST:
                raise msgspec.DecodeError(f"{size} bytes")
            body = await self._process.stdout.readexactly(size)
            return msgspec.msgpack.decode(body, type=Answer | Later | Told)
        except (asyncio.IncompleteReadError, OSError):
            return None
        except msgspec.DecodeError as error:
            log.error("the worker said what cannot be read (%s), and is ended", error)
            self._kill()
            return None

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            assert self._process is not None
            self._process.kill()

    async def _send(self) -> None:
        """Gulps to the worker, as long as it has fewer than it can look ahead; a suspect goes alone."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.ready.is_set() and (parts := self._next()):
                now = time.perf_counter()
                for part in parts:
                    part.sent = now
                    self._out[part.job.number] = part
                tokens = sum(part.tokens for part in parts)
                self._gulps.append(Underway({part.job.number for part in parts}, tokens, now))
                await self._say(Gulp(jobs=[part.job for part in parts]))

    def _next(self) -> list[Part]:
        """What the worker may be asked now."""
        while self._suspects and self._suspects[0].done.done():
            self._suspects.popleft()
        if self._suspects:
            if self._out:
                return []
            part = self._suspects.popleft()
            self._alone = part.job.number
            return [part]
        if len(self._gulps) >= AHEAD or self._alone in self._out or self._early():
            return []
        return self.queue.take(GULP)

    def _early(self) -> bool:
        """Whether the next gulp may wait, so that more can join it: the one before it is not nearly done."""
        if not self._gulps:
            return False
        gulp, now = self._gulps[0], time.perf_counter() + 0.001  # alarms may come that much too early
        due = gulp.since + NEARLY * gulp.tokens / self.queue.pace
        if due > now and not now < self._alarm <= due:
            self._alarm = due
            asyncio.get_running_loop().call_later(due - now, self._wake.set)
        return due > now

    async def _supervise(self) -> None:
        """Answers from the worker; when it ends, another one, which gets what it was at."""
        while True:
            message = await self._read()
            if isinstance(message, Answer):
                self._finish(message)
            elif isinstance(message, Later):
                self._computed(message.numbers, later=True)
            elif isinstance(message, Told):
                if (load := self._loads.get(message.number)) is not None and not load.done():
                    load.set_result(message)
            else:
                await self._again()

    async def _watch(self) -> None:
        """A worker that neither answers nor ends is ended."""
        while True:
            await asyncio.sleep(1.0)
            least, times = HUNG
            for gulp in self._gulps[:1]:
                if time.perf_counter() - gulp.since > max(least, times * gulp.tokens / self.queue.pace):
                    log.error("the worker has not answered for %.0f s, and is ended", time.perf_counter() - gulp.since)
                    self._kill()

    def _computed(self, numbers: Sequence[int], later: bool = False) -> None:
        """Jobs that their gulps need not wait for any more: answered, or computed ``later``."""
        now = time.perf_counter()
        for gulp in self._gulps:
            if later:
                gulp.tokens -= sum(self._out[n].tokens for n in gulp.numbers.intersection(numbers) if n in self._out)
            gulp.numbers.difference_update(numbers)
        while self._gulps and not self._gulps[0].numbers:
            done = self._gulps.pop(0)
            self.queue.observe(done.tokens, now - done.since, GULP)
            for gulp in self._gulps[:1]:
                gulp.since = now
        self._wake.set()

    def _finish(self, answer: Answer) -> None:
        self._computed([answer.number])
        part = self._out.pop(answer.number, None)
        if part is None:
            return
        letters = sum(map(len, part.job.texts)) + sum(map(len, part.job.pairs or ()))
        self.estimate.learn(letters, answer.tokens)
        self._answered(part, answer)

    def _answered(self, part: Part, answer: Answer) -> None:
        if not part.done.done():
            part.done.set_result(answer)
        if self.observe is not None:
            self.observe(part, answer)

    async def _again(self) -> None:
        assert self._process is not None
        self.ready.clear()
        self.since = time.perf_counter()
        code = await self._process.wait()
        self.restarts += 1
        waited = {number for gulp in self._gulps[1:] for number in gulp.numbers}  # the others may have been its end
        lost = [part for part in self._out.values() if not part.done.done()]
        self._out.clear()
        self._gulps.clear()
        for load in self._loads.values():
            if not load.done():
                load.set_result(Told(models=[], error="the worker died while it loaded the model"))
        for part in lost:
            if part.job.number in waited:
                continue
            part.tries += 1
            if part.tries < TRIES:
                self._suspects.append(part)
            else:
                message = f"the worker died {TRIES} times at this request"
                self._answered(part, Answer(number=part.job.number, error=message, status=500))
        self.queue.put_back([part for part in lost if part.job.number in waited])
        log.warning("the worker ended with status %s; starting another (%d requests are asked again)", code, len(lost))
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


def _ended(task: asyncio.Task[None]) -> None:
    """What should never end by itself has: whoever started this process starts another."""
    if not task.cancelled():
        log.critical("the server cannot go on", exc_info=task.exception())
        os.kill(os.getpid(), signal.SIGTERM)
