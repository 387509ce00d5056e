"""The default audit: the models in the box, on a task made of the documentation inside the installed packages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from halbert.compare.audit import TEXTS, open_subjects, run_kept
from halbert.compare.claims import read_claims
from halbert.compare.documented import WHERE, read_task
from halbert.compare.plan import PROBES, DepthName, Plan, Progress, Silent, check_probes, command_for, depth_of
from halbert.data.documentation import LIBRARIES
from halbert.files import check_target
from halbert.run.backend import Precision
from halbert.train.recipe import FinetuneRecipe

MODELS = ("bert-mini-en", "albert-mini-en")
FINETUNING = FinetuneRecipe(epochs=4, learning_rate=3e-4, batch_size=16, length=64)
NOTE = (
    "Both models learnt from the same text with the same tokenizer, in the same number of steps, and have the same shape, "
    "masking and sentence objective (SOP): what differs is one parameter group for all layers or one for each, and the width "
    "of the embeddings. Equal shape favours the one with more parameters. They are small (hours on two cores): what "
    "holds between them is evidence about the two designs at this size, not about the released models."
)


def default_audit(
    *,
    out: str | os.PathLike[str],
    models: Sequence[str] = MODELS,
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
) -> dict[str, Any]:
    """Audit the models in the box; the labelled rows are written to ``out/data``. Returns what ``results.json`` holds."""
    check_target(out, overwrite or resume)
    asked, wanted, looks = read_claims(claims), check_probes(probes), depth_of(depth, seeds)
    progress = progress or Silent()
    _, task = read_task(libraries, progress)
    home = f"{Path(out).name}/data"

    def plan_in(folder: Path) -> tuple[Plan, list[Path]]:
        written = task.write(folder / "data")
        command = command_for(
            models, ["classify"], *([f"{home}/{file.name}"] for file in written), seeds=seeds, depth=depth,
            precision=precision, threads=threads, recipe=recipe, claims=claims, weights=weights,
        )  # fmt: skip
        plan = Plan(
            subjects=open_subjects(models, folder / "models"), tasks=[task], texts=[e.text for e in task.test][:TEXTS],
            texts_from=WHERE, probes=wanted, command=command, notes=[NOTE], depth=looks, minutes=minutes,
            precision=precision, threads=threads, recipe=recipe, claims=asked, weights=dict(weights or {}),
        )  # fmt: skip
        return plan, written

    return run_kept(plan_in, out, overwrite, resume, progress)
