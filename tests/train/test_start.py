"""A pre-training that begins with a model that is there."""

from __future__ import annotations

import json
import shutil

import msgspec
import numpy as np
import pytest

from halbert.card import card
from halbert.data.corpus import Corpus
from halbert.errors import InputError, SpecError
from halbert.heads import HeadSpec
from halbert.model import Model
from halbert.model.arrays import model_of
from halbert.source import load_bundle
from halbert.spec import PretrainSpec
from halbert.train.pretraining import held_out_batches, masked_scores, pretrain
from halbert.train.recipe import PretrainRecipe, read_recipe
from halbert.train.spread import _absolute
from halbert.train.start import base_of, spec_of_recipe
from tests import tiny
from tests.train import made

STILL = {"steps": 1, "warmup_steps": 0, "learning_rate": 1e-12, "weight_decay": 0.0, "encoder": {}}
BOTH = {name: tiny.HEADS[name] for name in ("mlm", "pair")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return made.corpus(tmp_path_factory.mktemp("text") / "toy")


def saved(folder, shape=None, heads=BOTH, **others):
    return tiny.bundle(tiny.encoder(**(shape or {})), heads, **others).save(folder)


@pytest.mark.parametrize("shape", [{}, tiny.ALBERT], ids=["bert", "albert"])
def test_a_run_begins_with_the_weights_of_a_model(corpus, tmp_path, shape):
    """With a learning rate of next to nothing every weight stays where it began, also rows that no piece has."""
    model = saved(tmp_path / "model", shape)
    told: list[str] = []
    found = pretrain(made.recipe(corpus, start=str(model), **STILL), tell=told.append)
    base = load_bundle(model)
    assert found.arrays.keys() == base.arrays.keys() and found.spec.encoder == base.spec.encoder
    for name, array in found.arrays.items():
        np.testing.assert_allclose(array, base.arrays[name], atol=1e-9, err_msg=name)
    assert "Begins with the weights of model" in told
    drawn = pretrain(made.recipe(corpus, start="random", **{**STILL, "encoder": made.ENCODER}), tiny.tokenizer())
    assert drawn.spec.encoder.vocab_size < found.spec.encoder.vocab_size  # padded rows are the model's business


def test_what_the_model_lacks_is_drawn_and_said(corpus, tmp_path):
    """A pair head that told NSP apart knows nothing of SOP; an encoder alone has no head at all."""
    for name, heads, objective, anew in (
        ("same", BOTH, "nsp", []),
        ("other", BOTH, "sop", ["the head pair"]),
        ("alone", {}, "nsp", ["the head mlm", "the head pair"]),
    ):
        model, told = saved(tmp_path / name, heads=heads), []
        recipe = made.recipe(corpus, start=str(model), pretraining={"sentence_objective": objective}, seed=7, **STILL)
        found = pretrain(recipe, tell=told.append)
        base = load_bundle(model)
        fresh = {f"heads.{line.split()[-1]}." for line in anew}
        drawn = Model(found.spec.encoder, found.heads).initialize(7).state_dict()
        for key, array in found.arrays.items():
            began = drawn[key].numpy() if key.startswith(tuple(fresh)) else base.arrays[key]
            np.testing.assert_allclose(array, began, atol=1e-9, err_msg=f"{name}: {key}")
        assert f"Begins with the weights of {name}" + (f"; drawn anew: {', '.join(anew)}" if anew else "") in told


def test_a_pooler_goes_and_comes_with_the_pairs(corpus, tmp_path):
    none = pretrain(
        made.recipe(corpus, start=str(saved(tmp_path / "a")), pretraining={"sentence_objective": "none"}, **STILL)
    )
    assert none.spec.encoder.pooler == "none" and set(none.heads) == {"mlm"}
    none.save(tmp_path / "b")
    told: list[str] = []
    back = made.recipe(corpus, start=str(tmp_path / "b"), pretraining={"sentence_objective": "sop"}, **STILL)
    assert pretrain(back, tell=told.append).spec.encoder.pooler == "tanh"
    assert "Begins with the weights of b; drawn anew: the head pair, the pooler" in told


def test_it_goes_on_learning_from_where_the_model_was(corpus, tmp_path):
    """The use of it: it begins below where a new run does, and forty steps more lower the loss."""
    pretrain(made.recipe(corpus, steps=60), tiny.tokenizer(), tmp_path / "first")
    more = pretrain(made.recipe(corpus, steps=40, start=str(tmp_path / "first"), encoder={}, seed=1, log_every=1))
    new = pretrain(made.recipe(corpus, steps=40, seed=1, log_every=1), tiny.tokenizer())
    losses = [[entry["masked_loss"] for entry in b.provenance["training"]["journal"]] for b in (more, new)]
    assert losses[0][0] < losses[1][0] - 0.5
    held = held_out_batches(corpus, tiny.tokenizer(), 24, 200, 7)

    def loss(bundle):
        return np.mean(masked_scores(model_of(bundle.spec.encoder, bundle.heads, bundle.arrays).eval(), held).losses)

    assert loss(more) < loss(load_bundle(tmp_path / "first"))


def test_provenance_says_with_which_model_it_began_but_not_where_it_lay(corpus, tmp_path):
    pretrain(made.recipe(corpus), tiny.tokenizer(), tmp_path / "deep" / "first")
    recipe = made.recipe(corpus, start=str(tmp_path / "deep" / "first"), encoder={})
    pretrain(recipe, out=tmp_path / "second")
    told = load_bundle(tmp_path / "second").provenance
    first = load_bundle(tmp_path / "deep" / "first").provenance
    assert told["training"]["recipe"]["start"] == "first" == told["base"]["name"]
    assert told["base"]["files"] == first["files"]
    assert (
        told["base"]["training"]["tokens"] == first["training"]["tokens"] and "journal" not in told["base"]["training"]
    )
    assert "deep" not in json.dumps(told) and "deep" not in (tmp_path / "second/training/recipe.json").read_text()


def test_a_run_goes_on_bit_for_bit_and_needs_the_same_start(corpus, tmp_path):
    model = saved(tmp_path / "model")
    recipe = made.recipe(corpus, start=str(model), encoder={}, steps=6, checkpoint_every=2, log_every=1)
    whole = pretrain(recipe)

    class Killed(Exception):
        pass

    def die(entry):
        if entry["step"] == 4:
            raise Killed

    with pytest.raises(Killed):
        pretrain(recipe, out=tmp_path / "run", report=die)
    for other, said in (("other", r'start \("model", and now "other"\)'), ("b/model", "the model it starts from")):
        saved(tmp_path / other, seed=5)
        with pytest.raises(InputError, match=said):
            pretrain(msgspec.structs.replace(recipe, start=str(tmp_path / other)), out=tmp_path / "run", resume=True)
    shutil.copytree(model, tmp_path / "moved/model")
    recipe = msgspec.structs.replace(recipe, start=str(tmp_path / "moved/model"))
    told: list[str] = []
    again = pretrain(recipe, out=tmp_path / "run", resume=True, tell=told.append)
    assert not any("Begins" in line for line in told)
    for name, array in again.arrays.items():
        np.testing.assert_array_equal(array, whole.arrays[name])


def test_its_shape_and_objective_are_the_models_where_the_recipe_has_none(tmp_path):
    base = tiny.bundle(tiny.encoder(**tiny.ALBERT, attention_groups=3), BOTH)
    objective = PretrainSpec(sentence_objective="sop", masking="ngram")
    base = base.replace(spec=msgspec.structs.replace(base.spec, pretraining=objective))
    recipe = PretrainRecipe(start="somewhere", length=16, encoder={"hidden_dropout_prob": 0.25})
    spec = spec_of_recipe(recipe, base.tokenizer, base)
    assert spec.encoder == msgspec.structs.replace(base.spec.encoder, hidden_dropout_prob=0.25)
    assert spec.pretraining == objective
    spec = spec_of_recipe(read_recipe("adapt", ["length=32"]), base.tokenizer, base)
    assert (spec.pretraining.sentence_objective, spec.pretraining.masking, spec.encoder.pooler) == (
        "none",
        "word",
        "none",
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encoder": {"hidden_size": 84}}, r"hidden_size \(84, there 42\), intermediate_size \(336, there 53\)"),
        ({"encoder": {"num_hidden_layers": 2}}, r"num_hidden_layers \(2, there 3\), num_hidden_groups \(2, there 3\)"),
        ({"encoder": {"hidden_act": "relu"}}, r"hidden_act \(relu, there gelu\)"),
        ({"preset": "bert-tiny"}, r"the recipe's encoder is not that of tiny: .*or take the recipe adapt"),
        ({"length": 38}, "length 38 exceeds max_position_embeddings 37"),
    ],
)
def test_a_recipe_of_another_shape_is_refused(fields, said):
    base = tiny.bundle(heads=BOTH)
    with pytest.raises(SpecError, match=said):
        spec_of_recipe(PretrainRecipe(start="there", **{"length": 16, **fields}), base.tokenizer, base)


