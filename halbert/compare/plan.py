"""What an audit is about: models, tasks, texts, how long it may look, and the command that says all of it."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from halbert.compare.claims import Claim
from halbert.compare.subject import Subject
from halbert.data.features import check_labels, label_order
from halbert.data.readers import Example, read_examples
from halbert.errors import InputError, nearest
from halbert.files import write_bytes
from halbert.run.backend import Precision
from halbert.train.recipe import FinetuneRecipe

PROBES = (
    "size", "memory", "latency", "engines", "throughput", "languages", "unknown", "agreement", "inside", "masked",
    "masked-languages", "retrieval", "layers", "finetuning", "learning", "pace",
)  # fmt: skip
Step = Callable[..., None]  # (detail: str = "", advance: int = 1)
DepthName = Literal["quick", "usual", "full"]


class Progress(Protocol):
    """Who shows long steps: ``with progress.task("what", total) as step: step("detail")``."""

    def task(self, title: str, total: int) -> AbstractContextManager[Step]:
        """Begin a step of ``total`` parts."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Step]:
        """Begin a step nobody sees."""
        yield lambda detail="", advance=1: None


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """How long an audit looks: rounds of each probe, seeds, labelled rows to learn from, seeds of the learning curves
    (none: no curves)."""

    memory: int = 3
    latency: int = 60
    engines: int = 15
    throughput: int = 20
    seeds: int = 5
    rows: int | None = None
    curves: int = 3


DEPTHS: dict[str, Depth] = {
    "quick": Depth(memory=2, latency=20, engines=5, throughput=5, seeds=2, rows=400, curves=0),
    "usual": Depth(),
    "full": Depth(memory=5, latency=300, engines=40, throughput=40, seeds=12, curves=5),
}


ABROAD = ", other languages"


