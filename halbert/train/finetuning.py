"""Fine-tuning: a bundle, a task and labelled files in, a bundle with a head out."""

from __future__ import annotations

import functools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from halbert.bundle import Bundle
from halbert.cluster import ClusterLike, connection
from halbert.data.features import Cut
from halbert.data.labelled import DataFile
from halbert.data.readers import Example
from halbert.errors import Diverged, SpecError
from halbert.files import check_target, read_json, sha256, write_json
from halbert.heads import HeadSpec
from halbert.model.arrays import arrays_of
from halbert.source import load_bundle, resolve_bundle
from halbert.spec import EncoderSpec, from_dict
from halbert.tasks.metrics import Score, score
from halbert.tasks.table import Task, get_task
from halbert.train.journal import Journal, Report
from halbert.train.loop import Run
from halbert.train.objectives import task_loss
from halbert.train.portions import Portions
from halbert.train.prepared import Prepared, judge, prepare, silent, start_model, value_of, wanted_of, with_threshold
from halbert.train.recipe import FinetuneRecipe
from halbert.train.seeds import Tuning, spread_seeds
from halbert.train.watch import Best, Found, Watch
from halbert.train.workplace import Workplace

RESTARTS = 1


class FinetuneRun(msgspec.Struct, frozen=True, kw_only=True):
    """One seed's outcome: the bundle, its dev scores by metric, the summary of the loop, what was cut.

    ``restarts`` says which tries diverged, and why; ``failure`` is not empty where the last one did too.
    """

    bundle: Bundle
    scores: dict[str, Score]
    summary: dict[str, Any]
    cut: Cut = Cut()
    restarts: tuple[dict[str, Any], ...] = ()
    failure: str = ""
    notes: tuple[str, ...] = ()


RATES = ((256, 3e-4), (512, 1e-4), (768, 5e-5), (1024, 2e-5), (10**9, 1e-5))  # up to a width
NARROWEST = 768  # of the ALBERTs that table 14 was found with


def usual_rate(spec: EncoderSpec) -> float:
    """The learning rate a width is usually tuned with: the papers' grids, and what users found for the widest.

    BERT paper A.3 (768 and 1024), google-research/bert README (small models: 3e-4 and 1e-4 are the highest of its grid;
    what the narrowest gain is in docs/decisions.md, 68), ALBERT paper table 14 and google-research#151 (2048 and wider: at
    most 1e-5).
    """
    return next(rate for width, rate in RATES if spec.hidden_size <= width)


def usual_recipe(task: Task, spec: EncoderSpec, changes: dict[str, Any] | None = None) -> FinetuneRecipe:
    """A task's usual settings for an encoder, with ``changes`` put over them.

    Encoders that share layers and are as wide as ALBERT's own (768 and more) have those of its paper's table 14, where the
    task has them. Raises :class:`SpecError` for a field or a value that cannot be.
    """
    shares = spec.hidden_size >= NARROWEST and (
        spec.groups("attention") < spec.num_hidden_layers or spec.groups("ffn") < spec.num_hidden_layers
    )
    fields = dict(task.shared) if shares and task.shared else {"learning_rate": usual_rate(spec), **task.usual}
    if spec.hidden_size < NARROWEST and "learning_rate" in task.usual:  # which is one of 768
        fields["learning_rate"] = round(task.usual["learning_rate"] * usual_rate(spec) / dict(RATES)[NARROWEST], 9)
    fields["length"] = min(int(fields.get("length", FinetuneRecipe().length)), spec.max_position_embeddings)
    return from_dict(FinetuneRecipe, {**fields, **(changes or {})}, "--set")


def second_try(recipe: FinetuneRecipe, spec: EncoderSpec) -> FinetuneRecipe:
    """What is tried after a run has diverged: the usual rate of the width, or a third of one that was no higher, and twice
    the warm-up."""
    usual = usual_rate(spec)
    rate = usual if recipe.learning_rate > 1.5 * usual else recipe.learning_rate / 3
    return msgspec.structs.replace(recipe, learning_rate=rate, warmup_share=min(0.5, max(0.1, 2 * recipe.warmup_share)))


