"""The engine for CPUs: an OpenVINO graph built straight from the specification and the arrays.

No tracing, no export, no torch. A parameter set that several layers share is one constant in the graph.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from halbert.bundle import Bundle
from halbert.data.batches import Rows
from halbert.errors import InputError, missing_extra
from halbert.heads import HeadSpec
from halbert.run.backend import STATES, Precision, check_batch
from halbert.spec import EncoderSpec

try:
    import openvino
    from openvino import opset13 as ops
except ImportError:
    raise missing_extra("openvino", "", "fast prediction on CPUs") from None

logging.getLogger("openvino").setLevel(logging.ERROR)
_LOWEST = float(np.finfo(np.float32).min)


class GraphBuilder:
    """One forward pass as an OpenVINO graph with the outputs that were asked for, and nothing else."""

    def __init__(self, spec: EncoderSpec, heads: dict[str, HeadSpec], arrays: dict[str, np.ndarray]) -> None:
        self.spec, self.heads, self.arrays = spec, heads, arrays
        self._constants: dict[str, Any] = {}

    def constant(self, name: str) -> Any:
        """The constant of an array; asked for twice, it is the same node."""
        if name not in self._constants:
            self._constants[name] = openvino.op.Constant(
                np.ascontiguousarray(self.arrays[name], np.float32), shared_memory=True
            )
        return self._constants[name]

    def _number(self, value: float) -> Any:
        return ops.constant(np.float32(value))

    def dense(self, x: Any, name: str) -> Any:
        """``x @ weight.T + bias``."""
        product = ops.matmul(x, self.constant(f"{name}.weight"), False, True)
        return ops.add(product, self.constant(f"{name}.bias"))

    def norm(self, x: Any, name: str) -> Any:
        """LayerNorm over the last axis."""
        unit = ops.mvn(x, ops.constant([-1], np.int64), True, self.spec.layer_norm_eps, "INSIDE_SQRT")
        return ops.add(ops.multiply(unit, self.constant(f"{name}.weight")), self.constant(f"{name}.bias"))

    def activation(self, x: Any) -> Any:
        """The activation of the feed-forward blocks and of the masked-piece head."""
        if self.spec.hidden_act == "relu":
            return ops.relu(x)
        return ops.gelu(x, "ERF" if self.spec.hidden_act == "gelu" else "TANH")

    def embeddings(self, ids: Any, segments: Any) -> Any:
        """Pieces + positions + segments, normalised (B, S, E)."""
        zero, one = ops.constant(0, np.int64), ops.constant(1, np.int64)
        length = ops.gather(ops.shape_of(ids), one, zero)
        position = ops.range(zero, length, one, "i64")
        x = ops.gather(self.constant("encoder.embeddings.piece.weight"), ids, zero)
        x = ops.add(x, ops.gather(self.constant("encoder.embeddings.segment.weight"), segments, zero))
        x = ops.add(x, ops.gather(self.constant("encoder.embeddings.position.weight"), position, zero))
        return self.norm(x, "encoder.embeddings.norm")

    def attention(self, x: Any, bias: Any, name: str, want_probs: bool) -> tuple[Any, Any]:
        """One attention half-block, and its probabilities (B, A, S, S) if wanted."""
        heads, width = self.spec.num_attention_heads, self.spec.head_size
        split = ops.constant([0, 0, heads, width], np.int64)
        order = ops.constant([0, 2, 1, 3], np.int64)
        q, k, v = (
            ops.transpose(ops.reshape(self.dense(x, f"{name}.{part}"), split, True), order)
            for part in ("query", "key", "value")
        )
        probs = None
        if want_probs:
            scores = ops.multiply(ops.matmul(q, k, False, True), self._number(width**-0.5))
            probs = ops.softmax(ops.add(scores, bias), -1)
            mixed = ops.matmul(probs, v, False, False)
        else:
            mixed = ops.scaled_dot_product_attention(q, k, v, bias)
        joined = ops.reshape(ops.transpose(mixed, order), ops.constant([0, 0, self.spec.hidden_size], np.int64), True)
        return self.norm(ops.add(x, self.dense(joined, f"{name}.output")), f"{name}.norm"), probs

    def ffn(self, x: Any, name: str) -> Any:
        """One feed-forward half-block."""
        inner = self.activation(self.dense(x, f"{name}.intermediate"))
        return self.norm(ops.add(x, self.dense(inner, f"{name}.output")), f"{name}.norm")

    def head(self, name: str, pooled: Any, last: Any) -> Any:
        """A head's logits; see :meth:`halbert.model.Model.answer`."""
        head = self.heads[name]
        states = pooled if head.row.states == "pooled" else last
        x = self.dense(states, f"heads.{name}.dense")
        if head.kind == "mlm":
            x = self.norm(self.activation(x), f"heads.{name}.norm")
            x = ops.matmul(x, self.constant("encoder.embeddings.piece.weight"), False, True)
            return ops.add(x, self.constant(f"heads.{name}.bias"))
        if head.kind == "choice":
            return ops.reshape(x, ops.constant([-1, head.choices], np.int64), False)
        return x

    def build(self, outputs: Sequence[str]) -> Any:
        """The model with inputs ids, mask and segments (B, S), int64, and the named outputs in float32."""
        ids, mask, segments = (ops.parameter([-1, -1], np.int64, name=name) for name in ("ids", "mask", "segments"))
        x = self.embeddings(ids, segments)
        if self.spec.has_projection:
            x = self.dense(x, "encoder.projection")
        hidden = ops.convert(ops.equal(mask, ops.constant(0, np.int64)), "f32")
        # The lowest finite number, not -inf: a row of nothing but padding must not become NaN.
        bias = ops.unsqueeze(ops.multiply(hidden, self._number(_LOWEST)), ops.constant([1, 2], np.int64))
        states, probabilities = [x], []
        for layer in range(self.spec.num_hidden_layers):
            attention = f"encoder.attention.{self.spec.group_of('attention', layer)}"
            ffn = f"encoder.ffn.{self.spec.group_of('ffn', layer)}"
            for inner in range(self.spec.inner_group_num):
                x, probs = self.attention(x, bias, f"{attention}.{inner}", "attentions" in outputs)
                x = self.ffn(x, f"{ffn}.{inner}")
                states.append(x)
                probabilities.append(probs)
        found: dict[str, Any] = {"last": x}
        reads_pooled = {"pooled", *(name for name, head in self.heads.items() if head.row.states == "pooled")}
        if self.spec.pooler == "tanh" and reads_pooled & set(outputs):
            first = ops.gather(x, ops.constant(0, np.int64), ops.constant(1, np.int64))
            found["pooled"] = ops.tanh(self.dense(first, "encoder.pooler"))
        first_axis = ops.constant(0, np.int64)
        for name in outputs:
            if name == "hidden_states":
                found[name] = ops.concat([ops.unsqueeze(s, first_axis) for s in states], 0)
            elif name == "attentions":
                found[name] = ops.concat([ops.unsqueeze(p, first_axis) for p in probabilities], 0)
            elif name in self.heads:
                found[name] = self.head(name, found.get("pooled"), x)
        results = []
        for name in outputs:
            result = ops.result(found[name])
            result.output(0).set_names({name})
            results.append(result)
        return openvino.Model(results, [ids, mask, segments], "halbert")


