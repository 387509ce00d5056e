"""The default audit: the models in the box, on a task made of the documentation inside the installed packages."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from halbert.cluster import ClusterLike
from halbert.compare import named
from halbert.compare.audit import TEXTS, open_subjects, run_kept
from halbert.compare.claims import read_claims
from halbert.compare.documented import read_task
from halbert.compare.kept import check_report
from halbert.compare.plan import (
    PROBES,
    DepthName,
    Plan,
    Progress,
    Silent,
    check_probes,
    command_for,
    depth_of,
    write_rows,
)
from halbert.data.documentation import LIBRARIES
from halbert.data.readers import Example
from halbert.run.backend import Precision
from halbert.train.recipe import FinetuneRecipe

MODELS = ("bert-mini-en", "albert-mini-en")
MULTILINGUAL = ("bert-mini-100", "albert-mini-100")
FINETUNING = FinetuneRecipe(epochs=4, learning_rate=3e-4, batch_size=16, length=64)
_NOTE = (
    "Both models learnt from the same text with the same tokenizer, in the same number of steps, and have the same shape, "
    "masking and sentence objective ({}): what differs is one parameter group for all layers or one for each, and the width "
    "of the embeddings. Equal shape favours the one with more parameters. They are small (hours on two cores): what "
    "holds between them is evidence about the two designs at this size, not about the released models."
)
NOTE, MULTILINGUAL_NOTE = _NOTE.format("SOP"), _NOTE.format("none")
LANGUAGES_NOTE = (
    "Learnt from English names of countries, languages and currencies, and judged by other names, in English and in 138 other "
    "languages. Names are short, and say little about sentences."
)


def default_audit(
    *,
    out: str | os.PathLike[str],
    models: Sequence[str] | None = None,
    languages: bool = False,
    depth: DepthName = "usual",
    seeds: int | None = None,
    minutes: float | None = None,
    precision: Precision = "auto",
    threads: int | None = None,
    recipe: FinetuneRecipe = FINETUNING,
    probes: Sequence[str] = PROBES,
    libraries: tuple[str, ...] = LIBRARIES,
    claims: str | os.PathLike[str] = "default",
    weights: Mapping[str, float] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    cluster: ClusterLike | None = None,
) -> dict[str, Any]:
    """Audit the models in the box; the labelled rows are written to ``out/data``. Returns what ``results.json`` holds.

    With ``languages`` on CLDR's names (:mod:`halbert.compare.named`), by any ``models`` or by the multilingual pair in the box.
    """
    check_report(out, overwrite, resume)
    asked, wanted, looks = read_claims(claims), check_probes(probes), depth_of(depth, seeds)
    progress = progress or Silent()
    ours = not models
    models = models or (MULTILINGUAL if languages else MODELS)
    names: dict[str, list[Example]] = {}
    if languages:
        with progress.task("Reading names", 1) as step:
            task, names = named.read_task(), named.read_names()
            step("CLDR")
        texts = [e.text for e in random.Random(0).sample(task.abroad, min(TEXTS, len(task.abroad)))]
    else:
        _, task = read_task(libraries, progress)
        texts = [e.text for e in task.test][:TEXTS]
    notes = [
        note for note, fits in ((LANGUAGES_NOTE, languages), (MULTILINGUAL_NOTE if languages else NOTE, ours)) if fits
    ]
    home = f"{Path(out).name}/data"

    def plan_in(folder: Path) -> Plan:
        written = task.write(folder / "data")
        data, test, *abroad = ([f"{home}/{file.name}"] for file in written)
        if names:
            written.append(write_rows([e for some in names.values() for e in some], folder / "data/names.csv"))
        command = command_for(
            models, ["classify"], data, test, transfer=abroad[0] if abroad else (),
            parallel=f"{home}/names.csv" if names else None, seeds=seeds, depth=depth,
            precision=precision, threads=threads, recipe=recipe, claims=claims, weights=weights,
        )  # fmt: skip
        return Plan(
            subjects=open_subjects(models, folder / "models"), tasks=[task], texts=texts, texts_from=task.where,
            parallel=names, parallel_from=task.where, probes=wanted, command=command, depth=looks, minutes=minutes,
            notes=notes, precision=precision, threads=threads, recipe=recipe,
            claims=asked, weights=dict(weights or {}),
        )  # fmt: skip

    return run_kept(plan_in, out, overwrite, resume, progress, cluster=cluster)
