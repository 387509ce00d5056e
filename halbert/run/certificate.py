"""The parity certificate: how far every engine's answers are from the reference, on texts that it was not built with."""

from __future__ import annotations

import datetime
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from halbert.bundle import Bundle
from halbert.data.readers import Example
from halbert.errors import InputError
from halbert.processes import cores
from halbert.run.backend import Backend
from halbert.run.predictor import Predictor, candidate_scores, open_backend
from halbert.tasks.metrics import accuracy, spearman

# What int8 must keep (one of the two): answers that are the same, or points (of 100) of the task's score.
SAME_LABELS, POINTS = 0.99, 0.5
FOLLOWS = 0.9  # and with each of them: correlation with the reference's answers; an engine that says one thing has none
STILL = 0.5  # logits: the standard deviation below which answers do not change
SAME_ORDER = 0.99  # for vectors without a task: Spearman between the similarities of neighbouring texts


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """One engine against the reference.

    ``max_error`` is the largest difference in any number of any answer (a vector's where the model has no head that
    answers), the cosines are those of the texts' vectors, ``labels`` the share of equal labels, ``follows`` the correlation
    of the answers' numbers with the reference's (each output about its mean), ``score`` the engine's own on the labelled
    data, of 1.
    """

    engine: str
    version: str
    device: str
    precision: str
    max_error: float
    cosine_mean: float
    cosine_min: float
    labels: float | None = None
    follows: float | None = None
    order: float | None = None
    score: float | None = None


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Whether int8 may be used: the rule, what was found, what was asked for."""

    rule: str
    found: float
    least: float
    passed: bool


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured when an int8 engine was built."""

    format: int = 1
    created: str
    texts: int
    checked_on: str
    calibrated_on: str
    ranges: str
    cores: int
    reference: str
    metric: str | None
    reference_score: float | None
    engines: list[Agreement]
    gate: Gate
    forced: bool = False


class Answers(NamedTuple):
    """Of one engine: vectors (N, H), what is compared (N, …), labels (N, or a number for every token), a score."""

    backend: Backend
    vectors: np.ndarray
    values: np.ndarray
    labels: np.ndarray | None
    score: float | None


def references(bundle: Bundle) -> Iterator[Backend]:
    """The reference, torch in fp32 (OpenVINO where there is no torch), then the other engines for full weights."""
    if importlib.util.find_spec("torch"):
        yield open_backend(bundle, "torch", "fp32", "cpu")
    yield open_backend(bundle, "openvino", "fp32")
    try:
        yield open_backend(bundle, "openvino", "bf16")
    except InputError:  # this processor has none
        return