def test_a_start_that_cannot_be(corpus, tmp_path):
    with pytest.raises(
        InputError, match=r"start: 'pmi_svd': no such folder.* \(a start is random, pmi-svd, or a model\)"
    ):
        pretrain(made.recipe(corpus, start="pmi_svd"), tiny.tokenizer())
    model = saved(tmp_path / "model")
    other = tiny.tokenizer(lower_case=False)
    with pytest.raises(InputError, match="start: model has another tokenizer than this run; leave out --tokenizer"):
        base_of(made.recipe(corpus, start=str(model)), other)
    with pytest.raises(InputError, match="a tokenizer is missing: add --tokenizer MODEL, or begin with a model"):
        pretrain(made.recipe(corpus))
    with pytest.raises(
        SpecError, match=r"no shape at all; add a preset or .encoder., or begin with a model that is there"
    ):
        pretrain(read_recipe("adapt", [f"corpus={corpus.folder}"]), tiny.tokenizer())
    shutil.rmtree(model)
    with pytest.raises(InputError, match="start: "):
        pretrain(made.recipe(corpus, start=str(model), encoder={}))


def test_a_model_read_from_transformers_files_can_go_on(corpus, tmp_path):
    """What is no bundle of ours, and of several heads none that it learns with: a classifier's encoder."""
    model = saved(tmp_path / "model", heads={"label": HeadSpec(kind="label", labels=("a", "b"))})
    for file in ("halbert.json", "provenance.json"):
        (model / file).unlink()
    found = pretrain(made.recipe(corpus, start=str(model), **{**STILL, "length": 24}))
    base = load_bundle(model)
    assert set(found.heads) == {"mlm", "pair"} and "label" in base.heads
    np.testing.assert_allclose(
        found.arrays["encoder.embeddings.piece.weight"], base.arrays["encoder.embeddings.piece.weight"], atol=1e-9
    )


