"""Pre-training by the machines of a Ray cluster: Ray Train starts the processes and starts them again, the loop is the same.

Every process does what it would do under torchrun; Ray only tells it its rank and joins it to the others. When one dies all
begin again from the last checkpoint, which lies, like everything of a run, in its own folder: on storage that all machines
share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import distributed

from halbert.bundle import Bundle
from halbert.cluster import Cluster, Place, found_by, here, refused
from halbert.cluster.telling import out_of_memory, quiet, shortened, without_halbert
from halbert.errors import HalbertError, InputError
from halbert.files import hold
from halbert.source import load_bundle
from halbert.text import Tokenizer
from halbert.train.folder import check_begun
from halbert.train.journal import Report
from halbert.train.pretraining import pretrain
from halbert.train.recipe import PretrainRecipe
from halbert.weights.tensorflow1 import is_checkpoint

ENDING = 20.0  # seconds for the processes to end after a fault, which is every one's or soon will be
FAILURES = 8  # of a process or its machine, before a run is given up
SHORT = 10.0  # seconds without room for all processes, after which fewer go on
HELD = 60.0  # seconds for those of a machine that is gone to let go of the run


class _Short(HalbertError):
    """The cluster has lost machines, and has no room any more for as many processes."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What every process is given."""

    recipe: PretrainRecipe
    tokenizer: Tokenizer | None
    out: Path
    sign: Path  # a file that everybody who shares the storage can see
    name: str | None
    driver: Place
    told: Any  # a queue to the driver
    threads: int | None


def _train(config: dict[str, Job]) -> None:
    """In every process of the training."""
    import ray.train

    job = config["job"]
    own, rank = here(), ray.train.get_context().get_world_rank()

    def say(kind: str, what: Any) -> None:
        if rank == 0 or kind == "fault":
            job.told.put((kind, what))

    fault = refused(own, job.driver)
    if not fault and not job.sign.exists():
        fault = f"{job.out}: the worker on {own.node} does not see this folder; a training needs storage that all machines share"
    faults: list[str] = [""] * distributed.get_world_size()
    distributed.all_gather_object(faults, fault)  # either all train or none, so that nobody waits for the others
    if any(faults):
        say("fault", HalbertError(next(filter(None, faults))))
        return
    if job.threads is not None:
        torch.set_num_threads(job.threads)  # Ray's own limit is for one core
        os.environ["OMP_NUM_THREADS"] = str(job.threads)  # for scipy, which a warm start brings in later
    try:
        pretrain(
            job.recipe, job.tokenizer, job.out, name=job.name, resume=True, report=lambda entry: say("entry", entry),
            tell=lambda line: say("line", line),
        )  # fmt: skip
    except HalbertError as error:  # an input at fault is no reason to try again
        say("fault", found_by(error, f"{own.node}, process {rank}"))
    except Exception as error:
        told = shortened(f"{type(error).__name__}: {error}")
        job.told.put(
            ("line", f"Process {rank} on {own.node} failed ({told}); all begin again from the last checkpoint")
        )
        raise


def pretrain_spread(
    recipe: PretrainRecipe,
    tokenizer: Tokenizer | None,
    out: Path,
    *,
    connect: Callable[[], Cluster],
    name: str | None = None,
    workers: int | None = None,
    resume: bool = False,
    report: Report | None = None,
    tell: Callable[[str], None] | None = None,
) -> Bundle:
    """:func:`halbert.train.pretraining.pretrain` by ``workers`` processes of a cluster (one a machine, or one a GPU).

    Where machines are lost and not replaced, as many processes go on as there is room for and ``accumulate`` is a multiple of.

    Raises what the training raises, and :class:`HalbertError` where the storage is not shared, versions differ, processes
    died more than eight times, or nothing is left of the cluster.
    """
    if not resume:
        check_begun(out)
    with connect() as cluster, _sign(out) as sign:
        cluster.leftovers.append(sign)
        gpus = _room(cluster, True) > 0
        count = workers or (_room(cluster, gpus) if gpus else len(cluster.nodes()))
        have = _room(cluster, gpus)
        if count > have or not have:
            raise InputError(
                f"{count} processes were asked for, and the cluster has {have} {'GPUs' if gpus else 'cores'}"
            )
        cluster.say_if_taken(0 if gpus else 1)
        job = Job(_absolute(recipe), tokenizer, out.resolve(), sign, name, here(), None, None)
        while isinstance(fault := _tried(cluster, job, count, gpus, report, tell), _Short):
            count = _fewer(recipe.accumulate, _room(cluster, gpus))
            if not count:
                raise HalbertError(
                    "no machine is left of the cluster; the same command with --resume goes on by another"
                )
            if tell is not None:
                tell(f"{fault}; going on with {count} from the last checkpoint")
            _let_go(out)
    if fault is not None:
        raise fault
    return load_bundle(out)


def _room(cluster: Cluster, gpus: bool) -> int:
    """GPUs, or cores, of the machines that are there."""
    resource = "GPU" if gpus else "CPU"
    return sum(int(node["Resources"].get(resource, 0)) for node in cluster.ray.nodes() if node["Alive"])


def _fewer(accumulate: int, room: int) -> int:
    """The most processes there is room for of which each has as many of a step's batches."""
    return max((n for n in range(1, min(accumulate, room) + 1) if accumulate % n == 0), default=0)


