"""Masked pieces by language, of the sentences that were given with their translations."""

from __future__ import annotations

import tempfile

import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.probes.masked import BATCH_TOKENS, MaskedPieces
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.corpus import build_corpus
from halbert.data.instances import IGNORED
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
            "the same for every model with the same tokenizer; fp32; an [UNK] that is guessed is not found"
        )
        self.quantities = [
            Quantity(name="masked_by_language", title="Masked pieces found, over languages", unit="share", statistic="mean",
                     better="higher", labels=list(self.texts),
                     how=f"{made}; share guessed right, mean over languages, interval over languages"),
        ]  # fmt: skip

    def sample(self, subject: Subject, prepared: Model, round_number: int) -> Sample:
        """One share a language; of a language of which nothing can be hidden, 0."""
        tokenizer = subject.bundle.tokenizer
        unknown = tokenizer.special_ids["unk"]
        shares = []
        with tempfile.TemporaryDirectory() as place:
            for number, texts in enumerate(self.texts.values()):
                corpus = build_corpus(([text] for text in texts), tokenizer, f"{place}/{number}")
                batches = held_out_batches(corpus, tokenizer, self.length, BATCH_TOKENS, seed=0)
                hidden = sum(batch.masked for batch in batches)
                # Whoever cannot write a language guesses its [UNK] easily.
                known = [b._replace(labels=np.where(b.labels == unknown, IGNORED, b.labels)) for b in batches]
                counted = [int((b.labels[: b.masked] != IGNORED).sum()) for b in known]
                found = np.dot(masked_scores(prepared, known).accuracies, counted)
                shares.append(float(found) / max(1, hidden))
        return {"masked_by_language": shares}
