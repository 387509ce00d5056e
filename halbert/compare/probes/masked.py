"""Masked pieces of held-out text: how surprised a model is, and how often it is right."""

from __future__ import annotations

from halbert.compare.measurement import Quantity
from halbert.compare.probes.learnt import Learnt
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.corpus import Corpus
from halbert.model import Model
from halbert.model.arrays import model_of
from halbert.train.pretraining import held_out_batches, masked_scores

BATCH_TOKENS = 1024


class MaskedPieces(Learnt):
    """For models with a masked-piece head, in torch."""

    def refuse(self, subject: Subject) -> str | None:
        """A model without a masked-piece head has no such score."""
        return super().refuse(subject) or (None if subject.has_head("mlm") else "the model has no masked-piece head")

    def prepare(self, subject: Subject) -> Model:
        """The model with the heads that pre-training has."""
        heads = {name: head for name, head in subject.bundle.heads.items() if head.kind in ("mlm", "pair")}
        arrays = {
            name: array for name, array in subject.bundle.arrays.items()
            if name.startswith("encoder.") or name.split(".")[1] in heads
        }  # fmt: skip
        return model_of(subject.bundle.spec.encoder, heads, arrays).eval()


class MaskedProbe(MaskedPieces):
    """Every model sees the same masked pieces (15 %, single pieces) of text that none was trained on."""

    name = "masked"
    title = "Masked pieces"

    def __init__(self, corpora: dict[str, Corpus], where: str, length: int = 128) -> None:
        self.corpora = corpora  # by tokenizer fingerprint
        self.length = length
        made = f"15 % of the pieces of {where} hidden, the same for every model with the same tokenizer; fp32"
        self.quantities = [
            Quantity(name="masked_accuracy", title="Masked pieces found", unit="share", statistic="mean", better="higher",
                     how=f"{made}; share of batches' hidden pieces guessed right, mean over batches"),
            Quantity(name="masked_loss", title="Masked-piece loss", unit="nats", statistic="mean", better="lower",
                     how=f"{made}; cross entropy, mean over batches"),
        ]  # fmt: skip

    def sample(self, subject: Subject, prepared: Model, round_number: int) -> Sample:
        """One pass over the held-out text; one sample a batch."""
        tokenizer = subject.bundle.tokenizer
        batches = held_out_batches(self.corpora[tokenizer.fingerprint], tokenizer, self.length, BATCH_TOKENS, seed=0)
        scores = masked_scores(prepared, batches)
        return {"masked_accuracy": scores.accuracies, "masked_loss": scores.losses}
