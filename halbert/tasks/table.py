"""Tasks as rows: the kinds of task, what each reads, which head answers and which metrics judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from halbert.errors import InputError, nearest
from halbert.heads import HeadKind, HeadSpec

Form = Literal["labelled", "scored", "choices", "tagged", "questions", "pairs", "texts"]


class Published(msgspec.Struct, frozen=True):
    """A score somebody published: of which model, on which split, in percent."""

    model: str
    split: str
    metric: str
    value: float
    source: str


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of task, or a data set that is one of a kind.

    ``form`` is what its files hold; ``metrics`` come with the first as the one that chooses among runs. ``columns`` says
    what a file calls the columns (``text``, ``text_a``, ``label`` …), by name, by number from 1 where a file has no header
    (``header`` False), or as a path with dots into JSON; ``labels`` are the classes where they are fixed. ``usual`` are
    recipe fields for encoders whose layers have weights of their own, ``shared`` for those whose layers share them.
    """

    kind: str
    form: Form
    head: HeadKind | None
    metrics: tuple[str, ...]
    name: str = ""
    columns: Mapping[str, str | tuple[str, ...]] = {}
    header: bool = True
    labels: tuple[str, ...] = ()
    usual: Mapping[str, Any] = {}
    shared: Mapping[str, Any] = {}
    published: tuple[Published, ...] = ()
    about: str = ""

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.kind

    def judges(self, head: HeadSpec | None) -> tuple[str, ...]:
        """The metrics that fit the head that answers.

        Classes that do not exclude each other are sets; tags that are no entities (parts of speech) have no entity F1.
        """
        if head is not None and head.kind == "label" and head.several:
            return ("micro_f1", "set_macro_f1", "set_accuracy")
        if head is not None and head.kind == "tag" and not has_entities(head.labels):
            return tuple(name for name in self.metrics if not name.startswith("entity"))
        return self.metrics


def has_entities(labels: tuple[str, ...]) -> bool:
    """Whether tags mark entities by prefixes (B-, I-, E-, S-), which parts of speech do not."""
    return any(label[:2] in ("B-", "I-", "E-", "S-") for label in labels)


TASKS = {
    task.kind: task
    for task in (
        Task(
            kind="classify", form="labelled", head="label", metrics=("accuracy", "macro_f1"),
            about="one class a text or pair, or several (label a list, or separated by |)",
        ),
        Task(
            kind="regress", form="scored", head="score", metrics=("pearson", "spearman"),
            about="a number for a text or pair",
        ),
        Task(
            kind="choose", form="choices", head="choice", metrics=("accuracy",), usual={"batch_size": 16},
            about="the best of some candidates",
        ),
        Task(
            kind="tag", form="tagged", head="tag",
            metrics=("entity_f1", "entity_precision", "entity_recall", "tag_accuracy"),
            about="a label for every word",
        ),
        Task(
            kind="answer", form="questions", head="span", metrics=("answer_f1", "exact_match"),
            usual={"length": 384, "stride": 128, "epochs": 2, "learning_rate": 5e-5},
            about="where in a text the answer stands",
        ),
        Task(
            kind="embed", form="pairs", head=None, metrics=("mrr", "recall_at_1", "recall_at_10", "ndcg_at_10"),
            usual={"batch_size": 64, "learning_rate": 2e-5, "epochs": 1},
            about="vectors that are near each other where texts mean the same",
        ),
        Task(
            kind="fill", form="texts", head="mlm", metrics=("masked_accuracy",), usual={"batch_size": 16},
            about="masked pieces of a domain's text, before a task of that domain is learnt",
        ),
    )
}  # fmt: skip


def get_task(name: str) -> Task:
    """The kind of task, or the data set, called ``name``. Raises :class:`InputError` naming the known ones."""
    from halbert.tasks.named import NAMED  # which are rows of this table's type

    found = TASKS.get(name) or NAMED.get(name.lower())
    if found is None:
        known = [*TASKS, *NAMED]
        raise InputError(f"no task is called {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    return found
