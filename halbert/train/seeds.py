"""The seeds of a fine-tuning, each by a worker of a cluster: model and data go out with the work, the tuned model comes back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from halbert.bundle import Bundle
from halbert.cluster import Cluster
from halbert.data.labelled import DataFile
from halbert.tasks.table import get_task
from halbert.train.recipe import FinetuneRecipe


class Tuning(NamedTuple):
    """What all seeds have in common; ``files`` are names and bytes of the training and the dev file."""

    bundle: Bundle
    task: str
    recipe: FinetuneRecipe
    columns: dict[str, Any]
    files: tuple[tuple[str, bytes], tuple[str, bytes]]


class Worker:
    """Fine-tunes with one seed after the other; ``tune`` is :func:`halbert.train.finetuning.finetune_once`."""

    def __init__(self, tuning: Tuning, tune: Callable[..., Any]) -> None:
        self.tuning, self.tune = tuning, tune

    def __call__(self, seed: int) -> tuple[int, Any]:
        """The seed and its run."""
        told, task = self.tuning, get_task(self.tuning.task)
        with tempfile.TemporaryDirectory() as place:
            paths = []
            for part, (name, data) in zip(("train", "dev"), told.files, strict=True):
                paths.append(Path(place) / part / name)
                paths[-1].parent.mkdir()
                paths[-1].write_bytes(data)
            train, dev = (DataFile(path, task.form, columns=told.columns, header=task.header) for path in paths)
            run = self.tune(
                told.bundle, task, train, dev, msgspec.structs.replace(told.recipe, seed=seed), where=told.files[0][0]
            )
        return seed, run

    def named(self, seed: int) -> str:
        """What an item is, for people."""
        return f"seed {seed}"


def spread_seeds(
    connect: Callable[[], Cluster], tuning: Tuning, tune: Callable[..., Any], seeds: Sequence[int]
) -> Iterator[tuple[int, Any]]:
    """(seed, run) of each as it is finished, one core a seed."""
    with connect() as cluster:
        yield from cluster.stream(list(seeds).__iter__, Worker, (tuning, tune), workers=len(seeds))
