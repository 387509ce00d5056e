from __future__ import annotations

import math
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.errors import SpecError
from halbert.model.heads import count_built
from halbert.presets import encoder
from halbert.spec import EncoderSpec, ModelSpec, PretrainSpec, TextSpec, difference, encoder_total, from_dict
from tests import tiny


@st.composite
def encoders(draw):
    layers, heads = draw(st.integers(1, 7)), draw(st.integers(1, 4))
    hidden = heads * draw(st.integers(1, 6))
    groups = st.integers(1, layers)
    return EncoderSpec(
        vocab_size=draw(st.integers(1, 60)),
        embedding_size=draw(st.one_of(st.just(hidden), st.integers(1, 17))),
        embedding_projection=draw(st.sampled_from(["auto", "always"])),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_hidden_groups=draw(groups),
        inner_group_num=draw(st.integers(1, 3)),
        attention_groups=draw(st.none() | groups),
        ffn_groups=draw(st.none() | groups),
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(1, 29)),
        max_position_embeddings=draw(st.integers(1, 23)),
        type_vocab_size=draw(st.integers(1, 5)),
        pooler=draw(st.sampled_from(["tanh", "none"])),
    )


@st.composite
def models(draw):
    return ModelSpec(
        encoder=draw(encoders()),
        text=TextSpec(kind=draw(st.sampled_from(["wordpiece", "unigram"]))),
        pretraining=PretrainSpec(masking=draw(st.sampled_from(["piece", "word", "ngram"]))),
    )


def base(**changes) -> EncoderSpec:
    """12 layers of 768 and 30,000 pieces, as in the ALBERT paper's ablations."""
    return encoder(30_000, 12, 768, 12, **changes)


@pytest.mark.parametrize(
    ("changes", "total"),
    [
        ({"embedding_size": 64, "groups": 1}, 9_681_408),
        ({"embedding_size": 128, "groups": 1}, 11_683_584),
        ({"embedding_size": 256, "groups": 1}, 15_687_936),
        ({"groups": 1, "embedding_projection": "always"}, 31_705_344),
        ({"groups": 1}, 31_114_752),
        ({"embedding_size": 64}, 87_648_000),
        ({"embedding_size": 128}, 89_650_176),
        ({"embedding_size": 256}, 93_654_528),
        ({"embedding_size": 64, "pooler": "none"}, 87_057_408),
        ({"embedding_size": 128, "pooler": "none"}, 89_059_584),
        ({"embedding_size": 256, "pooler": "none"}, 93_063_936),
        ({"embedding_size": 128, "attention_groups": 1}, 63_647_232),
        ({"embedding_size": 128, "ffn_groups": 1}, 37_686_528),
        ({"embedding_size": 128, "attention_groups": 1, "ffn_groups": 1}, 11_683_584),
    ],
)
def test_ablations_of_the_albert_paper(changes, total):
    assert base(**changes).count_encoder() == total


def test_one_layer():
    parts = base(groups=1).count_parameters()
    assert (parts["attention"], parts["ffn"]) == (2_363_904, 4_723_968)


@pytest.mark.parametrize(
    ("hidden", "layers", "albert", "flops"),
    [
        (768, 12, False, (22_347_251_712, 70_665_633_792, 96_636_764_160)),
        (768, 12, True, (22_372_417_536, 70_741_131_264, 96_737_427_456)),
        (1024, 24, False, (78_920_024_064, 246_423_748_608, 335_007_449_088)),
        (1024, 24, True, (78_953_578_496, 246_524_411_904, 335_141_666_816)),
        (2048, 24, True, (312_525_979_648, 956_905_291_776, 1_288_758_624_256)),
        (4096, 12, True, (621_830_733_824, 1_884_819_554_304, 2_525_977_640_960)),
    ],
)
def test_flops(hidden, layers, albert, flops):
    others = {"embedding_size": 128, "groups": 1} if albert else {}
    spec = encoder(30_000, layers, hidden, 16, **others)
    assert tuple(spec.count_flops(length) for length in (128, 384, 512)) == flops


def test_flops_do_not_depend_on_sharing_or_heads_but_on_inner_blocks():
    one, all_shared = base(), base(groups=1)
    assert one.count_flops(97) == all_shared.count_flops(97)
    assert msgspec.structs.replace(one, num_attention_heads=1).count_flops(97) == one.count_flops(97)
    assert msgspec.structs.replace(all_shared, inner_group_num=2).count_flops(97) == 2 * all_shared.count_flops(97)


def test_flops_of_no_pieces_are_refused():
    with pytest.raises(SpecError, match="length is 0"):
        base().count_flops(0)


@given(encoders())
def test_the_built_model_has_the_counted_parameters(spec):
    assert count_built(spec) == spec.count_parameters()


@given(models(), models())
def test_differences_add_up(a, b):
    for one, other in ((a, b), (b, a)):
        knobs = difference(one, other)
        assert sum(knob.parameters for knob in knobs) == other.encoder.count_encoder() - one.encoder.count_encoder()
        before, after = one.flat(), other.flat()
        assert [(k.field, k.a, k.b) for k in knobs] == [
            (field, before[field], after[field]) for field in before if before[field] != after[field]
        ]


@given(models())
def test_a_model_does_not_differ_from_itself(model):
    assert difference(model, model) == []


