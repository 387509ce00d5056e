"""One text through one model, everything the playground shows of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from halbert.data.batches import Rows
from halbert.tasks.decoding import check_finite

if TYPE_CHECKING:
    from halbert.serve.worker import Served

SHOWN = 96  # pieces of which attention is told: its size is their square


def compared(served: Served, text: str, pair: str = "", layer: int = -1) -> dict[str, Any]:
    """Pieces, what stands behind every mask, each head's answer, likeness of the two texts, states and attention by layer,
    and the seconds of every stage. ``layer`` is the one whose attention is told (-1: the last), of the first ``SHOWN`` pieces;
    a model that has no such layer tells none. ``cut``: pieces that are more than the model reads."""
    predictor, tokenizer = served.predictor, served.predictor.bundle.tokenizer
    clock: dict[str, float] = {}
    began = time.perf_counter()
    whole = tokenizer.encode(text, pair or None, masks=True)
    told = tokenizer.encode(text, pair or None, max_length=predictor.longest, masks=True)
    clock["tokenize"] = time.perf_counter() - began
    kinds = {head.kind for head in served.heads.values()}
    heads: dict[str, Any] = {}
    began = time.perf_counter()
    for kind in ("label", "score", "tag"):
        if kind in kinds and text:
            heads[kind] = served.by(kind).predict([text], [pair] if pair and kind != "tag" else None)[0]
    if "span" in kinds and text and pair:
        heads["span"] = served.by("span").predict([text], [pair])[0]
    if heads:
        clock["heads"] = time.perf_counter() - began
    fills: list[Any] = []
    if "mlm" in kinds and tokenizer.special_ids["mask"] in told.ids:
        began = time.perf_counter()
        fills = predictor.filled(told.ids, told.segments, 5)
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
    layers = len(found["attentions"])
    attention = found["attentions"][layer, 0, :, :SHOWN, :SHOWN] if layer < layers else None
    return {
        "pieces": [
            {"id": number, "text": piece, "start": span and span[0], "stop": span and span[1], "segment": segment}
            for number, piece, span, segment in zip(told.ids, told.tokens, told.spans, told.segments, strict=True)
        ],
        "precision": predictor.backend.describe()["precision"],
        "fills": fills, "heads": heads, "likeness": likeness, "layers": [round(float(c), 4) for c in cosines],
        "attention": None if attention is None else np.round(attention, 4).tolist(), "layer": layer % layers,
        "cut": len(whole.ids) - len(told.ids), "seconds": clock,
    }  # fmt: skip
