"""The engines that ``benchmarks/inference.py`` puts side by side, each in a process of its own, by its own advice.

    python -m benchmarks.peers NAME MODEL     answers lines of JSON on standard input: {"texts": [...], "repeat": n}

Every engine turns texts into mean-pooled, normalised vectors; tokenisation is part of the time.
"""

from __future__ import annotations

import collections
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = 256
BATCH = 32  # what sentence-transformers takes
Embed = Callable[[list[str]], np.ndarray]


def halbert(model: str, precision: str) -> tuple[Embed, dict[str, Any]]:
    """This library."""
    from halbert.run.predictor import load

    predictor = load(model, precision=precision)  # type: ignore[arg-type]
    embed = lambda texts: predictor.embed(texts, max_length=LENGTH, pooling="mean", normalize=True)  # noqa: E731
    return embed, predictor.backend.describe()


def sentence_transformers(model: str, precision: str) -> tuple[Embed, dict[str, Any]]:
    """``SentenceTransformer(...).encode(texts)``: sorted by length, 32 a batch."""
    import torch
    from sentence_transformers import SentenceTransformer

    found = SentenceTransformer(model, device="cpu")
    if precision == "bf16":
        found = found.bfloat16()
    told = {"version": _version("sentence-transformers"), "threads": torch.get_num_threads()}
    return (
        lambda texts: found.encode(texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False),
        told,
    )


def pipeline(model: str, precision: str) -> tuple[Embed, dict[str, Any]]:
    """``transformers.pipeline("feature-extraction")``, text by text: its documentation advises against batches on CPUs."""
    import torch
    import transformers

    found = transformers.pipeline("feature-extraction", model=model, framework="pt", device="cpu")

    def embed(texts: list[str]) -> np.ndarray:
        states = found(texts, tokenize_kwargs={"truncation": True, "max_length": LENGTH}, return_tensors=True)
        return np.stack([_unit(np.asarray(state[0]).mean(0)) for state in states])

    return embed, {"version": transformers.__version__, "threads": torch.get_num_threads()}


def export_onnx(source: Any, file: Path) -> list[str]:
    """Write a transformers model as ONNX with one output, its last states; returns the names of the inputs."""
    import torch

    names, output = ["input_ids", "attention_mask", "token_type_ids"], "last_hidden_state"
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    axes = {name: {0: "batch", 1: "length"} for name in [*names, output]}
    torch.onnx.export(
        _States(source), example, file, input_names=names, output_names=[output], dynamic_axes=axes, dynamo=False
    )  # fmt: skip
    return names


