"""An engine that is many: batches go to the workers of a cluster and come back in their order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from halbert.data.batches import Rows
from halbert.errors import HalbertError
from halbert.run.backend import Backend
from halbert.run.parts import chunks
from halbert.run.predictor import Predictor, open_backend

if TYPE_CHECKING:
    from halbert.cluster import Cluster

TOGETHER = 32  # batches of one item: a worker has something to do for longer than it takes to send it


class Worker:
    """Batches answered in a process of a cluster, by an engine of the same kind."""

    def __init__(self, bundle: Any, outputs: list[str], how: dict[str, Any], kind: dict[str, Any]) -> None:
        self.backend, self.outputs = open_backend(bundle, **how), outputs
        if (own := kind_of(self.backend)) != kind:
            raise HalbertError(f"a worker computes by {own}, this machine by {kind}; install the same")

    def __call__(self, item: tuple[int, list[Rows]]) -> tuple[int, list[dict[str, np.ndarray]]]:
        """The outputs of an item's batches, and its number."""
        number, batches = item
        return number, list(self.backend.stream(batches, self.outputs))

    def named(self, item: tuple[int, list[Rows]]) -> str:
        """What an item is, for people."""
        number, batches = item
        return f"batches {TOGETHER * number:,} to {TOGETHER * number + len(batches) - 1:,}"


def _held(items: Any) -> Iterator[Any]:
    """What a reference is to."""
    import ray

    return iter(ray.get(items))


def kind_of(backend: Backend) -> dict[str, Any]:
    """By what an engine computes, but for the number of threads, which changes nothing."""
    return {name: value for name, value in backend.describe().items() if name != "threads"}


class SpreadBackend:
    """A backend whose streams are computed on a cluster; a single batch is computed here."""

    def __init__(self, predictor: Predictor, connect: Callable[[], Cluster], threads: int | None, **how: Any) -> None:
        self.own, self.bundle, self.connect = predictor.backend, predictor.bundle, connect
        self.threads, self.how = threads, how
        self.favoured = self.own.favoured
        self.describe = self.own.describe

    def forward(self, batch: Rows, outputs: Sequence[str], places: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See :class:`halbert.run.backend.Backend`."""
        return self.own.forward(batch, outputs, places)

    def stream(self, batches: Iterable[Rows], outputs: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See :class:`halbert.run.backend.Backend`. All batches are read before the first is sent."""
        items = list(enumerate(chunks(batches, TOGETHER)))
        early: dict[int, list[dict[str, np.ndarray]]] = {}
        wanted = 0
        with self.connect() as cluster:
            cores = self.threads or min(cluster.nodes(), default=1)
            how = {**self.how, "threads": cores}
            arguments = (self.bundle, list(outputs), how, kind_of(self.own))
            source = functools.partial(_held, cluster.ray.put(items))  # what a task is told is for a few kilobytes
            for number, found in cluster.stream(source, Worker, arguments, cpus=cores, alike=True):
                early[number] = found
                while wanted in early:
                    yield from early.pop(wanted)
                    wanted += 1
