"""Batches made ahead of the step that needs them, by processes of their own, in an order that does not depend on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from halbert.data.instances import PretrainBatch
from halbert.data.plan import Plan, Position
from halbert.errors import HalbertError
from halbert.processes import ASKED, follow

AHEAD = 4  # batches that each worker has ready


class Loaded(NamedTuple):
    """A batch, and the position that follows it and those that the other processes have beside it."""

    batch: PretrainBatch
    after: Position


class Share(IterableDataset[Loaded | HalbertError]):
    """One process's batches: of every ``size`` micro-batches the one numbered ``rank``, from a position on."""

    def __init__(self, plan: Callable[[], Plan], position: Position, rank: int, size: int) -> None:
        self.plan, self.position, self.rank, self.size = plan, position, rank, size

    def __iter__(self) -> Iterator[Loaded | HalbertError]:
        """A fault of the corpus comes as what it is: as an exception torch would wrap it into a worker's traceback."""
        try:
            yield from self._batches()
        except HalbertError as fault:
            yield fault

    def _batches(self) -> Iterator[Loaded]:
        told = get_worker_info()
        number, workers = (told.id, told.num_workers) if told else (0, 1)
        walk = self.plan().walk(self.position)
        for turn in itertools.count():
            group = list(itertools.islice(walk, self.size))
            if turn % workers == number:
                window, offset, _ = group[self.rank]
                yield Loaded(window.batch(offset), group[-1][2])


def loaded(
    plan: Callable[[], Plan], position: Position, *, rank: int = 0, size: int = 1, workers: int = 0
) -> Generator[Loaded]:
    """Batches without end. ``plan`` is called in each worker process, so that files are opened there.

    With ``size`` processes each of them gets every ``size``-th batch; positions count the batches of all. The workers end
    when this is closed: at the end of the program it would be too late, since they do not heed SIGTERM.
    """
    share: Iterable[Loaded | HalbertError] = Share(plan, position, rank, size)
    if workers:
        share = DataLoader(
            share, batch_size=None, num_workers=workers, prefetch_factor=AHEAD, collate_fn=_as_it_is,
            worker_init_fn=_begin,
        )  # fmt: skip
    for found in share:
        if isinstance(found, HalbertError):
            raise found
        yield found


def _begin(_: int) -> None:
    follow(*ASKED)  # the run saves when it is asked to stop, and the step that it finishes needs its batch


def _as_it_is(found: Any) -> Any:
    return found