class TaskData(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled task: rows to learn from, rows to be judged by, and such of other languages."""

    name: str
    where: str
    train: list[Example]
    test: list[Example]
    abroad: list[Example] = []

    def at_most(self, rows: int | None) -> TaskData:
        """The task with at most so many rows to learn from, drawn once for all models."""
        if rows is None or len(self.train) <= rows:
            return self
        return msgspec.structs.replace(self, train=random.Random(0).sample(self.train, rows))

    def write(self, folder: Path) -> list[Path]:
        """``NAME-train.csv`` and ``NAME-test.csv``, and ``NAME-abroad.csv`` where there are such rows: every verb reads them."""
        splits = {"train": self.train, "test": self.test, **({"abroad": self.abroad} if self.abroad else {})}
        return [write_rows(rows, folder / f"{self.name}-{split}.csv") for split, rows in splits.items()]


def write_rows(examples: Sequence[Example], file: Path) -> Path:
    """A CSV file of examples, with the columns that they have."""
    first = examples[0]
    columns = ["text"] if first.pair is None else ["text_a", "text_b"]
    values = [[e.text] if e.pair is None else [e.text, e.pair] for e in examples]
    for name in ("label", "language"):
        if getattr(first, name) is not None:
            columns.append(name)
            values = [[*row, getattr(e, name)] for row, e in zip(values, examples, strict=True)]
    written = io.StringIO(newline="")
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(values)
    write_bytes(file, written.getvalue().encode())
    return file


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an audit measures, and how long it may look: ``minutes`` for all probes together, if given."""

    subjects: list[Subject]
    tasks: list[TaskData]
    texts: list[str]  # held-out paragraphs: throughput, masked pieces
    texts_from: str
    command: str
    notes: list[str] = []
    probes: tuple[str, ...] = PROBES
    precision: Precision = "auto"
    depth: Depth = Depth()
    minutes: float | None = None
    threads: int | None = None
    recipe: FinetuneRecipe = FinetuneRecipe()
    claims: list[Claim] = []
    weights: dict[str, float] = {}
    parallel: dict[str, list[Example]] = {}  # pairs by language
    parallel_from: str = ""

    def fingerprints(self) -> dict[str, str]:
        """By what figures say of their data (``how``), its sha256: two files of one name and length are not one."""
        found: dict[str, Any] = {}
        for told, content in (
            *((f"labelled texts of {t.where}", [t.train, t.test]) for t in self.tasks),
            *((f"labelled texts of {t.where}{ABROAD}", t.abroad) for t in self.tasks),
            (f"texts of {self.texts_from}", self.texts), (f"{self.parallel_from}: ", self.parallel),
        ):  # fmt: skip
            if content:
                found.setdefault(told, hashlib.sha256()).update(msgspec.json.encode(content))
        return {told: digest.hexdigest() for told, digest in found.items()}


def rests_on(how: str, told: str) -> bool:
    """Whether a figure that was made like this (``how``) rests on the data of a key of :meth:`Plan.fingerprints`."""
    labelled = "labelled texts of "
    if told.endswith(ABROAD):
        return told.removesuffix(ABROAD) in how and "other languages" in how
    if told.startswith(labelled):
        return told in how
    return how.startswith(told) if told.endswith(": ") else told in how and labelled not in how


def check_probes(probes: Sequence[str]) -> tuple[str, ...]:
    """The names of probes. Raises :class:`InputError` for one that is none."""
    for probe in probes:
        if probe not in PROBES:
            raise InputError(f"no probe is called {probe!r}{nearest(probe, PROBES)}; known: {', '.join(PROBES)}")
    return tuple(probes)


def depth_of(name: str, seeds: int | None) -> Depth:
    """A depth by name, with another number of seeds if one is given. Raises :class:`InputError` for an unknown name."""
    if name not in DEPTHS:
        raise InputError(f"no depth is called {name!r}{nearest(name, DEPTHS)}; known: {', '.join(DEPTHS)}")
    depth = DEPTHS[name]
    return depth if seeds is None else msgspec.structs.replace(depth, seeds=seeds)


def split_task(
    name: str,
    data: str | os.PathLike[str],
    test: str | os.PathLike[str] | None,
    abroad: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> TaskData:
    """A task out of the user's files; without a test file every fifth row, in order, is kept for the test. ``abroad`` holds
    rows of other languages to be judged by, with a column ``language``; ``columns`` says what the files call theirs.

    Raises :class:`InputError` for files that cannot be used, before anything is measured.
    """
    rows = read_examples(data, columns=columns)
    if test is not None:
        train, held = rows, read_examples(test, columns=columns)
    else:
        train, held = [r for i, r in enumerate(rows) if i % 5], rows[::5]
    if len(train) < 2 or not held:
        raise InputError(f"{data}: {len(rows)} rows are too few to learn from and to test on")
    order = label_order(train, str(data))
    check_labels(held, order, str(test or data))
    others = [] if abroad is None else read_examples(abroad, columns=columns)
    if any(not row.language for row in others) or (abroad is not None and not others):
        raise InputError(f"{abroad}: expected rows with a column 'language', and a language in every row")
    check_labels(others, order, str(abroad))
    return TaskData(name=name, where=Path(data).name, train=train, test=held, abroad=others)


_SAY_NOTHING = {"train", "training", "data", "dataset", "examples"}


def task_names(data: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A name for each file, out of its own, or its folder's where that says nothing; no two are called the same."""
    names: list[str] = []
    for path in map(Path, data):
        own = path.name.split(".")[0]
        told = path.absolute().parent.name if own.lower() in _SAY_NOTHING else ""
        stem = name = "-".join((told or own).split()) or "task"
        n = 2
        while name in names:
            name, n = f"{stem}-{n}", n + 1
        names.append(name)
    return names


def command_for(
    models: Sequence[str],
    tasks: Sequence[str],
    data: Sequence[str | os.PathLike[str]],
    test: Sequence[str | os.PathLike[str]],
    *,
    precision: str,
    threads: int | None,
    recipe: FinetuneRecipe,
    transfer: Sequence[str | os.PathLike[str]] = (),
    columns: Mapping[str, str] | None = None,
    depth: str = "usual",
    seeds: int | None = None,
    parallel: str | os.PathLike[str] | None = None,
    random_weights: int | None = None,
    claims: str | os.PathLike[str] = "default",
    weights: Mapping[str, float] | None = None,
) -> str:
    """The command line that measures the same again."""
    words = ["halbert", "audit", *map(str, models)]
    for kind, file in zip(tasks, data, strict=True):
        words += ["--task", kind, "--data", str(file)]
    for file in test:
        words += ["--test", str(file)]
    for file in transfer:
        words += ["--transfer", str(file)]
    for role, column in (columns or {}).items():
        words += ["--column", f"{role}={column}"]
    if parallel is not None:
        words += ["--parallel", str(parallel)]
    if depth != "usual":
        words += [f"--{depth}"]
    if seeds is not None:
        words += ["--seeds", str(seeds)]
    words += ["--precision", precision]
    if threads is not None:
        words += ["--threads", str(threads)]
    if random_weights is not None:
        words += ["--random-weights", str(random_weights)]
    if str(claims) != "default":
        words += ["--claims", str(claims)]
    for name, weight in (weights or {}).items():
        words += ["--weight", f"{name}={weight:g}"]
    usual: dict[str, Any] = msgspec.to_builtins(FinetuneRecipe())
    for field, value in msgspec.to_builtins(recipe).items():
        # The rate is not the recipe's own by default, but that of the models' width.
        if value != usual[field] or (field == "learning_rate" and tasks):
            words += ["--set", f"{field}={value}"]
    return shlex.join(words)
