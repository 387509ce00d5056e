"""An engine that is many: batches go to the workers of a cluster and come back in their order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from halbert.data.batches import Rows
from halbert.errors import HalbertError
from halbert.run.backend import Backend
from halbert.run.predictor import Predictor, open_backend

if TYPE_CHECKING:
    from halbert.cluster import Cluster

# Most batches of one item. Between two items the streams of an engine have less to do, so that more in one are better; but
# each worker gets many items where it can, so that none waits long for another's last.
TOGETHER = 128
_SHARES = 16


class Worker:
    """Batches answered in a process of a cluster, by an engine of the same kind."""

    def __init__(self, bundle: Any, outputs: list[str], how: dict[str, Any], kind: dict[str, Any]) -> None:
        self.backend, self.outputs = open_backend(bundle, **how), outputs
        if (own := kind_of(self.backend)) != kind:
            raise HalbertError(f"a worker computes by {own}, this machine by {kind}; install the same")

    def __call__(self, item: tuple[int, list[Rows]]) -> tuple[int, list[dict[str, np.ndarray]]]:
        """The outputs of an item's batches, and the number of the first."""
        first, batches = item
        return first, list(self.backend.stream(batches, self.outputs))

    def named(self, item: tuple[int, list[Rows]]) -> str:
        """What an item is, for people."""
        first, batches = item
        return f"batches {first:,} to {first + len(batches) - 1:,}"


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
        if not (read := list(batches)):
            return
        early: dict[int, list[dict[str, np.ndarray]]] = {}
        wanted = 0
        with self.connect() as cluster:
            cores = self.threads or min(cluster.nodes(), default=1)
            workers = sum(count // cores for count in cluster.nodes())
            size = min(TOGETHER, len(read) // (_SHARES * max(1, workers)) + 1)
            items = [(first, read[first : first + size]) for first in range(0, len(read), size)]
            how = {**self.how, "threads": cores}
            arguments = (self.bundle, list(outputs), how, kind_of(self.own))
            source = functools.partial(_held, cluster.ray.put(items))  # what a task is told is for a few kilobytes
            for first, found in cluster.stream(source, Worker, arguments, cpus=cores, alike=True):
                early[first] = found
                while (ready := early.pop(wanted, None)) is not None:
                    yield from ready
                    wanted += len(ready)