class OpenVINOBackend:
    """Compiled OpenVINO graphs, one for each set of outputs that is asked for; ``auto`` is bf16 where the CPU has it."""

    def __init__(self, bundle: Bundle, precision: Precision = "auto", threads: int | None = None) -> None:
        self.core = openvino.Core()
        self.heads = bundle.heads
        self.spec = bundle.spec.encoder
        self._builder = GraphBuilder(self.spec, bundle.heads, bundle.arrays)
        capable = "BF16" in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not capable:
            raise InputError(
                "precision bf16 was asked for, but this CPU cannot multiply bfloat16; use --precision fp32"
            )
        self.precision = ("bf16" if capable else "fp32") if precision == "auto" else precision
        self._config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            self._config["INFERENCE_NUM_THREADS"] = threads
        self._compiled: dict[tuple[str, ...], Any] = {}

    def compiled(self, outputs: Sequence[str]) -> Any:
        """The compiled graph for these outputs, made on first use. Raises :class:`InputError` for an unknown one."""
        key = tuple(outputs)
        if key not in self._compiled:
            unknown = [name for name in key if name not in self.offers()]
            if unknown:
                raise InputError(f"this model offers no output {unknown[0]!r}; it offers {', '.join(self.offers())}")
            self._compiled[key] = self.core.compile_model(self._builder.build(key), "CPU", self._config)
        return self._compiled[key]

    def forward(self, batch: Rows, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """See :class:`halbert.run.backend.Backend`."""
        check_batch(batch, self.spec)
        compiled = self.compiled(outputs)
        found = compiled({"ids": batch.ids, "mask": batch.mask, "segments": batch.segments})
        return {name: np.array(found[name], np.float32) for name in outputs}

    def offers(self) -> list[str]:
        """The outputs that can be asked for."""
        return [name for name in STATES if self.spec.pooler == "tanh" or name != "pooled"] + list(self.heads)

    def describe(self) -> dict[str, Any]:
        """See :class:`halbert.run.backend.Backend`."""
        compiled = next(iter(self._compiled.values()), None)
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
