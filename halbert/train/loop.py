"""THE loop: pre-training and fine-tuning run through these lines alike."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from halbert.errors import Diverged, HalbertError, InputError, Interrupted, Stopped
from halbert.memory import giving_back, kept_memory
from halbert.model import Model
from halbert.processes import ASKED, gains_by_bf16
from halbert.train.checkpoints import Checkpoint, Checkpoints, restore, taken
from halbert.train.distributed import World, alone, mean_over, together
from halbert.train.journal import Journal
from halbert.train.loader import Loaded
from halbert.train.objectives import Loss
from halbert.train.optimizers import clip_gradients, make_optimizer
from halbert.train.recipe import FinetuneRecipe, PretrainRecipe
from halbert.train.schedule import rate_at

LossOf = Callable[[Model, Any], Loss]
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SAVE_SECONDS = 600.0  # between checkpoints, where the recipe names no number of steps
SPIKE_AFTER = 20  # steps before there is a usual loss to compare with
SPIKE_MEMORY = 0.98  # of the moving mean
LEAP = 0.5  # nats that a loss has to rise by to have leapt, however small it was: one batch is not like the next
GRAPHS = 64  # that may be compiled
SKIPS = 10  # steps left out in a row, after which a run stops
RECOVERY = 2.0 ** (1 / 100)  # a rate that was halved is whole again after 100 good steps


def choose_precision(wanted: str, device: torch.device) -> str:
    """``fp32``, ``bf16`` or ``fp16`` (GPU only); ``auto`` is bf16 where the hardware multiplies it, and faster."""
    if device.type == "cuda":
        capable = faster = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capable = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
        faster = capable and gains_by_bf16()
    if wanted == "fp16" and device.type != "cuda":
        raise InputError("precision fp16 was asked for, but only a GPU multiplies it; use precision=auto")
    if wanted == "bf16" and not capable:
        raise InputError("precision bf16 was asked for, but this machine cannot multiply bfloat16; use precision=fp32")
    return ("bf16" if faster else "fp32") if wanted == "auto" else wanted


class Progress(msgspec.Struct, kw_only=True):
    """How far a run is: with the weights and the optimiser's moments, all that the next step depends on.

    ``tokens`` are real pieces and ``places`` those of the batches, padding included; ``sums`` belong to the journal's
    next entry; ``first`` is the first step's loss, ``usual`` the moving mean, ``backoff`` what the rate is multiplied by
    after a skipped step; ``watched`` is what whoever watches the run has to remember.
    """

    step: int = 0
    tokens: int = 0
    places: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    position: dict[str, int] | None = None
    journal: int = 0
    sums: dict[str, float] = {}
    count: int = 0
    first: float = 0.0
    usual: float = 0.0
    backoff: float = 1.0
    skipped: int = 0
    scale: dict[str, Any] = {}
    watched: dict[str, Any] = {}


class Objective(nn.Module):
    """A model and what is asked of it, as one module: what is compiled, and what several processes share."""

    def __init__(self, model: Model, loss_of: LossOf) -> None:
        super().__init__()
        self.model, self.loss_of = model, loss_of

    def forward(self, batch: Any) -> Loss:
        """The loss of one batch."""
        return self.loss_of(self.model, batch)


class Stop:
    """SIGTERM, SIGHUP and Ctrl-C, taken note of: the step that is running is finished and saved before the run ends.

    Ctrl-C again ends it at once; where it is already somebody's to answer (a worker's first process), it stays theirs.
    """

    def __init__(self, wanted: bool) -> None:
        self.asked: int = 0
        self.before: dict[int, Any] = {}
        self.wanted = wanted and threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Stop:
        if self.wanted:
            for number in ASKED:
                if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup
                    self.before[number] = signal.signal(number, self._note)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self.before[signal.SIGINT] = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, _: object) -> None:
        if number == signal.SIGINT and self.asked:
            raise KeyboardInterrupt
        self.asked = number

    def error(self, step: int, steps: int) -> HalbertError:
        """What the run ends with, after a step that was saved."""
        told = f"stopped after step {step:,} of {steps:,}; the same command with --resume goes on"
        return Interrupted(told) if self.asked == signal.SIGINT else Stopped(told)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


class Outcome(NamedTuple):
    """What a step's forward and backward passes came to."""

    parts: dict[str, float]
    loss: float
    stop: bool
    due: bool
    where: list[Any]


