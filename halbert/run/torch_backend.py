"""The reference engine, and the one for GPUs: the PyTorch model itself, as it is or compiled."""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from halbert.bundle import Bundle
from halbert.data.batches import Rows
from halbert.errors import InputError
from halbert.model.arrays import model_of
from halbert.run.backend import STATES, Favoured, Precision, check_batch

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Pieces in a batch. On CPUs as OpenVINO (docs/performance.md); a GPU needs more to be busy. The latter is not measured.
TOKENS = {"cpu": 1024, "cuda": 8192}
# A compiled model has one graph for each of these widths; beyond 16 pieces at most a third of a row is padding.
WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_GRAPHS = 256  # of all engines of a process; torch's own limit of 8 would be met at once


class Started(NamedTuple):
    """A batch on its way: what will be where, once ``done`` has happened (None: it has)."""

    values: dict[str, torch.Tensor]
    done: Any


class TorchBackend:
    """PyTorch on CPU or CUDA; ``auto`` is fp32 on a CPU, bf16 on a GPU that has it, else fp16.

    Rows of equal length, which is what many texts sorted by length are, get no mask, so that nothing is computed for
    padding. ``compile``: widths are rounded up to a few, and batches filled up to one of a few numbers of rows, so that
    there are few graphs, each of one shape; on a GPU a single text runs as a recorded CUDA graph. Hidden states, attentions, choices, and
    masked pieces at some places alone are computed without compilation.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: Precision = "auto",
        device: str = "auto",
        threads: int | None = None,
        compile: bool = False,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("device cuda was asked for, but PyTorch finds no CUDA device here; use --device cpu")
        if bundle.int8 is not None or precision == "int8":
            raise InputError("the torch backend does not run int8 engines; use --backend openvino")
        if threads:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.precision = choose_precision(precision, self.device)
        self.heads = bundle.heads
        self.model = model_of(bundle.spec.encoder, bundle.heads, bundle.arrays).to(self.device).eval()
        if self.precision in HALF:
            halve(self.model, HALF[self.precision])
        self.compile = compile
        self._compiled: dict[tuple[tuple[str, ...], bool], Callable[..., Any]] = {}
        longest = bundle.spec.encoder.max_position_embeddings
        tokens = TOKENS[self.device.type]
        if compile:
            # One graph more, not a slower way, for every new shape.
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _GRAPHS)
            self.favoured = Favoured(tokens, 1, (*(w for w in WIDTHS if w < longest), longest))
        else:
            self.favoured = Favoured(tokens, 1)

    def forward(self, batch: Rows, outputs: Sequence[str], places: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See :class:`halbert.run.backend.Backend`."""
        return self._finish(self._start(batch, outputs, places))

    def stream(self, batches: Iterable[Rows], outputs: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See :class:`halbert.run.backend.Backend`. A GPU works on a batch while the one before is read."""
        running: collections.deque[list[Started]] = collections.deque()
        for batch in batches:
            running.append(self._start(batch, outputs))
            if self.device.type == "cpu" or len(running) > 2:
                yield self._finish(running.popleft())
        while running:
            yield self._finish(running.popleft())

    def offers(self) -> list[str]:
        """The outputs that can be asked for."""
        pooled = self.model.encoder.pooler is not None
        return [name for name in STATES if pooled or name != "pooled"] + list(self.heads)

    def describe(self) -> dict[str, Any]:
        """See :class:`halbert.run.backend.Backend`."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return {
            "engine": "torch",
            "version": torch.__version__,
            "device": name,
            "precision": self.precision,
            "compiled": self.compile,
            "threads": torch.get_num_threads(),
            "outputs": self.offers(),
        }

    @torch.inference_mode()
    def _start(self, batch: Rows, outputs: Sequence[str], places: np.ndarray | None = None) -> list[Started]:
        """Begin a batch, in several parts where a compiled graph has fewer rows."""
        check_batch(batch, self.model.spec)
        for name in outputs:
            if name not in self.offers():
                raise InputError(f"this model offers no output {name!r}; it offers {', '.join(self.offers())}")
        if not self.compile or places is not None or any(not self._has_graph(name) for name in outputs):
            at = None if places is None else self._to_device(places)
            mask = None if batch.mask.all() else self._to_device(batch.mask)
            with self._autocast():
                found = self._pass(self._to_device(batch.ids), mask, self._to_device(batch.segments), outputs, at)
            return [self._to_host(dict(zip(outputs, found, strict=True)))]
        started = []
        for rows, part in self._parts(batch):
            graph = self._graph(tuple(outputs), len(part.ids) == 1)
            with self._autocast(), _told_what_is_missing():
                found = graph(*(self._to_device(array) for array in part))
            values = {
                name: value[:rows, : batch.ids.shape[1]] if self._by_piece(name) else value[:rows]
                for name, value in zip(outputs, found, strict=True)
            }
            started.append(self._to_host(values))
        return started

    def _pass(
        self, ids: torch.Tensor, mask: torch.Tensor | None, segments: torch.Tensor, outputs: Sequence[str],
        places: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:  # fmt: skip
        """The outputs in their order: what is compiled."""
        found = self.model(
            ids, mask, segments, hidden_states="hidden_states" in outputs, attentions="attentions" in outputs
        )
        states = {"pooled": found.pooled_BH, "first": found.last_BSH[:, 0], "last": found.last_BSH}
        return [
            self.model.answer(name, found, places) if name in self.heads
            else states[name] if name in states
            else torch.stack(getattr(found, name))
            for name in outputs
        ]  # fmt: skip

    def _graph(self, outputs: tuple[str, ...], single: bool) -> Callable[..., Any]:
        """The compiled pass for these outputs; for one text as CUDA graphs, where launching takes longer than computing."""
        if (outputs, single) not in self._compiled:
            mode = "reduce-overhead" if single and self.device.type == "cuda" else None

            def run(ids: torch.Tensor, mask: torch.Tensor, segments: torch.Tensor) -> list[torch.Tensor]:
                return self._pass(ids, mask, segments, outputs)

            self._compiled[outputs, single] = torch.compile(run, fullgraph=True, dynamic=False, mode=mode)
        if single and self.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        return self._compiled[outputs, single]

    def _parts(self, batch: Rows) -> Iterator[tuple[int, Rows]]:
        """(real rows, arrays of one of the compiled shapes) of a batch: as many as fill the budget, or 1, 4, 16 …"""
        count, length = batch.ids.shape
        width = int(self.favoured.padded(np.array([length]))[0])
        most = max(self.favoured.tokens // width, 1)
        for start in range(0, count, most):
            real = min(most, count - start)
            rows = min(most, next(4**k for k in itertools.count() if 4**k >= real))
            part = Rows(*(np.zeros((rows, width), np.int64) for _ in batch))
            for to, source in zip(part, batch, strict=True):
                to[:real, :length] = source[start : start + real]
            part.mask[real:, 0] = 1  # a row of nothing but padding would be another kind of row
            yield real, part

    def _has_graph(self, output: str) -> bool:
        return output not in ("hidden_states", "attentions") and (
            output not in self.heads or self.heads[output].kind != "choice"
        )

    def _by_piece(self, output: str) -> bool:
        return output == "last" or (output in self.heads and self.heads[output].row.states != "pooled")

    def _autocast(self) -> Any:
        if self.precision not in HALF:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, HALF[self.precision])

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)  # the copy does not hold up the next launch

    def _to_host(self, values: dict[str, torch.Tensor]) -> Started:
        if self.device.type == "cpu":
            return Started(values, None)
        host = {
            name: torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
            for name, value in values.items()
        }
        done = torch.cuda.Event()
        done.record()
        return Started(host, done)

    def _finish(self, started: list[Started]) -> dict[str, np.ndarray]:
        """Wait for a batch and put its parts together, in arrays of their own."""
        for part in started:
            if part.done is not None:
                part.done.synchronize()
        parts = [{name: value.float().numpy() for name, value in part.values.items()} for part in started]
        if len(parts) == 1:
            return {name: np.array(value) for name, value in parts[0].items()}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@contextlib.contextmanager
def _told_what_is_missing() -> Iterator[None]:
    """Compilation that fails, which is by rule for want of a compiler, as a message instead of a traceback."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            raise
        said = " ".join(str(error).split("\n")[:2]).strip()
        raise InputError(
            f"PyTorch could not compile the model ({said}); it needs a C++ compiler on CPUs and Triton on GPUs. "
            "Leave --compile out to run it as it is"
        ) from None


def choose_precision(asked: Precision, device: torch.device) -> Precision:
    """What is computed in. Raises :class:`InputError` for what the device cannot do."""
    if device.type == "cpu":
        if asked == "fp16":
            raise InputError("precision fp16 is for GPUs; on a CPU use bf16 or fp32")
        return "fp32" if asked == "auto" else asked
    capable = torch.cuda.is_bf16_supported(including_emulation=False)
    if asked == "bf16" and not capable:
        raise InputError("precision bf16 was asked for, but this GPU cannot multiply bfloat16; use --precision fp16")
    if asked == "auto":
        return "bf16" if capable else "fp16"
    return asked


def halve(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Keep the matrices in 16 bits, as autocast would round them anew for every batch; norms and tables stay."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(dtype)
