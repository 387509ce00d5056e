"""The encoder as an OpenVINO graph, built straight from the specification and the arrays.

No tracing, no export, no torch. A parameter set that several layers share is one constant in the graph.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from halbert.errors import missing_extra
from halbert.heads import HeadSpec
from halbert.spec import EncoderSpec
from halbert.weights.int8 import Int8
from halbert.weights.tensors import writable

try:
    import openvino
    from openvino import opset13 as ops
except ImportError:
    raise missing_extra("openvino", "", "fast prediction on CPUs") from None

_LOWEST = float(np.finfo(np.float32).min)


@functools.cache
def core() -> Any:
    """The process's only OpenVINO core, which lives as long as the process.

    Each core gives the thread a stack for signal handlers and brings back the one before when it is destroyed. Of two
    cores that are destroyed in the order they were made, the second brings back the first one's, which is unmapped: the
    next signal (Ctrl-C, a worker that ends) would end the process.
    """
    return openvino.Core()


class Read(NamedTuple):
    """An input of dense layers: of which ones, at which application of them, and its node in the graph."""

    group: str
    point: str
    node: Any


class Layout:
    """How states lie between the attentions: as the padded batch (B, S, H), nothing to be moved."""

    def spread(self, x: Any) -> Any:
        """States as the batch has them."""
        return x

    def gather(self, x: Any) -> Any:
        """The batch as states lie."""
        return x

    def first(self, x: Any) -> Any:
        """The states of [CLS] (B, 1, H)."""
        return ops.gather(x, ops.constant([0], np.int64), ops.constant(1, np.int64))


class Packed(Layout):
    """One behind the other, without padding (T, H).

    ``grid`` (B, S) says where each piece of the batch lies, ``back`` (T,) which place of the flattened batch each state
    has. Only attention, which is between the pieces of one text, sees the batch.
    """

    def __init__(self, grid: Any, back: Any, width: int) -> None:
        self.grid, self.back, self.width, self.rows = grid, back, width, ops.constant(0, np.int64)

    def spread(self, x: Any) -> Any:
        """States as the batch has them; at padded places anything."""
        return ops.gather(x, self.grid, self.rows)

    def gather(self, x: Any) -> Any:
        """The batch (B, S, H) as states lie."""
        return ops.gather(_flat(x, self.width), self.back, self.rows)

    def first(self, x: Any) -> Any:
        """The states of [CLS] (B, 1, H)."""
        return ops.gather(x, Layout().first(self.grid), self.rows)


class GraphBuilder:
    """One forward pass as an OpenVINO graph with the outputs that were asked for, and nothing else."""

    def __init__(
        self,
        spec: EncoderSpec,
        heads: dict[str, HeadSpec],
        arrays: dict[str, np.ndarray],
        int8: Int8 | None = None,
    ) -> None:
        self.spec, self.heads, self.arrays, self.int8 = spec, heads, arrays, int8
        self.reads: list[Read] = []
        self._constants: dict[str, Any] = {}

    def constant(self, name: str) -> Any:
        """The constant of an array; asked for twice, it is the same node."""
        if name not in self._constants:
            self._constants[name] = openvino.op.Constant(
                writable(np.ascontiguousarray(self.arrays[name], np.float32)), shared_memory=True
            )
        return self._constants[name]

    def _number(self, value: float) -> Any:
        return ops.constant(np.float32(value))

    def _scaled(self, name: str) -> Any:
        """An int8 matrix as the numbers it stands for; the engine multiplies in int8 where its input is quantised."""
        if name not in self._constants:
            assert self.int8 is not None
            whole = ops.convert(openvino.op.Constant(writable(self.int8.weights[name]), shared_memory=True), "f32")
            self._constants[name] = ops.multiply(whole, ops.constant(self.int8.scales[name][:, None]))
        return self._constants[name]

    def matrix(self, name: str) -> Any:
        """A weight matrix, in int8 where there is one."""
        return self._scaled(name) if self.int8 and name in self.int8.weights else self.constant(name)

    def dense(self, x: Any, name: str) -> Any:
        """``x @ weight.T + bias``."""
        product = ops.matmul(x, self.matrix(f"{name}.weight"), False, True)
        return ops.add(product, self.constant(f"{name}.bias"))

    def read(self, x: Any, group: str, point: str) -> Any:
        """What the dense layers of a group read at one application of them: quantised, where int8 has a range for it.

        Of shared layers every application has a range of its own.
        """
        self.reads.append(Read(group, point, x))
        if self.int8 is None or group not in self.int8.smooth:
            return x
        x = ops.multiply(x, ops.constant(1 / self.int8.smooth[group]))
        if point not in self.int8.ranges:
            return x
        low, high = (self._number(value) for value in self.int8.ranges[point])
        return ops.fake_quantize(x, low, high, low, high, 256)

    def norm(self, x: Any, name: str) -> Any:
        """LayerNorm over the last axis."""
        unit = ops.mvn(x, ops.constant([-1], np.int64), True, self.spec.layer_norm_eps, "INSIDE_SQRT")
        return ops.add(ops.multiply(unit, self.constant(f"{name}.weight")), self.constant(f"{name}.bias"))

    def activation(self, x: Any) -> Any:
        """The activation of the feed-forward blocks and of the masked-piece head."""
        if self.spec.hidden_act == "relu":
            return ops.relu(x)
        return ops.gelu(x, "ERF" if self.spec.hidden_act == "gelu" else "TANH")

    def embeddings(self, ids: Any, segments: Any, positions: Any) -> Any:
        """Pieces + positions + segments, normalised, of the width E."""
        zero = ops.constant(0, np.int64)
        x = self._rows("encoder.embeddings.piece.weight", ids)
        x = ops.add(x, ops.gather(self.constant("encoder.embeddings.segment.weight"), segments, zero))
        x = ops.add(x, ops.gather(self.constant("encoder.embeddings.position.weight"), positions, zero))
        return self.norm(x, "encoder.embeddings.norm")

    def _rows(self, name: str, ids: Any) -> Any:
        zero = ops.constant(0, np.int64)
        if self.int8 is None or name not in self.int8.weights:
            return ops.gather(self.constant(name), ids, zero)
        rows = ops.convert(ops.gather(ops.constant(self.int8.weights[name]), ids, zero), "f32")
        return ops.multiply(rows, ops.gather(ops.constant(self.int8.scales[name][:, None]), ids, zero))

    def attention(
        self, x: Any, bias: Any, layout: Layout, name: str, point: str, want_probs: bool, only_first: bool
    ) -> tuple[Any, Any]:
        """One attention half-block, and its probabilities (B, A, S, S) if wanted; ``only_first``: of [CLS] alone."""
        heads, width = self.spec.num_attention_heads, self.spec.head_size
        split = ops.constant([0, 0, heads, width], np.int64)
        order = ops.constant([0, 2, 1, 3], np.int64)
        source = self.read(x, f"{name}.input", f"{point}.input")
        asking = self.dense(layout.first(source) if only_first else source, f"{name}.query")
        key, value = (layout.spread(self.dense(source, f"{name}.{part}")) for part in ("key", "value"))
        q, k, v = (
            ops.transpose(ops.reshape(states, split, True), order)
            for states in (asking if only_first else layout.spread(asking), key, value)
        )
        probs = None
        if want_probs:
            scores = ops.multiply(ops.matmul(q, k, False, True), self._number(width**-0.5))
            probs = ops.softmax(ops.add(scores, bias), -1)
            mixed = ops.matmul(probs, v, False, False)
        else:
            mixed = ops.scaled_dot_product_attention(q, k, v, bias)
        joined = ops.reshape(ops.transpose(mixed, order), ops.constant([0, 0, self.spec.hidden_size], np.int64), True)
        joined = self.read(joined, f"{name}.output", f"{point}.joined")
        joined = joined if only_first else layout.gather(joined)
        x = layout.first(x) if only_first else x
        return self.norm(ops.add(x, self.dense(joined, f"{name}.output")), f"{name}.norm"), probs

    def ffn(self, x: Any, name: str, point: str) -> Any:
        """One feed-forward half-block."""
        source = self.read(x, f"{name}.intermediate", f"{point}.ffn")
        inner = self.activation(self.dense(source, f"{name}.intermediate"))
        inner = self.read(inner, f"{name}.output", f"{point}.inner")
        return self.norm(ops.add(x, self.dense(inner, f"{name}.output")), f"{name}.norm")

    def head(self, name: str, states: Any) -> Any:
        """A head's logits; see :meth:`halbert.model.Model.answer`."""
        head = self.heads[name]
        x = self.dense(states, f"heads.{name}.dense")
        if head.kind == "mlm":
            x = self.norm(self.activation(x), f"heads.{name}.norm")
            x = ops.matmul(x, self.matrix("encoder.embeddings.piece.weight"), False, True)
            return ops.add(x, self.constant(f"heads.{name}.bias"))
        if head.kind == "choice":
            return ops.reshape(x, ops.constant([-1, head.choices], np.int64), False)
        return x

    def build(self, outputs: Sequence[str], places: bool = False, packed: bool = False) -> Any:
        """The model with inputs ids, mask and segments (B, S), int64, and the named outputs in float32.

        ``places``: with a fourth input, the places (K,) in the flattened batch where masked pieces are answered.
        ``packed``: ids, segments, positions and back (T,), mask and grid (B, S); see :class:`Packed`. Where [CLS] is all that
        is asked for, the last block computes nothing else.
        """
        shape = [-1] if packed else [-1, -1]
        ids, segments = (ops.parameter(shape, np.int64, name=name) for name in ("ids", "segments"))
        mask = ops.parameter([-1, -1], np.int64, name="mask")
        parameters = [ids, mask, segments]
        if packed:
            positions, back = (ops.parameter([-1], np.int64, name=name) for name in ("positions", "back"))
            grid = ops.parameter([-1, -1], np.int64, name="grid")
            layout: Layout = Packed(grid, back, self.spec.hidden_size)
            parameters += [positions, back, grid]
        else:
            zero, one = ops.constant(0, np.int64), ops.constant(1, np.int64)
            positions = ops.range(zero, ops.gather(ops.shape_of(ids), one, zero), one, "i64")
            layout = Layout()
        only_first = all(
            name in ("pooled", "first") or (name in self.heads and self.heads[name].row.states == "pooled")
            for name in outputs
        )
        blocks = self.spec.num_hidden_layers * self.spec.inner_group_num
        x = self.embeddings(ids, segments, positions)
        if self.spec.has_projection:
            x = self.dense(x, "encoder.projection")
        hidden = ops.equal(mask, ops.constant(0, np.int64))
        # The lowest finite number, not -inf: a row of nothing but padding must not become NaN. Chosen, not multiplied:
        # a converted byte times a number is what OpenVINO takes for a quantised tensor, and in int8 graphs it then moved
        # the factor into the attention scores, as 1 / -3.4e38: denormal numbers, three times as slow and inexact.
        bias = ops.select(hidden, self._number(_LOWEST), self._number(0.0))
        bias = ops.unsqueeze(bias, ops.constant([1, 2], np.int64))
        states, probabilities = [x], []
        for layer in range(self.spec.num_hidden_layers):
            attention = f"encoder.attention.{self.spec.group_of('attention', layer)}"
            ffn = f"encoder.ffn.{self.spec.group_of('ffn', layer)}"
            for inner in range(self.spec.inner_group_num):
                point = f"{layer}.{inner}"
                last = only_first and len(states) == blocks
                asked = "attentions" in outputs
                x, probs = self.attention(x, bias, layout, f"{attention}.{inner}", point, asked, last)
                x = self.ffn(x, f"{ffn}.{inner}", point)
                states.append(x)
                probabilities.append(probs)
        tail = ops.squeeze(x if only_first else layout.first(x), ops.constant([1], np.int64))
        found: dict[str, Any] = {"first": tail}
        reads_pooled = {"pooled", *(name for name, head in self.heads.items() if head.row.states == "pooled")}
        if self.spec.pooler == "tanh" and reads_pooled & set(outputs):
            found["pooled"] = ops.tanh(self.dense(found["first"], "encoder.pooler"))
        first_axis = ops.constant(0, np.int64)
        answered = x
        if places:
            parameters.append(ops.parameter([-1], np.int64, name="places"))
            answered = ops.gather(_flat(x, self.spec.hidden_size), parameters[-1], first_axis)
        for name in outputs:
            if name == "last":
                found[name] = layout.spread(x)
            elif name == "hidden_states":
                found[name] = ops.concat([ops.unsqueeze(layout.spread(s), first_axis) for s in states], 0)
            elif name == "attentions":
                found[name] = ops.concat([ops.unsqueeze(p, first_axis) for p in probabilities], 0)
            elif name in self.heads and self.heads[name].row.states == "pooled":
                found[name] = self.head(name, found["pooled"])
            elif name in self.heads:
                logits = self.head(name, answered)
                found[name] = logits if places else layout.spread(logits)
        results = []
        for name in outputs:
            result = ops.result(found[name])
            result.output(0).set_names({name})
            results.append(result)
        return openvino.Model(results, parameters, "halbert")


def _flat(x: Any, width: int) -> Any:
    """(B, S, H) as (B * S, H)."""
    return ops.reshape(x, ops.constant([-1, width], np.int64), False)