def test_a_finished_run_says_how_it_is_lengthened(corpus, tmp_path):
    recipe = made.recipe(corpus)
    pretrain(recipe, tiny.tokenizer(), tmp_path / "run")
    longer = msgspec.structs.replace(recipe, steps=8)
    with pytest.raises(InputError, match=r"steps \(4, and now 8\).* or begin another run with .* --set start=.*run"):
        pretrain(longer, tiny.tokenizer(), tmp_path / "run", resume=True)


def test_a_start_is_called_after_its_folder(corpus, tmp_path, monkeypatch):
    """Also where the path does not say it, and where the folder is called as a start is that is no model."""
    monkeypatch.chdir(saved(tmp_path / "model"))
    assert made.recipe(start=".").named().start == "model"
    saved(tmp_path / "random")
    monkeypatch.chdir(tmp_path)
    recipe = made.recipe(corpus, start="./random", **STILL)
    assert recipe.named().start == "./random" and recipe.named().start_model
    assert pretrain(recipe).provenance["base"]["name"] == "random"
    (tmp_path / "latest").symlink_to("model")
    recipe = made.recipe(corpus, start="latest")
    assert _absolute(recipe).start == str(tmp_path / "latest") and _absolute(recipe).named() == recipe.named()
    assert _absolute(made.recipe(corpus, start="bert-mini-en")).start == "bert-mini-en"


def test_googles_checkpoint_is_found_from_anywhere(tmp_path, monkeypatch):
    """Its name is of no file: .index and .data have it."""
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck/bert_model.ckpt.index").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert _absolute(made.recipe(start="ck/bert_model.ckpt")).start == str(tmp_path / "ck/bert_model.ckpt")


def test_what_was_doubtful_of_the_model_stays_so(corpus, tmp_path):
    base = tiny.bundle(heads=BOTH, warnings=["a contradiction"], origins={"hidden_act": "assumed", "pooler": "assumed"})
    base.replace(provenance={"hub": "org/name"}).save(tmp_path / "model")
    found = pretrain(made.recipe(corpus, start=str(tmp_path / "model"), **STILL))
    assert found.warnings == ("a contradiction",) and found.origins == {"hidden_act": "assumed"}
    assert 'base_model: "org/name"' in card(found) and "It began with the weights of model." in card(found)
    chosen = made.recipe(corpus, start=str(tmp_path / "model"), **{**STILL, "encoder": {"hidden_act": "gelu"}})
    assert pretrain(chosen).origins == {}
