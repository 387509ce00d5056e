"""What becomes of words a vocabulary has not seen: pieces a word, and words that are lost, at rising strength."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.noise import NOISES
from halbert.compare.probes.learnt import Learnt
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject


class UnknownProbe(Learnt):
    """Counted, on the same texts for every model."""

    name = "unknown"
    title = "Unknown words"
    drawn = "the vocabulary is a stand-in"

    def __init__(self, texts: Sequence[str], where: str) -> None:
        kinds = [("plain", "texts as they are", list(texts))]
        kinds += [(n.name, n.title, [n.disturb(text, i) for i, text in enumerate(texts)]) for n in NOISES if n.respells]
        self.texts = {name: made for name, _, made in kinds}
        self.quantities = [
            quantity
            for name, title, _ in kinds
            for quantity in (
                Quantity(name=f"unknown_{name}", title=f"Unknown pieces: {title}", unit="share", statistic="exact",
                         better="lower", how=f"share of [UNK] among the pieces of {len(texts)} texts of {where}: {title}"),
                Quantity(name=f"pieces_{name}", title=f"Pieces a word: {title}", unit="pieces", statistic="exact",
                         better="lower", how=f"pieces for each word between white space of {len(texts)} texts of {where}: {title}"),
            )
        ]  # fmt: skip

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """All counts."""
        tokenizer = subject.bundle.tokenizer
        taken: Sample = {}
        for name, texts in self.texts.items():
            ids = np.concatenate(tokenizer.arrays(texts))
            taken[f"unknown_{name}"] = float(np.mean(ids == tokenizer.special_ids["unk"])) if len(ids) else 0.0
            taken[f"pieces_{name}"] = len(ids) / max(1, sum(len(text.split()) for text in texts))
        return taken
