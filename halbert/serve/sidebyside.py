"""One text through one model, everything the playground shows of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from halbert.data.batches import Rows
from halbert.errors import InputError
from halbert.tasks.decoding import check_finite

if TYPE_CHECKING:
    from halbert.serve.worker import Served

SHOWN = 96  # pieces of which attention is told: its size is their square


def compared(served: Served, text: str, pair: str = "", layer: int = -1) -> dict[str, Any]:
    """Pieces, what stands behind every mask, each head's answer, likeness of the two texts, states and attention by layer,
    and the seconds of every stage. ``layer`` is the one whose attention is told (-1: the last)."""
    predictor, tokenizer = served.predictor, served.predictor.bundle.tokenizer
    layers = predictor.bundle.spec.encoder.num_hidden_layers
    if layer >= layers:
        raise InputError(f"{served.name}: has {layers} layers, 0 to {layers - 1}; there is no layer {layer}")
    clock: dict[str, float] = {}
    began = time.perf_counter()
    told = tokenizer.encode(text, pair or None, max_length=predictor.longest, masks=True)
    clock["tokenize"] = time.perf_counter() - began
    kinds = {head.kind for head in served.heads.values()}
    heads: dict[str, Any] = {}
    began = time.perf_counter()
    for kind in ("label", "score", "tag"):
        if kind in kinds and text:
            heads[kind] = served.by(kind).predict([text])[0]
    if "span" in kinds and text and pair:
        heads["span"] = served.by("span").predict([text], [pair])[0]
    if heads:
        clock["heads"] = time.perf_counter() - began
    fills: list[Any] = []
    if "mlm" in kinds and tokenizer.special_ids["mask"] in told.ids and not pair:
        began = time.perf_counter()
        fills = predictor.fill(text, top=5)
        clock["fill"] = time.perf_counter() - began
    likeness = None
    if pair:
        began = time.perf_counter()
        a, b = predictor.embed([text, pair], pooling="mean", normalize=True).astype(np.float64)
        likeness = float(a @ b)
        clock["embed"] = time.perf_counter() - began
    rows = Rows(np.array([told.ids]), np.ones((1, len(told.ids)), np.int64), np.array([told.segments]))
    began = time.perf_counter()
    found = predictor.backend.forward(rows, ["hidden_states", "attentions"])
    clock["states"] = time.perf_counter() - began
    states = found["hidden_states"][:, 0].astype(np.float64)
    check_finite(states[None], np.zeros(1, np.int64), "state")
    lengths = np.maximum(np.linalg.norm(states, axis=-1), 1e-12)
    cosines = ((states[:-1] * states[1:]).sum(-1) / (lengths[:-1] * lengths[1:])).mean(1)
    attention = found["attentions"][layer, 0, :, :SHOWN, :SHOWN]
    return {
        "pieces": [
            {"id": number, "text": piece, "start": span and span[0], "stop": span and span[1], "segment": segment}
            for number, piece, span, segment in zip(told.ids, told.tokens, told.spans, told.segments, strict=True)
        ],
        "precision": predictor.backend.describe()["precision"],
        "fills": fills, "heads": heads, "likeness": likeness, "layers": [round(float(c), 4) for c in cosines],
        "attention": np.round(attention, 4).tolist(), "layer": layer % len(found["attentions"]), "seconds": clock,
    }  # fmt: skip