class Run:
    """A model on its way through ``steps`` updates."""

    def __init__(
        self,
        model: Model,
        loss_of: LossOf,
        recipe: PretrainRecipe | FinetuneRecipe,
        *,
        steps: int,
        warmup: int,
        journal: Journal,
        seed: int,
        world: World | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.device = next(model.parameters()).device
        self.world = world or World(0, 1, self.device)
        self.model, self.recipe, self.journal, self.checkpoints = model, recipe, journal, checkpoints
        self.steps, self.warmup, self.seed = steps, warmup, seed
        self.precision = choose_precision(recipe.precision, self.device)
        self.optimizer = make_optimizer(model, recipe)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        objective = Objective(model, loss_of)
        if recipe.compile:
            # A graph for every shape of every phase; beyond the limit shapes would run uncompiled, other ones after a resume.
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
            objective.compile(dynamic=False)
        self.module = together(objective, self.world, recipe.strategy)
        self.progress = Progress()
        self._before = self.progress  # as it was before the step that is being taken
        self.watch: Callable[[Run, Outcome], bool] | None = None  # told of every step; True ends the run
        self.save_last = True
        self.own = recipe.accumulate // self.world.size
        if self.own * self.world.size != recipe.accumulate:
            raise InputError(
                f"accumulate is {recipe.accumulate} and there are {self.world.size} processes; expected a multiple, "
                "since a step's batches are shared out among the processes"
            )

    def resume(self, found: Checkpoint | None) -> bool:
        """Go on from a checkpoint, if there is one, and say so; what came after it is forgotten."""
        if found is None:
            self.journal.rewind(0)
            return False
        restore(self.model, self.optimizer, found)
        self.progress = msgspec.convert(found.state["progress"], Progress)
        if self.progress.scale:
            self.scaler.load_state_dict(self.progress.scale)
        if self.progress.step > self.steps:
            raise InputError(
                f"the last checkpoint is of step {self.progress.step:,}, the recipe ends at {self.steps:,}"
            )
        self.journal.rewind(self.progress.journal)
        return True

    def take(self, batches: Iterator[Any]) -> dict[str, Any]:
        """All steps that are left. Returns a summary: steps, tokens, seconds, precision, shares of padding and waiting.

        Raises :class:`Stopped` after SIGTERM, :class:`Interrupted` after Ctrl-C, and :class:`Diverged` when the loss is not
        finite or leaps, before the weights have seen it; what was learnt until then is kept in a checkpoint.
        """
        now, self.last_save = self.progress, time.perf_counter()
        worked = giving_back()
        self.model.train()
        with Stop(self.checkpoints is not None) as stop, kept_memory():
            while now.step < self.steps:
                began, self._before = time.perf_counter(), msgspec.structs.replace(now)
                found = self._gradients(batches, bool(stop.asked))
                reason = self._update(found)
                now.step += 1
                now.seconds += time.perf_counter() - began
                self._record(found, reason)
                worked()
                ended = self.watch is not None and self.watch(self, found)
                last = ended or now.step == self.steps
                if self.checkpoints is not None and ((last and self.save_last) or found.stop or self._due(found.due)):
                    self.save()
                if found.stop and not last:
                    raise stop.error(now.step, self.steps)
                if ended:
                    break
        self.model.eval()
        return {
            "steps": now.step, "tokens": now.tokens, "seconds": now.seconds, "precision": self.precision,
            "padding": round(1 - now.tokens / max(1, now.places), 4), "waiting": round(now.waited / max(now.seconds, 1e-9), 4),
        }  # fmt: skip

    def save(self) -> None:
        """Write a checkpoint."""
        now = self.progress
        now.journal = self.journal.kept()
        now.scale = self.scaler.state_dict() if self.scaler.is_enabled() else {}
        found = taken(self.model, self.optimizer, {"progress": msgspec.to_builtins(now)})
        if self.world.first and self.checkpoints is not None:
            self.checkpoints.save(now.step, found)
        self.last_save = time.perf_counter()

    def _keep(self) -> None:
        """A checkpoint from before the step that failed, so that nothing is lost of what was learnt until then."""
        kept = self._before.step
        if (
            isinstance(self.recipe, FinetuneRecipe)
            or self.checkpoints is None
            or kept in (0, *self.checkpoints.steps())
        ):
            return
        self.progress = self._before
        with contextlib.suppress(InputError):  # a full disk; what failed first is what is told
            self.save()

    def gradients_of(self, batch: Any, seed: int, share: int = 1, last: bool = True) -> Loss:
        """One batch forward and backward; dropout draws from ``seed``."""
        torch.manual_seed(seed)
        with alone(self.module, last), exact(self.device):
            with torch.autocast(self.device.type, HALVES.get(self.precision), enabled=self.precision in HALVES):
                loss = self.module(tensors(batch, self.device))
            self.scaler.scale(loss.total / share).backward()
        return loss

    def _gradients(self, batches: Iterator[Any], stop: bool) -> Outcome:
        """The gradients of one step, and what all processes have to know of it."""
        now, losses, where, tokens, places = self.progress, [], [], 0, 0
        for part in range(self.own):
            began = time.perf_counter()
            try:
                batch = next(batches)
            except HalbertError:
                if self.world.size == 1:  # of several processes the others do not know of it
                    self._keep()
                raise
            now.waited += time.perf_counter() - began
            if isinstance(batch, Loaded):
                where.append(now.position)
                now.position = msgspec.to_builtins(batch.after)
                batch = batch.batch
            tokens += int(batch.mask.sum())
            places += batch.mask.size
            # A draw for each batch of each step, whichever process computes it and whatever was computed before.
            number = part * self.world.size + self.world.rank
            seed = int(np.random.SeedSequence((self.seed, now.step, number)).generate_state(1, np.uint64)[0] >> 1)
            losses.append(self.gradients_of(batch, seed, self.own, part + 1 == self.own))
        names = list(losses[0].parts)
        due = self.world.first and time.perf_counter() - self.last_save > SAVE_SECONDS
        told = [torch.stack([loss.parts[name].double() for loss in losses]).mean() for name in names]
        told += [torch.stack([loss.total.detach().double() for loss in losses]).mean()]
        told += [torch.tensor(n, dtype=torch.float64, device=self.device) for n in (tokens, places, stop, due)]
        *parts, loss, tokens, places, stop, due = mean_over(torch.stack(told), self.world).tolist()
        now.tokens += round(tokens * self.world.size)
        now.places += round(places * self.world.size)
        return Outcome(dict(zip(names, parts, strict=True)), loss, stop > 0, due > 0, where)

    def _update(self, found: Outcome) -> str:
        """Change the weights, unless something is wrong with the step: then say what."""
        now, recipe = self.progress, self.recipe
        rate = rate_at(recipe.schedule, now.step, recipe.learning_rate, self.warmup, self.steps, recipe.power)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * now.backoff * group.get("scale", 1.0)
        self.rate = rate * now.backoff
        self.scaler.unscale_(self.optimizer)
        self.norm = float(clip_gradients(self.model.parameters(), recipe.clip))
        if not now.step:
            now.first = found.loss
        reason, blind = "", math.log(self.model.spec.vocab_size)
        # In fp16 the scaler leaves out a step whose gradients overflow, and lowers its scale.
        if not math.isfinite(found.loss) or not (math.isfinite(self.norm) or self.precision == "fp16"):
            reason = "the loss or its gradient is not finite"
        elif now.step and found.loss > recipe.spike_factor * max(now.first, blind):
            reason = f"the loss rose to {found.loss:.3f}; it was {now.first:.3f} in the first step, and guessing blindly has {blind:.1f}"
        elif now.step >= SPIKE_AFTER and found.loss > max(recipe.spike_factor * now.usual, now.usual + LEAP):
            reason = f"the loss leapt to {found.loss:.3f}, {recipe.spike_factor:g} times its usual {now.usual:.3f}"
        if reason and (recipe.on_spike == "stop" or now.skipped >= SKIPS):
            self._keep()
            raise Diverged(self._what_now(reason, found.where))
        if reason:
            now.backoff, now.skipped = now.backoff / 2, now.skipped + 1
            self.scaler.update()  # it has looked at these gradients, and is asked once a step
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            now.backoff, now.skipped = min(1.0, now.backoff * RECOVERY), 0
            keep = min(SPIKE_MEMORY, now.step / (now.step + 1))
            now.usual = keep * now.usual + (1 - keep) * found.loss
        self.optimizer.zero_grad(set_to_none=True)
        return reason

    def _what_now(self, reason: str, where: list[Any]) -> str:
        batch = f" (its batch: {where[0]})" if where and where[0] else ""
        kept = self.checkpoints.steps() if self.checkpoints else []
        saved = f"; the last checkpoint is that of step {kept[-1]:,}" if kept else ""
        told = f"step {self.progress.step + 1}: {reason}{batch}; the weights have not seen it{saved}. "
        begin = f"a lower learning_rate ({self.recipe.learning_rate}) or a longer warm-up"
        if isinstance(self.recipe, FinetuneRecipe):
            return f"{told}Try {begin}"
        if self.recipe.on_spike == "skip":
            return f"{told}{SKIPS} steps in a row were left out already: begin again with {begin}"
        return f"{told}Go on with --resume and on_spike=skip (or a larger spike_factor), or begin again with {begin}"

    def _due(self, by_time: bool) -> bool:
        every = self.recipe.checkpoint_every
        return self.progress.step % every == 0 if every else by_time

    def _record(self, found: Outcome, reason: str) -> None:
        now = self.progress
        if reason:
            self.journal.write({"step": now.step, "steps": self.steps, "skipped": reason, "batches": found.where})
        else:
            for name, value in found.parts.items():
                now.sums[name] = now.sums.get(name, 0.0) + value
            now.count += 1
        if not now.count or (now.step % self.recipe.log_every and now.step != self.steps):
            return
        means = {name: value / now.count for name, value in now.sums.items()}
        now.sums, now.count = {}, 0
        self.journal.write(
            {
                "step": now.step, "steps": self.steps, "tokens": now.tokens, "learning_rate": self.rate,
                "gradient_norm": round(self.norm, 6), **means, "padding": round(1 - now.tokens / max(1, now.places), 4),
            },
            seconds=round(now.seconds, 3), tokens_per_second=round(now.tokens / max(now.seconds, 1e-9), 1),
            waiting=round(now.waited / max(now.seconds, 1e-9), 4),
        )  # fmt: skip


@contextlib.contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """On a CPU the same numbers every time: compiled code would add up the gradients of embeddings in any order."""
    before, filled = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    if device.type == "cpu":
        torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads such memory
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled


def tensors(batch: Any, device: torch.device) -> Any:
    """A batch with its arrays as tensors on the device."""
    if isinstance(batch, np.ndarray):
        return torch.from_numpy(batch).to(device, non_blocking=True)
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, tuple):
        return type(batch)(*(tensors(part, device) for part in batch))
    return batch