def answers_of(bundle: Bundle, backend: Backend, examples: Sequence[Example], progress: Any) -> Answers:
    """What an engine says to the examples, and its score where they are labelled."""
    predictor = Predictor(bundle, backend)
    texts = [e.text for e in examples]
    pairs = [e.pair or "" for e in examples] if examples[0].pair is not None else None
    answering = [(n, h) for n, h in bundle.heads.items() if h.kind not in ("mlm", "pair")]
    told, scores = [e.label for e in examples], [e.score for e in examples]
    if not answering:
        a = predictor.embed(texts, progress=progress)
        vectors = a if pairs is None else np.concatenate([a, predictor.embed(pairs, progress=progress)])
        score = None
        if pairs is not None and None not in scores:
            score = spearman(np.array(scores, float), cosines(a, vectors[len(a) :]))
        return Answers(backend, vectors, vectors, None, score)
    vectors = predictor.embed(texts, progress=progress)
    name, head = answering[0]
    if head.kind in ("label", "score"):
        table = Predictor(bundle, backend, name).logits(texts, pairs, progress=progress)
        labels, score = (None if head.kind == "score" else table > 0 if head.several else table.argmax(1)), None
        if labels is None:
            score = spearman(np.array(scores, float), table[:, 0]) if None not in scores else None
        elif None not in told and not head.several:
            score = accuracy(np.array([head.labels.index(t or "") for t in told]), np.asarray(labels))
        return Answers(backend, vectors, table, labels, score)
    work = predictor.prepare(texts, pairs)
    if head.kind == "choice":  # a number for each candidate, here for each text
        table = np.zeros((len(work.rows), 1), np.float32)
        for rows, _, pooled in predictor.run(work, "pooled", progress=progress):
            table[rows] = candidate_scores(bundle, name, pooled)
        return Answers(backend, vectors, table, None, None)
    found = [np.empty(0)] * len(work.rows)  # engines batch and pad in their own ways: row by row, real pieces alone
    for rows, batch, values in predictor.run(work, name, progress=progress):
        for row, mask, value in zip(rows, batch.mask, values, strict=True):
            found[row] = value[mask == 1]
    decided = [value.argmax(0 if head.kind == "span" else 1) for value in found]
    if head.kind == "span":  # where in a text an answer is: a number that is added to all of its pieces says nothing
        found = [value - value.mean(0) for value in found]
    return Answers(backend, vectors, np.concatenate(found), np.concatenate(decided), None)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of corresponding rows."""
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two tables (N, …) of numbers, each column about its own mean; 0 where one of them does not change. Tables that
    change so little that no answer depends on it (by less than half a logit) agree if their difference does, too."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    a, b = a - a.mean(0), b - b.mean(0)
    if max(float(np.sqrt((x * x).mean())) for x in (a, a - b)) < STILL:
        return 1.0
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 1e-12 else 0.0


def compare(reference: Answers, found: Answers) -> Agreement:
    """One engine's answers beside the reference's."""
    told = found.backend.describe()
    turned = cosines(reference.vectors, found.vectors)
    similar = [cosines(v[:-1], v[1:]) for v in (reference.vectors, found.vectors)]
    if reference.labels is None and reference.values is not reference.vectors:
        similar = [reference.values[:, 0], found.values[:, 0]]
    return Agreement(
        engine=told["engine"], version=told["version"], device=told["device"], precision=told["precision"],
        max_error=float(np.abs(reference.values - found.values).max()), cosine_mean=float(turned.mean()),
        cosine_min=float(turned.min()), score=found.score,
        labels=None if reference.labels is None else float((reference.labels == found.labels).mean()),
        follows=None if reference.labels is None else correlation(reference.values, found.values),
        order=None if reference.labels is not None else spearman(*similar),
    )  # fmt: skip


def judge(reference: Answers, int8: Agreement) -> Gate:
    """The rules in the order of their weight: the task's score, the labels, the order of similarities."""
    gates = []
    if reference.score is not None and int8.score is not None:
        least = reference.score - POINTS / 100
        gates.append(Gate(rule="score within 0.5 points", found=int8.score, least=least, passed=int8.score >= least))
    if int8.labels is not None:
        passed = int8.labels >= SAME_LABELS
        gates.append(Gate(rule="labels that are the same", found=int8.labels, least=SAME_LABELS, passed=passed))
    if not gates:
        order = int8.order or 0.0
        gates.append(
            Gate(rule="order of similarities (Spearman)", found=order, least=SAME_ORDER, passed=order >= SAME_ORDER)
        )
    if (
        int8.follows is not None and int8.follows < FOLLOWS
    ):  # where most texts are of one class, any constant has its labels
        return Gate(rule="correlation with the answers", found=int8.follows, least=FOLLOWS, passed=False)
    return next((gate for gate in gates if gate.passed), gates[0])


def certify(
    references: Sequence[Answers],
    int8: Answers,
    *,
    ranges: str,
    calibrated_on: str,
    checked_on: str,
    metric: str | None,
) -> Certificate:
    """Everything measured about one int8 engine; the first of ``references`` is the one that counts."""
    first = references[0]
    told = first.backend.describe()
    last = compare(first, int8)
    return Certificate(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), texts=len(first.vectors),
        checked_on=checked_on, calibrated_on=calibrated_on, ranges=ranges, cores=cores(),
        reference=f"{told['engine']} {told['version']} {told['precision']}",
        metric=metric if first.score is not None else None, reference_score=first.score,
        engines=[*(compare(first, other) for other in references[1:]), last], gate=judge(first, last),
    )  # fmt: skip
