"""Heads as data: one row per kind of answer. Shared by the torch model, the OpenVINO graph and the weight files."""

from __future__ import annotations

from typing import Literal

import msgspec

from halbert.errors import SpecError, nearest

HeadKind = Literal["mlm", "pair", "label", "score", "choice", "span", "tag"]


class HeadRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of head reads, how wide it is (0: as many as it has labels), and what transformers calls it."""

    states: Literal["pooled", "last"]
    width: int
    dropout: bool
    hf_class: str  # the suffix after Bert / Albert in transformers' class names
    pipeline: str = ""  # what the hub calls the task


HEADS: dict[str, HeadRow] = {
    "mlm": HeadRow(states="last", width=0, dropout=False, hf_class="ForMaskedLM", pipeline="fill-mask"),
    "pair": HeadRow(states="pooled", width=2, dropout=False, hf_class="ForNextSentencePrediction"),
    "label": HeadRow(
        states="pooled", width=0, dropout=True, hf_class="ForSequenceClassification", pipeline="text-classification"
    ),
    "score": HeadRow(
        states="pooled", width=1, dropout=True, hf_class="ForSequenceClassification", pipeline="text-classification"
    ),
    "choice": HeadRow(states="pooled", width=1, dropout=True, hf_class="ForMultipleChoice", pipeline="multiple-choice"),
    "span": HeadRow(
        states="last", width=2, dropout=False, hf_class="ForQuestionAnswering", pipeline="question-answering"
    ),
    "tag": HeadRow(
        states="last", width=0, dropout=True, hf_class="ForTokenClassification", pipeline="token-classification"
    ),
}


class HeadSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One head: its kind, its labels in id order (``label``, ``tag``), its candidates a question (``choice``).

    ``several``: a text may have any number of the labels, each with a probability of its own. ``none_above``: how much
    more likely than the best answer "no answer" has to be held for none to be given (``span``); None: one always is.
    """

    kind: HeadKind
    labels: tuple[str, ...] = ()
    choices: int = 2
    several: bool = False
    none_above: float | None = 0.0

    def __post_init__(self) -> None:
        if self.kind not in HEADS:
            raise SpecError(f"unknown kind of head {self.kind!r}{nearest(self.kind, HEADS)}; known: {', '.join(HEADS)}")
        if self.kind in ("label", "tag") and len(self.labels) < 2:
            raise SpecError(f"a {self.kind} head needs at least two labels, found {len(self.labels)}")
        if self.several and self.kind != "label":
            raise SpecError(f"a {self.kind} head gives one answer; only a label head can give several")
        if len(set(self.labels)) != len(self.labels):
            raise SpecError("a head's labels must differ from each other")

    @property
    def row(self) -> HeadRow:
        """The properties all heads of this kind share."""
        return HEADS[self.kind]

    @property
    def width(self) -> int:
        """Number of outputs (0 for ``mlm``, whose width is the vocabulary)."""
        return self.row.width or len(self.labels)
