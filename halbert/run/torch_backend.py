"""The reference engine, and the one for GPUs: the PyTorch model itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from halbert.bundle import Bundle
from halbert.data.batches import Rows
from halbert.errors import InputError
from halbert.model.arrays import model_of
from halbert.run.backend import STATES, Precision, check_batch


class TorchBackend:
    """Eager PyTorch on CPU or CUDA; ``auto`` precision is fp32 on CPU and bf16 on CUDA."""

    def __init__(self, bundle: Bundle, precision: Precision = "auto", device: str = "auto", threads: int | None = None):
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("device cuda was asked for, but PyTorch finds no CUDA device here; use --device cpu")
        if bundle.int8 is not None or precision == "int8":
            raise InputError("the torch backend does not run int8 engines; use --backend openvino")
        if threads:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.precision = ("bf16" if device == "cuda" else "fp32") if precision == "auto" else precision
        self.heads = bundle.heads
        self.model = model_of(bundle.spec.encoder, bundle.heads, bundle.arrays).to(self.device).eval()

    @torch.inference_mode()
    def forward(self, batch: Rows, outputs: Sequence[str], places: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See :class:`halbert.run.backend.Backend`."""
        check_batch(batch, self.model.spec)
        ids, mask, segments = (torch.from_numpy(array).to(self.device) for array in batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            found = self.model(
                ids, mask, segments, hidden_states="hidden_states" in outputs, attentions="attentions" in outputs
            )
            at = None if places is None else torch.from_numpy(places).to(self.device)
            results = {name: self.model.answer(name, found, at) for name in outputs if name in self.heads}
        for name in outputs:
            if name in results:
                continue
            if name not in STATES or (name == "pooled" and found.pooled_BH is None):
                raise InputError(f"this model offers no output {name!r}; it offers {', '.join(self.offers())}")
            if name == "pooled":
                results[name] = found.pooled_BH
            elif name == "first":
                results[name] = found.last_BSH[:, 0]
            elif name == "last":
                results[name] = found.last_BSH
            else:
                results[name] = torch.stack(getattr(found, name))
        return {name: value.float().cpu().numpy() for name, value in results.items()}

    def stream(self, batches: Iterable[Rows], outputs: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See :class:`halbert.run.backend.Backend`."""
        for batch in batches:
            yield self.forward(batch, outputs)

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
            "threads": torch.get_num_threads(),
            "outputs": self.offers(),
        }
