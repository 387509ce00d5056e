"""The audit: subjects and probes to one folder of results, report and page."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from halbert.cluster import ClusterLike, connection
from halbert.compare.baseline import SCHEMA, measurements_of, read_results, regressions
from halbert.compare.battery import build_probes
from halbert.compare.claims import answer_all, read_claims
from halbert.compare.kept import Kept, check_report
from halbert.compare.machine import Bystander, describe_machine, named_machine, warnings_of
from halbert.compare.measurement import Comparison, Measurement, compare_all
from halbert.compare.merging import merge
from halbert.compare.origin import learnt_from
from halbert.compare.plan import (
    PROBES,
    DepthName,
    Plan,
    Progress,
    Silent,
    check_probes,
    command_for,
    depth_of,
    split_task,
    task_names,
)
from halbert.compare.probes.retrieval import read_parallel
from halbert.compare.report import write_report
from halbert.compare.schedule import Budget, run_probe
from halbert.compare.spread import Spread
from halbert.compare.subject import Subject, equal_in, pretrainings, random_subject
from halbert.compare.verdict import Verdict, judge
from halbert.errors import InputError
from halbert.files import check_target, whole_folder, write_json
from halbert.run.backend import Precision
from halbert.run.identity import fingerprint
from halbert.source import resolve_bundle
from halbert.spec import difference, encoder_total, from_dict
from halbert.tasks.table import get_task
from halbert.train.finetuning import usual_rate
from halbert.train.recipe import FinetuneRecipe
from halbert.version import __version__

TEXTS = 512  # held-out texts for throughput and masked pieces
RANDOM_NOTE = (
    "The weights are random: sizes and speeds are those of the real shapes, and nothing here says anything about quality. "
    "Texts are cut by a stand-in vocabulary of the same size, the same for models of equal text rules."
)

FOREIGN_NOTE = (
    "A model is of another architecture, which PyTorch alone runs here: speed and memory are therefore those of PyTorch for "
    "all models, and not what the others reach on Halbert's own engine."
)


def compare(
    models: Sequence[str],
    *,
    out: str | os.PathLike[str],
    tasks: Sequence[str] = (),
    data: Sequence[str | os.PathLike[str]] = (),
    test: Sequence[str | os.PathLike[str]] = (),
    transfer: Sequence[str | os.PathLike[str]] = (),
    columns: Mapping[str, str] | None = None,
    parallel: str | os.PathLike[str] | None = None,
    probes: Sequence[str] = PROBES,
    precision: Precision = "auto",
    depth: DepthName = "usual",
    seeds: int | None = None,
    minutes: float | None = None,
    threads: int | None = None,
    recipe: FinetuneRecipe | None = None,
    changes: Mapping[str, Any] | None = None,
    random_weights: int | None = None,
    claims: str | os.PathLike[str] = "default",
    weights: Mapping[str, float] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    cluster: ClusterLike | None = None,
) -> dict[str, Any]:
    """Measure models against each other on the user's own labelled files and write page, report and results.

    With ``random_weights`` (a seed) the models' shapes are measured with drawn weights: size and speed, no quality.
    ``tasks`` and ``data`` (and ``test``, if given) go together one by one, and so does ``transfer``: rows of other
    languages that a task's fine-tuned models are also judged by. ``columns`` says what all of them call ``text``, ``label``
    and so on. ``parallel`` holds sentences and their translations.
    ``depth`` is how long to look, ``minutes`` an end to it. Every round is on disk as soon as it is taken
    (``OUT.audit``): ``resume`` goes on with an audit that was stopped, and adds rounds to one that was finished.
    With ``cluster`` its workers take the samples that do not depend on a machine's pace (:mod:`halbert.compare.spread`).
    ``recipe`` is that of every fine-tuning; without one the usual settings, with ``changes``, and the rate that the widest
    model is usually tuned with. ``claims`` are answered from what was measured and published
    (:mod:`halbert.compare.claims`); ``weights`` of criteria are a profile of the verdict's of your own
    (:mod:`halbert.compare.scores`).

    Raises :class:`InputError` before anything is measured when a model or a file cannot be used; returns what
    ``results.json`` holds.
    """
    check_report(out, overwrite, resume)
    wanted, looks = check_probes(probes), depth_of(depth, seeds)
    if len(models) < 2:
        raise InputError(f"a comparison needs at least two models; {len(models)} named")
    for name, given in (("--task", tasks), ("--test", test), ("--transfer", transfer)):
        if len(given) != len(data) and (given or name == "--task"):
            raise InputError(f"{len(given)} {name} for {len(data)} --data; expected one for each")
    for kind in tasks:
        if get_task(kind).kind != "classify":
            raise InputError(
                f"--task {kind}: an audit's tasks are classifications; halbert finetune and evaluate know the others"
            )
    asked = read_claims(claims)
    loaded_tasks = [
        split_task(name, d, test[i] if test else None, transfer[i] if transfer else None, columns)
        for i, (name, d) in enumerate(zip(task_names(data), data))
    ]
    pairs = {} if parallel is None else read_parallel(parallel)
    texts = [e.text for t in loaded_tasks for e in t.test] or _documentation_texts()
    if recipe is not None and changes:
        raise InputError("recipe and changes were both given; expected one of them")
    tuned = from_dict(FinetuneRecipe, dict(changes or {}), "--set")  # what cannot be is said before models are read

    def plan_in(folder: Path) -> Plan:
        subjects = open_subjects(models, folder / "models", random_weights)
        chosen = recipe or _recipe_for(subjects, tuned, changes or {})
        command = command_for(
            models, tasks, data, test, seeds=seeds, precision=precision, threads=threads, recipe=chosen, depth=depth,
            transfer=transfer, columns=columns, parallel=parallel, random_weights=random_weights, claims=claims,
            weights=weights,
        )  # fmt: skip
        return Plan(
            subjects=subjects, tasks=loaded_tasks, texts=texts[:TEXTS],
            texts_from=", ".join(t.where for t in loaded_tasks) or "installed packages' documentation",
            notes=[] if random_weights is None else [RANDOM_NOTE], precision=precision, depth=looks, threads=threads,
            command=command, probes=wanted, recipe=chosen, claims=asked, weights=dict(weights or {}), minutes=minutes,
            parallel=pairs, parallel_from="" if parallel is None else Path(parallel).name,
        )  # fmt: skip

    return run_kept(plan_in, out, overwrite, resume, progress, random_weights, cluster)


def _recipe_for(subjects: Sequence[Subject], recipe: FinetuneRecipe, changes: Mapping[str, Any]) -> FinetuneRecipe:
    """One recipe for all models: unless it was chosen, the rate is that which the widest is usually tuned with."""
    if "learning_rate" in changes:
        return recipe
    rate = min(usual_rate(subject.bundle.spec.encoder) for subject in subjects)
    return msgspec.structs.replace(recipe, learning_rate=rate)


def run_kept(
    plan_in: Callable[[Path], Plan],
    out: str | os.PathLike[str],
    overwrite: bool,
    resume: bool,
    progress: Progress | None,
    random_weights: int | None = None,
    cluster: ClusterLike | None = None,
) -> dict[str, Any]:
    """Run the plan made for a folder, so that it can be stopped and gone on with (:mod:`halbert.compare.kept`). Returns
    what ``results.json`` holds."""
    with whole_folder(out, overwrite or resume) as folder:
        plan = plan_in(folder)
        kept = Kept(out, _identity(plan, random_weights, cluster is not None), resume)
        try:
            connect = connection(cluster)
            with contextlib.nullcontext() if connect is None else connect() as connected:
                away = Spread(connected, plan) if connected else None
                results = run_plan(plan, folder, progress or Silent(), kept, away)
        except BaseException:
            kept.leave()
            raise
    kept.remove()
    return results


def _identity(plan: Plan, random_weights: int | None, spread: bool) -> dict[str, Any]:
    """What the samples of two runs must have in common to be put together."""
    machine = describe_machine()
    return {
        "models": {
            s.name: f"{random_weights} {s.description}" if s.random else fingerprint(s.bundle) for s in plan.subjects
        },
        "data": plan.fingerprints(),
        "rows": plan.depth.rows,
        "precision": plan.precision,
        "threads": plan.threads,
        "recipe": msgspec.to_builtins(plan.recipe),
        "machine": [machine["processor"], machine["cores"]],
        "versions": machine["versions"],
        **({"engine": "ray"} if spread else {}),  # its rounds have no times of one machine
    }


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


def run_plan(
    plan: Plan, folder: Path, progress: Progress, kept: Kept | None = None, away: Spread | None = None
) -> dict[str, Any]:
    """Run all probes, compare, judge, and write the folder. Returns what ``results.json`` holds."""
    began = time.time()
    if plan.threads:
        torch.set_num_threads(plan.threads)  # for training, which has no engine of its own
    machine, bystander = describe_machine(), Bystander()
    measurements: list[Measurement] = []
    probes = build_probes(plan, folder)
    budget = Budget(None if plan.minutes is None else 60 * plan.minutes, len(probes))
    for probe in probes:
        family = probe.name.partition(":")[0]
        able = sum(probe.refuse(s) is None for s in plan.subjects)
        again = f"{plan.command} --only {family} --out again"
        with progress.task(f"Measuring {probe.title.lower()}", probe.rounds * able) as step:
            measurements += run_probe(probe, plan.subjects, again, step, kept=kept, budget=budget, elsewhere=away)
        bystander.look()
    machine |= bystander.told()
    measurements = [_placed(m, machine) for m in measurements]
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
        "notes": [
            *plan.notes, *([away.note()] if away else []),
            *([FOREIGN_NOTE] if any(s.foreign for s in plan.subjects) else []), *warnings_of(machine),
        ],
        "machine": machine,
        "data": plan.fingerprints(),
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
    if kept:
        kept.move_into(folder)
    with progress.task("Writing the report", 1) as step:
        write_report(results, folder)
        step("done")
    return results


def _placed(m: Measurement, machine: Mapping[str, Any]) -> Measurement:
    """The measurement, which says what it was made on: this machine, or those of a cluster, of the same kind."""
    if m.value is None:
        return m
    away = sorted({place for place in m.rounds_on or () if place})
    told = f"{machine['processor']}: {', '.join(away)}" if away else named_machine(machine)
    return msgspec.structs.replace(m, machine=told)


def report_again(
    results: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    claims: str | os.PathLike[str] = "default",
    weights: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Verdict, claims, page and report out of an audit's results, or those of several audits as one
    (:mod:`halbert.compare.merging`), without measuring anything; the results' own weights unless others are given.

    Raises :class:`InputError` for results that no audit wrote. Returns what the new ``results.json`` holds.
    """
    if overwrite:
        check_report(out, overwrite, resume=True)  # an audit at work beside it is left alone
    else:
        check_target(out)
    several = [results] if isinstance(results, str | os.PathLike) else list(results)
    found = read_results(several[0]) if len(several) == 1 else merge([read_results(each) for each in several])
    order = [s["name"] for s in found["subjects"]]
    comparisons = msgspec.convert(found["comparisons"], list[Comparison])
    found["weights"] = dict(weights or found.get("weights") or {})
    found["verdict"] = msgspec.to_builtins(judge(measurements_of(found), comparisons, order, found["weights"]))
    found["claims"] = answer_all(read_claims(claims), found)
    with whole_folder(out, overwrite) as folder:
        write_json(folder / "results.json", found)
        write_report(found, folder)
        own, first = Path(out).resolve(), Path(several[0]).resolve()
        if own in (first, first.parent):  # samples and data stay with their report
            _keep_others(own, folder)
    return found


