"""DistilBERT and ELECTRA: the same states as transformers computes, whatever their tensors are called."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import halbert
from halbert.source import load_bundle, resolve_spec
from halbert.text.wordpiece import WordPiece
from halbert.weights.relatives import renamed, translated
from tests import tiny

transformers = pytest.importorskip("transformers")
TEXTS = ["the cat sat", "a", "dogs and cats and the unknownable thing"]
SIZE = {"vocab_size": 101, "max_position_embeddings": 40}
DISTILBERT = {"dim": 24, "n_layers": 3, "n_heads": 2, "hidden_dim": 48, **SIZE}
ELECTRA = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48, "embedding_size": 24, **SIZE,
}  # fmt: skip
CASES = {
    "distilbert": ("DistilBertModel", "DistilBertConfig", DISTILBERT),
    "distilbert with a masked-piece head": ("DistilBertForMaskedLM", "DistilBertConfig", DISTILBERT),
    "distilbert with tags": ("DistilBertForTokenClassification", "DistilBertConfig", {**DISTILBERT, "num_labels": 3}),
    "distilbert with answers": ("DistilBertForQuestionAnswering", "DistilBertConfig", DISTILBERT),
    "distilbert with classes": ("DistilBertForSequenceClassification", "DistilBertConfig", {**DISTILBERT, "num_labels": 3}),
    "electra": ("ElectraModel", "ElectraConfig", ELECTRA),
    "small electra": ("ElectraModel", "ElectraConfig", {**ELECTRA, "embedding_size": 16}),
    "electra that tells replaced pieces": ("ElectraForPreTraining", "ElectraConfig", {**ELECTRA, "embedding_size": 16}),
    "electra that fills in": ("ElectraForMaskedLM", "ElectraConfig", {**ELECTRA, "embedding_size": 16}),
    "electra with tags": ("ElectraForTokenClassification", "ElectraConfig", {**ELECTRA, "num_labels": 3}),
    "electra with classes": ("ElectraForSequenceClassification", "ElectraConfig", {**ELECTRA, "num_labels": 3}),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def made(request, tmp_path_factory):
    """(name, transformers' model, its folder)."""
    torch.manual_seed(0)
    model_class, config_class, values = CASES[request.param]
    config = getattr(transformers, config_class)(**values)
    model = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("relative") / "model"
    model.save_pretrained(folder)
    WordPiece(tiny.tokenizer().vocab[:101], tiny.tokenizer().spec).save(folder)
    return request.param, model, folder


def test_the_states_are_those_of_transformers(made):
    _name, model, folder = made
    predictor = halbert.load(str(folder), precision="fp32")
    base = getattr(model, "distilbert", None) or getattr(model, "electra", None) or model
    for text in TEXTS:
        ids = predictor.bundle.tokenizer.encode(text).ids
        with torch.no_grad():
            wanted = base(torch.tensor([ids])).last_hidden_state[0].numpy()
        found = predictor.embed([text], pooling="mean")[0]
        assert np.abs(found - wanted.mean(0)).max() < 1e-4
    # A twin with one weight changed is not the same.
    with torch.no_grad():
        next(base.parameters())[:] *= 2
        changed = base(torch.tensor([ids])).last_hidden_state[0].numpy()
        next(base.parameters())[:] /= 2
    assert np.abs(found - changed.mean(0)).max() > 1e-3


def test_heads_that_are_of_the_same_form_answer_alike(made):
    name, model, folder = made
    bundle = load_bundle(folder)
    kinds = {head.kind for head in bundle.heads.values()}
    expected = {"masked-piece": {"mlm"}, "fills": {"mlm"}, "tags": {"tag"}, "answers": {"span"}}
    assert kinds == next((v for k, v in expected.items() if k in name), set())
    left_out = [warning for warning in bundle.warnings if "left out" in warning]
    assert bool(left_out) == ("classes" in name or "replaced" in name)
    if "mlm" not in kinds:
        return
    predictor = halbert.load(bundle, precision="fp32")
    text = "the [MASK] sat"
    ids = bundle.tokenizer.encode(text, masks=True).ids
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, ids.index(bundle.tokenizer.special_ids["mask"])]
    wanted = torch.softmax(logits[: bundle.tokenizer.vocab_size], -1)
    for row in predictor.fill(text)[0]:
        assert row["probability"] == pytest.approx(float(wanted[row["id"]]), abs=1e-4)


def test_it_is_saved_as_what_it_is(made, tmp_path):
    name, model, folder = made
    bundle = load_bundle(folder)
    bundle.save(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == ("albert" if "small" in name or "replaced" in name or "fills" in name else "bert")
    again = load_bundle(tmp_path / "out")
    for key, array in bundle.arrays.items():
        assert np.array_equal(again.arrays[key], array)
    auto, told = transformers.AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert all("pooler" in key for key in told["missing_keys"])  # AutoModel has one, and says so
    assert bundle.heads or not told["unexpected_keys"]
    ids = bundle.tokenizer.encode("the cat sat").ids
    base = getattr(model, "distilbert", None) or getattr(model, "electra", None) or model
    with torch.no_grad():
        same = auto.eval()(torch.tensor([ids])).last_hidden_state - base(torch.tensor([ids])).last_hidden_state
    assert float(same.abs().max()) < 1e-4


def test_what_can_be_said_without_weights(made):
    _name, _, folder = made
    spec = resolve_spec(folder).spec
    assert (spec.encoder.hidden_size, spec.encoder.num_hidden_layers, spec.encoder.pooler) == (24, 3, "none")
    assert spec.encoder == load_bundle(folder).spec.encoder
    assert spec.pretraining.sentence_objective == "none"


def test_a_model_of_another_family_stays_as_it_is():
    config = {"model_type": "roberta"}
    assert translated(config) is config


def test_names_of_a_bare_model():
    config = {"model_type": "distilbert", "architectures": ["DistilBertModel"]}
    names = renamed(config, ["embeddings.word_embeddings.weight", "transformer.layer.0.ffn.lin1.bias"])
    assert list(names.values()) == [
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.0.intermediate.dense.bias",
    ]
