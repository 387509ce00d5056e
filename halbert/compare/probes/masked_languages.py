"""Masked pieces by language, of the sentences that were given with their translations."""

from __future__ import annotations

import tempfile

import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.probes.masked import BATCH_TOKENS, MaskedPieces
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.corpus import build_corpus
from halbert.data.readers import Example
from halbert.model import Model
from halbert.train.pretraining import held_out_batches, masked_scores


class MaskedLanguagesProbe(MaskedPieces):
    """Every language's sentences are a small corpus of their own."""

    name = "masked-languages"
    title = "Masked pieces by language"

    def __init__(self, pairs: dict[str, list[Example]], where: str, length: int) -> None:
        self.texts = {language: [e.text for e in pairs[language]] for language in sorted(pairs)}
        self.length = length
        sizes = [len(texts) for texts in self.texts.values()]
        made = (
            f"{where}: {len(self.texts)} languages, {min(sizes)} to {max(sizes)} sentences of each; 15 % of the pieces hidden, "
            "the same for every model with the same tokenizer; fp32"
        )
        self.quantities = [
            Quantity(name="masked_by_language", title="Masked pieces found, over languages", unit="share", statistic="mean",
                     better="higher", labels=list(self.texts),
                     how=f"{made}; share guessed right, mean over languages, interval over languages"),
        ]  # fmt: skip

    def sample(self, subject: Subject, prepared: Model, round_number: int) -> Sample:
        """One share a language; of a language of which nothing can be hidden, 0."""
        tokenizer = subject.bundle.tokenizer
        shares = []
        with tempfile.TemporaryDirectory() as place:
            for number, texts in enumerate(self.texts.values()):
                corpus = build_corpus(([text] for text in texts), tokenizer, f"{place}/{number}")
                batches = held_out_batches(corpus, tokenizer, self.length, BATCH_TOKENS, seed=0)
                scores = masked_scores(prepared, batches)
                shares.append(float(np.average(scores.accuracies, weights=scores.counts)) if batches else 0.0)
        return {"masked_by_language": shares}
