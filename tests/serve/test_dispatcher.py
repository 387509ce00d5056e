"""The dispatcher beside a worker that does what its texts say: dies, hangs, answers later, says what is none."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest
import uvloop

from halbert.errors import HalbertError
from halbert.serve import dispatcher as module
from halbert.serve.dispatcher import Dispatcher, Failed
from halbert.serve.jobs import Told

WORKER = """
import os, sys, threading, time
import msgspec
from halbert.serve.jobs import Answer, Gulp, Later, Load, Told, frame, read

out, lock = os.fdopen(os.dup(1), "wb"), threading.Lock()
models = [{"name": "m", "longest": 512, "pace": 10_000, "heads": {}}]

def say(*messages):
    with lock:
        out.write(b"".join(map(frame, messages)))
        out.flush()

def answer(job):
    say(Answer(number=job.number, rows=[os.getpid()] * len(job.texts), tokens=3 * len(job.texts), group=job.number))

def later(job):
    time.sleep(0.7)
    answer(job)

say(Told(models=models))
decoder = msgspec.msgpack.Decoder(Gulp | Load)
while (body := read(sys.stdin.buffer)) is not None:
    message = decoder.decode(body)
    if isinstance(message, Load):
        if message.model == "dies":
            os._exit(3)
        say(Told(models=models, number=message.number))
        continue
    for job in message.jobs:
        what = job.texts[0]
        if what == "die":
            os._exit(3)
        elif what == "hang":
            time.sleep(1000)
        elif what == "shout":
            out.write(bytes([255]) * 64)
            out.flush()
        elif what == "later":
            say(Later(numbers=[job.number]))
            threading.Thread(target=later, args=(job,), daemon=True).start()
        else:
            time.sleep(0.3 if what == "slow" else 0.002)
            answer(job)
