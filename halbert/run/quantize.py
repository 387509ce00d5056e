"""From a model to int8, with some of the user's text (faster) or without (closer to the original).

With text, every application of a layer gets a fixed range for what it reads. Without, the engine takes one for every 64
numbers of every token as it meets them: nothing can be outside, and nothing depends on other texts.

SmoothQuant (Xiao et al. 2022, arXiv 2211.10438): channels that are large in what a layer reads are divided by a factor
that its matrix is multiplied with, ``s = max|x| ** a / max|w| ** (1 - a)`` (equation 4). Here ``a`` and the range of every
application are those with the least squared error of the layer's output on the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from halbert.bundle import Bundle
from halbert.data.batches import Rows
from halbert.run.graph import GraphBuilder, core, openvino, ops
from halbert.weights.int8 import Int8, matrices_of

MIGRATIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
# Shares of the measured range that are tried; what lies beyond is cut off.
CLIPS = (1.0, 0.9, 0.8, 0.65)
_ROWS = 192  # of every application, on which errors are measured
_LEAST = 1e-5
_INNER = ".inner"  # what comes out of the activation
_SMALL = re.compile(r"embeddings\.(position|segment)")  # read by addition, and hardly any bytes


class Seen(NamedTuple):
    """What one application of a group of dense layers read: limits by channel (I,), and some rows (N, I)."""

    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray


def observe(bundle: Bundle, batches: Iterable[Rows], progress: Callable[[int], None]) -> dict[str, dict[str, Seen]]:
    """By group and application, what the blocks' dense layers read in real text, computed in float32."""
    builder = GraphBuilder(bundle.spec.encoder, {}, bundle.arrays)
    model = builder.build(["last"])
    reads = builder.reads
    watched = openvino.Model([ops.result(read.node) for read in reads], model.get_parameters(), "watched")
    compiled = core().compile_model(watched, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    draw = np.random.default_rng(0)
    limits: list[tuple[np.ndarray, np.ndarray]] = []
    kept: list[list[np.ndarray]] = [[] for _ in reads]
    for batch in batches:
        found = compiled({"ids": batch.ids, "mask": batch.mask, "segments": batch.segments})
        real = np.flatnonzero(batch.mask)
        some = np.sort(draw.choice(real, min(16, len(real)), replace=False))
        values = [found[output].reshape(batch.mask.size, -1) for output in compiled.outputs]
        new = [(value[real].min(0), value[real].max(0)) for value in values]
        if limits:
            new = [(np.minimum(low, a), np.maximum(high, b)) for (low, high), (a, b) in zip(limits, new, strict=True)]
        limits = new
        for rows, value in zip(kept, values, strict=True):
            rows.append(value[some])
        progress(len(batch.ids))
    seen: dict[str, dict[str, Seen]] = {}
    for read, (low, high), rows in zip(reads, limits, kept, strict=True):
        every = np.concatenate(rows)
        seen.setdefault(read.group, {})[read.point] = Seen(low, high, every[:: max(len(every) // _ROWS, 1)][:_ROWS])
    return seen


def rounded(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int8 (O, I), scales (O,)) nearest to a matrix, every row by its largest number."""
    scales = np.maximum(np.abs(matrix).max(1), np.finfo(np.float32).tiny * 127).astype(np.float32) / np.float32(127)
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales


def _steps(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """``values`` in 256 steps from ``low`` to ``high``, as the engine's FakeQuantize rounds them."""
    step = (high - low) / 255
    return np.rint((np.clip(values, low, high) - low) / step) * step + low


def choose(matrix: np.ndarray, seen: dict[str, Seen]) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """(smooth, ranges) of one group: the factors (I,) and every application's range with the least error of its output."""
    largest = np.max([np.maximum(-s.low, s.high) for s in seen.values()], 0).clip(_LEAST)
    weight = np.abs(matrix).max(0).clip(_LEAST)
    wanted = {point: s.rows @ matrix.T for point, s in seen.items()}
    best: tuple[float, np.ndarray, dict[str, tuple[float, float]]] | None = None
    for share in MIGRATIONS:
        smooth = (largest**share / weight ** (1 - share)).astype(np.float32)
        whole, scales = rounded(matrix * smooth)
        back = (whole * scales[:, None]).T
        total, ranges = 0.0, {}
        for point, s in seen.items():
            low, high = min(float((s.low / smooth).min()), 0.0), max(float((s.high / smooth).max()), _LEAST)
            tried = []
            for clip in CLIPS:
                error = _steps(s.rows / smooth, low * clip, high * clip) @ back - wanted[point]
                limits = (float(np.float32(low * clip)), float(np.float32(high * clip)))  # as they are saved
                tried.append((float(np.square(error).sum()), limits))
            least, ranges[point] = min(tried)
            total += least / max(float(np.square(wanted[point]).sum()), _LEAST)
        if best is None or total < best[0]:
            best = (total, smooth, ranges)
    assert best is not None
    return best[1], best[2]


def quantize(bundle: Bundle, batches: Iterable[Rows], progress: Callable[[int], None] = lambda _: None) -> Int8:
    """All matrices of the encoder in int8, with a fixed range for every application, measured on ``batches``."""
    found = Int8({}, {}, {}, {}, {})
    for group, seen in observe(bundle, batches, progress).items():
        names = matrices_of(group)
        matrix = np.concatenate([bundle.arrays[name] for name in names])
        found.smooth[group], ranges = choose(matrix, seen)
        found.ranges.update(ranges)
        for name in names:
            found.weights[name], found.scales[name] = rounded(bundle.arrays[name] * found.smooth[group])
    return _with_the_rest(bundle, found)


def activation_by_token(found: Int8) -> Int8:
    """The same without a fixed range for what comes out of the activation: the engine measures every token.

    Its largest numbers are rare, and no range serves them and the others. Saves a fifth of the error, costs a seventh of
    the speed.
    """
    return found._replace(
        ranges={point: limits for point, limits in found.ranges.items() if not point.endswith(_INNER)}
    )


def quantize_without_text(bundle: Bundle) -> Int8:
    """All matrices of the encoder in int8; what they read is measured by the engine itself, token by token."""
    return _with_the_rest(bundle, Int8({}, {}, {}, {}, {}))


def _with_the_rest(bundle: Bundle, found: Int8) -> Int8:
    for name, array in bundle.arrays.items():
        if array.ndim == 2 and name.startswith("encoder.") and name not in found.weights and not _SMALL.search(name):
            found.weights[name], found.scales[name] = rounded(array)
        elif name not in found.weights:
            found.plain[name] = np.asarray(array, np.float32)
    return found
