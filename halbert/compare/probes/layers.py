"""What each layer already knows of a task: a straight line drawn through its states, the model itself left as it is."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.probes.learnt import Learnt
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.batches import pad_rows
from halbert.data.readers import Example
from halbert.errors import missing_extra
from halbert.run.predictor import Predictor

ROWS = 400  # to learn from, and to be judged by
LONGEST = 64


class LayersProbe(Learnt):
    """Mean states of frozen layers into a logistic regression (probing as in Tenney et al. 2019, of whole texts)."""

    def __init__(
        self, task: str, train: Sequence[Example], test: Sequence[Example], where: str, predictors: dict[str, Predictor]
    ) -> None:
        self.name = f"layers:{task}"
        self.title = f"Layers: {task}"
        self.task, self.predictors = task, predictors
        draw = random.Random(0)
        self.train, self.test = (draw.sample(rows, min(ROWS, len(rows))) for rows in (list(train), list(test)))
        self.quantities = [
            Quantity(name=f"{task}_by_layer", title=f"{task}: accuracy read off each layer", unit="share",
                     statistic="mean", better="neither",
                     how=f"{len(self.train)} labelled texts of {where}, at most {LONGEST} pieces of each: the mean of its pieces' "
                         f"states into a logistic regression, scored on {len(self.test)} others; the model is not trained; one "
                         "sample a layer (the first: embeddings); mean over layers"),
        ]  # fmt: skip

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One sample a layer."""
        predictor = self.predictors[subject.name]
        learnt, judged = (mean_states(predictor, rows) for rows in (self.train, self.test))
        labels, truth = ([e.label or "" for e in rows] for rows in (self.train, self.test))
        return {
            f"{self.task}_by_layer": [
                read_off(a, labels, b, truth) for a, b in zip(learnt, judged, strict=True)
            ]
        }  # fmt: skip


def mean_states(predictor: Predictor, rows: Sequence[Example]) -> np.ndarray:
    """(L + 1, N, H): the mean of a text's states after the embeddings and after each layer."""
    pairs = None if rows[0].pair is None else [e.pair or "" for e in rows]
    work = predictor.prepare([e.text for e in rows], pairs, min(LONGEST, predictor.longest))
    pad = predictor.bundle.tokenizer.special_ids["pad"]
    found = []
    for row in work.rows:
        states = predictor.backend.forward(pad_rows([row], pad, 1), ["hidden_states"])["hidden_states"]
        found.append(states[:, 0].mean(1, dtype=np.float64))
    return np.stack(found, 1)[:, work.unique]  # equal texts, and those cut to the same pieces, are read once


def read_off(states: np.ndarray, labels: list[str], judged: np.ndarray, truth: list[str]) -> float:
    """Accuracy on ``judged`` (M, H) of a logistic regression learnt from ``states`` (N, H)."""
    if len(set(labels)) == 1:
        return sum(label == labels[0] for label in truth) / len(truth)
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise missing_extra("scikit-learn", "evaluate", "reading a task off layers") from None
    line = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    return float(line.fit(states, labels).score(judged, truth))
