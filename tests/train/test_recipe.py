from __future__ import annotations

import itertools
from importlib import resources

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert import presets
from halbert.errors import InputError, SpecError
from halbert.spec import PretrainSpec, difference
from halbert.train.pretraining import pretrain
from halbert.train.recipe import (
    FinetuneRecipe,
    Phase,
    PretrainRecipe,
    Stage,
    apply_changes,
    describe,
    read_recipe,
    shipped,
)
from halbert.train.start import spec_of_recipe
from tests import tiny
from tests.train import made

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
        ("steps=many", "steps: expected int, got str"),
        ("steps=0", "steps 0 and warmup_steps 5"),
        ("steps=" + "9" * 5000, "steps: expected int, got str"),
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
        ("schedule=cosine", "cosine"),
        ("accumulate=0", "accumulate is 0; expected at least 1"),
        ("workers=-1", "workers is -1"),
        ("window_shards=0", "window_shards is 0"),
        ("checkpoint_every=-5", "checkpoint_every is -5"),
        ("keep_checkpoints=0", "keep_checkpoints is 0"),
        ("log_every=0", "log_every is 0"),
        ("translation_span=-1", "translation_span is -1; expected at least 0"),
        ("language_exponent=1.5", "language_exponent is 1.5; expected more than 0 and at most 1"),
        ("language_exponent=nan", "language_exponent is nan"),
        ("spike_factor=1", "spike_factor is 1"),
        ("clip=0", "clip is 0"),
        ("clip=inf", "clip is inf"),
        ("epsilon=0", "epsilon is 0"),
        ("power=-1", "power is -1"),
        ("betas=[0.9, 1.0]", r"betas are \(0.9, 1.0\)"),
        ("betas=[0.9]", "betas"),
        ("on_spike=panic", "panic"),
        ("packing=boxes", "boxes"),
        ("checkpoint_activations=all", "all"),
        ("phases=[{length=16}]", "steps 0 and share 0.0; expected either"),
        ("phases=[{length=16, steps=20, share=1.0}]", "steps 20 and share 1.0; expected either"),
        ("phases=[{length=16, steps=-1, share=1.0}]", "steps -1"),
        ("phases=[{length=16, share=nan}]", "share nan"),
        ("phases=[{length=16, share=1.1}]", "share 1.1"),
        ("phases=[{length=16, steps=19}]", "the phases take 19 steps and the recipe 20"),
        ("phases=[{length=16, share=0.9}]", "the phases take 18 steps and the recipe 20"),
        ("phases=[{length=4, share=1.0}]", "length 4 and batch_tokens 4096"),
        ("phases=[{length=512, share=1.0, batch_tokens=500}]", "length 512 and batch_tokens 500"),
        ("phases=[{length=16, share=1.0, step=3}]", "unknown field step"),
        ("phases=[{share=1.0}]", "length"),
        ("precision=fp64", "fp64"),
        ("start=", "start is empty"),
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
        InputError, match=r"no shipped recipe; did you mean 'bert-mini'.*shipped: ablation, adapt, albert, "
    ):
        read_recipe("bert-mimi")
    with pytest.raises(InputError, match="no such file"):
        read_recipe(str(tmp_path / "none.toml"))


