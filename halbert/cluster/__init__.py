"""Work spread over machines by Ray (extra ``cluster``): what is to be done, and nothing of how it gets there.

A stream of items is read on the driver's own node, so that its files need be nowhere else; each is worked on by one of a pool
of workers, wherever they are; results come back to the driver, which writes them as it would its own. Ray Data does the
scheduling, holds back who is too fast, and gives to others what a lost worker was at.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from halbert.cluster.joining import TRIES, join, leave
from halbert.cluster.parcel import FAULT, packed, stream_of, unpacked
from halbert.cluster.parcel import Parcel as Parcel
from halbert.cluster.telling import in_a_line, quiet, shortened, told_in_lines
from halbert.errors import HalbertError, InputError
from halbert.version import __version__

Work = Callable[[Any], Any]
# Seconds without the head. Ray's core ends a process after a third more, without a word.
_PATIENCE = 0.75 * float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", 60))  # noqa: SIM112
_AHEAD = 2  # results that are fetched before they are wanted
_LATE = 5.0  # seconds after which a result may be one that was lost with its machine


# How every function that can use a cluster is told of it: see :func:`connection`.
ClusterLike = str | Callable[[], "Cluster"]


class Place(NamedTuple):
    """Who worked on something: what must be the same for results to be the same, and where it was."""

    version: str
    processor: str
    node: str


def here() -> Place:
    """This process; of a machine's several nodes Ray's own number tells which (``ray list nodes``)."""
    ray, node = sys.modules.get("ray"), socket.gethostname()
    if ray is not None and ray.is_initialized():
        node += f" (node {ray.get_runtime_context().get_node_id()[:8]})"
    return Place(__version__, _processor(), node)


# What /proc/cpuinfo says of a core that is the same for all of its kind: maker, model and abilities (x86, then ARM).
_KIND = (
    "vendor_id", "cpu family", "model", "model name", "flags", "CPU implementer", "CPU architecture", "CPU variant", "CPU part",
    "Features",
)  # fmt: skip


def _processor() -> str:
    """By what kernels are chosen."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as told:
            rows = dict(line.split(":", 1) for line in told.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    named = {name.strip(): value.strip() for name, value in rows.items()}
    return ", ".join(named[name] for name in _KIND if name in named)


def refused(place: Place, own: Place, alike: bool = False) -> str:
    """Why a worker cannot be used, or nothing; ``alike``: its processor has to be of one kind with this machine's."""
    if place.version != own.version:
        return f"the worker on {place.node} has Halbert {place.version}, this machine {own.version}; install the same on all"
    if alike and place.processor != own.processor:
        return (
            f"the worker on {place.node} has another processor than this machine, so that its results may differ in the last "
            "bits; use machines of one kind"
        )
    return ""


def connection(cluster: ClusterLike | None) -> Callable[[], Cluster] | None:
    """What connects to a cluster, given its address (``"HEAD:6379"``; ``"local"``: one on this machine alone) or just that."""
    return functools.partial(Cluster, cluster) if isinstance(cluster, str) else cluster


class Cluster:
    """A connection to a cluster; without an address (or Ray's ``RAY_ADDRESS``), one on this machine alone that ends with it.

    Raises :class:`InputError` where no cluster answers at the address, and
    :class:`halbert.errors.MissingExtra` without Ray.
    """

    def __init__(self, address: str | None = None) -> None:
        self.ray, self._ends, self.only_here = join(address)  # only here: all of it is this machine's and stays so
        self.leftovers: list[Path] = []  # files that go even where nothing else is cleaned up
        self._open = contextlib.ExitStack()
        self._looked = False

    def __enter__(self) -> Cluster:
        head = _Head(self.ray.get_runtime_context().gcs_address, self.leftovers)
        head.start()
        self._open.callback(head.stop)
        self._open.enter_context(told_in_lines())
        if self._ends:
            self._open.callback(leave, self.ray)
        return self

    def __exit__(self, *told: object) -> None:
        self._open.close()

    def beside(self) -> Any:
        """For what must be on the driver's own machine: it lives as long as the driver does."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)

    def nodes(self) -> list[int]:
        """Cores of each machine that has some to give."""
        found = (int(node["Resources"].get("CPU", 0)) for node in self.ray.nodes() if node["Alive"])
        return [count for count in found if count]

    @contextlib.contextmanager
    def alone(self, seconds: float = 60.0) -> Iterator[None]:
        """All cores of this machine, for what is timed and may have nothing of the cluster's beside it.

        Raises :class:`HalbertError` where other work still holds some of them after so many ``seconds``.
        """
        own = self.ray.get_runtime_context().get_node_id()
        count = next((node["Resources"].get("CPU", 0) for node in self.ray.nodes() if node["NodeID"] == own), 0)
        if not count:  # nobody works here
            yield
            return
        claim = self.ray.remote(_Claim).options(num_cpus=count, scheduling_strategy=self.beside()).remote()
        try:
            ready, _ = self.ray.wait([claim.held.remote()], timeout=seconds)
            if not ready:
                raise HalbertError(
                    f"other work of the cluster holds cores of this machine ({socket.gethostname()}); times are not measured "
                    "beside it: wait until it is done, or leave them out with --only"
                )
            yield
        finally:
            self.ray.kill(claim)

    def stream(
        self,
        source: Callable[[], Iterable[Any]],
        make: Callable[..., Work],
        arguments: tuple[Any, ...] = (),
        *,
        workers: int | None = None,
        cpus: int = 1,
        alike: bool = False,
    ) -> Generator[Any]:
        """``make(*arguments)`` once in every worker, called with every item of ``source``; results in whatever order.

        ``alike``: workers whose processor is another than this machine's are refused, since their results may differ in
        the last bits. Raises what the work raises, and :class:`HalbertError` naming a worker that cannot be used.
        """
        from ray.data import DataContext

        self._room(cpus)
        self._open.enter_context(quiet("ray.data"))
        self._open.enter_context(_item_by_item(DataContext.get_current()))

        def begin(done: frozenset[int]) -> Any:
            return self._rows(stream_of(source, done), make, arguments, workers, cpus)

        found = self._answers(begin, alike)
        self._open.callback(_let_end, _threads())
        self._open.callback(found.close)
        return found

    def _room(self, cpus: int) -> int:
        """For so many workers. Raises :class:`InputError` where there is none for any."""
        room = sum(count // cpus for count in self.nodes())
        if not room:
            raise InputError(f"no machine of the cluster has the {cpus} cores that a worker needs")
        self.say_if_taken(cpus)
        return room

    def say_if_taken(self, cpus: int) -> None:
        """That other work has all cores, which Ray waits for without a word; once, before work of one's own has any."""
        if not self._looked and self.ray.available_resources().get("CPU", 0) < cpus:
            warnings.warn("all cores of the cluster are at other work; this waits until some are free", stacklevel=2)
        self._looked = True

    def _rows(
        self, items: Any, make: Callable[..., Work], arguments: tuple[Any, ...], workers: int | None, cpus: int
    ) -> Any:
        """What is to be done, in Ray Data's words; nothing of it has begun."""
        from ray.data import ActorPoolStrategy

        room = self._room(cpus)
        size = min(workers or room, room)
        mine = {"ray.io/node-id": self.ray.get_runtime_context().get_node_id()}
        read = self.ray.data.read_datasource(items, override_num_blocks=1, num_cpus=0, label_selector=mine)
        with warnings.catch_warnings(action="ignore"):  # of what is to be named otherwise from Ray 2.64 on
            return read.map_batches(
                _Worker, fn_constructor_args=(make, arguments), batch_size=1, batch_format="pyarrow",
                zero_copy_batch=True, num_cpus=cpus, compute=ActorPoolStrategy(size=size), max_restarts=TRIES,
                max_task_retries=TRIES,
            )  # fmt: skip

    def _answers(self, begin: Callable[[frozenset[int]], Any], alike: bool) -> Generator[Any]:
        """What workers answered, of every item once; who holds this holds all of the work.

        What was lost after it was answered, with its machine, is asked again: Ray's own way to make it again waits for the
        same worker, which waits for a machine.
        """
        own = here()
        done: set[int] = set()
        try:
            for _ in range(TRIES):
                tables, lost = self._tables(begin(frozenset(done))), False
                with contextlib.closing(tables):  # an error would hold it, and with it Ray Data's threads
                    for table in tables:
                        if table is None:
                            lost = True
                            continue
                        (number, place, error), result = unpacked(table)
                        if why := refused(place, own, alike):
                            raise HalbertError(why)
                        if error is not None:
                            raise error
                        done.add(number)
                        yield result
                if not lost:
                    return
        except self.ray.exceptions.RayError as fault:
            raise in_a_line(fault) from None
        raise HalbertError("machines of the cluster are lost again and again; the same command goes on")

    def _tables(self, rows: Any) -> Generator[Any]:
        """Results as they come, and None for those that do not; nobody waits for these before all others are there."""
        bundles, refs, late = rows.iter_internal_ref_bundles(), list[Any](), 0
        try:
            for bundle in bundles:
                refs += [block.ref for block in bundle.blocks]
                del bundle
                while len(refs) > _AHEAD + late:
                    ready, refs = self.ray.wait(refs, timeout=_LATE)
                    late = min(late, len(refs)) if ready else len(refs)
                    yield from map(self._got, ready)
            while refs:
                ready, refs = self.ray.wait(refs, timeout=_PATIENCE)
                yield from map(self._got, ready or [None])
                if not ready:
                    return
        finally:
            del bundles  # with which Ray Data's work ends

    def _got(self, ref: Any) -> Any:
        """A result, or None where it is lost."""
        try:
            return None if ref is None else self.ray.get(ref)
        except (self.ray.exceptions.ObjectLostError, self.ray.exceptions.RayActorError):
            return None


def _threads() -> set[threading.Thread]:
    """Those of Ray Data's that ask Ray for something by themselves (ray/data/_internal: their names)."""
    return {
        thread for thread in threading.enumerate() if thread.name.startswith(("StreamingExecutor", "iter_threaded"))
    }


def _let_end(before: set[threading.Thread]) -> None:
    """Wait for threads that are not told to wait for: one that found Ray shut down would end the process without a word."""
    for thread in _threads() - before:
        thread.join(_PATIENCE)


class _Head(threading.Thread):
    """Ends the process with a word when the head is lost, shortly before Ray does without one.

    Nothing can be raised instead: whatever of Ray is called then, its cleaning up included, waits for the head.
    """

    def __init__(self, address: str, leftovers: list[Path]) -> None:
        super().__init__(daemon=True)
        self.address, self.leftovers = address, leftovers
        self._over = threading.Event()

    def run(self) -> None:
        """Until it is stopped."""
        host, _, port = self.address.rpartition(":")
        heard, every = time.monotonic(), _PATIENCE / 20
        while not self._over.wait(every):
            with contextlib.suppress(OSError):
                socket.create_connection((host.strip("[]"), int(port)), every).close()
                heard = time.monotonic()
            silent = time.monotonic() - heard
            if silent > _PATIENCE and not self._over.is_set():
                word = f"halbert: the head of the cluster at {self.address} has not answered for {silent:.0f} s; what is finished stays"
                os.write(2, f"\n{word}: give the command again (with --resume, where it has that)\n".encode())
                for file in self.leftovers:
                    with contextlib.suppress(OSError):
                        file.unlink(missing_ok=True)
                os._exit(1)

    def stop(self) -> None:
        """The work is over."""
        self._over.set()


def found_by(fault: HalbertError, node: str) -> HalbertError:
    """The same error, which says by whom it was found; what it is about it names itself."""
    fault.args = (f"{fault} (found by the worker on {node})",)
    return fault


class _Claim:
    """Holds cores."""

    def held(self) -> bool:
        """They are."""
        return True


class _Worker:
    """What an actor does with tables of one item."""

    def __init__(self, make: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
        self.work: Work | None = None
        self.make, self.arguments, self.place = make, arguments, here()

    def __call__(self, table: Any) -> Any:
        error, result = None, None
        number, what = unpacked(table)
        try:
            if number == FAULT:  # the input's, where it was read
                raise what
            if self.work is None:  # not before there is something to tell an error by
                self.work = self.make(*self.arguments)
            result = self.work(what)
        except HalbertError as fault:  # for the driver to raise, not for Ray to try again
            error = fault if number == FAULT else found_by(fault, self.place.node)
        except Exception as fault:
            named = getattr(self.work, "named", None)
            at = f" at {named(what)}" if named else ""
            told = shortened(f"{type(fault).__name__}: {fault}", 500)
            error = HalbertError(f"the worker on {self.place.node} failed{at}: {told}")
        return packed((number, self.place, error), result)


@contextlib.contextmanager
def _item_by_item(context: Any) -> Iterator[None]:
    """Ray Data without bars, with a block for every item, and without looking at every worker's memory each second."""
    wanted = {"enable_progress_bars": False, "target_max_block_size": 1, "memory_usage_poll_interval_s": None}
    before = {name: getattr(context, name) for name in wanted}
    for name, value in wanted.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
