"""What a model learnt from: its own files first, then what was published, else that it is not known."""

from __future__ import annotations

from halbert.compare.origin import learnt_from
from tests import small

CORPUS = {
    "bytes": 4 << 20, "tokens": 1234567, "documents": 99, "languages": {"de": {}, "sw": {}}, "note": "novels", "licence": "CC0",
}  # fmt: skip


def made(**provenance):
    return small.bundle().replace(provenance=provenance)


def test_a_model_that_was_trained_here():
    told = learnt_from(made(training={"kind": "pretraining", "corpus": CORPUS}))
    assert told == "4.0 MiB, 1,234,567 pieces, 99 documents, 2 languages; novels; licence: CC0"
    tuned = made(training={"kind": "finetuning"}, base={"training": {"kind": "pretraining", "corpus": CORPUS}})
    assert learnt_from(tuned) == told
    one = {**CORPUS, "languages": {"": {}}, "note": "", "licence": ""}
    assert learnt_from(made(training={"kind": "pretraining", "corpus": one})).endswith("99 documents")


def test_a_released_model():
    assert learnt_from(made(), "bert-base-uncased").startswith("16 GB (ALBERT paper, section 4.1")
    from halbert import presets

    hub = presets.get("bert-large-uncased").hub
    assert learnt_from(made(hub=hub)).startswith("16 GB")
    assert learnt_from(made(), "albert-base-v2").startswith("not known (the README says")


def test_nobody_says():
    assert learnt_from(made(), "my-model") == "not known: its files do not say"
    assert learnt_from(made(training={"kind": "finetuning"}, base={})) == "not known: its files do not say"