def _keep_others(old: Path, new: Path) -> None:
    for entry in old.iterdir():
        if not (new / entry.name).exists():
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, new / entry.name)


def describe_subject(subject: Subject) -> dict[str, Any]:
    """What the report says of a model: spec, parameters by part, training and its curve."""
    spec = subject.bundle.spec
    parts = spec.encoder.count_parameters()
    *before, training = pretrainings(subject.bundle.provenance)
    earlier = [{k: t[k] for k in ("tokens", "seconds", "precision")} for t in before if t.get("kind") == "pretraining"]
    return {
        "name": subject.name,
        "description": subject.description,
        "spec": spec.flat(),
        "tokenizer": subject.bundle.tokenizer.fingerprint,
        "parameters": {"encoder": encoder_total(parts), "by_part": parts},
        "learnt_from": learnt_from(subject.bundle, subject.name),
        "heads": {name: head.kind for name, head in subject.bundle.heads.items()},
        "training": {k: v for k, v in training.items() if k != "journal"} | ({"before": earlier} if earlier else {}),
        "curve": [
            {k: entry[k] for k in ("tokens", "seconds", "masked_loss", "masked_accuracy") if k in entry}
            for entry in training.get("journal", [])
        ],
    }


__all__ = [
    "Comparison", "Plan", "Verdict", "compare", "read_results", "regressions", "report_again", "run_plan",
]  # fmt: skip