"""


class Stubbed(Dispatcher):
    async def _spawn(self):
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        told = await self._read()
        if not isinstance(told, Told):
            raise HalbertError("ended early")
        self.described, self.since = told.models, None
        self.ready.set()


async def running(test, **more):
    dispatcher = Stubbed({"m": "m"}, **more)
    await dispatcher.start()
    try:
        return await asyncio.wait_for(test(dispatcher), 30)
    finally:
        await dispatcher.stop(0.1)


def run(test, loop=asyncio.new_event_loop, **more):
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(running(test, **more))


async def outcomes(dispatcher, texts):
    """What became of requests that were made at once: a status each."""
    found = await asyncio.gather(
        *(dispatcher.ask("embed", "m", [text], client=text) for text in texts), return_exceptions=True
    )
    return [each.status if isinstance(each, Failed) else 200 for each in found]


LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("bad", ["die", "shout"])
def test_who_was_beside_the_one_that_ends_the_worker_is_answered(loop, bad):
    async def test(dispatcher):
        texts = [f"text {i}" for i in range(20)]
        found = await outcomes(dispatcher, [*texts[:7], bad, *texts[7:]])
        assert found == [*[200] * 7, 500, *[200] * 13] and dispatcher.restarts == module.TRIES
        assert await outcomes(dispatcher, ["after"]) == [200] and not dispatcher._out

    run(test, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_that_died_while_nothing_was_asked(loop):
    """uvloop says of the closed pipe that it is closed, before anybody is told that the process has ended."""

    async def test(dispatcher):
        for _ in range(3):
            os.kill(dispatcher._process.pid, signal.SIGKILL)
            time.sleep(0.02)  # the loop is busy
            assert await outcomes(dispatcher, [f"text {i}" for i in range(6)]) == [200] * 6
            while not dispatcher.ready.is_set():
                await asyncio.sleep(0.02)
        assert all(not task.done() for task in dispatcher._tasks)

    run(test, loop)


def test_what_is_computed_later_stops_nobody():
    async def test(dispatcher):
        slow = asyncio.create_task(outcomes(dispatcher, ["later"]))
        for _ in range(4):  # more than the worker looks ahead
            await asyncio.sleep(0.01)
            assert await outcomes(dispatcher, ["now"]) == [200]
        more = asyncio.create_task(outcomes(dispatcher, ["later"]))
        await asyncio.sleep(0.02)
        assert await outcomes(dispatcher, ["now"]) == [200]
        assert not slow.done() and not more.done()
        assert await slow == await more == [200]

    run(test)


def test_a_worker_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(module, "HUNG", (0.2, 0.0))

    async def test(dispatcher):
        assert await outcomes(dispatcher, ["hang", "text"]) == [500, 200]

    run(test)


def test_an_end_is_not_waited_for_for_ever():
    async def test(dispatcher):
        task = asyncio.create_task(outcomes(dispatcher, ["hang"]))
        await asyncio.sleep(0.1)
        began = time.perf_counter()
        await dispatcher.stop(0.3)
        assert time.perf_counter() - began < 8
        task.cancel()

    run(test)


def test_models_that_end_the_worker_or_come_when_there_is_none():
    async def test(dispatcher):
        with pytest.raises(Failed, match="died while it loaded"):
            await dispatcher.load("other", "dies")
        if not dispatcher.ready.is_set():
            with pytest.raises(Failed) as refused:
                await dispatcher.load("other", "fine")
            assert refused.value.status == 503 and dispatcher.away() >= 0
        assert await outcomes(dispatcher, ["text"]) == [200]
        gone = asyncio.create_task(dispatcher.load("third", "fine"))
        await asyncio.sleep(0)
        gone.cancel()  # its client went away
        await dispatcher.load("other", "fine")
        assert dispatcher.models["other"] == "fine" and not dispatcher._loads

    run(test)


def test_what_nobody_waits_for_is_neither_kept_nor_asked_again():
    async def test(dispatcher):
        dispatcher.ready.clear()  # as while the worker is away
        for _ in range(200):
            with pytest.raises(Failed, match="within"):
                await dispatcher.ask("embed", "m", ["x" * 1000], deadline=0.0001)
        assert not dispatcher.queue and not dispatcher.queue._lines
        dispatcher.ready.set()
        assert await outcomes(dispatcher, ["text"]) == [200]

    run(test)


def test_the_first_error_is_the_answer():
    async def test(dispatcher):
        await asyncio.sleep(0)
        found = await asyncio.gather(
            dispatcher.ask("embed", "m", ["die", *["long " * 400] * 20]), return_exceptions=True
        )
        assert found[0].status == 500 and not dispatcher.queue

    run(test)


def test_time_of_parts_that_were_computed_together_counts_once():
    from halbert.serve.jobs import Answer

    async def test(dispatcher):
        result = await dispatcher.ask("embed", "m", ["long " * 400] * 4)
        assert len(result.answers) > 1 and result.tokens == 12
        parts = dispatcher._parts("embed", "m", ["long " * 400] * 4, None, "", {})
        begins = [part.job.first for part in parts]  # each part knows where in the request it begins
        assert begins == [sum(len(part.job.texts) for part in parts[:i]) for i in range(len(parts))] and begins[-1] > 0
        dispatcher._parts = lambda *_: parts
        asked = asyncio.create_task(dispatcher.ask("embed", "m", []))
        await asyncio.sleep(0)
        for part in parts:
            part.done.set_result(Answer(number=part.job.number, seconds={"compute": 0.5}, group=7))
        assert (await asked).seconds["compute"] == 0.5

    run(test)


def test_what_comes_while_a_gulp_is_computed_is_one_gulp_and_not_as_many(monkeypatch):
    """The next one is not sent with the first that comes; and is sent before the one that is computed is done."""
    sent, said = [], Dispatcher._say

    async def watched(self, message):
        sent.append((len(message.jobs), time.perf_counter()))
        await said(self, message)

    monkeypatch.setattr(Dispatcher, "_say", watched)

    async def test(dispatcher):
        dispatcher.queue.pace = 5.0  # so that what takes 0.3 s is thought to take longer
        first = asyncio.create_task(dispatcher.ask("embed", "m", ["slow"]))
        others = []
        for number in range(5):
            await asyncio.sleep(0.02)
            others.append(asyncio.create_task(dispatcher.ask("embed", "m", [f"text {number}"])))
        await asyncio.gather(first, *others)
        assert [count for count, _ in sent] == [1, 5]
        dispatcher.queue.pace = 20_000.0  # and now for one of no time
        sent.clear()
        first = asyncio.create_task(dispatcher.ask("embed", "m", ["slow"]))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(dispatcher.ask("embed", "m", ["text"]))
        await asyncio.sleep(0.05)
        assert [count for count, _ in sent] == [1, 1] and not first.done()
        await asyncio.gather(first, second)

    run(test)
