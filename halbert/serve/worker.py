"""The process that computes: it reads gulps from its standard input and writes answers to its standard output.

It is started anew when it dies, with the same models; nothing is lost but what it was at, which is asked again.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, BinaryIO

import msgspec
import numpy as np

from halbert.bundle import Bundle
from halbert.errors import HalbertError, InputError
from halbert.heads import HeadSpec
from halbert.memory import give_back, giving_back
from halbert.run.openvino_backend import multiplies_bf16
from halbert.run.predictor import Predictor, load
from halbert.serve.jobs import Answer, Forget, Gulp, Job, Later, Load, Told, frame, read
from halbert.source import has_only_int8
from halbert.weights.int8 import ENGINE

KINDER = 5  # added to the niceness, so that whoever speaks HTTP comes first when both cores are busy
_MANY = 32
_TEXT = "The quick brown fox jumps over the lazy dog."


class Served:
    """A model in service: a predictor, with one of the bundle's heads by operation."""

    def __init__(self, name: str, model: str | Bundle, precision: Any, threads: int | None, edition: int = 0) -> None:
        self.name, self.model, self.edition = name, model, edition
        self.predictor = load(model, precision=precision, threads=threads)
        self.heads = self.predictor.bundle.heads
        self.pace = 0.0  # tokens a second, of many texts
        self.threads = threads
        self._other: Served | None = None
        self.warm()

    def warm(self) -> None:
        """Answer once, so that everything is compiled, and what is not finite is noticed; and see how fast it goes."""
        texts = [f"{_TEXT} {i} {_TEXT}" for i in range(_MANY)]
        for _ in range(2):  # the first time compiles
            began = time.perf_counter()
            self.predictor.embed(texts)
            self.pace = sum(self._lengths(texts, None)) / (time.perf_counter() - began)
        self.predictor.embed([_TEXT])  # by itself a text is another graph's business
        for kind in ("label", "score"):
            if kind in {head.kind for head in self.heads.values()}:
                self.by(kind).predict([_TEXT])

    @functools.cached_property
    def precisions(self) -> list[str]:
        """What it can be computed in: this processor's, and int8 where its folder has an engine for it."""
        folder = self.predictor.bundle.folder
        own = str(self.predictor.backend.describe()["precision"])
        found = [] if folder and has_only_int8(folder) else ["fp32", *(["bf16"] if multiplies_bf16() else [])]
        if own == "int8" or (folder and (folder / ENGINE).exists()):
            found.append("int8")
        return found if own in found else [own, *found]

    @property
    def precision(self) -> str:
        """What it is computed in."""
        return str(self.predictor.backend.describe()["precision"])

    def at(self, precision: str | None) -> Served | None:
        """The model in another precision, if it is there. Raises :class:`InputError` where it cannot be had."""
        if precision is None or precision == self.precision:
            return self
        if precision not in self.precisions:
            known = ", ".join(self.precisions)
            raise InputError(f"{self.name}: cannot be computed in {precision} here, only in {known}")
        return self._other if self._other is not None and self._other.precision == precision else None

    def load_at(self, precision: str) -> Served:
        """Have it in another precision too: one at a time, from the weights that are served."""
        bundle = self.predictor.bundle
        again = precision == "int8" or bundle.int8 is not None
        self._other = Served(self.name, self.model if again else bundle, precision, self.threads)
        return self._other

    def by(self, *kinds: str) -> Predictor:
        """The predictor that answers with a head of one of these kinds."""
        for name, head in self.heads.items():
            if head.kind in kinds:
                return Predictor(self.predictor.bundle, self.predictor.backend, name)
        raise InputError(f"{self.name}: has no head of kind {' or '.join(kinds)}; its heads: {_told(self.heads)}")

    def describe(self) -> dict[str, Any]:
        """What ``/info`` says of it."""
        bundle, backend = self.predictor.bundle, self.predictor.backend.describe()
        spec = bundle.spec.encoder
        return {
            "name": self.name, "precision": backend["precision"], "engine": f"{backend['engine']} {backend['version']}",
            "threads": backend["threads"], "longest": self.predictor.longest, "width": spec.hidden_size,
            "layers": spec.num_hidden_layers, "attention_heads": spec.num_attention_heads, "pooling": bundle.pooling,
            "parameters": spec.count_encoder(), "pace": round(self.pace), "precisions": self.precisions,
            "heads": {name: head.kind for name, head in self.heads.items()},
            "labels": {name: list(head.labels) for name, head in self.heads.items() if head.labels},
        }  # fmt: skip

    def answer(self, jobs: Sequence[Job], other: Served | None = None) -> list[Answer]:
        """Jobs of one operation with the same options, together; where that fails, by halves, until it is known which did.

        ``other`` is the model in the precision that they ask for, where that is not its own.
        """
        try:
            return self._together(jobs, other)
        except Exception as error:
            if len(jobs) > 1:
                half = len(jobs) // 2
                return [*self.answer(jobs[:half], other), *self.answer(jobs[half:], other)]
            message = str(error)
            status = 422 if isinstance(error, InputError) else 500  # such as a value that is not finite
            if not isinstance(error, HalbertError):
                print(f"halbert worker: {error!r}", file=sys.stderr, flush=True)
                message = "the model failed on this request"
            return [Answer(number=jobs[0].number, error=message, status=status)]

    def _together(self, jobs: Sequence[Job], other: Served | None) -> list[Answer]:
        began = time.perf_counter()
        texts = [text for job in jobs for text in job.texts]
        pairs = None if jobs[0].pairs is None else [pair for job in jobs for pair in job.pairs or ()]
        counted = iter(self._lengths(texts, pairs))
        lengths = [list(islice(counted, len(job.texts))) for job in jobs]
        refused = [self._too_long(job, each) for job, each in zip(jobs, lengths, strict=True)]
        kept = [i for i, answer in enumerate(refused) if answer is None]
        found = self._computed([jobs[i] for i in kept], [lengths[i] for i in kept], began, other) if kept else []
        return [*(answer for answer in refused if answer is not None), *found]

    def _too_long(self, job: Job, lengths: list[int]) -> Answer | None:
        """What is said of a job with a text that is longer than the model and may not be cut."""
        longest = self.predictor.longest
        if not job.options.get("strict") or max(lengths, default=0) <= longest:
            return None
        place = int(np.argmax(np.array(lengths) > longest))
        message = (
            f"text {job.first + place} has {lengths[place]:,} tokens; this model reads at most {longest:,}: shorten it, or ask a "
            'route that takes "truncate": true (/embed, /predict, /rerank, /v1/classify, /v1/tag)'
        )
        return Answer(number=job.number, error=message, status=413)

    def _computed(
        self, jobs: Sequence[Job], counted: Sequence[list[int]], began: float, other: Served | None
    ) -> list[Answer]:
        options = dict(jobs[0].options)
        options.pop("strict", None)
        texts = [text for job in jobs for text in job.texts]
        pairs = None if jobs[0].pairs is None else [pair for job in jobs for pair in job.pairs or ()]
        between = time.perf_counter()
        asked = self._asked(jobs[0].operation, options)
        asked.first = jobs[0].first  # an error is told of a job by itself
        found = self._run(asked, jobs[0].operation, texts, pairs, options, other)
        seconds = {"tokenize": between - began, "compute": time.perf_counter() - between}
        answers, start = [], 0
        for job, lengths in zip(jobs, counted, strict=True):
            some = found[start : start + len(job.texts)]
            answer = Answer(number=job.number, tokens=sum(lengths), seconds=seconds, group=jobs[0].number)
            if isinstance(some, np.ndarray):
                answer.vectors, answer.width = some.astype("<f4").tobytes(), some.shape[1]
            else:
                answer.rows = some
            answers.append(answer)
            start += len(job.texts)
        if jobs[0].operation in ("embed", "predict"):  # the others go text by text
            answers[0].batches = [batch.rows for batch in asked.batches]
            answers[0].places = sum(batch.places for batch in asked.batches)
            answers[0].padding = answers[0].places - sum(batch.pieces for batch in asked.batches)
        return answers

    def _asked(self, operation: str, options: dict[str, Any]) -> Predictor:
        """The predictor that answers."""
        return self.by(*options.pop("kinds")) if operation == "predict" else self.predictor

    def _lengths(self, texts: list[str], pairs: list[str] | None) -> list[int]:
        tokenizer = self.predictor.bundle.tokenizer
        first = [len(ids) + 2 for ids in tokenizer.arrays(texts)]
        if pairs is None:
            return first
        return [a + len(b) + 1 for a, b in zip(first, tokenizer.arrays(pairs), strict=True)]

    def _run(
        self, asked: Predictor, operation: str, texts: list[str], pairs: list[str] | None, options: dict[str, Any],
        other: Served | None,
    ) -> Any:  # fmt: skip
        match operation:
            case "embed":
                return asked.embed(texts, **options)
            case "predict" if options.pop("raw", False):
                labels = asked.answering("label")[1].labels
                return [dict(zip(labels, row, strict=True)) for row in asked.logits(texts, pairs).tolist()]
            case "predict":
                return asked.predict(texts, pairs, **options)
            case "fill":
                return [_filled(asked, text, number, options) for number, text in enumerate(texts, asked.first)]
            case "tokenize":
                return [self._pieces(text) for text in texts]
            case _:
                from halbert.serve.sidebyside import compared

                served = self.at(options.pop("precision", None)) or other
                assert served is not None  # what waits for a precision comes with it
                return [
                    compared(served, text, pair, **options)
                    for text, pair in zip(texts, pairs or [""] * len(texts), strict=True)
                ]

    def _pieces(self, text: str) -> list[dict[str, Any]]:
        tokenizer = self.predictor.bundle.tokenizer
        told = tokenizer.encode(text, masks=True)
        special = set(tokenizer.special.values())
        return [
            {
                "id": number,
                "text": piece,
                "special": piece in special,
                "start": span and span[0],
                "stop": span and span[1],
            }
            for number, piece, span in zip(told.ids, told.tokens, told.spans, strict=True)
        ]


