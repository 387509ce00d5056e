"""What an evaluation shows beside its scores: what was confused, how sure the model was, which texts went worst."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from halbert.data.readers import Example
from halbert.heads import HeadSpec
from halbert.tasks import answers, entities
from halbert.tasks.calibration import bins_of, calibration_error
from halbert.tasks.judging import Judged
from halbert.tasks.table import has_entities

WORST = 20
SHOWN = 240  # characters of a text


def shortened(text: str, most: int = SHOWN) -> str:
    """The beginning of a text, marked where it goes on."""
    return text if len(text) <= most else text[: most - 1] + "…"


def told(form: str, head: HeadSpec | None, found: Judged, i: int) -> tuple[Any, Any]:
    """(truth, guess) of example i, as people read them."""
    truth, guess = found.truth[i], found.guess[i]
    if form == "labelled" and head is not None:
        if head.several:
            return tuple([head.labels[c] for c in np.flatnonzero(side)] for side in (truth, guess))  # type: ignore[return-value]
        return head.labels[int(truth)] if truth >= 0 else None, head.labels[int(guess)]
    if form == "scored" or (form == "pairs" and np.ndim(truth) == 0):
        return float(truth), float(guess)
    if form == "choices":
        return int(truth), int(guess)
    if form == "tagged":
        return list(truth), list(guess)
    if form == "questions":
        return list(truth), guess
    if form == "pairs":
        return 1, len(truth)  # the rank at which its partner was found
    return int(truth), int(guess)


def rows(form: str, head: HeadSpec | None, found: Judged, examples: Sequence[Example]) -> Iterator[dict[str, Any]]:
    """One object an example: number, id, truth, guess, and how sure the model was."""
    for i in range(len(found.guess)):
        example = examples[i] if form != "texts" else None
        truth, guess = told(form, head, found, i)
        row: dict[str, Any] = {"index": i, "truth": truth, "guess": guess}
        if example is not None and example.id is not None:
            row["id"] = example.id
        if found.confidence is not None and not np.isnan(found.confidence[i]):
            row["confidence"] = float(found.confidence[i])
        if found.leads is not None:
            row["lead_of_none"] = float(found.leads[i])
        yield row


def errors(form: str, found: Judged) -> np.ndarray:
    """How wrong each answer is (N,), 0 where it is right; a confident error is worse than a doubtful one."""
    if form in ("labelled", "choices"):
        truth, guess = np.asarray(found.truth), np.asarray(found.guess)
        if truth.ndim == 2:
            return np.asarray((truth != guess).sum(1), float)
        return (truth != guess) * (1.0 if found.confidence is None else found.confidence)
    if form == "scored" or (form == "pairs" and len(found.truth) and np.ndim(found.truth[0]) == 0):
        return np.abs(np.asarray(found.truth, float) - np.asarray(found.guess, float))
    if form == "tagged":
        pairs = zip(found.truth, found.guess, strict=True)
        return np.array([sum(a != b for a, b in zip(t, g, strict=True)) for t, g in pairs], float)
    if form == "questions":
        return 1 - answers.f1(found.truth, found.guess)
    if form == "pairs":
        return np.array([len(row) - 1 for row in found.truth], float)
    return np.asarray(found.truth, float) - np.asarray(found.guess, float)


def tell(form: str, head: HeadSpec | None, found: Judged, examples: Sequence[Example]) -> dict[str, Any]:
    """Everything beside the scores, as JSON has it; ``examples`` are those of what was judged, windows of hidden pieces each."""
    result: dict[str, Any] = {}
    one_class = form in ("labelled", "choices") and np.ndim(found.truth) == 1
    if one_class and len(found.truth):
        right = (np.asarray(found.truth) == np.asarray(found.guess)).astype(float)
        assert found.confidence is not None
        result["calibration"] = {
            "ece": msgspec.to_builtins(calibration_error(found.confidence, right)),
            "bins": bins_of(found.confidence, right),
        }
    if form == "labelled" and head is not None:
        result |= _classes(head, found)
    if form == "tagged" and head is not None:
        flat = collections.Counter(
            (a, b) for t, g in zip(found.truth, found.guess, strict=True) for a, b in zip(t, g, strict=True)
        )
        result["confusions"] = _confusions(flat)
        if has_entities(head.labels):
            counts = entities.by_kind(found.truth, found.guess)
            result["by_label"] = {kind: _shares(*row) for kind, row in counts.items()}
        else:
            result["by_label"] = _by_label(flat, head.labels)
            result["matrix"] = _matrix(flat, head.labels)
    if form == "questions":
        scores = {
            "answer_f1": answers.f1(found.truth, found.guess),
            "exact_match": answers.exact(found.truth, found.guess),
        }
        result["by_kind"] = answers.divided(found.truth, scores)
        result["no_answer_above"] = None if head is None else head.none_above
    wrong = errors(form, found)
    result["worst"] = [
        _bad(form, head, found, examples, int(i)) for i in np.argsort(-wrong, kind="stable")[:WORST] if wrong[i] > 0
    ]
    return result


def _bad(form: str, head: HeadSpec | None, found: Judged, examples: Sequence[Example], i: int) -> dict[str, Any]:
    truth, guess = told(form, head, found, i)
    row: dict[str, Any] = {"index": i, "truth": truth, "guess": guess}
    example = examples[i]
    row["text"] = shortened(example.text)
    if form == "texts":
        row |= {"truth": f"{truth} hidden pieces", "guess": f"{guess} found"}
    else:
        if example.pair is not None:
            row["pair"] = shortened(example.pair)
        if form == "choices":
            row |= {"truth": shortened(example.choices[truth]), "guess": shortened(example.choices[guess])}
        if form == "tagged":  # the words that went wrong
            wrong = [(w, a, b) for w, a, b in zip(example.words, truth, guess, strict=True) if a != b]
            row |= {"truth": [f"{w}: {a}" for w, a, _ in wrong], "guess": [f"{w}: {b}" for w, _, b in wrong]}
    if found.confidence is not None and not np.isnan(found.confidence[i]):
        row["confidence"] = float(found.confidence[i])
    return row


def _classes(head: HeadSpec, found: Judged) -> dict[str, Any]:
    if head.several:
        truth, guess = np.asarray(found.truth), np.asarray(found.guess)
        return {
            "by_label": {
                label: _shares(*(int(x) for x in ((truth & guess)[:, c].sum(), guess[:, c].sum(), truth[:, c].sum())))
                for c, label in enumerate(head.labels)
            }
        }
    pairs = collections.Counter(
        (head.labels[int(t)], head.labels[int(g)]) for t, g in zip(found.truth, found.guess, strict=True) if t >= 0
    )
    return {
        "confusions": _confusions(pairs), "by_label": _by_label(pairs, head.labels), "matrix": _matrix(pairs, head.labels),
    }  # fmt: skip


Pairs = collections.Counter[tuple[str, str]]


def _matrix(pairs: Pairs, labels: Sequence[str]) -> dict[str, Any]:
    return {"labels": list(labels), "counts": [[pairs[(t, g)] for g in labels] for t in labels]}


def _confusions(pairs: Pairs) -> list[dict[str, Any]]:
    wrong = [(count, t, g) for (t, g), count in pairs.items() if t != g]
    return [{"truth": t, "guess": g, "n": n} for n, t, g in sorted(wrong, key=lambda row: (-row[0], row[1:]))[:WORST]]


def _by_label(pairs: Pairs, labels: Sequence[str]) -> dict[str, Any]:
    said, there = collections.Counter[str](), collections.Counter[str]()
    for (t, g), n in pairs.items():
        there[t] += n
        said[g] += n
    return {label: _shares(pairs[(label, label)], said[label], there[label]) for label in labels}


def _shares(hits: int, said: int, there: int) -> dict[str, Any]:
    """Precision, recall and F1 out of counts; None where there is nothing to divide by."""
    return {
        "n": there, "precision": hits / said if said else None, "recall": hits / there if there else None,
        "f1": 2 * hits / (said + there) if said + there else None,
    }  # fmt: skip
