"""Blocks that are computed again in the backward pass: the same gradients to the bit, less kept."""

from __future__ import annotations

import pytest
import torch

from halbert.model import Model, encoder
from tests import tiny

SHAPES = {"bert": {}, "albert": tiny.ALBERT, "groups": {"attention_groups": 1, "ffn_groups": 2, "inner_group_num": 2}}


def run(shape, again, autocast=False, **changes):
    drops = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
    net = Model(tiny.encoder(**{**SHAPES[shape], **drops, **changes}), {"mlm": tiny.HEADS["mlm"]}).initialize(0)
    net.checkpoint_activations = again
    assert net.checkpoint_activations is again
    torch.manual_seed(5)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        ids = torch.arange(5, 5 + 3 * 17).view(3, 17)
        mask = (torch.arange(17) < torch.tensor([[17], [9], [3]])).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = net.answer("mlm", net(ids, mask)).float().logsumexp(-1).pow(2).mean()
        loss.backward()
    after = torch.rand(3)
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}, loss.detach(), sum(kept), after


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_to_the_bit_with_dropout(shape, autocast):
    plain, again = run(shape, False, autocast), run(shape, True, autocast)
    assert torch.equal(plain[1], again[1])
    assert plain[0].keys() == again[0].keys()
    for name in plain[0]:
        assert torch.equal(plain[0][name], again[0][name]), name
    assert torch.equal(plain[3], again[3])  # and whatever is drawn next
    assert again[2] < plain[2] / 2  # numbers kept for the backward pass


def test_dropout_drawn_anew_would_show(monkeypatch):
    right = encoder.checkpoint
    monkeypatch.setattr(
        encoder, "checkpoint", lambda *args, **options: right(*args, preserve_rng_state=False, **options)
    )
    plain, again = run("bert", False), run("bert", True)
    assert any(not torch.equal(plain[0][name], again[0][name]) for name in plain[0])


def test_every_application_of_a_shared_block_is_one(monkeypatch):
    calls = []
    right = encoder.checkpoint
    monkeypatch.setattr(encoder, "checkpoint", lambda *args, **options: calls.append(1) or right(*args, **options))
    run("albert", True, num_hidden_layers=5)
    assert len(calls) == 5
    net = Model(tiny.encoder())
    net.checkpoint_activations = True
    with torch.no_grad():
        net(torch.ones(1, 3, dtype=torch.long))
    assert len(calls) == 5  # nothing to compute again