def _filled(asked: Predictor, text: str, number: int, options: dict[str, Any]) -> Any:
    asked.first = number
    return asked.fill(text, **options)


def _told(heads: dict[str, HeadSpec]) -> str:
    return ", ".join(f"{name} ({head.kind})" for name, head in heads.items()) or "none"


class Worker:
    """Models by name (with their editions), asked one gulp at a time; new ones are loaded beside the work, one after the other.

    A model whose place another has taken stays until it is said that no request is left that began with it.
    """

    def __init__(self, models: dict[str, tuple[str, int]], precision: str, threads: int | None, out: BinaryIO) -> None:
        self.precision, self.threads, self.out = precision, threads, out
        self.lock = threading.Lock()
        self.served = {
            name: Served(name, model, precision, threads, edition) for name, (model, edition) in models.items()
        }
        self.replaced: dict[tuple[str, int], Served] = {}
        self.waiting: queue.SimpleQueue[tuple[list[Job], Served | None] | Forget | None] = queue.SimpleQueue()
        self._wanted: dict[tuple[str, str], list[Job]] = {}  # by model and precision, what waits for it
        self._loads: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._loading, daemon=True).start()

    def _loading(self) -> None:
        while True:
            self._loads.get()()

    def say(self, *messages: Answer | Later | Told) -> None:
        """Write messages whole, whoever else writes."""
        with self.lock:
            self.out.write(b"".join(map(frame, messages)))
            self.out.flush()

    def told(self, **more: Any) -> Told:
        """All models as they are."""
        return Told(models=[served.describe() for served in self.served.values()], **more)

    def load(self, asked: Load) -> None:
        """Take another model in: loaded and warm first, then in the old one's place between two gulps."""
        self._loads.put(functools.partial(self._load, asked))

    def _load(self, asked: Load) -> None:
        try:
            fresh = Served(asked.name, asked.model, self.precision, self.threads, asked.number)
        except Exception as error:
            why = str(error) if isinstance(error, HalbertError) else repr(error)
            self.say(Told(models=[], number=asked.number, error=why))
            return
        if (old := self.served.get(asked.name)) is not None:
            self.replaced[asked.name, old.edition] = old
        self.served = {**self.served, asked.name: fresh}
        self.say(self.told(number=asked.number))

    def waits(self, served: Served, jobs: list[Job]) -> bool:
        """Whether a precision that was asked for has to be loaded first, which is done beside the work of others, once for all
        that ask for it."""
        precision: str | None = jobs[0].options.get("precision")
        try:
            if served.at(precision) is not None:
                return False
        except InputError:
            return False  # is said where it is answered
        wanted = (served.name, str(precision))
        self.say(Later(numbers=[job.number for job in jobs]))
        with self.lock:
            begun = wanted in self._wanted
            self._wanted.setdefault(wanted, []).extend(jobs)
        if not begun:
            self._loads.put(functools.partial(self._load_at, served, wanted))
        return True

    def _load_at(self, served: Served, wanted: tuple[str, str]) -> None:
        error, other = "", None
        try:
            other = served.load_at(wanted[1])
        except Exception as fault:
            error = str(fault) if isinstance(fault, HalbertError) else "the model could not be loaded"
        with self.lock:
            jobs = self._wanted.pop(wanted)
        if other is None:
            self.say(*(Answer(number=job.number, error=error, status=500) for job in jobs))
        else:
            self.waiting.put((jobs, other))  # with the model, which another load may have taken the place of by then

    def _edition(self, job: Job) -> Served | None:
        """The model that was served under its name when the job's request came."""
        served = self.served.get(job.model)
        return served if served and served.edition == job.edition else self.replaced.get((job.model, job.edition))

    def compute(self, jobs: list[Job], other: Served | None = None) -> None:
        """Answer a gulp: jobs that can be computed together are. ``other``: the precision that all of them waited for."""
        together: dict[Any, list[Job]] = {}
        for job in jobs:
            key = (
                job.model,
                job.edition,
                job.operation,
                job.pairs is None,
                msgspec.json.encode(job.options, order="sorted"),
            )
            together.setdefault(key, []).append(job)
        for some in together.values():
            served = self._edition(some[0])
            if served is None:  # a worker that was started anew has the latest alone
                message = f"{some[0].model} was replaced while this request waited; ask again"
                self.say(*(Answer(number=job.number, error=message, status=503) for job in some))
            elif other is not None or not self.waits(served, some):
                self.say(*served.answer(some, other))


def main() -> None:
    """Serve until standard input ends: arguments are the precision, the threads (0: all), and models with their
    editions by name, as JSON."""
    precision, threads, models = sys.argv[1:]
    os.nice(KINDER)
    stdin, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, in C as well, must not come between the frames
    try:
        worker = Worker(json.loads(models), precision, int(threads) or None, out)
    except HalbertError as error:
        out.write(frame(Told(models=[], error=str(error))))
        out.flush()
        return
    give_back()  # what compiling took
    worker.say(worker.told())
    waiting, worked = worker.waiting, giving_back()

    def listen() -> None:
        decoder = msgspec.msgpack.Decoder(Gulp | Load | Forget)
        while (body := read(stdin)) is not None:
            message = decoder.decode(body)
            if isinstance(message, Load):
                worker.load(message)
            else:  # is forgotten after what was asked before
                waiting.put(message if isinstance(message, Forget) else (message.jobs, None))
        waiting.put(None)

    threading.Thread(target=listen, daemon=True).start()
    while (asked := waiting.get()) is not None:
        if isinstance(asked, Forget):
            worker.replaced.pop((asked.model, asked.edition), None)
        else:
            worker.compute(*asked)
        worked()


if __name__ == "__main__":
    main()