def test_phases_cut_the_steps(file):
    phases = "phases=[{length=16, share=0.9}, {length=32, share=0.1, batch_tokens=500}]"
    assert read_recipe(file).stages() == (Stage(0, 20, 128, 4096),)
    recipe = read_recipe(file, [phases])
    assert recipe.stages() == (Stage(0, 18, 16, 4096), Stage(18, 20, 32, 500)) and recipe.longest == 32
    # Shares follow the steps; a phase that is left no step is left out.
    assert read_recipe(file, [phases, "steps=1000"]).stages()[1] == Stage(900, 1000, 32, 500)
    assert read_recipe(file, [phases, "steps=2", "warmup_steps=1"]).stages() == (Stage(0, 2, 16, 4096),)
    thirds = "phases=[{length=8, steps=7}, {length=16, share=0.65}]"
    assert read_recipe(file, [thirds]).stages() == (Stage(0, 7, 8, 4096), Stage(7, 20, 16, 4096))
    # A length that would be ignored is not accepted.
    with pytest.raises(SpecError, match=r"length is 64, but the phases have their own.*phases=\[\]"):
        read_recipe(file, [phases, "length=64"])
    assert read_recipe(file, [phases, "length=64", "phases=[]"]).longest == 64


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 5000))
def test_stages_fill_all_steps(weights, steps):
    shares = [w / sum(weights) for w in weights]
    phases = tuple(Phase(length=8 + i, share=share) for i, share in enumerate(shares))
    stages = PretrainRecipe(phases=phases, steps=steps, warmup_steps=0).stages()
    assert stages[0].begin == 0 and stages[-1].end == steps
    assert all(a.end == b.begin for a, b in itertools.pairwise(stages))
    for stage in stages:
        assert (
            stage.end - stage.begin == pytest.approx(shares[stage.length - 8] * steps, abs=1.01)
            and stage.end > stage.begin
        )


SHIPPED = [
    "ablation", "adapt", "albert", "albert-mini", "albert-mini-100", "albert-mini-en", "albert-small", "bert", "bert-mini",
    "bert-mini-100", "bert-mini-en", "bert-small", "longer",
]  # fmt: skip
GO_ON = ("adapt", "longer")  # which have no model of their own


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_are_valid(name):
    assert shipped() == SHIPPED
    recipe = read_recipe(name, ["corpus=here"])
    assert recipe.corpus == "here"
    first, second = resources.files("halbert").joinpath("recipes", f"{name}.toml").read_text().splitlines()[:2]
    assert first.startswith("# ") and second.startswith(f"#   halbert pretrain {name} ")
    base = tiny.bundle(tiny.encoder(max_position_embeddings=128)) if name in GO_ON else None
    described = describe(recipe, spec_of_recipe(recipe, tiny.tokenizer(), base))
    assert f"{recipe.learning_rate:g}, {recipe.schedule}, warm-up {recipe.warmup_steps:,} steps" in described


def test_shipped_models():
    specs = {name: spec_of_recipe(read_recipe(name), tiny.tokenizer()) for name in SHIPPED if name not in GO_ON}
    same = {"vocab_size": 1}
    for name, preset in {
        "bert-mini": "bert-mini", "bert-small": "bert-mini", "bert": "bert-base-uncased", "albert": "albert-base-v2",
    }.items():  # fmt: skip
        ours = msgspec.structs.replace(specs[name].encoder, **same)
        assert ours == msgspec.structs.replace(presets.get(preset).spec.encoder, hidden_act=ours.hidden_act, **same)
    for size in ("-mini", "-small"):
        bert, albert = specs[f"bert{size}"], specs[f"albert{size}"]
        for field in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            assert getattr(bert.encoder, field) == getattr(albert.encoder, field)
        assert (bert.encoder.num_hidden_groups, albert.encoder.num_hidden_groups) == (4, 1)
    for name, spec in specs.items():
        if name == "ablation":  # every knob is turned from here
            continue
        if name.endswith(("-mini-en", "-mini-100")):  # held equal but for two knobs
            other = specs[f"bert-{name.partition('-')[2]}"]
            assert spec.pretraining == other.pretraining
            assert {knob.field for knob in difference(other, spec)} <= {
                "num_hidden_groups",
                "embedding_size",
            }
            continue
        objective = ("nsp", "piece") if spec.encoder.num_hidden_groups > 1 else ("sop", "ngram")
        assert (spec.pretraining.sentence_objective, spec.pretraining.masking) == objective, name