def finetune_once(
    bundle: Bundle,
    task: Task,
    train: Iterable[Example],
    dev: Iterable[Example],
    recipe: FinetuneRecipe,
    *,
    where: str = "training data",
    report: Report | None = None,
    prepared: Prepared | None = None,
    workplace: Workplace | None = None,
) -> FinetuneRun:
    """Fine-tune with one seed and score on ``dev``; a run that diverges is restarted once (``second_try``).

    ``prepared`` data are not read again; in a ``workplace`` the run goes on from its last checkpoint. Raises
    :class:`InputError` for data that cannot be used.
    """
    prepared = prepared or prepare(bundle, task, train, dev, recipe, where)
    restarts = workplace.restarts(recipe.seed) if workplace else []
    for _ in restarts:
        recipe = second_try(recipe, bundle.spec.encoder)
    while True:
        attempt = _Attempt(bundle, prepared, recipe, report, workplace)
        try:
            attempt.take()
            return attempt.result(restarts)
        except Diverged as reason:
            if recipe.on_divergence != "restart" or len(restarts) >= RESTARTS:
                return attempt.result(restarts, str(reason))
            restarts.append(
                {"reason": str(reason), "learning_rate": recipe.learning_rate, "warmup_share": recipe.warmup_share}
            )
            if workplace:
                workplace.restart(recipe.seed, restarts)
            recipe = second_try(recipe, bundle.spec.encoder)


class _Attempt:
    """One training from the beginning, or from its checkpoint, to its end."""

    def __init__(
        self,
        bundle: Bundle,
        prepared: Prepared,
        recipe: FinetuneRecipe,
        report: Report | None,
        workplace: Workplace | None,
    ) -> None:
        self.bundle, self.prepared, self.recipe = bundle, prepared, recipe
        self.head = prepared.head
        self.began, self.best_step = time.perf_counter(), 0
        model = start_model(bundle, self.head, recipe.seed, recipe).to("cuda" if torch.cuda.is_available() else "cpu")
        make = functools.partial(
            Portions, prepared.task.form, tokenizer=bundle.tokenizer, batch_size=recipe.batch_size, seed=recipe.seed,
            most=bundle.spec.encoder.max_position_embeddings, spec=bundle.spec.pretraining,
        )  # fmt: skip
        self.portions, self.dev = make(features=prepared.train), make(features=prepared.dev)
        steps = recipe.steps or recipe.epochs * self.portions.an_epoch
        seed, task = recipe.seed, prepared.task
        self.run = Run(
            model, functools.partial(task_loss, task.form, wanted_of(prepared, recipe)), recipe, steps=steps,
            warmup=recipe.warmup_of(steps), seed=seed,
            journal=workplace.journal(seed, report) if workplace else Journal(None, report),
            checkpoints=workplace.checkpoints(seed) if workplace else None,
        )  # fmt: skip
        self.run.save_last = False
        every = recipe.evaluate_every or self.portions.an_epoch
        evaluate = self._evaluate if len(prepared.dev) else None
        self.run.watch = self.watch = Watch(
            recipe, prepared.trivial, evaluate, every, Best(workplace.seed(seed) if workplace else None)
        )

    def _evaluate(self) -> Found:
        found = judge(self.run.model, self.prepared, self.dev, self.head, self.run.precision)
        return Found(value_of(self.prepared.metrics[0], found), found.uniform)

    def take(self) -> None:
        """All steps; then the best weights, where the recipe wants them."""
        self.run.resume(self.run.checkpoints.latest() if self.run.checkpoints else None)
        self.run.take(self.portions.batches(self.run.progress.step))
        self.best_step = self.watch.finish(self.run)

    def result(self, restarts: Sequence[dict[str, Any]], failure: str = "") -> FinetuneRun:
        """The tuned bundle and its scores; of a run that has diverged, as they were then.

        Raises :class:`Diverged` where the scores show that nothing was learnt, unless a ``failure`` is known already.
        """
        run, prepared, recipe, now = self.run, self.prepared, self.recipe, self.run.progress
        scores: dict[str, Score] = {}
        if len(prepared.dev):
            found = judge(run.model, prepared, self.dev, self.head, run.precision)
            self.head, found = with_threshold(self.head, found)
            reason = silent(self.head, found)
            if reason and not failure and recipe.on_divergence != "ignore":
                raise Diverged(f"step {now.step:,} of {run.steps:,}: {reason}")
            scores = {name: score(name, found.truth, found.guess) for name in prepared.metrics}
        else:
            scores = {name: score(name, [], []) for name in prepared.metrics}
        summary = {
            "steps": now.step, "tokens": now.tokens, "seconds": now.seconds, "precision": run.precision,
            "padding": round(1 - now.tokens / max(1, now.places), 4), "best_step": self.best_step,
            "evaluations": now.watched.get("evaluations", []), "trivial_loss": prepared.trivial,
        }  # fmt: skip
        heads: dict[str, HeadSpec] = {} if self.head is None else {self.head.kind: self.head}
        embeds = self.head is None
        tuned = Bundle(
            msgspec.structs.replace(self.bundle.spec, encoder=run.model.spec), self.bundle.tokenizer, arrays_of(run.model),
            heads, name=self.bundle.name, origins=self.bundle.origins, warnings=self.bundle.warnings,
            pooling="mean", normalize=embeds,
            provenance={
                "base": self.bundle.as_base(),
                "training": {
                    "kind": "finetuning", "task": prepared.task.kind, "data_set": prepared.task.name,
                    "recipe": msgspec.to_builtins(recipe), "examples": prepared.survey.count,
                    "cut": prepared.train.cut.rows, **summary, "restarts": list(restarts), "failure": failure,
                    "dev": msgspec.to_builtins(scores), "journal": run.journal.entries,
                },
            },
        )  # fmt: skip
        return FinetuneRun(
            bundle=tuned,
            scores=scores,
            summary=summary,
            cut=prepared.train.cut,
            restarts=tuple(restarts),
            failure=failure,
            notes=prepared.notes,
        )


