"""Nothing missing, nothing left over, nothing of another shape; each message names the tensor."""

from __future__ import annotations

import numpy as np
import pytest

from halbert.errors import InputError, WeightsError
from halbert.source import load_bundle
from halbert.weights import names
from tests import tiny
from tests.weights.folders import change_tensors

ALBERT_KEY = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.key.weight"
BERT_KEY = "bert.encoder.layer.1.attention.self.key.weight"


@pytest.fixture
def bert(tmp_path):
    return tiny.bundle(heads={"mlm": tiny.HEADS["mlm"], "pair": tiny.HEADS["pair"]}).save(tmp_path / "bert")


@pytest.fixture
def albert(tmp_path):
    return tiny.bundle(tiny.encoder(**tiny.ALBERT)).save(tmp_path / "albert")


@pytest.mark.parametrize(
    "name", [BERT_KEY, "bert.embeddings.LayerNorm.bias", "cls.predictions.bias", "cls.seq_relationship.weight"]
)
def test_missing(bert, name):
    change_tensors(bert, lambda t: {k: v for k, v in t.items() if k != name})
    with pytest.raises(WeightsError, match=f"1 tensors are missing: {name}"):
        load_bundle(bert)


def test_many_missing_are_counted(bert):
    change_tensors(bert, lambda t: {k: v for k, v in t.items() if ".layer.2." not in k})
    with pytest.raises(WeightsError, match=r"16 tensors are missing: bert.encoder.layer.2.* and 12 more"):
        load_bundle(bert)


@pytest.mark.parametrize("name", ["bert.encoder.layer.3.output.dense.weight", "classifier.weight", "strange"])
def test_left_over(bert, name):
    change_tensors(bert, lambda t: {**t, name: np.zeros((2, 3), np.float32)})
    with pytest.raises(WeightsError, match=f"1 tensors have no place in this architecture: {name}"):
        load_bundle(bert)


@pytest.mark.parametrize("shape", [(43, 42), (42, 43), (42, 42, 1), (42,), ()])
def test_wrong_shape(bert, shape):
    change_tensors(bert, lambda t: {**t, BERT_KEY: np.zeros(shape, np.float32)})
    with pytest.raises(WeightsError) as raised:
        load_bundle(bert)
    assert f"{BERT_KEY} has shape {list(shape)}, the configuration expects [42, 42]" in str(raised.value)


def test_a_transposed_projection(albert):
    name = "albert.encoder.embedding_hidden_mapping_in.weight"
    change_tensors(albert, lambda t: {**t, name: np.ascontiguousarray(t[name].T)})
    with pytest.raises(
        WeightsError, match=r"mapping_in.weight has shape \[11, 42\], the configuration expects \[42, 11\]"
    ):
        load_bundle(albert)


def test_whole_numbers_are_no_weights(albert):
    change_tensors(albert, lambda t: {**t, ALBERT_KEY: np.zeros((42, 42), np.int32)})
    with pytest.raises(WeightsError, match=f"{ALBERT_KEY} holds int32"):
        load_bundle(albert)


def test_the_pooler_may_be_absent_where_nothing_reads_it(albert):
    (albert / "halbert.json").unlink()
    change_tensors(albert, lambda t: {k: v for k, v in t.items() if "pooler" not in k})
    assert load_bundle(albert).spec.encoder.pooler == "none"


def test_the_pooler_is_missed_where_a_head_reads_it(tmp_path):
    place = tiny.bundle(heads={"label": tiny.HEADS["label"]}).save(tmp_path / "label")
    (place / "halbert.json").unlink()
    change_tensors(place, lambda t: {k: v for k, v in t.items() if "pooler" not in k})
    with pytest.raises(WeightsError, match="pooler's tensors are missing, and the head 'label' needs them"):
        load_bundle(place)


def test_half_a_pooler(albert):
    (albert / "halbert.json").unlink()
    change_tensors(albert, lambda t: {k: v for k, v in t.items() if k != "albert.pooler.bias"})
    with pytest.raises(WeightsError, match=r"1 tensors are missing: albert\.pooler\.bias"):
        load_bundle(albert)


@pytest.mark.parametrize("layout", ["bert", "albert"])
def test_saving_incomplete_arrays(tmp_path, layout):
    bundle = tiny.bundle(tiny.encoder(**(tiny.ALBERT if layout == "albert" else {})))
    name = "encoder.ffn.0.0.output.bias"
    lost = bundle.replace(arrays={k: v for k, v in bundle.arrays.items() if k != name})
    with pytest.raises(WeightsError, match=f"{name} is missing"):
        lost.save(tmp_path / "out")
    wrong = bundle.replace(arrays={**bundle.arrays, name: np.zeros(5, np.float32)})
    with pytest.raises(WeightsError, match=rf"{name} has shape \[5\], the specification says \[42\]"):
        wrong.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


SPECS = [
    {},
    tiny.ALBERT,
    {"num_hidden_groups": 1},
    {"num_hidden_layers": 5, "attention_groups": 2, "ffn_groups": 3, "inner_group_num": 2},
]


@pytest.mark.parametrize("changes", SPECS)
def test_every_name_is_used_once(changes):
    spec = tiny.encoder(**changes)
    entries = names.expected(spec, {"mlm": tiny.HEADS["mlm"], "pair": tiny.HEADS["pair"]}, names.layout_of(spec))
    ours, theirs = [e.ours for e in entries], [name for e in entries for name in e.theirs]
    assert len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs)
    assert sum(int(np.prod(e.shape)) for e in entries) == sum(spec.count_parameters().values())


def test_our_names_are_the_paths_in_the_model():
    from halbert.model import Model

    spec = tiny.encoder(num_hidden_layers=5, attention_groups=2, ffn_groups=3, inner_group_num=2, embedding_size=11)
    expected = {e.ours: e.shape for e in names.expected(spec, tiny.HEADS, "albert")}
    assert {k: tuple(v.shape) for k, v in Model(spec, tiny.HEADS).state_dict().items()} == expected


def test_the_groups_of_a_file_are_those_transformers_finds():
    for layers in range(1, 25):
        for groups in range(1, layers + 1):
            spec = tiny.encoder(num_hidden_layers=layers, num_hidden_groups=groups)
            written = names.file_groups(spec)
            theirs = [int(i / (layers / written)) for i in range(layers)]  # modeling_albert.py, AlbertTransformer
            ours = [spec.group_of("ffn", i) for i in range(layers)]
            shown = {(a, b) for a, b in zip(theirs, ours, strict=True)}
            assert len(shown) == written, "each group of the file stands for one of ours"


def test_bert_has_no_name_for_a_projection():
    with pytest.raises(InputError, match=r"encoder.projection.weight has no name in the bert layout"):
        names.expected(tiny.encoder(embedding_size=11), {}, "bert")
