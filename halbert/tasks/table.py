"""Tasks as rows: the head that answers, the metrics that judge."""

from __future__ import annotations

import msgspec

from halbert.errors import InputError, nearest
from halbert.heads import HeadKind


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of task."""

    kind: str
    head: HeadKind
    metrics: tuple[str, ...]


TASKS = {"classify": Task(kind="classify", head="label", metrics=("accuracy", "macro_f1"))}


def get_task(kind: str) -> Task:
    """The task called ``kind``. Raises :class:`InputError` naming the known ones."""
    if kind not in TASKS:
        raise InputError(f"no task is called {kind!r}{nearest(kind, TASKS)}; known: {', '.join(TASKS)}")
    return TASKS[kind]
