"""A model on the bench, and in what two of them are equal."""

from __future__ import annotations

from pathlib import Path

import msgspec

from halbert.bundle import Bundle, random_bundle
from halbert.data.documentation import STANDARD_LIBRARY, read_library
from halbert.source import resolve_spec
from halbert.spec import ForeignSpec, TextSpec
from halbert.text.learn import learn_vocabulary
from halbert.text.wordpiece import WordPiece

_STAND_IN_PIECES = 8000


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One model under a name, with the folder it can be loaded from."""

    name: str
    bundle: Bundle
    folder: Path
    description: str = ""

    def has_head(self, kind: str) -> bool:
        """Whether the model has a head of this kind."""
        return any(head.kind == kind for head in self.bundle.heads.values())

    @property
    def foreign(self) -> bool:
        """Whether it is of another architecture, which PyTorch alone runs."""
        return isinstance(self.bundle.spec.encoder, ForeignSpec)

    @property
    def random(self) -> bool:
        """Whether the weights were drawn, not trained."""
        return self.bundle.random


_SHAPE = ("hidden_size", "num_hidden_layers", "inner_group_num", "num_attention_heads", "intermediate_size")


def random_subject(model: str, name: str, seed: int, spare: Path) -> Subject:
    """A model's real shape with weights drawn from ``seed``, for what does not depend on training: size and speed.

    A released model's own vocabulary is not at hand without its files; a stand-in of the same number of pieces, learnt
    from the standard library's documentation, takes its place.
    """
    spec = resolve_spec(model).spec
    vocab_size = spec.encoder.vocab_size
    texts = [p.text for p in read_library(STANDARD_LIBRARY)]
    text = TextSpec(lower_case=spec.text.lower_case, strip_accents=spec.text.strip_accents)
    learnt = learn_vocabulary(texts, min(vocab_size, _STAND_IN_PIECES), text).vocab
    unused = [f"[unused{i}]" for i in range(vocab_size - len(learnt))]
    tokenizer = WordPiece([*learnt, *unused], text)
    bundle = random_bundle(msgspec.structs.replace(spec, text=text), tokenizer, seed, {}, name)
    description = f"random weights (seed {seed}) in the shape of {model}; the vocabulary is a stand-in of the same size"
    return Subject(name=name, bundle=bundle, folder=bundle.save(spare / name), description=description)


def equal_in(a: Subject, b: Subject) -> list[str]:
    """What two subjects have in common, as far as it can be known: a comparison rests on it."""
    x, y = a.bundle.spec.encoder, b.bundle.spec.encoder
    equal = []
    same = {getattr(spec, "model_type", "ours") for spec in (x, y)}  # a shape means little across architectures
    if len(same) == 1 and all(getattr(x, field) == getattr(y, field) for field in _SHAPE):
        equal.append("shape")
    if abs(x.count_encoder() - y.count_encoder()) <= 0.02 * x.count_encoder():
        equal.append("parameters (within 2 %)")
    if a.bundle.tokenizer.fingerprint == b.bundle.tokenizer.fingerprint:
        equal.append("tokenizer")
    histories = [pretrainings(subject.bundle.provenance) for subject in (a, b)]
    x_base, y_base = (subject.bundle.provenance.get("base") for subject in (a, b))
    if x_base and y_base and x_base.get("files", 0) == y_base.get("files", 1):  # they knew the same before
        histories = [history[-1:] for history in histories]
    known = all(t.get("kind") == "pretraining" for history in histories for t in history)
    if known and len(histories[0]) == len(histories[1]):
        pairs = list(zip(*histories, strict=True))
        if all(t["corpus"] == u["corpus"] for t, u in pairs):
            equal.append("pre-training text")
        if all(t["steps"] == u["steps"] and _batch(t) == _batch(u) for t, u in pairs):
            equal.append("pre-training tokens")
        took = sorted(sum(t["seconds"] for t in history) for history in histories)
        by, other = (list(map(_made_by, history)) for history in histories)
        if None not in by and by == other and took[1] <= 1.1 * took[0]:
            equal.append("training time (within 10 %)")
    return equal


def pretrainings(provenance: dict) -> list[dict]:
    """What a model went through, the first training first, those of what it began with included."""
    base = provenance.get("base")
    return [*(pretrainings(base) if base else []), provenance.get("training", {})]


def _made_by(training: dict) -> tuple | None:
    """Machine and number of processes, or None where no more than the architecture is known."""
    machine = training.get("machine") or {}
    named = machine.get("device", "") not in ("", "x86_64", "AMD64", "aarch64", "arm64")
    return (machine, training.get("processes")) if named else None


def _batch(training: dict) -> tuple[int, int]:
    return training["recipe"]["batch_tokens"], training["recipe"]["length"]
