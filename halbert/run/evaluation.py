"""Score a fine-tuned model on a labelled file, and say where it errs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from halbert.bundle import Bundle
from halbert.data.features import Features, check_labels, check_tags
from halbert.data.forms import encode
from halbert.data.labelled import DataFile, survey
from halbert.data.readers import Example
from halbert.errors import InputError
from halbert.files import write_bytes, write_json
from halbert.heads import HeadSpec
from halbert.run import scoring
from halbert.run.predictor import Predictor
from halbert.run.spread import SpreadBackend
from halbert.tasks import findings
from halbert.tasks.answers import write_leads, write_predictions
from halbert.tasks.decoding import softmax
from halbert.tasks.judging import Judged, judged, metrics_of
from halbert.tasks.metrics import score
from halbert.tasks.table import TASKS, Task, get_task


def class_chances(predictor: Predictor, examples: list[Example], max_length: int | None = None) -> np.ndarray:
    """The probability of each class for each example (N, C)."""
    pairs = [e.pair or "" for e in examples] if examples and examples[0].pair is not None else None
    return softmax(predictor.logits([e.text for e in examples], pairs, max_length=max_length))


def task_of(bundle: Bundle, head: HeadSpec | None, asked: str | None) -> Task:
    """The task a model is scored by: the one asked for, the one it was tuned for, or the one its head answers.

    Raises :class:`InputError` when the head does not answer the task.
    """
    training = bundle.provenance.get("training", {})
    told = (training.get("data_set") or training.get("task")) if training.get("kind") == "finetuning" else None
    kind = None if head is None else head.kind
    if asked is None and told is not None and get_task(told).head == kind:
        return get_task(told)
    if asked is None:
        return next(task for task in TASKS.values() if task.head == kind)
    task = get_task(asked)
    if task.head != kind:
        raise InputError(f"{task.title} needs a head of kind {task.head}; this model answers with one of kind {kind}")
    return task


def _head(predictor: Predictor, asked: str | None) -> tuple[str, HeadSpec | None]:
    """The head that answers, its name; none for vectors."""
    bundle = predictor.bundle
    if asked is not None and get_task(asked).head is None:
        return "", None
    kinds = {head.kind: name for name, head in bundle.heads.items()}
    if asked is not None and get_task(asked).head == "mlm" and "mlm" in kinds:
        return kinds["mlm"], bundle.heads[kinds["mlm"]]
    training = bundle.provenance.get("training", {})
    if predictor.head is None and training.get("task") in ("embed", "fill"):
        return _head(predictor, training["task"]) if asked is None else bundle.head(None)
    name, head = bundle.head(predictor.head)
    if head.kind == "pair":
        raise InputError(f"head {name!r} is of kind pair, which has no task to be scored by")
    return name, head


def evaluate(
    predictor: Predictor,
    data: str | os.PathLike[str],
    max_length: int | None = None,
    *,
    task: str | None = None,
    columns: dict[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    batch_tokens: int = scoring.BATCH_TOKENS,
    progress: Any = lambda _: None,
) -> dict[str, Any]:
    """``{"task", "n", "metrics": {NAME: {"value", "low", "high", …}}, …}`` of a model on a labelled file.

    Beside the metrics: how many texts were cut or read in windows, calibration, what was confused or missed, the worst
    and the slowest texts. Answers are decoded as ``predict`` does. ``task`` is the one the model was tuned for unless
    given. With ``out`` the predictions are written there too (``predictions.jsonl``; for questions
    ``predictions.json`` and ``no_answer.json`` as SQuAD's programs read them).

    Raises :class:`InputError` when the model does not answer the task, or the file holds a label it does not know.
    """
    bundle = predictor.bundle
    name, head = _head(predictor, task)
    row = task_of(bundle, head, task)
    if row.form == "texts" and isinstance(predictor.backend, SpreadBackend):
        raise InputError("masked pieces are scored on one machine; leave --engine ray out")
    file = DataFile(data, row.form, columns={**row.columns, **(columns or {})}, header=row.header)
    examples = list(file)
    told = survey(examples, str(data))
    if told.several and head is not None and not head.several:
        raise InputError(f"{data}: a row has several classes; this model gives each text one")
    if head is not None and head.labels:
        (check_tags if head.kind == "tag" else check_labels)(examples, head.labels, str(data))
    length, stride = _lengths(predictor, row, max_length)
    features = encode(row.form, examples, bundle.tokenizer, length, head, stride)
    began = time.perf_counter()
    result = _judge(predictor, name, head, row, features, examples, length, batch_tokens, progress)
    seconds = time.perf_counter() - began
    metrics = metrics_of(row.judges(head), row.form, features)
    owners = len(np.unique(features.target)) if row.form == "texts" else len(features)
    # Of long texts each window is judged; where it is of is what its example says.
    judged_of = [examples[i] for i in features.target] if row.form == "texts" else examples
    found: dict[str, Any] = {
        "task": row.kind, "data_set": row.name or None, "n": len(examples),
        "metrics": _scores(metrics, result),
        "seconds": round(seconds, 4), "examples_per_second": round(len(examples) / max(seconds, 1e-9), 2),
        "engine": predictor.backend.describe(),
        "cut": {**features.cut._asdict(), "windows": int(features.rows - owners) if row.form in _WINDOWED else 0},
        **findings.tell(row.form, head, result, judged_of),
    }  # fmt: skip
    languages = sorted({e.language for e in examples if e.language is not None})
    if languages:
        found["by_language"] = {
            language: _of_language(metrics, result, [i for i, e in enumerate(judged_of) if e.language == language])
            for language in languages
        }
    output = (
        name
        if row.form in ("labelled", "scored", "tagged", "questions")
        else "pooled"
        if head and head.kind == "choice"
        else "last"
    )
    found["slowest"] = [
        {"index": e, "text": findings.shortened(judged_of[e].text), "pieces": pieces, "seconds": taken}
        for e, pieces, taken in scoring.slowest(predictor, output, features)
    ]
    if out is not None:
        write_answers(Path(out), found, row, head, result, examples)
    return found


_WINDOWED = ("tagged", "questions", "texts")


def _lengths(predictor: Predictor, task: Task, asked: int | None) -> tuple[int, int]:
    """Pieces of a row and of the overlap of windows: as in training, for texts that are read in windows."""
    if asked is not None and asked > predictor.longest:
        raise InputError(f"max_length {asked} exceeds this model's {predictor.longest} positions")
    recipe = predictor.bundle.provenance.get("training", {}).get("recipe", {})
    usual = {"length": 384, "stride": 128} if task.form == "questions" else {"length": predictor.longest, "stride": 32}
    told = recipe if task.form == "questions" and "stride" in recipe else usual
    length = asked or (told["length"] if task.form == "questions" else predictor.longest)
    return min(length, predictor.longest), told["stride"]


def _judge(
    predictor: Predictor, name: str, head: HeadSpec | None, task: Task, features: Features, examples: list[Example],
    length: int, batch_tokens: int, progress: Any,
) -> Judged:  # fmt: skip
    if task.form == "pairs":
        values = scoring.vectors_of(predictor, examples, length, batch_tokens, progress)
        return judged(task.form, None, values, features, examples)
    assert head is not None
    if task.form == "texts":
        wanted, right, losses = scoring.hits_of(predictor, name, features)
        return Judged(wanted, right, losses=losses)
    values = scoring.values_of(predictor, name, head, features, batch_tokens, progress)
    return judged(task.form, head, values, features, examples)


def _scores(metrics: Sequence[str], found: Judged) -> dict[str, Any]:
    scores = {key: score(key, found.truth, found.guess) for key in metrics}
    if found.losses is not None:
        scores["masked_loss"] = score("masked_loss", found.truth, found.losses.tolist())
    return {key: msgspec.to_builtins(value) for key, value in scores.items()}


def _of_language(metrics: Sequence[str], found: Judged, rows: list[int]) -> dict[str, Any]:
    truth, guess = ([side[i] for i in rows] for side in (found.truth, found.guess))
    losses = None if found.losses is None else found.losses[rows]
    return {"n": len(rows), **_scores(metrics, Judged(truth, guess, losses=losses))}


def write_answers(
    folder: Path, told: dict[str, Any], task: Task, head: HeadSpec | None, found: Judged, examples: list[Example]
) -> None:
    """The predictions and the scores as files."""
    folder.mkdir(parents=True, exist_ok=True)
    if task.form == "questions":
        ids = [e.id or str(i) for i, e in enumerate(examples)]
        write_predictions(folder / "predictions.json", dict(zip(ids, found.guess, strict=True)))
        leads = [] if found.leads is None else found.leads.tolist()
        write_leads(folder / "no_answer.json", dict(zip(ids, leads, strict=True)))
    rows = findings.rows(task.form, head, found, examples)
    write_bytes(folder / "predictions.jsonl", b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    write_json(folder / "scores.json", told)
