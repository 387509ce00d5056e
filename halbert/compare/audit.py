"""The audit: subjects and probes to one folder of results, report and page."""

from __future__ import annotations

import datetime
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from halbert.compare.baseline import SCHEMA, measurements_of, read_results, regressions
from halbert.compare.claims import Claim, answer_all, read_claims
from halbert.compare.machine import describe_machine
from halbert.compare.measurement import Comparison, Measurement, compare_all
from halbert.compare.probes.finetuning import FinetuningProbe
from halbert.compare.probes.latency import LatencyProbe
from halbert.compare.probes.masked import MaskedProbe
from halbert.compare.probes.memory import MemoryProbe
from halbert.compare.probes.size import SizeProbe
from halbert.compare.probes.throughput import ThroughputProbe
from halbert.compare.report import write_report
from halbert.compare.schedule import Probe, run_probe
from halbert.compare.subject import Subject, equal_in, random_subject
from halbert.compare.verdict import Verdict, judge
from halbert.data.corpus import build_corpus
from halbert.data.readers import Example, read_examples
from halbert.errors import InputError, nearest
from halbert.files import check_target, whole_folder, write_json
from halbert.run.predictor import load
from halbert.source import resolve_bundle
from halbert.spec import difference, encoder_total
from halbert.tasks.table import get_task
from halbert.train.recipe import FinetuneRecipe
from halbert.version import __version__

PROBES = ("size", "memory", "latency", "throughput", "masked", "finetuning")
TEXTS = 512  # held-out texts for throughput and masked pieces
RANDOM_NOTE = (
    "The weights are random: sizes and speeds are those of the real shapes, and nothing here says anything about quality. "
    "Texts are cut by a stand-in vocabulary of the same size, the same for models of equal text rules."
)
Step = Callable[..., None]  # (detail: str = "", advance: int = 1)


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