def test_the_papers_recipes():
    """FACTS 1.7."""
    bert = read_recipe("bert")
    assert (bert.steps, bert.warmup_steps, bert.learning_rate) == (1_000_000, 10_000, 1e-4)
    assert (bert.optimizer, bert.schedule, bert.weight_decay, bert.betas) == (
        "adamw-google",
        "google",
        0.01,
        (0.9, 0.999),
    )
    short, long = bert.stages()
    assert (short.end, short.length, long.end, long.length) == (900_000, 128, 1_000_000, 512)
    assert [stage.batch_tokens * bert.accumulate / stage.length for stage in (short, long)] == [256, 256]
    albert = read_recipe("albert")
    assert (albert.steps, albert.warmup_steps, albert.learning_rate) == (125_000, 3_125, 0.00176)
    assert (albert.optimizer, albert.schedule, albert.weight_decay) == ("lamb-google", "google", 0.01)
    assert (albert.length, albert.batch_tokens * albert.accumulate / 512) == (512, 4096)
    for recipe in (bert, albert):
        assert (recipe.epsilon, recipe.clip, recipe.start) == (1e-6, 1.0, "random")


TINY = [
    "encoder.hidden_size=16", "encoder.embedding_size=16", "encoder.num_hidden_layers=2", "encoder.num_attention_heads=2",
    "encoder.intermediate_size=32", "encoder.max_position_embeddings=32", "steps=2", "warmup_steps=1", "length=32",
    "phases=[]", "batch_tokens=256", "accumulate=1", "precision=fp32",
]  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_train(name, tmp_path):
    layers = 1 if name.startswith("albert") else 2
    corpus = made.corpus(tmp_path / "corpus")
    changes = [*TINY, f"encoder.num_hidden_groups={layers}", f"corpus={corpus.folder}"]
    if read_recipe(name).translation_weight:
        changes.append(f"start_parallel={corpus.folder}")
    recipe = read_recipe(name, changes)
    bundle = pretrain(recipe, tiny.tokenizer())
    training = bundle.provenance["training"]
    assert training["steps"] == 2 and np.isfinite(training["journal"][-1]["masked_loss"])
    assert training["recipe"]["optimizer"] == recipe.optimizer
    untrained = pretrain(read_recipe(name, [*changes, "learning_rate=1e-9"]), tiny.tokenizer())
    moved = (
        "encoder.pooler.weight" if "encoder.pooler.weight" in bundle.arrays else "encoder.ffn.0.0.intermediate.weight"
    )
    assert not np.allclose(bundle.arrays[moved], untrained.arrays[moved], atol=1e-7)


def test_a_recipe_described():
    """Two phases, eight batches a step; the parameters are FACTS 5.1's, the tokens those of the paper's 256 sequences."""
    spec = presets.get("bert-base-uncased").spec
    assert describe(read_recipe("bert"), spec).splitlines() == [
        "embeddings       23,837,184",
        "attention        28,366,848",
        "ffn              56,687,616",
        "pooler              590,592",
        "mlm head            622,650",
        "pair head             1,538",
        "all parameters  110,106,428",
        "phase 1         900,000 of 32,768 pieces (8 batches), length 128",
        "phase 2         100,000 of 131,072 pieces (8 batches), length 512",
        "pieces in all   42,598,400,000 at most",
        "optimiser       adamw-google, decay 0.01, gradients cut to a norm of 1",
        "learning rate   0.0001, google, warm-up 10,000 steps",
        "objective       piece masking of 15%, pairs nsp",
    ]
    alone = msgspec.structs.replace(spec, pretraining=PretrainSpec(sentence_objective="none"))
    told = describe(PretrainRecipe(schedule="polynomial", power=0.5), alone)
    assert "pair head" not in told and "steps           1,000 of 4,096 pieces, length 128" in told
    assert "0.001, polynomial (power 0.5), warm-up 100 steps" in told


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


def test_phases_that_are_a_step_short():
    with pytest.raises(SpecError, match="the phases take 999999 steps and the recipe 1000000"):
        read_recipe(
            "bert", ["steps=1000000", "phases=[{length=128, steps=900000}, {length=512, steps=99999}]"]
        ).stages()
