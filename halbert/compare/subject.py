"""A model on the bench, and in what two of them are equal."""

from __future__ import annotations

from pathlib import Path

import msgspec

from halbert.bundle import Bundle


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One model under a name, with the folder it can be loaded from."""

    name: str
    bundle: Bundle
    folder: Path
    description: str = ""

    def has_head(self, kind: str) -> bool:
        """Whether the model has a head of this kind."""
        return any(head.kind == kind for head in self.bundle.heads.values())


_SHAPE = ("hidden_size", "num_hidden_layers", "inner_group_num", "num_attention_heads", "intermediate_size")


def equal_in(a: Subject, b: Subject) -> list[str]:
    """What two subjects have in common, as far as it can be known: a comparison rests on it."""
    x, y = a.bundle.spec.encoder, b.bundle.spec.encoder
    equal = []
    if all(getattr(x, field) == getattr(y, field) for field in _SHAPE):
        equal.append("shape")
    if abs(x.count_encoder() - y.count_encoder()) <= 0.02 * x.count_encoder():
        equal.append("parameters (within 2 %)")
    if a.bundle.tokenizer.fingerprint == b.bundle.tokenizer.fingerprint:
        equal.append("tokenizer")
    trained = [subject.bundle.provenance.get("training", {}) for subject in (a, b)]
    if all(t.get("kind") == "pretraining" for t in trained):
        if trained[0]["corpus"] == trained[1]["corpus"]:
            equal.append("pre-training text")
        if trained[0]["steps"] == trained[1]["steps"] and _batch(trained[0]) == _batch(trained[1]):
            equal.append("pre-training tokens")
    return equal


def _batch(training: dict) -> tuple[int, int]:
    return training["recipe"]["batch_tokens"], training["recipe"]["length"]
