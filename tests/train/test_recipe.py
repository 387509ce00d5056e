from __future__ import annotations

import msgspec
import pytest

from halbert import presets
from halbert.errors import InputError, SpecError
from halbert.train.pretraining import spec_of_recipe
from halbert.train.recipe import FinetuneRecipe, PretrainRecipe, apply_changes, read_recipe, shipped
from tests import tiny

TEXT = """\
corpus = "here"
steps = 20
warmup_steps = 5
[encoder]
hidden_size = 8
num_hidden_layers = 2
num_attention_heads = 2
[pretraining]
masking = "ngram"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    return str(path)


def test_a_file_is_read(file):
    recipe = read_recipe(file)
    assert (recipe.corpus, recipe.steps, recipe.warmup_steps, recipe.length) == ("here", 20, 5, 128)
    assert recipe.encoder == {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    assert recipe.pretraining == {"masking": "ngram"}


def test_changes(file):
    changes = [
        "steps=30", "learning_rate=1e-4", "corpus=some/folder", 'precision="fp32"', "compile=true", "seed=7",
        "encoder.hidden_size=16", "pretraining.sentence_objective=sop", "corpus=a=b",
    ]  # fmt: skip
    recipe = read_recipe(file, changes)
    assert (recipe.steps, recipe.learning_rate, recipe.corpus, recipe.precision) == (30, 1e-4, "a=b", "fp32")
    assert recipe.seed == 7
    assert recipe.compile is True
    assert recipe.encoder["hidden_size"] == 16 and recipe.encoder["num_hidden_layers"] == 2
    assert recipe.pretraining == {"masking": "ngram", "sentence_objective": "sop"}


def test_a_change_may_make_a_table():
    assert apply_changes({}, ["encoder.hidden_size=8", "a.b.c=[1]"]) == {
        "encoder": {"hidden_size": 8},
        "a": {"b": {"c": [1]}},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("steps", "'steps': expected key=value"),
        ("=3", "'=3': expected key=value"),
        ("step=3", "unknown field 'step'; did you mean 'steps'"),
        ("steps=many", "Expected `int`, got `str`.*steps"),
        ("steps=0", "steps 0 and warmup_steps 5"),
        ("steps=" + "9" * 5000, "Expected `int`, got `str`"),
        ("warmup_steps=21", "no more warm-up than steps"),
        ("warmup_steps=-1", "warmup_steps -1"),
        ("length=7", "length 7"),
        ("batch_tokens=100", "batch_tokens 100: .*holds one sequence"),
        ("learning_rate=0", "learning_rate is 0"),
        ("learning_rate=nan", "learning_rate is nan"),
        ("weight_decay=-0.1", "weight_decay is -0.1"),
        ("weight_decay=nan", "weight_decay is nan"),
        ("seed=-1", "seed is -1"),
        ("seed=4294967296", "seed is 4294967296"),
        ("optimizer=sgd", "sgd"),
        ("precision=fp64", "fp64"),
        ("start=zero", "zero"),
        ("steps.more=3", "steps is not a table"),
        ("encoder=3", "encoder"),
    ],
)
def test_changes_that_cannot_be(file, change, said):
    with pytest.raises(InputError, match=said):
        read_recipe(file, [change])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = ", "is not valid TOML"),
        ("steps = 3\nsteps = 4", "is not valid TOML"),
        ("steps = " + "9" * 5000, "is not valid TOML"),
        ("steps = " + "[" * 5000, "is not valid TOML"),
        ("", "is empty"),
        ("stepps = 3", r"mine\.toml: unknown field 'stepps'; did you mean 'steps'"),
    ],
)
def test_files_that_cannot_be(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_recipe(str(path))


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(
        InputError, match=r"no shipped recipe; did you mean 'bert-mini'.*shipped: albert-mini, bert-mini"
    ):
        read_recipe("bert-mimi")
    with pytest.raises(InputError, match="no such file"):
        read_recipe(str(tmp_path / "none.toml"))


def test_shipped_recipes_are_valid():
    assert shipped() == ["albert-mini", "bert-mini"]
    specs = {}
    for name in shipped():
        recipe = read_recipe(name, ["corpus=here"])
        assert recipe.corpus == "here" and recipe.preset == ""
        specs[name] = spec_of_recipe(recipe, tiny.tokenizer())
    released = presets.get("bert-mini").spec.encoder
    same = {"vocab_size": 1}
    ours = msgspec.structs.replace(specs["bert-mini"].encoder, **same)
    assert ours == msgspec.structs.replace(released, hidden_act=ours.hidden_act, **same)
    bert, albert = specs["bert-mini"], specs["albert-mini"]
    for field in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        assert getattr(bert.encoder, field) == getattr(albert.encoder, field)
    assert (bert.encoder.num_hidden_groups, albert.encoder.num_hidden_groups) == (4, 1)
    assert (bert.pretraining.sentence_objective, albert.pretraining.sentence_objective) == ("nsp", "sop")


def test_a_preset_and_what_is_put_over_it():
    preset = presets.get("albert-base-v2").spec
    spec = spec_of_recipe(PretrainRecipe(preset="albert-base-v2"), tiny.tokenizer())
    assert spec.encoder == msgspec.structs.replace(preset.encoder, vocab_size=tiny.tokenizer().vocab_size)
    assert spec.pretraining == preset.pretraining and spec.text == tiny.tokenizer().spec
    changed = PretrainRecipe(
        preset="albert-base-v2", encoder={"num_hidden_layers": 2}, pretraining={"masking_prob": 0.2}
    )
    spec = spec_of_recipe(changed, tiny.tokenizer())
    assert (spec.encoder.num_hidden_layers, spec.encoder.embedding_size, spec.encoder.num_hidden_groups) == (2, 128, 1)
    assert spec.pretraining == msgspec.structs.replace(preset.pretraining, masking_prob=0.2)


def test_what_is_left_open_is_filled_as_bert_has_it():
    small = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2}
    spec = spec_of_recipe(PretrainRecipe(encoder=small), tiny.tokenizer()).encoder
    assert (spec.embedding_size, spec.intermediate_size, spec.num_hidden_groups, spec.pooler) == (8, 32, 3, "tanh")
    alone = PretrainRecipe(encoder=small, pretraining={"sentence_objective": "none"})
    assert spec_of_recipe(alone, tiny.tokenizer()).encoder.pooler == "none"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "recipe \\[encoder\\]: .*embedding_size"),
        ({"preset": "bert-bass-uncased"}, "bert-base-uncased"),
        ({"encoder": {"hiden_size": 8}}, "unknown field 'hiden_size'; did you mean 'hidden_size'"),
        ({"preset": "bert-tiny", "pretraining": {"mask": "word"}}, "recipe \\[pretraining\\]: unknown field 'mask'"),
        ({"preset": "bert-tiny", "length": 513, "batch_tokens": 600}, "length 513 exceeds max_position_embeddings 512"),
        ({"preset": "bert-tiny", "encoder": {"num_attention_heads": 3}}, "not divisible"),
    ],
)
def test_models_that_cannot_be(fields, said):
    with pytest.raises(InputError, match=said):
        spec_of_recipe(PretrainRecipe(**fields), tiny.tokenizer())


@pytest.mark.parametrize(
    "field",
    [
        {"epochs": 0}, {"batch_size": 0}, {"length": 3}, {"warmup_share": 1.0}, {"warmup_share": -0.1},
        {"warmup_share": float("nan")}, {"learning_rate": -1e-5}, {"weight_decay": float("inf")}, {"seed": -1},
    ],
)  # fmt: skip
def test_fine_tuning_recipes_that_cannot_be(field):
    with pytest.raises(SpecError, match=next(iter(field))):
        FinetuneRecipe(**field)


def test_the_default_fine_tuning_lies_in_the_papers_grid():
    """BERT paper A.3."""
    recipe = FinetuneRecipe()
    assert recipe.batch_size in (16, 32) and recipe.learning_rate in (5e-5, 3e-5, 2e-5) and recipe.epochs in (2, 3, 4)
