from __future__ import annotations

import math

import pytest

from halbert.errors import InputError
from halbert.heads import HeadSpec
from halbert.model.heads import count_built
from halbert.presets import ALIASES, all_presets, by_release, get, is_preset
from halbert.weights.names import expected

PRETRAINING_HEADS = {"mlm": HeadSpec(kind="mlm"), "pair": HeadSpec(kind="pair")}

# encoder, without pooler, with the pre-training heads: google-research/bert, counted (FACTS 1.3)
BERT = {
    "bert-base-uncased": (109_482_240, 108_891_648, 110_106_428),
    "bert-base-cased": (108_310_272, 107_719_680, 108_932_934),
    "bert-large-uncased": (335_141_888, 334_092_288, 336_226_108),
    "bert-large-cased": (333_579_264, 332_529_664, 334_661_958),
    "bert-large-uncased-whole-word-masking": (335_141_888, 334_092_288, 336_226_108),
    "bert-large-cased-whole-word-masking": (333_579_264, 332_529_664, 334_661_958),
    "bert-base-multilingual-cased": (177_853_440, 177_262_848, 178_566_653),
    "bert-base-multilingual-uncased": (167_356_416, 166_765_824, 168_055_961),
    "bert-base-chinese": (102_267_648, 101_677_056, 102_882_442),
}
SMALL_WIDTHS = (128, 256, 512, 768)
SMALL = {
    2: (4_385_920, 9_591_040, 22_458_880, 38_603_520),
    4: (4_782_464, 11_170_560, 28_763_648, 52_779_264),
    6: (5_179_008, 12_750_080, 35_068_416, 66_955_008),
    8: (5_575_552, 14_329_600, 41_373_184, 81_130_752),
    10: (5_972_096, 15_909_120, 47_677_952, 95_306_496),
    12: (6_368_640, 17_488_640, 53_982_720, 109_482_240),
}
# encoder, with the pre-training heads, Chinese encoder (FACTS 1.4)
ALBERT = {
    "base": (11_683_584, 11_813_810, 10_547_968),
    "large": (17_683_968, 17_847_474, 16_548_352),
    "xlarge": (58_724_864, 59_021_490, 57_589_248),
    "xxlarge": (222_595_584, 223_158_450, 221_459_968),
}


@pytest.mark.parametrize("name", BERT)
def test_bert_totals(name):
    spec = get(name).spec.encoder
    parts = spec.count_parameters()
    assert (spec.count_encoder(), spec.count_encoder() - parts["pooler"], sum(parts.values())) == BERT[name]


@pytest.mark.parametrize("layers", SMALL)
def test_small_bert_totals(layers):
    names = [f"bert_uncased_L-{layers}_H-{width}_A-{width // 64}" for width in SMALL_WIDTHS]
    assert tuple(get(name).spec.encoder.count_encoder() for name in names) == SMALL[layers]


@pytest.mark.parametrize("size", ALBERT)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_albert_totals(size, version):
    spec = get(f"albert-{size}-{version}").spec.encoder
    assert (spec.count_encoder(), sum(spec.count_parameters().values())) == ALBERT[size][:2]


@pytest.mark.parametrize("size", ALBERT)
def test_chinese_albert_totals(size):
    assert get(f"albert-{size}-zh").spec.encoder.count_encoder() == ALBERT[size][2]


def test_every_release_is_there():
    small = {f"bert_uncased_L-{layers}_H-{h}_A-{h // 64}" for layers in SMALL for h in SMALL_WIDTHS}
    albert = {f"albert-{size}-{version}" for size in ALBERT for version in ("v1", "v2", "zh")}
    assert set(all_presets()) == {*BERT, *small, *albert}
    assert len(small) == 24


@pytest.mark.parametrize("name", all_presets())
def test_the_built_model_has_the_counted_parameters(name):
    spec = get(name).spec.encoder
    assert count_built(spec) == spec.count_parameters()


@pytest.mark.parametrize(
    ("alias", "total"),
    [("bert-tiny", 4_385_920), ("bert-mini", 11_170_560), ("bert-small", 28_763_648), ("bert-medium", 41_373_184)],
)
def test_aliases(alias, total):
    assert get(alias).spec.encoder.count_encoder() == total
    assert is_preset(alias) and set(ALIASES) >= {alias}


def test_only_multilingual_uncased_is_unverified():
    assert [name for name, preset in all_presets().items() if not preset.verified] == ["bert-base-multilingual-uncased"]
    assert "not verified" in " ".join(get("bert-base-multilingual-uncased").notes)


def release(name: str) -> str:
    return "bert" if name.startswith("bert") else name.rpartition("-")[2]


@pytest.mark.parametrize(("version", "form"), [("bert", "gelu"), ("v1", "gelu"), ("v2", "gelu_new"), ("zh", "relu")])
def test_activation_of_each_release(version, form):
    found = {p.spec.encoder.hidden_act for name, p in all_presets().items() if release(name) == version}
    assert found == {form}


@pytest.mark.parametrize("name", all_presets())
def test_dropout_of_each_release(name):
    spec = get(name).spec.encoder
    expected = 0.1 if release(name) == "bert" or (release(name) == "v1" and "xxlarge" not in name) else 0.0
    assert (spec.hidden_dropout_prob, spec.attention_probs_dropout_prob) == (expected, expected)
    assert spec.classifier_dropout_prob == 0.1


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("albert-xlarge-v1", 16), ("albert-xlarge-v2", 16), ("albert-xlarge-zh", 16),
        ("albert-xxlarge-v1", 64), ("albert-xxlarge-v2", 64), ("albert-xxlarge-zh", 16),
        ("bert-large-cased", 16), ("bert-tiny", 2),
    ],
)  # fmt: skip
def test_heads(name, heads):
    assert get(name).spec.encoder.num_attention_heads == heads


