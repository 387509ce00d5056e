"""What the computing process does with a gulp, without a process."""

from __future__ import annotations

import io
import time

import msgspec
import pytest

from halbert.serve import worker as module
from halbert.serve.jobs import HEAD, Answer, Job, Later, Told
from halbert.serve.worker import Served, Worker
from tests import small


class Said(io.BytesIO):
    """What a worker wrote, message by message."""

    def messages(self):
        data, found = self.getvalue(), []
        while data:
            (size,) = HEAD.unpack(data[: HEAD.size])
            found.append(msgspec.msgpack.decode(data[HEAD.size : HEAD.size + size], type=Answer | Later | Told))
            data = data[HEAD.size + size :]
        return found


@pytest.fixture
def worker(tmp_path):
    folder = small.bundle(("mlm", "label")).save(tmp_path / "m")
    return Worker({"a": (str(folder), 0), "b": (str(folder), 0)}, "fp32", 1, Said())


def test_a_precision_is_loaded_once_for_all_that_wait_for_it(worker, monkeypatch):
    loads = []

    def load_at(served, precision):
        loads.append((served.name, precision))
        time.sleep(0.1)
        served._other = type(
            "Other", (), {"precision": precision, "__getattr__": lambda _, name: getattr(served, name)}
        )()
        return served._other

    monkeypatch.setattr(Served, "precisions", ["fp32", "bf16", "int8"])
    monkeypatch.setattr(Served, "load_at", load_at)
    jobs = [
        Job(
            number=10 * i + j,
            model=name,
            operation="compare",
            texts=["the cat"],
            options={"layer": i - 1, "precision": precision},
        )
        for i in range(3)
        for j, (name, precision) in enumerate([("a", "bf16"), ("a", "int8"), ("b", "bf16")])
    ]
    worker.compute([*jobs, Job(number=99, model="a", operation="embed", texts=["now"])])
    first = worker.out.messages()
    assert [m.number for m in first if isinstance(m, Answer)] == [99]  # nobody else waits
    assert {n for m in first if isinstance(m, Later) for n in m.numbers} == {job.number for job in jobs}
    for _ in range(3):
        worker.compute(*worker.waiting.get(timeout=5))
    assert sorted(loads) == [("a", "bf16"), ("a", "int8"), ("b", "bf16")]
    answers = {m.number: m for m in worker.out.messages() if isinstance(m, Answer)}
    # int8 took the place of bf16 before its jobs were computed: they are answered all the same.
    assert set(answers) == {99, *(job.number for job in jobs)} and not any(a.error for a in answers.values())


def test_texts_that_are_too_long_leave_the_others_together(worker, monkeypatch):
    calls = []
    run = Served._run
    monkeypatch.setattr(Served, "_run", lambda self, *more: calls.append(len(more[2])) or run(self, *more))
    strict = {"strict": True}
    jobs = [
        Job(
            number=i,
            model="a",
            operation="embed",
            texts=["the " * 200 if i % 3 == 0 else "a cat"],
            first=i,
            options=strict,
        )
        for i in range(30)
    ]
    worker.compute(jobs)
    answers = {m.number: m for m in worker.out.messages()}
    assert calls == [20] and len(answers) == 30
    for i, answer in answers.items():
        assert (answer.status == 413 and f"text {i} has" in answer.error) if i % 3 == 0 else answer.vectors


def test_what_fails_is_found_by_halves(worker, monkeypatch, capfd):
    calls = []
    run = Served._run

    def failing(self, asked, operation, texts, *more):
        calls.append(len(texts))
        if "bad" in texts:
            raise ValueError("secret")
        return run(self, asked, operation, texts, *more)

    monkeypatch.setattr(module.Served, "_run", failing)
    worker.compute(
        [Job(number=i, model="a", operation="embed", texts=["bad" if i == 11 else "a cat"]) for i in range(32)]
    )
    answers = {m.number: m for m in worker.out.messages()}
    assert (
        [i for i, a in answers.items() if a.error] == [11]
        and "secret" not in answers[11].error
        and answers[11].status == 500
    )
    assert len(calls) <= 12 and "secret" in capfd.readouterr().err