def finetune(
    model: str | Bundle,
    *,
    train: str | os.PathLike[str],
    dev: str | os.PathLike[str],
    out: str | os.PathLike[str],
    task: str = "classify",
    recipe: FinetuneRecipe | None = None,
    seeds: int = 1,
    columns: dict[str, Any] | None = None,
    changes: dict[str, Any] | None = None,
    resume: bool = False,
    report: Report | None = None,
    tell: Callable[[str], None] | None = None,
    cluster: ClusterLike | None = None,
) -> list[FinetuneRun]:
    """Fine-tune with ``seeds`` seeds and save the run whose first metric is the median; return all runs.

    Without a ``recipe`` the task's usual one for this encoder is taken, with ``changes``. ``columns`` says what the files
    call their columns. Until the bundle is there, ``OUT.training`` holds what a run needs to go on (``resume``). ``tell``
    is given lines for people. With ``cluster`` (:func:`halbert.cluster.connection`) its workers take a seed each.

    Raises :class:`InputError` for unusable files before anything is trained, and :class:`Diverged` when every seed has
    diverged.
    """
    if seeds < 1:
        raise SpecError(f"seeds is {seeds}; expected at least 1")
    row = get_task(task)
    called = {**row.columns, **(columns or {})}
    files = (
        DataFile(train, row.form, columns=called, header=row.header),
        DataFile(dev, row.form, columns=called, header=row.header),
    )
    bundle = model if isinstance(model, Bundle) else resolve_bundle(model)
    bundle.check_writable()
    recipe = recipe or usual_recipe(row, bundle.spec.encoder, changes)
    check_target(out)
    prepared = prepare(bundle, row, files[0], files[1], recipe, str(train), str(dev))
    told = {
        "task": row.title, "columns": {name: str(column) for name, column in called.items()},
        "base": bundle.name, "tokenizer": bundle.tokenizer.fingerprint,
        "weights": bundle.provenance.get("files", {}), "train_sha256": sha256(Path(train)), "dev_sha256": sha256(Path(dev)),
    }  # fmt: skip
    if resume and tell and not Path(f"{out}.training").exists():
        tell(f"{out}.training: nothing to go on with; beginning")
    workplace = Workplace(out, recipe, told, resume)
    try:
        for line in prepared.notes if tell else ():
            tell(line)  # type: ignore[misc]
        connect = connection(cluster)
        if connect is not None:
            named = tuple((Path(file).name, Path(file).read_bytes()) for file in (train, dev))
            tuning = Tuning(bundle, task, recipe, called, named)  # type: ignore[arg-type]
            left = [recipe.seed + i for i in range(seeds) if not workplace.run(recipe.seed + i).exists()]
            for seed, run in spread_seeds(connect, tuning, finetune_once, left):
                _keep(run, workplace.run(seed))
                if tell:
                    tell(f"seed {seed}: done")
        runs = [_seed(bundle, prepared, recipe, i, report, workplace, seeds > 1) for i in range(seeds)]
        good = [run for run in runs if not run.failure]
        if not good:
            raise Diverged(_explain(runs, recipe))
        chosen = middle(good, prepared.metrics[0])
        chosen.bundle.replace(name=Path(out).name).save(out)
    except BaseException as error:
        workplace.leave(error)
        raise
    workplace.remove()
    return runs


