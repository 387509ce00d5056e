"""A head's outputs for features, by an engine: what :mod:`halbert.tasks.judging` judges."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator

import numpy as np

from halbert.data.batches import Rows, group_by_length, pad_rows
from halbert.data.features import Features
from halbert.data.hidden import hide
from halbert.data.readers import Example
from halbert.heads import HeadSpec
from halbert.run.predictor import Predictor, Progress, candidate_scores
from halbert.spec import PretrainSpec
from halbert.tasks.decoding import check_finite

BATCH_TOKENS = 1024  # a batch whose states stay in the cache of its core (docs/performance.md)
TIMED = 5  # texts, each alone
REPEATS = 3


def values_of(
    predictor: Predictor, name: str, head: HeadSpec, features: Features, batch_tokens: int, progress: Progress
) -> list[np.ndarray]:
    """The head's output for every row, in order: (C,), (1,), or (S, C) without padding."""
    owner = np.repeat(np.arange(len(features)), np.diff(features.examples_E))
    found: list[np.ndarray] = [np.zeros(0)] * features.rows
    output = "pooled" if head.kind == "choice" else name  # texts may differ in their candidates
    pad, ahead = predictor.bundle.tokenizer.special_ids["pad"], collections.deque[np.ndarray]()

    def fed() -> Iterator[Rows]:
        for group in group_by_length(np.asarray(features.lengths), batch_tokens):
            ahead.append(group)
            yield pad_rows([features.row(r) for r in group], pad, most=predictor.longest)

    for result in predictor.backend.stream(fed(), [output]):
        group, values = ahead.popleft(), result[output]
        check_finite(values, owner[group], output)
        if head.kind == "choice":
            values = candidate_scores(predictor.bundle, name, values)
        for row, value in zip(group, values, strict=True):
            found[row] = value[: features.lengths[row]] if value.ndim == 2 else value
        progress(len(group))
    return found


def vectors_of(
    predictor: Predictor, examples: list[Example], length: int | None, batch_tokens: int, progress: Progress
) -> list[np.ndarray]:
    """A vector for every text of every pair, in order."""
    texts = [text for e in examples for text in (e.text, e.pair, e.third) if text is not None]
    return list(predictor.embed(texts, max_length=length, batch_tokens=batch_tokens, progress=progress))


def hits_of(predictor: Predictor, name: str, features: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hidden pieces, those found, the sum of their cross entropies in nats) of every row.

    Hidden are single pieces, 15 %, by one draw, however a model was trained: so that models, and one before and after it
    learnt more, can be set side by side.
    """
    tokenizer, spec = predictor.bundle.tokenizer, PretrainSpec(sentence_objective="none", masking="piece")
    wanted, found, losses = (np.zeros(features.rows) for _ in range(3))
    for number, group in enumerate(group_by_length(np.asarray(features.lengths), 4 * BATCH_TOKENS)):
        rows = pad_rows([features.row(r) for r in group], tokenizer.special_ids["pad"], most=predictor.longest)
        batch = hide(rows.ids, rows.mask, tokenizer, spec, np.random.default_rng((0, number)))
        inputs = Rows(batch.ids, batch.mask, batch.segments)
        logits_MV = predictor.backend.forward(inputs, [name], batch.positions)[name][:, : tokenizer.vocab_size]
        row = group[batch.positions // batch.ids.shape[1]]
        np.add.at(wanted, row, 1)
        check_finite(logits_MV, np.asarray(features.target)[row], name)
        np.add.at(found, row, logits_MV.argmax(-1) == batch.labels)
        logits_MV -= logits_MV.max(-1, keepdims=True)
        chosen = np.take_along_axis(logits_MV, batch.labels[:, None], 1)[:, 0]
        np.add.at(losses, row, np.log(np.exp(logits_MV).sum(-1, dtype=np.float64)) - chosen)
    return wanted, found, losses


def slowest(predictor: Predictor, output: str, features: Features) -> list[tuple[int, int, float]]:
    """(example, pieces, seconds) of the longest examples, each alone, the median of a few runs."""
    pieces = np.add.reduceat(features.lengths, features.examples_E[:-1]) if len(features) else np.zeros(0, int)
    found = []
    for e in np.argsort(-pieces, kind="stable")[:TIMED]:
        rows = range(features.examples_E[e], features.examples_E[e + 1])
        batch = pad_rows(
            [features.row(r) for r in rows], predictor.bundle.tokenizer.special_ids["pad"], most=predictor.longest
        )
        taken = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            predictor.backend.forward(batch, [output])
            taken.append(time.perf_counter() - began)
        found.append((int(e), int(pieces[e]), float(np.median(taken))))
    return found