def onnxruntime(model: str, precision: str) -> tuple[Embed, dict[str, Any]]:
    """Exported by torch, fused by ONNX Runtime's transformer optimiser, int8 by its dynamic quantisation."""
    import onnx
    import onnxruntime as runtime
    import transformers
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    source = transformers.AutoModel.from_pretrained(model, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    place = Path(tempfile.mkdtemp())
    names = export_onnx(source, place / "a.onnx")
    config = source.config
    fused = optimize_model(
        str(place / "a.onnx"), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
    )
    fused.save_model_to_file(str(place / "b.onnx"))
    told = {"version": runtime.__version__, "fused": fused.get_fused_operator_statistics()}
    if precision == "int8":
        quantize_dynamic(
            place / "b.onnx",
            place / "c.onnx",
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # the fused operators have no shape inference
        )
    options = runtime.SessionOptions()
    session = runtime.InferenceSession(
        place / ("c.onnx" if precision == "int8" else "b.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def forward(inputs: dict[str, np.ndarray]) -> np.ndarray:
        return session.run(None, {name: inputs[name] for name in names})[0]

    return _batched(tokenizer, lambda batches: map(forward, batches)), {**told, "threads": "all (its default)"}


def openvino(model: str, precision: str) -> tuple[Embed, dict[str, Any]]:
    """The model as transformers has it, converted; int8 by nncf's post-training quantisation for transformers."""
    import openvino as engine
    import torch
    import transformers

    source = transformers.AutoModel.from_pretrained(model, attn_implementation="sdpa").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = {name: torch.ones(2, 8, dtype=torch.int64) for name in names}
    with torch.inference_mode():
        graph = engine.convert_model(source, example_input=example)
    graph.reshape({name: [-1, -1] for name in names})
    if precision == "int8":
        import nncf

        rows = [
            dict(tokenizer(text, return_tensors="np", truncation=True, max_length=LENGTH)) for text in _calibration()
        ]
        graph = nncf.quantize(graph, nncf.Dataset(rows), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(rows))
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    core = engine.Core()
    many = core.compile_model(graph, "CPU", {**hint, "PERFORMANCE_HINT": "THROUGHPUT"})
    one = core.compile_model(graph, "CPU", {**hint, "PERFORMANCE_HINT": "LATENCY"})

    def forward(batches: Sequence[dict[str, np.ndarray]]) -> list[np.ndarray]:
        if len(batches) == 1:
            return [np.array(one(batches[0])[0])]
        found: list[Any] = [None] * len(batches)
        queue = engine.AsyncInferQueue(many)
        queue.set_callback(lambda request, i: found.__setitem__(i, np.array(request.get_output_tensor(0).data)))
        for i, batch in enumerate(batches):
            queue.start_async(batch, i)
        queue.wait_all()
        return found

    return _batched(tokenizer, forward), {
        "version": engine.__version__,
        "threads": one.get_property("INFERENCE_NUM_THREADS"),
    }


PEERS: dict[str, Callable[[str], tuple[Embed, dict[str, Any]]]] = {
    "halbert fp32": lambda model: halbert(model, "fp32"),
    "halbert bf16": lambda model: halbert(model, "bf16"),
    "halbert int8": lambda model: halbert(model, "int8"),
    "sentence-transformers fp32": lambda model: sentence_transformers(model, "fp32"),
    "sentence-transformers bf16": lambda model: sentence_transformers(model, "bf16"),
    "transformers pipeline": lambda model: pipeline(model, "fp32"),
    "onnxruntime fp32": lambda model: onnxruntime(model, "fp32"),
    "onnxruntime int8": lambda model: onnxruntime(model, "int8"),
    "openvino fp32": lambda model: openvino(model, "fp32"),
    "openvino bf16": lambda model: openvino(model, "bf16"),
    "openvino int8": lambda model: openvino(model, "int8"),
}


def _States(source: Any) -> Any:
    """The last states alone, as a module that can be traced."""
    import torch

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source = source

        def forward(self, ids: Any, mask: Any, segments: Any) -> Any:
            return self.source(input_ids=ids, attention_mask=mask, token_type_ids=segments).last_hidden_state

    return States()


def _batched(tokenizer: Any, forward: Callable[[Any], Any]) -> Embed:
    """Sorted by length, 32 a batch, padded to the longest: what one would write around a bare engine."""

    def embed(texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        inputs = [
            dict(
                tokenizer(
                    [texts[i] for i in group], padding=True, truncation=True, max_length=LENGTH, return_tensors="np",
                    return_token_type_ids=True,
                )
            )
            for group in groups
        ]  # fmt: skip
        vectors = np.empty((len(texts), 0), np.float32)
        for group, batch, states in zip(groups, inputs, forward(inputs), strict=True):
            mask = batch["attention_mask"][:, :, None].astype(np.float32)
            if not vectors.size:
                vectors = np.empty((len(texts), states.shape[2]), np.float32)
            vectors[group] = (states * mask).sum(1) / mask.sum(1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return embed


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _calibration() -> list[str]:
    from benchmarks.inference import calibration_texts

    return calibration_texts()


def _version(name: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(name)


def resident() -> dict[str, int]:
    """Bytes resident now and at the peak; Linux only."""
    told = Path("/proc/self/status").read_text()
    found: dict[str, int] = collections.OrderedDict()
    for key, name in (("VmRSS", "now"), ("VmHWM", "peak")):
        found[name] = 1024 * int(re.search(rf"{key}:\s+(\d+)", told)[1])  # type: ignore[index]
    return found


def main() -> None:
    """Load one engine, then answer."""
    name, model = sys.argv[1:3]
    sys.stdout, out = sys.stderr, sys.stdout
    embed, told = PEERS[name](model)
    embed(["a"])  # so that what is mapped has been read
    print(json.dumps({"told": told, "memory": resident()}, default=str), file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        seconds = []
        for _ in range(asked["repeat"]):
            began = time.perf_counter()
            vectors = embed(asked["texts"])
            seconds.append(time.perf_counter() - began)
        answer: dict[str, Any] = {"seconds": statistics.median(seconds), "memory": resident()}
        if asked.get("vectors"):
            answer["vectors"] = vectors.tolist()
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