def _seed(
    bundle: Bundle, prepared: Prepared, recipe: FinetuneRecipe, number: int, report: Report | None, workplace: Workplace,
    several: bool,
) -> FinetuneRun:  # fmt: skip
    """The run of one seed, or what is kept of it when it was finished before."""
    seed = recipe.seed + number
    done = workplace.run(seed)
    if done.exists():
        found = msgspec.convert(read_json(done), dict[str, Any])
        scores = msgspec.convert(found.pop("scores"), dict[str, Score])
        return FinetuneRun(
            bundle=load_bundle(done.parent / "bundle"), scores=scores, cut=Cut(*found.pop("cut")),
            restarts=tuple(found.pop("restarts")), notes=tuple(found.pop("notes")), **found,
        )  # fmt: skip
    run = finetune_once(
        bundle, prepared.task, (), prepared.examples, msgspec.structs.replace(recipe, seed=seed), report=report,
        prepared=prepared, workplace=workplace,
    )  # fmt: skip
    if several:
        _keep(run, done)
    return run


def _keep(run: FinetuneRun, done: Path) -> None:
    """A finished seed, for when the others are."""
    run.bundle.save(done.parent / "bundle", overwrite=True)
    kept = {name: value for name, value in msgspec.structs.asdict(run).items() if name != "bundle"}
    write_json(done, msgspec.to_builtins(kept))


def middle(runs: Sequence[FinetuneRun], metric: str) -> FinetuneRun:
    """The run with the median of a metric; of an even number the lower of the two, of equals the first."""
    values = [_known(run.scores[metric].value) for run in runs]
    return runs[values.index(statistics.median_low(values))]


def _known(value: float | None) -> float:
    return -math.inf if value is None else value


def _explain(runs: Sequence[FinetuneRun], recipe: FinetuneRecipe) -> str:
    tried = [*(row["reason"] for run in runs[:1] for row in run.restarts), runs[0].failure]
    return (
        f"{len(runs)} of {len(runs)} runs did not learn, and no model was written. {'; then, restarted: '.join(tried)}. "
        f"Try another learning_rate than {recipe.learning_rate:g} (lower for a large model; several times higher for a narrow or "
        "little trained one), more steps (epochs), a longer warm-up (warmup_share), or look at the labels; "
        "on_divergence=ignore trains on regardless"
    )


def spread(runs: Sequence[FinetuneRun]) -> dict[str, Any]:
    """Over seeds: the first metric's median, lowest and highest among the runs that learnt, and the share that did not."""
    good = [run for run in runs if not run.failure]
    metric = next(iter(runs[0].scores))
    values = [run.scores[metric].value for run in good]
    known = sorted(value for value in values if value is not None)
    return {
        "metric": metric, "seeds": len(runs), "failed": (len(runs) - len(good)) / len(runs),
        "restarted": sum(bool(run.restarts) for run in runs),
        "median": statistics.median(known) if known else None, "low": known[0] if known else None,
        "high": known[-1] if known else None,
    }  # fmt: skip
