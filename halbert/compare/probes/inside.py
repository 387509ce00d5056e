"""What happens between the layers: how much each changes the states, and how widely it looks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.probes.learnt import Learnt
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.batches import pad_rows
from halbert.run.predictor import Predictor

TEXTS = 64
LONGEST = 64


class InsideProbe(Learnt):
    """Hidden states and attentions of real texts, averaged over their pieces."""

    name = "inside"
    title = "Inside"

    def __init__(self, predictors: dict[str, Predictor], texts: Sequence[str], where: str) -> None:
        self.predictors = predictors
        self.texts = [text for text in texts if text.strip()][:TEXTS]
        made = f"{len(self.texts)} texts of {where}, at most {LONGEST} pieces of each, every piece but padding"
        self.quantities = [
            Quantity(name="layer_cosine", title="Likeness of a layer's states to the next's", unit="cosine",
                     statistic="mean", better="neither",
                     how=f"{made}; cosine of a piece's state before and after each layer, one sample a layer (the first: "
                         "embeddings to layer 1); mean over layers (ALBERT paper, figure 1)"),
            Quantity(name="layer_distance", title="How far a layer moves a state", unit="ratio", statistic="mean",
                     better="neither",
                     how=f"{made}; length of the difference of a piece's states before and after each layer, relative to "
                         "the state before, one sample a layer; mean over layers (ALBERT paper, figure 1)"),
            Quantity(name="attention_entropy", title="How widely attention is spread", unit="ratio", statistic="mean",
                     better="neither",
                     how=f"{made}; entropy of a head's attention from a piece, relative to that of looking everywhere "
                         "alike, averaged over pieces and heads, one sample a layer; mean over layers"),
        ]  # fmt: skip

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One sample a layer."""
        predictor = self.predictors[subject.name]
        work = predictor.prepare(self.texts, None, min(LONGEST, predictor.longest))
        cosines: list[np.ndarray] = []
        distances: list[np.ndarray] = []
        entropies: list[np.ndarray] = []
        weights: list[int] = []
        pad = subject.bundle.tokenizer.special_ids["pad"]
        for row in range(len(work.rows)):
            batch = pad_rows([work.rows[row]], pad, 1)  # no padding: every piece counts
            found = predictor.backend.forward(batch, ["hidden_states", "attentions"])
            states = found["hidden_states"][:, 0].astype(np.float64)  # (L + 1, S, H)
            before, after = states[:-1], states[1:]
            lengths = np.linalg.norm(states, axis=-1)
            cosines.append((np.sum(before * after, -1) / np.maximum(lengths[:-1] * lengths[1:], 1e-12)).sum(1))
            distances.append((np.linalg.norm(after - before, axis=-1) / np.maximum(lengths[:-1], 1e-12)).sum(1))
            chances = found["attentions"][:, 0].astype(np.float64)  # (L, A, S, S)
            widest = np.log(max(2, chances.shape[-1]))
            entropies.append((-(chances * np.log(np.maximum(chances, 1e-12))).sum(-1).mean(1) / widest).sum(1))
            weights.append(states.shape[1])
        whole = sum(weights)
        return {
            name: [float(value) for value in np.sum(parts, 0) / whole]
            for name, parts in (
                ("layer_cosine", cosines), ("layer_distance", distances), ("attention_entropy", entropies),
            )
        }  # fmt: skip