def test_bert_to_albert_knob_by_knob():
    bert = ModelSpec(encoder=encoder(30_000, 12, 768, 12))
    albert = ModelSpec(encoder=encoder(30_000, 12, 768, 12, embedding_size=128, groups=1))
    knobs = {knob.field: knob.parameters for knob in difference(bert, albert)}
    assert knobs == {
        "embedding_size": -640 * (30_000 + 512 + 2 + 2) + 129 * 768,
        "num_hidden_groups": -11 * 7_087_872,
    }


def test_group_of_is_the_floor_of_the_share():
    for layers in range(1, 49):
        for groups in range(1, layers + 1):
            spec = tiny.encoder(num_hidden_layers=layers, num_hidden_groups=groups)
            found = [spec.group_of("attention", layer) for layer in range(layers)]
            assert found == [math.floor(Fraction(layer * groups, layers)) for layer in range(layers)]
            assert sorted(set(found)) == list(range(groups))


def test_attention_and_ffn_have_their_own_groups():
    spec = tiny.encoder(num_hidden_layers=6, num_hidden_groups=3, attention_groups=1, ffn_groups=2)
    assert [spec.group_of("attention", layer) for layer in range(6)] == [0] * 6
    assert [spec.group_of("ffn", layer) for layer in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [tiny.encoder(num_hidden_groups=3).group_of("ffn", layer) for layer in range(3)] == [0, 1, 2]


def test_projection_only_when_the_widths_differ_or_it_is_asked_for():
    assert not tiny.encoder().has_projection
    assert tiny.encoder(embedding_size=11).has_projection
    assert tiny.encoder(embedding_projection="always").has_projection


GOOD = {
    "vocab_size": 101,
    "embedding_size": 42,
    "hidden_size": 42,
    "num_hidden_layers": 3,
    "num_hidden_groups": 3,
    "num_attention_heads": 3,
    "intermediate_size": 53,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 43}, r"hidden_size 43 is not divisible by num_attention_heads 3"),
        ({"hiden_size": 42}, r"unknown field 'hiden_size'; did you mean 'hidden_size'\?"),
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers is 1000000000; expected a whole number from 1 to 1,000"),
        ({"num_hidden_layers": 10**30}, "num_hidden_layers"),
        ({"vocab_size": 0}, "vocab_size is 0; expected a whole number from 1"),
        ({"hidden_size": -42}, "hidden_size is -42"),
        ({"hidden_size": "42"}, r"hidden_size: expected int, got str"),
        ({"hidden_size": 42.5}, "hidden_size: expected int"),
        ({"hidden_size": True}, "hidden_size: expected int"),
        ({"hidden_size": None}, "hidden_size: expected int"),
        ({"hidden_act": "swish"}, "invalid enum value 'swish'"),
        ({"embedding_projection": "never"}, "invalid enum value 'never'"),
        ({"num_hidden_groups": 4}, "num_hidden_groups 4 is larger than num_hidden_layers 3"),
        ({"attention_groups": 4}, "attention_groups 4 is larger than num_hidden_layers 3"),
        ({"ffn_groups": 0}, "ffn_groups is 0"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0; expected at least 0 and less than 1"),
        ({"attention_probs_dropout_prob": -0.1}, "attention_probs_dropout_prob is -0.1"),
        ({"classifier_dropout_prob": float("nan")}, "classifier_dropout_prob is nan"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps and initializer_range must be greater than 0"),
        ({"initializer_range": float("nan")}, "must be greater than 0"),
    ],
)
def test_impossible_encoders_are_refused(changes, message):
    assert from_dict(EncoderSpec, GOOD, "recipe.toml") == tiny.encoder(max_position_embeddings=512)
    with pytest.raises(SpecError, match=message) as raised:
        from_dict(EncoderSpec, {**GOOD, **changes}, "recipe.toml")
    assert str(raised.value).startswith("recipe.toml: ")


def test_a_missing_field_is_named():
    with pytest.raises(SpecError, match=r"recipe\.toml: .*hidden_size"):
        from_dict(EncoderSpec, {k: v for k, v in GOOD.items() if k != "hidden_size"}, "recipe.toml")


@pytest.mark.parametrize("values", [None, [], "x", 3])
def test_something_else_than_a_table_is_refused(values):
    with pytest.raises(SpecError, match="expected a table of fields"):
        from_dict(EncoderSpec, values, "recipe.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masking_prob": 0.0}, "masking_prob is 0.0"),
        ({"masking_prob": 1.0}, "masking_prob is 1.0"),
        ({"max_ngram": 0}, "max_ngram is 0"),
        ({"short_prob": 1.5}, "short_prob is 1.5"),
        ({"short_prob": -0.1}, "short_prob is -0.1"),
        ({"masking": "words"}, r"invalid enum value 'words'; did you mean 'word'\?; expected piece, word, ngram"),
        ({"sentence_objectiv": "sop"}, "did you mean 'sentence_objective'"),
    ],
)
def test_impossible_pretraining_is_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        from_dict(PretrainSpec, changes, "recipe.toml")


def test_pretraining_that_was_written_before_fields_were_added_is_read():
    before = {"sentence_objective": "sop", "masking": "ngram", "masking_prob": 0.15, "max_ngram": 3}
    read = from_dict(PretrainSpec, before, "halbert.json")
    assert read == PretrainSpec(sentence_objective="sop", masking="ngram", short_prob=0.1, faithful=False)


@given(encoders())
def test_a_spec_survives_json(spec):
    assert from_dict(EncoderSpec, msgspec.json.decode(msgspec.json.encode(spec)), "json") == spec


def test_the_encoder_total_leaves_the_heads_out():
    parts = base().count_parameters()
    assert encoder_total(parts) == sum(parts.values()) - parts["mlm_head"] - parts["pair_head"]