def _let_go(out: Path) -> None:
    """Wait until no process of a machine that is gone holds the run: some live on for a while."""
    until = time.monotonic() + HELD
    while (lock := out / "training/lock").exists() and time.monotonic() < until:
        with contextlib.suppress(InputError):
            hold(lock, "").close()
            return
        time.sleep(0.5)


def _tried(
    cluster: Cluster, job: Job, count: int, gpus: bool, report: Report | None, tell: Callable[[str], None] | None
) -> Exception | None:
    """Train with so many processes; returns what was at fault, if anything."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.util.queue import Empty, Queue

    told = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": cluster.beside()})
    scaling = ScalingConfig(
        num_workers=count, use_gpu=gpus, placement_strategy="SPREAD",
        # No more is asked for than leaves room for all of them where a machine is lost.
        resources_per_worker=None if gpus else {"CPU": 1},
    )  # fmt: skip
    threads = None if gpus else _cores(cluster.nodes(), count)
    job = dataclasses.replace(job, told=told, threads=threads)

    def short() -> bool:
        return _room(cluster, gpus) < count

    with tempfile.TemporaryDirectory() as spare, quiet("ray.train"):
        trainer = TorchTrainer(
            _train, train_loop_config={"job": job}, scaling_config=scaling,
            run_config=RunConfig(storage_path=spare, failure_config=FailureConfig(max_failures=FAILURES)),
        )  # fmt: skip
        return _follow(trainer.fit, told, Empty, report, tell, lambda: _end_training(cluster.ray), short)


def _follow(
    fit: Callable[[], Any], told: Any, empty: type[Exception], report: Report | None,
    tell: Callable[[str], None] | None, end: Callable[[], None], short: Callable[[], bool],
) -> Exception | None:  # fmt: skip
    """Run ``fit`` beside, and pass on what the processes tell until it is over; returns what was at fault, if anything.

    Where it is broken off, by Ctrl-C or because the cluster stays ``short`` of room, ``end`` ends ``fit``: Ray would wait
    for another machine for ever.
    """
    over: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            fit()
            over.put(None)
        except Exception as error:
            last = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            why = out_of_memory(error) or shortened(last[-1])
            over.put(
                without_halbert(error)
                or HalbertError(f"the cluster gave up: {why}; the same command with --resume goes on")
            )
        with contextlib.suppress(Exception):
            told.put(("end", None))  # nobody waits for more

    running = threading.Thread(target=run, daemon=True)
    running.start()
    fault: Exception | None = None
    looked = roomy = time.monotonic()
    try:
        while True:
            if (now := time.monotonic()) - looked > SHORT / 4:
                looked = now
                roomy = roomy if short() else now
                if now - roomy > SHORT and fault is None and over.empty():
                    end()
                    running.join(ENDING)
                    return _Short("a machine is gone, and the cluster has no room for as many processes")
            kind: str = "nothing"
            what: Any = None
            with contextlib.suppress(empty):
                kind, what = told.get(timeout=2.0)  # asking more often takes time from the training
            if kind == "entry" and report is not None:
                report(what)
            elif kind == "line" and tell is not None:
                tell(what)
            elif kind == "fault":
                fault = fault or what
            elif kind == "end" or (kind == "nothing" and not over.empty()):
                return fault or over.get()
            elif kind == "nothing" and fault is not None:
                running.join(ENDING)  # a thread that finds Ray shut down would end the process without a word
                return fault
    except BaseException:
        end()
        running.join(ENDING)  # a thread that finds Ray shut down would end the process without a word
        raise


def _end_training(ray: Any) -> None:
    """End this program's training: Ray Train does so at Ctrl-C only where ``fit`` is called by the main thread."""
    with contextlib.suppress(Exception):  # Ray's own insides, which may come to be otherwise
        job = ray.get_runtime_context().get_job_id()
        for name, told in ray._private.state.actors().items():
            if told["ActorClassName"].startswith("TrainController") and told["JobID"] == job:
                actor = ray.ActorID(bytes.fromhex(name))
                ray._private.worker.global_worker.core_worker.kill_actor(actor, True)


def _cores(nodes: list[int], count: int) -> int:
    """Of one process, where ``count`` of them are spread over machines with so many cores."""
    on_one = -(-count // len(nodes))
    return max(1, min(nodes) // on_one)


def _absolute(recipe: PretrainRecipe) -> PretrainRecipe:
    """The recipe with paths that do not depend on where a process was started."""
    told = {name: getattr(recipe, name) for name in ("corpus", "start_parallel")}
    start = Path(recipe.start)
    if recipe.start_model is not None and (start.exists() or is_checkpoint(start)):
        told["start"] = recipe.start
    return msgspec.structs.replace(recipe, **{name: str(Path(path).absolute()) for name, path in told.items() if path})


@contextlib.contextmanager
def _sign(out: Path) -> Iterator[Path]:
    """A file beside the run by which a worker knows that it sees the same storage."""
    sign = out.resolve().parent / f".{out.name}.{uuid.uuid4().hex}"
    try:
        sign.parent.mkdir(parents=True, exist_ok=True)
        sign.touch()
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None
    try:
        yield sign
    finally:
        sign.unlink(missing_ok=True)
