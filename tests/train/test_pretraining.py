"""What pre-training hands over. That it learns, repeats itself and refuses is in ``test_training``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch.nn import functional

from halbert.data.corpus import Corpus, build_corpus
from halbert.data.manifest import write_manifest
from halbert.data.plan import START, Plan, Position
from halbert.errors import InputError, SpecError
from halbert.files import read_json, sha256, write_json
from halbert.model import Model
from halbert.model.arrays import model_of
from halbert.source import load_bundle
from halbert.spec import PretrainSpec
from halbert.train import start
from halbert.train.distributed import ALONE
from halbert.train.folder import RunFolder
from halbert.train.pretraining import (
    Reader,
    held_out_batches,
    masked_scores,
    pretrain,
    summary_of,
)
from halbert.train.start import pretraining_heads, spec_of_recipe
from halbert.train.translations import bring_together
from halbert.train.warmstart import piece_embeddings
from tests import tiny
from tests.train import made


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return made.corpus(tmp_path_factory.mktemp("text") / "toy", shard_tokens=200, inputs={"a.txt": "0" * 64})


def folders_of_this_machine(*more: Path) -> list[str]:
    return [str(place) for place in (Path.home(), Path.cwd(), *more) if len(place.parts) > 1]


def test_provenance_says_what_was_done_but_not_where(corpus, tmp_path):
    recipe = made.recipe(corpus, encoder=made.ENCODER | {"embedding_size": 8})
    bundle = pretrain(recipe, tiny.tokenizer(), tmp_path / "deep" / "out")
    found = load_bundle(tmp_path / "deep" / "out").provenance["training"]
    assert (found["kind"], found["steps"], found["precision"]) == ("pretraining", 4, "fp32")
    assert found["recipe"]["corpus"] == "toy" and found["recipe"]["encoder"]["embedding_size"] == 8
    assert found["corpus"] == summary_of(corpus) and found["corpus"]["shards"] == len(corpus)
    assert found["corpus"]["inputs"] == [{"name": "a.txt", "sha256": "0" * 64, "bytes": 0, "language": ""}]
    assert found["journal"][-1]["step"] == 4 and found["journal"] == bundle.provenance["training"]["journal"]
    text = b"".join(file.read_bytes() for file in (tmp_path / "deep").rglob("*") if file.is_file()).decode("latin-1")
    assert "toy" in text
    for folder in folders_of_this_machine(tmp_path, corpus.folder.parent):
        assert folder not in text


def test_the_bundle_is_named_after_its_folder(corpus, tmp_path):
    assert pretrain(made.recipe(corpus, steps=1), tiny.tokenizer(), tmp_path / "mine").name == "mine"
    assert pretrain(made.recipe(corpus, steps=1), tiny.tokenizer(), name="other").name == "other"


@pytest.mark.parametrize(
    ("objective", "heads"), [("nsp", {"mlm", "pair"}), ("sop", {"mlm", "pair"}), ("none", {"mlm"})]
)
def test_heads_follow_the_objective(corpus, objective, heads):
    bundle = pretrain(made.recipe(corpus, pretraining={"sentence_objective": objective}), tiny.tokenizer())
    assert set(bundle.heads) == heads == set(pretraining_heads(PretrainSpec(sentence_objective=objective)))
    assert bundle.spec.encoder.pooler == ("none" if objective == "none" else "tanh")
    assert bundle.spec.pretraining.sentence_objective == objective
    assert ("pair_loss" in bundle.provenance["training"]["journal"][-1]) == (objective != "none")
    model_of(bundle.spec.encoder, bundle.heads, bundle.arrays)  # every tensor is there


def test_a_warm_start_begins_at_the_table(corpus):
    """With a learning rate of next to nothing the pieces stay where they began; the rest begins as ever."""
    still = {"steps": 1, "warmup_steps": 0, "learning_rate": 1e-12, "weight_decay": 0.0, "seed": 5}
    warm, cold = (
        pretrain(made.recipe(corpus, start=start, **still), tiny.tokenizer()) for start in ("pmi-svd", "random")
    )
    name = "encoder.embeddings.piece.weight"
    np.testing.assert_allclose(warm.arrays[name], piece_embeddings(corpus, 16, 5), atol=1e-9)
    assert np.abs(warm.arrays[name] - cold.arrays[name]).max() > 0.01
    for other in warm.arrays.keys() - {name}:
        np.testing.assert_allclose(warm.arrays[other], cold.arrays[other], atol=1e-9)
    drawn = Model(cold.spec.encoder, cold.heads).initialize(5)
    np.testing.assert_allclose(cold.arrays[name], drawn.encoder.embeddings.piece.weight.detach().numpy(), atol=1e-9)


def test_batches_never_end_and_are_those_of_the_plan(corpus):
    recipe, spec = made.recipe(corpus), PretrainSpec()
    plan = Plan(
        corpus, tiny.tokenizer(), spec, length=recipe.length, batch_tokens=recipe.batch_tokens, seed=recipe.seed
    )
    epochs = [list(plan.epoch(number)) for number in range(3)]
    wanted = [b for epoch in epochs for b in epoch]
    recipe = made.recipe(corpus, steps=len(wanted))
    found = list(Reader(recipe, corpus, tiny.tokenizer(), spec).batches(0, START))
    for a, b in zip(found, wanted, strict=True):
        for x, y in zip(a.batch, b, strict=True):
            np.testing.assert_array_equal(x, y)
    assert found[-1].after == Position(3)
    first, second = epochs[0][0].ids, epochs[1][0].ids
    assert first.shape != second.shape or (first != second).any()


def test_held_out_batches_are_one_fixed_draw(corpus):
    a, b = (held_out_batches(corpus, tiny.tokenizer(), 24, 200, 7) for _ in range(2))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.ids, y.ids)
        assert len(x.positions) and (x.pair_labels == -1).all() and not x.segments.any()


@pytest.mark.parametrize("shape", [{}, {"embedding_size": 8, "num_hidden_groups": 1}])
def test_masked_scores_are_those_of_all_logits(corpus, shape):
    bundle = pretrain(made.recipe(corpus, encoder=made.ENCODER | shape, steps=8), tiny.tokenizer())
    model = model_of(bundle.spec.encoder, bundle.heads, bundle.arrays).eval()
    batches = held_out_batches(corpus, tiny.tokenizer(), 24, 200, 0)
    scores = masked_scores(model, batches)
    assert len(batches) == len(scores.losses) == len(scores.accuracies) > 1
    for batch, loss, right, count in zip(batches, scores.losses, scores.accuracies, scores.counts, strict=True):
        with torch.inference_mode():
            logits = model.answer("mlm", model(*(torch.from_numpy(array) for array in batch[:3])))
        at = logits.reshape(-1, logits.shape[-1])[torch.from_numpy(batch.positions)]
        labels = torch.from_numpy(batch.labels)
        assert count == len(labels)
        assert loss == pytest.approx(float(functional.cross_entropy(at, labels)), rel=1e-5)
        assert right == pytest.approx(float((at.argmax(-1) == labels).float().mean()))


def test_masked_scores_that_are_no_numbers_are_refused(corpus):
    bundle = tiny.bundle(heads={"mlm": tiny.HEADS["mlm"]})
    arrays = bundle.arrays | {"heads.mlm.bias": np.full_like(bundle.arrays["heads.mlm.bias"], np.nan)}
    batches = held_out_batches(corpus, tiny.tokenizer(), 24, 200, 0)
    with pytest.raises(InputError, match="held-out text is not finite"):
        masked_scores(model_of(bundle.spec.encoder, bundle.heads, arrays).eval(), batches)


def test_a_saved_model_is_the_trained_one(corpus, tmp_path):
    bundle = pretrain(made.recipe(corpus), tiny.tokenizer(), tmp_path / "a")
    again = pretrain(made.recipe(corpus), tiny.tokenizer(), tmp_path / "b")
    saved = load_bundle(tmp_path / "a")
    assert saved.arrays.keys() == bundle.arrays.keys() and saved.spec == bundle.spec
    for name, array in bundle.arrays.items():
        np.testing.assert_array_equal(saved.arrays[name], array)
    assert sha256(tmp_path / "a" / "model.safetensors") == sha256(tmp_path / "b" / "model.safetensors")
    assert again.tokenizer.fingerprint == saved.tokenizer.fingerprint


def test_text_of_which_nothing_can_be_masked_is_refused(tmp_path):
    """A vocabulary may hold nothing but special tokens for a text: they are never hidden, and a loop would wait for ever."""
    lonely = build_corpus([["the cat"]], tiny.tokenizer(), tmp_path / "c")
    ids = tmp_path / "c" / "ids-00000.npy"
    np.save(ids, np.array([2, 3], np.uint16))
    lonely.manifest.shards[0].sha256[ids.name] = sha256(ids)
    write_manifest(lonely.folder, lonely.manifest)
    with pytest.raises(InputError, match="holds nothing that could be masked"):
        pretrain(made.recipe(lonely), tiny.tokenizer())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_is_named_whoever_reads_it(tmp_path, workers):
    corpus = made.corpus(tmp_path / "corpus", shard_tokens=60)
    recipe = made.recipe(corpus, window_shards=1, workers=workers, steps=500)
    last = (
        Reader(recipe, corpus, tiny.tokenizer(), spec_of_recipe(recipe, tiny.tokenizer()).pretraining)
        .plan(recipe.stages()[0])
        .windows(0)[-1][0]
    )
    np.save(corpus.folder / f"ids-{last:05d}.npy", np.array([2, 3], np.uint16))
    with pytest.raises(InputError, match=rf"ids-{last:05d}.npy: is damaged") as told:
        pretrain(recipe, tiny.tokenizer(), tmp_path / "out")
    assert "Traceback" not in str(told.value)


def test_a_run_goes_on_with_its_own_recipe_alone(corpus, tmp_path):
    recipe = made.recipe(corpus, start="pmi-svd", start_parallel=str(corpus.folder))
    folder = RunFolder(tmp_path / "out", recipe, corpus, False, ALONE)
    with pytest.raises(InputError, match="another process is at this run"):
        RunFolder(tmp_path / "out", recipe, corpus, True, ALONE)
    folder.close()
    place = folder.place
    told = read_json(place / "recipe.json")
    assert told["corpus"] == told["start_parallel"] == corpus.folder.name
    with pytest.raises(InputError, match="holds a run already"):
        RunFolder(tmp_path / "out", recipe, corpus, False, ALONE)
    with pytest.raises(
        InputError, match=r"other values of learning_rate \(.*, and now 0\.5\), start_parallel \(.*\); resume"
    ):
        other = made.recipe(corpus, start="pmi-svd", learning_rate=0.5)
        RunFolder(tmp_path / "out", other, corpus, True, ALONE)
    # A field that came later is, in a run that was begun before, at its default.
    plain = made.recipe(corpus, start="pmi-svd")
    write_json(place / "recipe.json", {k: v for k, v in told.items() if k != "start_parallel"})
    RunFolder(tmp_path / "out", plain, corpus, True, ALONE).close()
    with pytest.raises(InputError, match="other values of start_parallel"):
        RunFolder(tmp_path / "out", recipe, corpus, True, ALONE)


def test_a_parallel_start_is_for_the_warm_start_alone(corpus):
    with pytest.raises(SpecError, match="start_parallel"):
        made.recipe(corpus, start_parallel="somewhere")
    table = piece_embeddings(corpus, 16, 0, corpus)
    still = {"steps": 1, "warmup_steps": 0, "learning_rate": 1e-12}
    recipe = made.recipe(corpus, start="pmi-svd", start_parallel=str(corpus.folder), **still)
    found = pretrain(recipe, tiny.tokenizer()).arrays["encoder.embeddings.piece.weight"]
    np.testing.assert_allclose(found, table, atol=1e-6)


def test_a_text_is_taught_what_it_means(tmp_path, monkeypatch):
    """The table is learnt once, kept in the run's folder, and the same run is had again from it."""
    tokenizer = tiny.tokenizer()
    texts = build_corpus([[text, text] for text in tiny.SPEECH], tokenizer, tmp_path / "parallel")
    learnt = []

    def bring(*given):
        learnt.append(bring_together(*given))
        return learnt[-1]

    monkeypatch.setattr(start, "bring_together", bring)
    corpus = made.corpus(tmp_path / "corpus")
    recipe = made.recipe(
        corpus, start="pmi-svd", start_parallel=str(texts.folder), translation_weight=2.0, steps=60, warmup_steps=0,
        learning_rate=1e-3, log_every=10, checkpoint_every=30,
    )  # fmt: skip
    found = pretrain(recipe, tokenizer, tmp_path / "out")
    told = [json.loads(line) for line in (tmp_path / "out/training/journal.jsonl").read_text().splitlines()]
    assert all(0 < entry["translation_loss"] < 2 for entry in told)
    losses = [entry["translation_loss"] for entry in told]  # of few texts each, so they leap
    assert np.mean(losses[3:]) < 0.9 * np.mean(losses[:3])
    np.testing.assert_array_equal(np.load(tmp_path / "out/training/translations.npy"), learnt[0])
    # Stopped at the half, it goes on with the table that is there.
    shutil.copytree(tmp_path / "out/training", tmp_path / "again/training")
    for file in (tmp_path / "again/training/checkpoints").glob("step-00000060"):
        shutil.rmtree(file)
    again = pretrain(recipe, tokenizer, tmp_path / "again", resume=True)
    assert len(learnt) == 1
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])
    (tmp_path / "again/training/translations.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"translations\.npy: cannot be read"):
        pretrain(recipe, tokenizer, tmp_path / "again", resume=True)
    shutil.rmtree(tmp_path / "parallel")  # which another corpus may have taken the place of, also after a while without
    RunFolder(tmp_path / "again", recipe, corpus, True, ALONE).close()
    build_corpus([[text, text] for text in tiny.SPEECH[:5]], tokenizer, tmp_path / "parallel")
    with pytest.raises(InputError, match="other values of the parallel corpus"):
        pretrain(recipe, tokenizer, tmp_path / "again", resume=True)
    with pytest.raises(SpecError, match="translation_weight needs a corpus of texts in several languages"):
        pretrain(made.recipe(corpus, translation_weight=1.0), tokenizer)


def test_what_differs_of_a_run_is_named_with_both_values(corpus, tmp_path):
    RunFolder(tmp_path / "out", made.recipe(corpus, steps=7), corpus, False, ALONE).close()
    other = made.recipe(corpus, steps=9, encoder={**made.recipe(corpus).encoder, "num_hidden_layers": 5})
    with pytest.raises(InputError, match=r"encoder\.num_hidden_layers \(.*, and now 5\), steps \(7, and now 9\)"):
        RunFolder(tmp_path / "out", other, corpus, True, ALONE)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("vocab_size", 99, r"vocab_size is 99, the tokenizer has \d+ pieces; leave it out"),
        ("type_vocab_size", 1, "type_vocab_size is 1, and pairs of texts .* need 2 segments"),
    ],
)
def test_fields_that_contradict_the_rest(corpus, field, value, word):
    recipe = made.recipe(corpus)
    with pytest.raises(SpecError, match=word):
        pretrain(msgspec.structs.replace(recipe, encoder={**recipe.encoder, field: value}), tiny.tokenizer())
    fine = {"vocab_size": tiny.tokenizer().vocab_size, "type_vocab_size": 2}[field]
    spec_of_recipe(msgspec.structs.replace(recipe, encoder={**recipe.encoder, field: fine}), tiny.tokenizer())
    alone = {**recipe.encoder, "type_vocab_size": 1}
    spec_of_recipe(
        msgspec.structs.replace(recipe, encoder=alone, pretraining={"sentence_objective": "none"}), tiny.tokenizer()
    )