@pytest.mark.parametrize("name", all_presets())
def test_what_all_releases_share(name):
    spec = get(name).spec.encoder
    assert spec.intermediate_size == 4 * spec.hidden_size
    assert (spec.max_position_embeddings, spec.type_vocab_size) == (512, 2)
    assert (spec.layer_norm_eps, spec.initializer_range) == (1e-12, 0.02)
    bert = release(name) == "bert"
    assert spec.num_hidden_groups == (spec.num_hidden_layers if bert else 1)
    assert spec.has_projection != bert


@pytest.mark.parametrize("name", all_presets())
def test_text_and_objectives(name):
    text, objectives = get(name).spec.text, get(name).spec.pretraining
    bert = release(name) == "bert"
    assert objectives.sentence_objective == ("nsp" if bert else "sop")
    assert objectives.masking == ("ngram" if not bert else "word" if "whole-word" in name else "piece")
    assert text.kind == ("unigram" if release(name) in ("v1", "v2") else "wordpiece")
    cased = "cased" in name.replace("uncased", "")
    assert (text.lower_case, text.strip_accents) == (not cased, not cased)


def test_contradictions_of_the_sources_are_noted():
    assert "32" in " ".join(get("albert-xlarge-v2").notes)
    assert "cannot be reproduced" in " ".join(get("albert-xxlarge-v1").notes)
    assert "68M" in " ".join(get("bert-base-multilingual-cased").notes)
    assert "ReLU" in " ".join(get("albert-base-zh").notes)


def test_a_misspelt_name_gets_a_hint():
    with pytest.raises(InputError, match="'bert-base-uncasd'; did you mean 'bert-base-uncased'"):
        get("bert-base-uncasd")
    assert not is_preset("bert-base-uncasd")


HUBS = {
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-tiny": "google/bert_uncased_L-2_H-128_A-2",
    "bert-large-cased-whole-word-masking": "google-bert/bert-large-cased-whole-word-masking",
    "albert-xxlarge-v1": "albert/albert-xxlarge-v1",
    "albert-base-zh": None,  # never published on the hub by its authors
}
RELEASES = {
    "bert-base-uncased": "uncased_L-12_H-768_A-12.zip",
    "bert-base-multilingual-cased": "multi_cased_L-12_H-768_A-12.zip",
    "bert-large-uncased-whole-word-masking": "wwm_uncased_L-24_H-1024_A-16.zip",
    "bert-small": "uncased_L-4_H-512_A-8.zip",
    "albert-base-v2": "albert_base_v2.tar.gz",
    "albert-xlarge-zh": "albert_xlarge_zh.tar.gz",
}


def test_hub_repositories_and_releases():
    assert {name: get(name).hub for name in HUBS} == HUBS
    assert {name: get(name).release for name in RELEASES} == RELEASES
    assert all(preset.hub or preset.name.endswith("-zh") for preset in all_presets().values())


@pytest.mark.parametrize("name", all_presets())
def test_the_variables_of_the_release(name):
    """Names and shapes in the original checkpoint: none twice, and their sizes sum to the published total."""
    preset = get(name)
    bert = name.startswith("bert")
    entries = expected(preset.spec.encoder, PRETRAINING_HEADS, "bert_tf1" if bert else "albert_tf1")
    stored = [variable for entry in entries for variable in entry.theirs]
    assert len(stored) == len(set(stored)) == (16 * preset.spec.encoder.num_hidden_layers + 14 if bert else 32)
    assert sum(math.prod(entry.file_shape) for entry in entries) == sum(preset.spec.encoder.count_parameters().values())
    assert all(variable.startswith(("bert/", "cls/")) for variable in stored)
    config, vocabulary, index, data = preset.release_files
    assert config == ("bert_config.json" if bert else "albert_config.json")
    assert vocabulary == ("vocab.txt" if bert else "vocab_chinese.txt" if name.endswith("zh") else "30k-clean.model")
    prefix = "bert_model.ckpt" if bert else "model.ckpt-best"
    assert (index, data) == (f"{prefix}.index", f"{prefix}.data-00000-of-00001")
    assert by_release(preset.release).release == preset.release


def test_variables_as_googles_code_names_them():
    """Spelt out, against the list of google-research/bert ``modeling.py`` and google-research/albert ``modeling.py``."""
    bert = {v for e in expected(get("bert-tiny").spec.encoder, PRETRAINING_HEADS, "bert_tf1") for v in e.theirs}
    albert = {
        v for e in expected(get("albert-base-v2").spec.encoder, PRETRAINING_HEADS, "albert_tf1") for v in e.theirs
    }
    assert bert >= {
        "bert/embeddings/word_embeddings",
        "bert/embeddings/LayerNorm/gamma",
        "bert/encoder/layer_1/attention/self/query/kernel",
        "bert/encoder/layer_1/attention/output/LayerNorm/beta",
        "bert/encoder/layer_0/intermediate/dense/bias",
        "bert/pooler/dense/kernel",
        "cls/predictions/transform/LayerNorm/gamma",
        "cls/predictions/output_bias",
        "cls/seq_relationship/output_weights",
    }
    assert albert >= {
        "bert/encoder/embedding_hidden_mapping_in/kernel",
        "bert/encoder/transformer/group_0/inner_group_0/attention_1/self/value/kernel",
        "bert/encoder/transformer/group_0/inner_group_0/attention_1/output/dense/bias",
        "bert/encoder/transformer/group_0/inner_group_0/LayerNorm/gamma",
        "bert/encoder/transformer/group_0/inner_group_0/LayerNorm_1/gamma",
        "bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/dense/kernel",
        "bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/output/dense/kernel",
    }
