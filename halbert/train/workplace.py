"""Where a fine-tuning keeps what it needs to go on: ``OUT.training``, beside the bundle it makes, until that is there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from halbert.errors import Diverged, InputError
from halbert.files import check_target, hold, read_json, write_json
from halbert.train.checkpoints import Checkpoints
from halbert.train.journal import Journal, Report
from halbert.train.recipe import FinetuneRecipe

FREE = {"checkpoint_every", "log_every"}  # may be another when a run goes on: they change no weight

_TOLD = {
    "train_sha256": "the training file",
    "dev_sha256": "the dev file",
    "base": "the model",
    "weights": "the model's files",
}


class Workplace:
    """The folder of a fine-tuning, with a folder for each seed.

    Raises :class:`InputError` when ``out`` holds something, when there is a run that ``resume`` was not asked for, or one
    of other values.
    """

    def __init__(self, out: str | os.PathLike[str], recipe: FinetuneRecipe, told: dict[str, Any], resume: bool) -> None:
        self.out = check_target(out)
        self.place = Path(f"{self.out}.training")
        file = self.place / "recipe.json"
        values = {**json.loads(msgspec.json.encode(recipe)), **told}
        if self.place.exists() and not resume:
            raise InputError(f"{self.place}: holds a run already; go on with it by --resume, or remove it")
        if file.exists():
            before = read_json(file)
            keys = values.keys() | before.keys()
            other = sorted(
                _TOLD.get(k, k) for k in keys if before.get(k, values.get(k)) != values.get(k) and k not in FREE
            )
            if other:
                raise InputError(
                    f"{self.place}: its run was started with other values of {', '.join(other)}; resume it with the same"
                )
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            self._lock = hold(
                self.place / "lock", f"{self.place}: another process is at this run; wait for it, or stop it"
            )
            write_json(file, values)
        except OSError as error:
            raise InputError(f"{self.place}: cannot be written: {error.strerror}") from None

    def seed(self, seed: int) -> Path:
        """The folder of one seed's run."""
        return self.place / f"seed-{seed}"

    def run(self, seed: int) -> Path:
        """What is kept of a seed's run once it is finished."""
        return self.seed(seed) / "run.json"

    def checkpoints(self, seed: int) -> Checkpoints:
        """One seed's checkpoints."""
        return Checkpoints(self.seed(seed) / "checkpoints", 1)

    def journal(self, seed: int, report: Report | None) -> Journal:
        """One seed's journal."""
        self.seed(seed).mkdir(parents=True, exist_ok=True)
        return Journal(self.seed(seed) / "journal.jsonl", report)

    def restarts(self, seed: int) -> list[dict[str, Any]]:
        """What was tried before with this seed, and why it was given up."""
        file = self.seed(seed) / "restarts.json"
        found: list[dict[str, Any]] = read_json(file) if file.exists() else []
        return found

    def restart(self, seed: int, restarts: list[dict[str, Any]]) -> None:
        """Forget the seed's run, and note why."""
        shutil.rmtree(self.seed(seed), ignore_errors=True)
        write_json(self.seed(seed) / "restarts.json", restarts)

    def leave(self, error: BaseException) -> None:
        """After a failure: what could be gone on from stays, anything else goes."""
        kept = any(self.place.glob("seed-*/checkpoints/step-*")) or any(self.place.glob("seed-*/run.json"))
        if not kept or isinstance(error, Diverged):
            self.remove()
        self._lock.close()

    def remove(self) -> None:
        """The bundle is there, or nothing is: the folder goes."""
        self._lock.close()
        shutil.rmtree(self.place, ignore_errors=True)
