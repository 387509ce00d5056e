"""Answers to many texts by one predictor, wherever it runs: what ``embed`` and ``predict`` do with each part of their input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from halbert.data.readers import Example
from halbert.errors import InputError
from halbert.run.predictor import load
from halbert.run.spread import kind_of


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A verb, a model, how it is to be run, and the options of the predictor's method; ``rows``: vectors as rows of JSON."""

    verb: Literal["embed", "predict"]
    model: Any  # as for :func:`halbert.run.predictor.load`
    head: str | None = None
    precision: Any = "auto"
    device: Any = "auto"
    threads: int | None = None
    backend: Any = "auto"
    compile: bool = False
    how: dict[str, Any] = {}
    rows: bool = False


class Answering:
    """``answer(examples, number of the first)``; ``progress`` is told how many texts are done."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.predictor = load(
            asked.model, asked.head, asked.precision, asked.device, asked.threads, asked.backend, asked.compile
        )
        self.predictor.together = 1  # the same batches however many cores there are
        self.progress: Callable[[int], None] = lambda n: None
        self.kind = ""
        if asked.verb == "predict":
            _, head = self.predictor.answering()  # before anything is read
            self.kind = head.kind
            if head.kind == "choice" and asked.how.get("long") == "window":
                raise InputError(
                    "windows are not for choices, which are cut where they are too long; leave --long window out"
                )

    def __call__(self, examples: Sequence[Example], start: int = 0) -> Any:
        """Vectors (N, H), or a row of JSON for each text."""
        given = {name: value for name, value in self.asked.how.items() if value is not None}
        first = [e.text for e in examples]
        self.predictor.first = start
        if self.asked.verb == "embed":
            if any(e.pair is not None for e in examples):
                raise InputError(
                    "the input has pairs (text_a and text_b), and a vector is of one text; give it a column text alone"
                )
            vectors = self.predictor.embed(first, progress=self.progress, **given)
            if not self.asked.rows:
                return vectors
            return [{"index": start + i, "vector": row.tolist()} for i, row in enumerate(vectors)]
        if self.kind == "choice":
            return self._choices(examples, first, start, given)
        second = [e.pair or "" for e in examples] if examples and examples[0].pair is not None else None
        answers = self.predictor.predict(first, second, progress=self.progress, **given)
        return [
            {
                "index": start + i,
                **({"text": e.text} if e.pair is None else {"text_a": e.text, "text_b": e.pair}),
                **found,
            }
            for i, (e, found) in enumerate(zip(examples, answers, strict=True))
        ]

    def _choices(
        self, examples: Sequence[Example], first: list[str], start: int, given: dict[str, Any]
    ) -> list[dict[str, Any]]:
        given.pop("long", None)
        lost = next((i for i, e in enumerate(examples) if not e.choices), None)
        if lost is not None:
            raise InputError(
                f"text {start + lost}: has no choices; a head that chooses needs --input FILE.jsonl with the columns "
                '"text" and "choices" (a list of texts)'
            )
        found = self.predictor.choose(first, [e.choices for e in examples], progress=self.progress, **given)
        return [{"index": start + i, "text": e.text, **f} for i, (e, f) in enumerate(zip(examples, found, strict=True))]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Texts that are answered together: their number among the parts, and that of the first of them."""

    number: int
    start: int
    examples: list[Example]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A part's answers, how many texts it had, and how many of them were cut or read in windows of ``length``."""

    number: int
    answers: Any
    count: int
    cut: int
    windowed: int
    length: int
    engine: dict[str, Any]


class Worker:
    """Parts answered in a process of a cluster."""

    def __init__(self, asked: Asked) -> None:
        self.answering = Answering(asked)

    def __call__(self, part: Part | int) -> Answered:
        """A part, or how many texts of parts that are finished."""
        if isinstance(part, int):
            return Answered(number=-1, answers=None, count=part, cut=0, windowed=0, length=0, engine={})
        found, predictor = self.answering(part.examples, part.start), self.answering.predictor
        return Answered(
            number=part.number, answers=found, count=len(part.examples), cut=predictor.cut, windowed=predictor.windowed,
            length=predictor.length, engine=kind_of(predictor.backend),
        )  # fmt: skip

    def named(self, part: Part | int) -> str:
        """What an item is, for people."""
        if isinstance(part, int):
            return f"{part:,} texts that are finished"
        return f"texts {part.start:,} to {part.start + len(part.examples) - 1:,}"
