"""The engine for CPUs: OpenVINO, on the graph of ``graph.py``."""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from halbert.bundle import Bundle
from halbert.data.batches import Rows
from halbert.errors import InputError
from halbert.processes import cores, gains_by_bf16
from halbert.run import cache
from halbert.run.backend import STATES, Favoured, Precision, check_batch
from halbert.run.graph import GraphBuilder, core, openvino
from halbert.weights.tensors import drop_pages

logging.getLogger("openvino").setLevel(logging.ERROR)
# What the engine meets, it compiles for: 3 ms and 2 MB for every number of places in bf16 (all of a 6 x 384 model). In int8
# 22 ms and 7 MB, since where zero lies differs from layer to layer and is part of the code: fewer sizes, and a little more
# padding.
SIZES = (32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512, 640, 768, 1024)
FEWER = (32, 64, 128, 192, 256, 384, 512, 768, 1024)
# Of a text that is computed by itself.
WIDTHS = (*range(8, 64, 8), *range(64, 128, 16), *range(128, 256, 32), *range(256, 513, 64))


def multiplies_bf16() -> bool:
    """Whether this processor has products in bfloat16."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVINOBackend:
    """Compiled OpenVINO graphs, one for each set of outputs that is asked for; ``auto`` is bf16 where the CPU is faster in it."""

    def __init__(self, bundle: Bundle, precision: Precision = "auto", threads: int | None = None) -> None:
        self.core = core()
        self.bundle = bundle
        self.heads = bundle.heads
        self.spec = bundle.spec.encoder
        self._builder = GraphBuilder(self.spec, bundle.heads, bundle.arrays, bundle.int8)
        capable = multiplies_bf16()
        if precision == "bf16" and not capable:
            raise InputError(
                "precision bf16 was asked for, but this CPU cannot multiply bfloat16; use --precision fp32"
            )
        if precision == "fp16":
            raise InputError("precision fp16 is for GPUs; on a CPU use bf16, where it has it, or fp32")
        if precision == "int8" and bundle.int8 is None:
            raise InputError(f"{bundle.name}: precision int8 was asked for, but no int8 engine was loaded with it")
        if precision in ("bf16", "fp32") and bundle.int8 is not None:
            raise InputError(
                f"{bundle.name}: was read as an int8 engine, without full weights; precision {precision} needs the model itself"
            )
        if precision == "auto":
            precision = "int8" if bundle.int8 else "bf16" if capable and gains_by_bf16() else "fp32"
        self.precision = precision
        self._config: dict[str, Any] = {
            # Also of int8: its other parts in bf16 would be a tenth faster, and wrong with several streams (decision 49).
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if bundle.int8 is not None:
            # What has no range of its own is quantised token by token, this many numbers together. Measured on a real
            # 6 x 384 checkpoint: cosine 0.9992 with 32, 0.9990 with 64 and 0.9986 with 128; 147, 188 and 189 texts/s.
            self._config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 64
        if threads:
            self._config["INFERENCE_NUM_THREADS"] = threads
        # Measured: a batch whose states stay in the cache of its core is faster than a large one (docs/performance.md).
        sizes = FEWER if self.precision == "int8" else SIZES
        widths = (8, 16, *FEWER) if self.precision == "int8" else WIDTHS
        self.favoured = Favoured(tokens=1024, widths=widths, sizes=sizes, together=threads or cores())
        self._compiled: dict[tuple[tuple[str, ...], bool, bool], Any] = {}
        self._idle: dict[int, list[Any]] = {}  # requests by their graph
        self._lock = threading.Lock()
        self._settled: set[int] = set()  # graphs
        self._met: set[tuple[int, int]] = set()  # graphs and sizes of batches
        self._pages: list[np.ndarray] = []  # of compiled graphs that were read back

    def compiled(self, outputs: Sequence[str], places: bool = False, many: bool = False) -> Any:
        """The compiled graph for these outputs, made on first use; ``many``: for several batches at a time.

        Raises :class:`InputError` for an unknown output.
        """
        key = (tuple(outputs), places, many)
        with self._lock:
            if key not in self._compiled:
                unknown = [name for name in outputs if name not in self.offers()]
                if unknown:
                    offered = ", ".join(self.offers())
                    raise InputError(f"this model offers no output {unknown[0]!r}; it offers {offered}")
                config = {**self._config, "PERFORMANCE_HINT": "THROUGHPUT" if many else "LATENCY"}
                self._compiled[key] = self._compile(outputs, places, many, config)
            return self._compiled[key]

    def _compile(self, outputs: Sequence[str], places: bool, many: bool, config: dict[str, Any]) -> Any:
        file = None
        if self._builder.int8 is not None:
            device = self.core.get_property("CPU", "FULL_DEVICE_NAME")
            asked = {"outputs": list(outputs), "places": places, "packed": many}
            file = cache.place(self.bundle, {**asked, **config, "device": device})
        if file is not None and (kept := cache.read(self.core, file, config)):
            self._pages.append(kept.pages)
            return kept.compiled
        compiled = self.core.compile_model(self._builder.build(outputs, places, packed=many), "CPU", config)
        if file is not None:
            cache.write(compiled, file)
        return compiled

    def _let_go(self, compiled: Any) -> None:
        """Drop the pages of the model's files, once a graph has run.

        The engine packs copies of the matrices for itself when it first runs; what it reads in place (embeddings) comes
        back by itself.
        """
        if id(compiled) not in self._settled:
            self._settled.add(id(compiled))
            int8 = self._builder.int8
            drop_pages([*self._builder.arrays.values(), *(int8.weights.values() if int8 else ()), *self._pages])

    def forward(self, batch: Rows, outputs: Sequence[str], places: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See :class:`halbert.run.backend.Backend`."""
        check_batch(batch, self.spec)
        compiled = self.compiled(outputs, places is not None)
        request = self._request(compiled)
        request.start_async(batch._asdict() if places is None else {**batch._asdict(), "places": places})
        return self._finish(compiled, request, outputs)

    def _request(self, compiled: Any) -> Any:
        """A request that nobody uses, whichever thread asks."""
        try:
            return self._idle.setdefault(id(compiled), []).pop()
        except IndexError:
            return compiled.create_infer_request()

    def _finish(self, compiled: Any, request: Any, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        request.wait()
        found = {name: np.array(request.get_tensor(name).data, np.float32) for name in outputs}
        self._idle[id(compiled)].append(request)
        self._let_go(compiled)
        return found

    def stream(self, batches: Iterable[Rows], outputs: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See :class:`halbert.run.backend.Backend`. Every core works on a batch of its own: no core waits for another.

        Batches are computed without their padding. The first of a size has nothing beside it: where two streams met a size
        at once, one of them gave wrong numbers for it ever after (twice in four runs of the whole test suite, in fp32).
        """
        compiled = self.compiled(outputs, many=True)
        most = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        running: collections.deque[Any] = collections.deque()
        try:
            for batch in batches:
                check_batch(batch, self.spec)
                told = packed(batch, self.favoured)
                met = (id(compiled), len(told["ids"]))
                while running and (len(running) == most or met not in self._met):
                    yield self._finish(compiled, running.popleft(), outputs)
                request = self._request(compiled)
                request.start_async(told)
                running.append(request)
                if met not in self._met:
                    request.wait()
                    self._met.add(met)
            while running:
                yield self._finish(compiled, running.popleft(), outputs)
        finally:
            for request in running:  # the reader has stopped, or a batch was bad
                request.wait()

    def offers(self) -> list[str]:
        """The outputs that can be asked for."""
        return [name for name in STATES if self.spec.pooler == "tanh" or name != "pooled"] + list(self.heads)

    def describe(self) -> dict[str, Any]:
        """See :class:`halbert.run.backend.Backend`."""
        compiled = next(reversed(self._compiled.values()), None)
        threads = self._config.get("INFERENCE_NUM_THREADS")
        if compiled is not None:
            threads = compiled.get_property("INFERENCE_NUM_THREADS")
        return {
            "engine": "openvino",
            "version": openvino.__version__,
            "device": self.core.get_property("CPU", "FULL_DEVICE_NAME"),
            "precision": self.precision,
            "threads": threads,
            "outputs": self.offers(),
        }


def packed(batch: Rows, favoured: Favoured) -> dict[str, np.ndarray]:
    """A batch as the packed graph reads it: its pieces one behind the other, and empty places up to a favoured size."""
    real = np.flatnonzero(batch.mask)
    size = favoured.size(len(real))
    flat = {name: np.zeros(size, np.int64) for name in ("ids", "segments", "positions", "back")}
    columns = (batch.ids.ravel()[real], batch.segments.ravel()[real], real % batch.ids.shape[1], real)
    for array, values in zip(flat.values(), columns, strict=True):
        array[: len(real)] = values
    grid = np.zeros(batch.ids.shape, np.int64)
    grid.ravel()[real] = np.arange(len(real))
    return {**flat, "grid": grid, "mask": batch.mask}
