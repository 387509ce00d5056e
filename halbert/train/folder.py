"""A run's folder: what it was started with, how it went, and its bundle at the end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import IO, Any

import msgspec
import torch

from halbert.bundle import Bundle
from halbert.data.corpus import Corpus
from halbert.errors import HalbertError, InputError
from halbert.files import check_target, hold, read_json, sha256, write_json
from halbert.train.checkpoints import Checkpoints
from halbert.train.distributed import World, mean_over
from halbert.train.journal import Journal, Report
from halbert.train.recipe import PretrainRecipe

# What may be another when a run goes on: it changes no weight.
FREE = {"corpus", "workers", "checkpoint_every", "keep_checkpoints", "log_every", "on_spike", "spike_factor"}


_AT_FIRST = {"long_sentences": "cut", "new_positions": "drawn"}  # before recipes could say otherwise
_PARALLEL = "start_parallel_sha256"
_START = "start_weights"
_CORPORA = {"corpus_sha256": "the corpus", _PARALLEL: "the parallel corpus", _START: "the model it starts from"}


def _changed(name: str, before: Any, now: Any) -> str:
    """A field that differs, with both its values; of a table those that differ in it."""
    if isinstance(before, dict) and isinstance(now, dict):
        both = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        return ", ".join(_changed(f"{name}.{key}", before.get(key), now.get(key)) for key in both)
    return f"{name} ({json.dumps(before)}, and now {json.dumps(now)})"


def check_begun(out: str | os.PathLike[str]) -> None:
    """Raises :class:`InputError` where a run is there, which is not begun anew."""
    if (Path(out) / "training/recipe.json").exists():
        raise InputError(f"{out}: holds a run already; go on with it by --resume, or choose another folder")


class RunFolder:
    """``out``, which is to hold the bundle, and ``out/training``, which holds the run.

    Raises :class:`InputError` when ``out`` holds something else, a run that ``resume`` was not asked for, or one of
    another recipe or corpus.
    """

    def __init__(
        self, out: str | os.PathLike[str], recipe: PretrainRecipe, corpus: Corpus, resume: bool, world: World,
        start_weights: str = "",
    ) -> None:  # fmt: skip
        self.out = Path(out)
        self.place = self.out / "training"
        self.checkpoints = Checkpoints(self.place / "checkpoints", recipe.keep_checkpoints)
        self._lock: IO[bytes] | None = None
        fault: HalbertError | None = None
        if world.first:
            try:
                self._begin(recipe, corpus, resume, start_weights)
            except HalbertError as error:
                fault = error
        refused = torch.full((1,), float(fault is not None), device=world.device)
        if mean_over(refused, world)[0] > 0:  # the others wait for this
            raise fault or HalbertError("the first process says why this run cannot begin")

    def _begin(self, recipe: PretrainRecipe, corpus: Corpus, resume: bool, start_weights: str) -> None:
        told: dict[str, Any] = {
            **json.loads(msgspec.json.encode(recipe.named())), "corpus": corpus.folder.name,
            "corpus_sha256": sha256(corpus.folder / "manifest.json"),
        }  # fmt: skip
        if start_weights:
            told[_START] = start_weights
        file = self.place / "recipe.json"
        parallel = Path(recipe.start_parallel) / "manifest.json"
        if recipe.start_parallel and parallel.exists():
            told[_PARALLEL] = sha256(parallel)
        if not resume:
            check_begun(self.out)
        if file.exists():
            # Fields that a recipe did not have when the run was begun are as if they were not there.
            defaults = {**json.loads(msgspec.json.encode(PretrainRecipe())), **_AT_FIRST}
            before = {**defaults, **read_json(file)}
            noted = before.get(_PARALLEL)  # not by older runs; one that has begun may not need its texts any more
            known = noted and told["start_parallel"] == before["start_parallel"]
            free = FREE if known and _PARALLEL in told else FREE | {_PARALLEL}
            if known:
                told.setdefault(_PARALLEL, noted)
            other = sorted(k for k in told.keys() | before.keys() if before.get(k) != told.get(k) and k not in free)
            if other:
                what = ", ".join(
                    _CORPORA.get(name) or _changed(name, before.get(name), told.get(name)) for name in other
                )
                further = (
                    f", or begin another run with what it has learnt: --set start={self.out}"
                    if (self.out / "halbert.json").exists()
                    else ""
                )
                raise InputError(
                    f"{self.out}: its run was started with other values of {what}; resume it with the same recipe{further}"
                )
        else:
            check_target(self.out)
        try:
            self.place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.out}: cannot be written: {error.strerror}") from None
        self._lock = hold(self.place / "lock", f"{self.out}: another process is at this run; wait for it, or stop it")
        write_json(file, told)

    def close(self) -> None:
        """Let others have the run."""
        if self._lock is not None:
            (self.place / "lock").unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def abandon(self) -> None:
        """After a failure: where there is no checkpoint there is nothing to go on from, and the folder goes."""
        self.close()
        if not self.checkpoints.steps() and self.place.exists():
            shutil.rmtree(self.place)
            if not any(self.out.iterdir()):
                self.out.rmdir()

    def journal(self, report: Report | None) -> Journal:
        """The run's journal, with TensorBoard's events."""
        return Journal(self.place / "journal.jsonl", report, self.place / "tensorboard")

    def finish(self, bundle: Bundle) -> None:
        """Put the bundle's files into ``out``; the one that makes it a bundle comes last."""
        part = self.place / "bundle"
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed here
        bundle.save(part)
        files = sorted(part.iterdir(), key=lambda file: file.name == "halbert.json")
        for file in files:
            target = self.out / file.name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(file, target)
        part.rmdir()
        self.close()