class TaskData(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled task: rows to learn from and rows to be judged by."""

    name: str
    where: str
    train: list[Example]
    test: list[Example]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an audit measures, and how long it may look."""

    subjects: list[Subject]
    tasks: list[TaskData]
    texts: list[str]  # held-out paragraphs: throughput, masked pieces
    texts_from: str
    command: str
    notes: list[str] = []
    probes: tuple[str, ...] = PROBES
    precision: str = "auto"
    seeds: int = 3
    threads: int | None = None
    recipe: FinetuneRecipe = FinetuneRecipe()
    claims: list[Claim] = []
    weights: dict[str, float] = {}


def split_task(name: str, data: str | os.PathLike[str], test: str | os.PathLike[str] | None) -> TaskData:
    """A task out of the user's files; without a test file every fifth row, in order, is kept for the test.

    Raises :class:`InputError` for files that cannot be used, before anything is measured.
    """
    rows = read_examples(data)
    if test is not None:
        train, held = rows, read_examples(test)
    else:
        train, held = [r for i, r in enumerate(rows) if i % 5], rows[::5]
    if len(train) < 2 or not held:
        raise InputError(f"{data}: {len(rows)} rows are too few to learn from and to test on")
    from halbert.data.features import check_labels, label_order

    check_labels(held, label_order(train, str(data)), str(test or data))
    return TaskData(name=name, where=Path(data).name, train=train, test=held)


def task_names(data: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A name for each file, out of its own; two files of one name get different ones."""
    names: list[str] = []
    for path in data:
        stem = name = "-".join(Path(path).name.split(".")[0].split()) or "task"
        n = 2
        while name in names:
            name, n = f"{stem}-{n}", n + 1
        names.append(name)
    return names


def compare(
    models: Sequence[str],
    *,
    out: str | os.PathLike[str],
    tasks: Sequence[str] = (),
    data: Sequence[str | os.PathLike[str]] = (),
    test: Sequence[str | os.PathLike[str]] = (),
    probes: Sequence[str] = PROBES,
    precision: str = "auto",
    seeds: int = 3,
    threads: int | None = None,
    recipe: FinetuneRecipe | None = None,
    random_weights: int | None = None,
    claims: str | os.PathLike[str] = "default",
    weights: Mapping[str, float] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure models against each other on the user's own labelled files and write page, report and results.

    With ``random_weights`` (a seed) the models' shapes are measured with drawn weights: size and speed, no quality.
    ``tasks`` and ``data`` (and ``test``, if given) go together one by one. ``claims`` are answered from what was measured
    and published (:mod:`halbert.compare.claims`); ``weights`` of criteria are a profile of the verdict's of your own
    (:mod:`halbert.compare.scores`). Raises :class:`InputError` before anything is
    measured when a model or a file cannot be used; returns what ``results.json`` holds.
    """
    check_target(out, overwrite)
    for probe in probes:
        if probe not in PROBES:
            raise InputError(f"no probe is called {probe!r}{nearest(probe, PROBES)}; known: {', '.join(PROBES)}")
    if len(models) < 2:
        raise InputError(f"{len(models)} model(s) were named; a comparison needs at least two")
    if len(tasks) != len(data) or len(test) not in (0, len(data)):
        raise InputError(f"{len(tasks)} --task, {len(data)} --data and {len(test)} --test; expected as many of each")
    for kind in tasks:
        get_task(kind)
    asked = read_claims(claims)
    loaded_tasks = [
        split_task(name, d, test[i] if test else None) for i, (name, d) in enumerate(zip(task_names(data), data))
    ]
    texts = [e.text for t in loaded_tasks for e in t.test] or _documentation_texts()
    with whole_folder(out, overwrite) as folder:
        subjects = open_subjects(models, folder / "models", random_weights)
        recipe = recipe or FinetuneRecipe()
        command = command_for(
            models,
            tasks,
            data,
            test,
            seeds=seeds,
            precision=precision,
            threads=threads,
            recipe=recipe,
            random_weights=random_weights,
            claims=claims,
            weights=weights,
        )
        plan = Plan(
            subjects=subjects, tasks=loaded_tasks, texts=texts[:TEXTS], precision=precision, seeds=seeds, threads=threads,
            notes=[] if random_weights is None else [RANDOM_NOTE],
            texts_from=", ".join(t.where for t in loaded_tasks) or "installed packages' documentation",
            command=command, probes=tuple(probes), recipe=recipe, claims=asked,
            weights=dict(weights or {}),
        )  # fmt: skip
        return run_plan(plan, folder, progress or Silent())


def command_for(
    models: Sequence[str],
    tasks: Sequence[str],
    data: Sequence[str | os.PathLike[str]],
    test: Sequence[str | os.PathLike[str]],
    *,
    seeds: int,
    precision: str,
    threads: int | None,
    recipe: FinetuneRecipe,
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
    words += ["--seeds", str(seeds), "--precision", precision]
    if threads is not None:
        words += ["--threads", str(threads)]
    if random_weights is not None:
        words += ["--random-weights", str(random_weights)]
    if str(claims) != "default":
        words += ["--claims", str(claims)]
    for name, weight in (weights or {}).items():
        words += ["--weight", f"{name}={weight:g}"]
    usual = msgspec.to_builtins(FinetuneRecipe())
    for field, value in msgspec.to_builtins(recipe).items():
        if value != usual[field]:
            words += ["--set", f"{field}={value}"]
    return shlex.join(words)


def _documentation_texts() -> list[str]:
    from halbert.data.documentation import read_library, split_of

    return [p.text for p in read_library("numpy") if split_of(p) == "test"][:TEXTS]


def open_subjects(models: Sequence[str], spare: Path, random_weights: int | None = None) -> list[Subject]:
    """Load every model; a model without a folder of its own is saved under ``spare``. Names are made different."""
    subjects: list[Subject] = []
    for model in map(str, models):
        stem = name = Path(model).name or model
        n = 2
        while any(s.name == name for s in subjects):
            name, n = f"{stem}-{n}", n + 1
        if random_weights is not None:
            subjects.append(random_subject(model, name, random_weights, spare))
            continue
        bundle = resolve_bundle(model)
        folder = bundle.folder or bundle.save(spare / name)
        subjects.append(Subject(name=name, bundle=bundle.replace(name=name), folder=Path(folder)))
    return subjects


def build_probes(plan: Plan, folder: Path, progress: Progress) -> list[Probe]:
    """The probes of a plan, in the order they run."""
    probes: list[Probe] = []
    if "size" in plan.probes:
        probes.append(SizeProbe())
    if {"memory", "latency", "throughput"} & set(plan.probes):
        predictors = {
            s.name: load(s.bundle, precision=plan.precision, threads=plan.threads)  # type: ignore[arg-type]
            for s in plan.subjects
        }
        engine = str(next(iter(predictors.values())).backend.describe()["precision"])
        for s in plan.subjects:  # compiled before it is described
            predictors[s.name].embed(plan.texts[:2])
        if "memory" in plan.probes:
            probes.append(MemoryProbe(engine))
        if "latency" in plan.probes:
            probes.append(LatencyProbe(predictors))
        if "throughput" in plan.probes:
            # A pass over all texts should take seconds, also with large models.
            work = max(s.bundle.spec.encoder.count_flops(128) for s in plan.subjects)
            texts = plan.texts if work < 5e9 else plan.texts[:96]
            probes.append(ThroughputProbe(predictors, texts, plan.texts_from))
    if "masked" in plan.probes:
        corpora = {}
        for s in plan.subjects:
            tokenizer = s.bundle.tokenizer
            if s.has_head("mlm") and tokenizer.fingerprint not in corpora:
                place = folder / "data" / f"held-out-{tokenizer.fingerprint[:8]}"
                documents = ([text] for text in plan.texts)
                corpora[tokenizer.fingerprint] = build_corpus(documents, tokenizer, place, note=plan.texts_from)
        positions = min(s.bundle.spec.encoder.max_position_embeddings for s in plan.subjects)
        probes.append(MaskedProbe(corpora, f"{len(plan.texts)} texts of {plan.texts_from}", min(128, positions)))
    if "finetuning" in plan.probes:
        probes += [
            FinetuningProbe(t.name, t.train, t.test, t.where, plan.recipe, seeds=plan.seeds, precision=plan.precision)
            for t in plan.tasks
        ]
    return probes


def run_plan(plan: Plan, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run all probes, compare, judge, and write the folder. Returns what ``results.json`` holds."""
    began = time.time()
    machine = describe_machine()
    measurements: list[Measurement] = []
    for probe in build_probes(plan, folder, progress):
        family = probe.name.partition(":")[0]
        able = sum(probe.refuse(s) is None for s in plan.subjects)
        with progress.task(f"Measuring {probe.title.lower()}", probe.rounds * able) as step:
            measurements += run_probe(probe, plan.subjects, f"{plan.command} --only {family} --out again", step)
    by_name = {s.name: s for s in plan.subjects}
    comparisons = compare_all(
        measurements,
        lambda a, b: equal_in(by_name[a], by_name[b]),
        # A masked piece is only the same question where the pieces are the same.
        lambda name, a, b: (
            not name.startswith("masked_")
            or by_name[a].bundle.tokenizer.fingerprint == by_name[b].bundle.tokenizer.fingerprint
        ),
    )
    results = {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - began, 1),
        "halbert": __version__,
        "command": plan.command,
        "notes": plan.notes,
        "machine": machine,
        "subjects": [describe_subject(s) for s in plan.subjects],
        "differences": [
            {
                "a": a.name, "b": b.name,
                "knobs": msgspec.to_builtins(difference(a.bundle.spec, b.bundle.spec)),
                "parameters_difference": b.bundle.spec.encoder.count_encoder() - a.bundle.spec.encoder.count_encoder(),
            }
            for a, b in ((plan.subjects[0], s) for s in plan.subjects[1:])
        ],
        "measurements": msgspec.to_builtins(measurements),
        "comparisons": msgspec.to_builtins(comparisons),
        "weights": plan.weights,
        "verdict": msgspec.to_builtins(judge(measurements, comparisons, [s.name for s in plan.subjects], plan.weights)),
    }  # fmt: skip
    results["claims"] = answer_all(plan.claims, results)
    write_json(folder / "results.json", results)
    with progress.task("Writing the report", 1) as step:
        write_report(results, folder)
        step("done")
    return results


def report_again(
    results: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    claims: str | os.PathLike[str] = "default",
    weights: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Verdict, claims, page and report out of an audit's results, without measuring anything; the results' own weights
    unless others are given.

    Raises :class:`InputError` for results that no audit wrote. Returns what the new ``results.json`` holds.
    """
    check_target(out, overwrite)
    found = read_results(results)
    order = [s["name"] for s in found["subjects"]]
    comparisons = msgspec.convert(found["comparisons"], list[Comparison])
    found["weights"] = dict(weights or found.get("weights") or {})
    found["verdict"] = msgspec.to_builtins(judge(measurements_of(found), comparisons, order, found["weights"]))
    found["claims"] = answer_all(read_claims(claims), found)
    with whole_folder(out, overwrite) as folder:
        write_json(folder / "results.json", found)
        write_report(found, folder)
    return found


def describe_subject(subject: Subject) -> dict[str, Any]:
    """What the report says of a model: spec, parameters by part, training and its curve."""
    spec = subject.bundle.spec
    parts = spec.encoder.count_parameters()
    training = subject.bundle.provenance.get("training", {})
    return {
        "name": subject.name,
        "description": subject.description,
        "spec": spec.flat(),
        "parameters": {"encoder": encoder_total(parts), "by_part": parts},
        "heads": {name: head.kind for name, head in subject.bundle.heads.items()},
        "training": {k: v for k, v in training.items() if k != "journal"},
        "curve": [
            {k: entry[k] for k in ("tokens", "seconds", "masked_loss", "masked_accuracy") if k in entry}
            for entry in training.get("journal", [])
        ],
    }


__all__ = [
    "Comparison", "Plan", "Progress", "Silent", "Verdict", "compare", "read_results", "regressions", "report_again", "run_plan",
]  # fmt: skip
