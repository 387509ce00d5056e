"""What a model learnt from: its own files first, then what was published, else that it is not known."""

from __future__ import annotations

from halbert import presets
from halbert.compare.origin import learnt_from
from halbert.train.finetuning import finetune
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
    hub = presets.get("bert-large-uncased").hub
    assert learnt_from(made(hub=hub)).startswith("16 GB")
    assert learnt_from(made(), "albert-base-v2").startswith("not known (the README says")


def test_nobody_says():
    assert learnt_from(made(), "my-model") == "not known: its files do not say"
    assert learnt_from(made(training={"kind": "finetuning"}, base={})) == "not known: its files do not say"


def test_a_model_that_went_on_learning():
    """What it knew before is told too: of its own making, or released."""
    base = {"name": "bert-mini", "training": {"kind": "pretraining", "corpus": CORPUS}}
    more = {**CORPUS, "tokens": 480, "note": "reports"}
    told = learnt_from(made(training={"kind": "pretraining", "corpus": more}, base=base))
    assert told.startswith("4.0 MiB, 480 pieces") and "; before that, as bert-mini: 4.0 MiB, 1,234,567 pieces" in told
    released = {"name": "bert-base-uncased", "hub": presets.get("bert-base-uncased").hub}
    told = learnt_from(made(training={"kind": "pretraining", "corpus": more}, base=released))
    assert "before that, as bert-base-uncased: 16 GB (ALBERT paper" in told


def test_a_tuned_model_tells_what_its_base_learnt_from(tmp_path):
    """In what fine-tuning really writes."""
    start = made(training={"kind": "pretraining", "corpus": CORPUS, "journal": [1, 2]})
    files = [small.write_csv(tmp_path / f"{part}.csv", small.rows(12)) for part in ("train", "dev")]
    (run,) = finetune(
        start, train=files[0], dev=files[1], out=tmp_path / "out", changes={"epochs": 1, "precision": "fp32"}
    )
    assert learnt_from(run.bundle) == learnt_from(start) != "not known: its files do not say"
    assert "journal" not in run.bundle.provenance["base"]["training"]
