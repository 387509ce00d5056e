"""Examples to features: one function for each form of data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from halbert.data.column import Column
from halbert.data.features import (
    NONE,
    Features,
    add_texts,
    check_labels,
    check_tags,
    classes_of,
    encode_examples,
    seconds_of,
)
from halbert.data.labelled import batches_of
from halbert.data.readers import Example
from halbert.data.windows import owners, windows
from halbert.errors import InputError
from halbert.heads import HeadSpec
from halbert.text import Tokenizer


def _labelled(examples: Iterable[Example], tokenizer: Tokenizer, length: int, head: HeadSpec, stride: int) -> Features:
    if not head.several:
        return encode_examples(examples, tokenizer, length, head.labels)
    numbers = {label: i for i, label in enumerate(head.labels)}
    found, table = Features(), Column(np.int8)
    for part in batches_of(examples):
        check_labels(part, head.labels, "data")
        add_texts(found, [e.text for e in part], seconds_of(part), tokenizer, length)
        rows = np.zeros((len(part), len(numbers)), np.int8)
        for row, example in zip(rows, part, strict=True):
            row[[numbers[label] for label in classes_of(example)]] = 1
        table.extend(rows)
    return found.done(table.array().reshape(-1, len(numbers)))


def _scored(examples: Iterable[Example], tokenizer: Tokenizer, length: int, head: HeadSpec, stride: int) -> Features:
    found, scores = Features(), Column(np.float64)
    for part in batches_of(examples):
        add_texts(found, [e.text for e in part], seconds_of(part), tokenizer, length)
        scores.extend([np.nan if e.score is None else e.score for e in part])
    return found.done(scores.array())


def _choices(examples: Iterable[Example], tokenizer: Tokenizer, length: int, head: HeadSpec, stride: int) -> Features:
    """A row for each candidate."""
    found, right = Features(), Column(np.int64)
    for part in batches_of(examples, 256):
        firsts = [e.text for e in part for _ in e.choices]
        seconds = [choice for e in part for choice in e.choices]
        add_texts(found, firsts, seconds, tokenizer, length, end=False)
        ends = found.rows - len(firsts) + np.cumsum([len(e.choices) for e in part])
        found.examples.extend(ends)
        right.extend([NONE if e.label is None else int(e.label) for e in part])
    return found.done(right.array())


def _pairs(
    examples: Iterable[Example], tokenizer: Tokenizer, length: int, head: HeadSpec | None, stride: int
) -> Features:
    """Two rows an example, or three; the scores where there are such."""
    found, scores = Features(), Column(np.float64)
    for part in batches_of(examples):
        texts = [text for e in part for text in (e.text, e.pair, e.third) if text is not None]
        add_texts(found, texts, None, tokenizer, length, end=False)
        counts = [2 + (e.third is not None) for e in part]
        found.examples.extend(found.rows - len(texts) + np.cumsum(counts))
        scores.extend([np.nan if e.score is None else e.score for e in part])
    return found.done(scores.array())


def _texts(examples: Iterable[Example], tokenizer: Tokenizer, length: int, head: HeadSpec, stride: int) -> Features:
    """Long texts as several rows, of which each is an example; the target is the number of the one it is of."""
    found, frame, owner, seen = Features(), tokenizer.frame, Column(np.int64), 0
    for part in batches_of(examples):
        numbers, texts = [], []
        for number, e in enumerate(part, seen):
            some = [text for text in (e.text, e.pair) if text]
            texts += some
            numbers += [number] * len(some)
        seen += len(part)
        for number, ids in zip(numbers, tokenizer.arrays(texts), strict=True):
            for begin, end in windows(len(ids), frame.room(length, False), 0) if len(ids) else ():
                row, _ = frame.row(ids[begin:end].tolist(), None)
                found.add(row, len(row))
                found.end()
                owner.extend([number])
    return found.done(owner.array())


def _tagged(examples: Iterable[Example], tokenizer: Tokenizer, length: int, head: HeadSpec, stride: int) -> Features:
    """A word has the label of its first piece. Long texts are windows, and a word is answered by the window that shows
    most of what is around it."""
    numbers = {label: i for i, label in enumerate(head.labels)}
    unknown, frame, found = tokenizer.special_ids["unk"], tokenizer.frame, Features()
    before, behind = len(frame.begin), len(frame.end)
    for part in batches_of(examples, 256):
        check_tags(part, head.labels, "data")
        ids = iter(tokenizer.bulk([word for e in part for word in e.words]))
        for example in part:
            # A word that nothing is left of (a control character) is unknown, so that it can have an answer.
            pieces = [next(ids) or [unknown] for _ in example.words]
            flat = np.array([i for word in pieces for i in word], np.int64)
            firsts = np.cumsum([0, *(len(word) for word in pieces[:-1])])
            place = np.full(len(flat), -1)
            place[firsts] = np.arange(len(pieces))
            tags = np.full(len(flat), NONE)
            if example.tags:
                tags[firsts] = [numbers[tag] for tag in example.tags]
            ranges = windows(len(flat), frame.room(length, False), stride)
            owner = owners(ranges, len(flat))
            for number, (begin, end) in enumerate(ranges):
                own = owner[begin:end] == number
                row, _ = frame.row(flat[begin:end].tolist(), None)
                found.add(
                    row, len(row),
                    tags=[*[NONE] * before, *np.where(own, tags[begin:end], NONE), *[NONE] * behind],
                    places=[*[-1] * before, *np.where(own, place[begin:end], -1), *[-1] * behind],
                )  # fmt: skip
            found.end()
    return found.done()


def _questions(examples: Iterable[Example], tokenizer: Tokenizer, length: int, head: HeadSpec, stride: int) -> Features:
    """Windows over the text, the question before each; a window without the whole answer has [CLS] as its place.

    ``target`` (R, 2): the first and last piece of the first accepted answer, in each window. ``places`` marks with 1 the
    pieces that this window answers for. A question that leaves no room for the text loses its end.
    """
    frame, found, target = tokenizer.frame, Features(), Column(np.int64)
    context, pieces = None, []
    for example in examples:
        if example.pair != context:
            context = example.pair or ""
            pieces = tokenizer.pieces(context)
            ids = [p.id for p in pieces]
            spans = np.array([(p.start, p.end) for p in pieces], np.int64).reshape(-1, 2)
        question = tokenizer.bulk([example.text])[0]
        most = max(1, length // 2 - 2)
        found.lost(len(question), min(len(question), most))
        before = [*frame.begin, *question[:most], *frame.between]
        if length - len(before) - len(frame.end) < 1:
            raise InputError(f"length {length} leaves no room for a text beside its question; expected more")
        ranges = windows(len(ids), length - len(before) - len(frame.end), stride)
        owner = owners(ranges, len(ids))
        first = last = -1
        if example.answers:
            start, text = example.answers[0]
            inside = (spans[:, 1] > start) & (spans[:, 0] < start + len(text))
            if inside.any():
                first, last = int(inside.argmax()), len(inside) - 1 - int(inside[::-1].argmax())
        for number, (begin, end) in enumerate(ranges):
            row = [*before, *ids[begin:end], *frame.end]
            inner = slice(len(before), len(row) - len(frame.end))
            shown = np.full((len(row), 2), -1)
            shown[inner] = spans[begin:end]
            place = np.full(len(row), -1)
            place[inner] = np.where(owner[begin:end] == number, 1, 0)
            found.add(row, len(before) if frame.second else len(row), spans=shown.reshape(-1), places=place)
            whole = begin <= first and last < end and first >= 0
            target.extend([first - begin + len(before), last - begin + len(before)] if whole else [0, 0])
        found.end()
    return found.done(target.array().reshape(-1, 2))


Encode = Callable[[Iterable[Example], Tokenizer, int, Any, int], Features]
FORMS: dict[str, Encode] = {
    "labelled": _labelled, "scored": _scored, "choices": _choices, "tagged": _tagged, "questions": _questions,
    "pairs": _pairs, "texts": _texts,
}  # fmt: skip


def encode(
    form: str, examples: Iterable[Example], tokenizer: Tokenizer, length: int, head: HeadSpec | None, stride: int = 0
) -> Features:
    """Examples of one form as rows of at most ``length`` pieces; ``head`` knows the labels."""
    return FORMS[form](examples, tokenizer, length, head, stride)
