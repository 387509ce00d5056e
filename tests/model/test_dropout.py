"""Our dropout on a CPU: its share, its growth, its gradients, and attention that equals the plain formula."""

from __future__ import annotations

import math

import pytest
import torch

from halbert.model.attention import SelfAttention
from halbert.model.dropout import Dropout, DroppedAttention, factors, growth


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_and_growth(p):
    torch.manual_seed(0)
    x = torch.ones(1_000_003)  # no multiple of 4
    found = Dropout(p)(x)
    share = (found != 0).float().mean().item()
    assert abs(share - (1 - p)) < 4 * math.sqrt(p * (1 - p) / len(x))
    assert found.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)], rel=1e-3)
    assert abs(found.mean().item() - 1) < 5 * math.sqrt(p / (1 - p) / len(x))


def test_draws_are_independent():
    """Of neighbours (four come from one draw), and of one place in two draws."""
    torch.manual_seed(1)
    first, second = (factors(torch.Size([1 << 20]), 0.5, torch.float32) / 2 - 0.5 for _ in range(2))
    for other in (first.roll(1), first.roll(2), first.roll(3), first.roll(4), second):
        assert abs((first * other).mean().item() * 4) < 5 / math.sqrt(1 << 20)


def test_seed_and_mode():
    x, layer = torch.randn(7, 11), Dropout(0.3)
    torch.manual_seed(2)
    one = layer(x)
    torch.manual_seed(2)
    assert torch.equal(one, layer(x)) and not torch.equal(one, layer(x))
    assert layer.eval()(x) is x and Dropout(0.0)(x) is x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_left_out_has_no_gradient(dtype):
    x = torch.randn(64, 33, dtype=dtype, requires_grad=True)
    found = Dropout(0.25)(x)
    found.sum().backward()
    expected = torch.where(found != 0, growth(0.25), 0.0).to(dtype)
    assert torch.equal(x.grad, expected)


@pytest.mark.parametrize("wide", [False, True], ids=["mask", "packed"])
def test_attention_equals_the_plain_formula(wide):
    """With the same draw: values and all three gradients. float64, so that only a wrong formula can differ."""
    torch.manual_seed(3)
    B, A, S, D, p = 2, 3, 5, 7, 0.3
    q, k, v = (torch.randn(B, A, S, D, dtype=torch.float64, requires_grad=True) for _ in range(3))
    bias = torch.randn(B, 1, S if wide else 1, S, dtype=torch.float64)
    d = torch.randn(B, A, S, D, dtype=torch.float64)

    def plain(factors_BASS, scale=D**-0.5):
        probs = torch.softmax(q @ k.transpose(-1, -2) * scale + bias, -1)
        return (probs * factors_BASS) @ v

    torch.manual_seed(4)
    found = DroppedAttention.apply(q, k, v, bias, p)
    got = torch.autograd.grad(found, (q, k, v), d)
    torch.manual_seed(4)
    mask = factors(torch.Size([B, A, S, S]), p, torch.float64)
    expected = plain(mask)
    wanted = torch.autograd.grad(expected, (q, k, v), d)
    for a, b in zip([found, *got], [expected, *wanted], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert (plain(mask, scale=1.0) - found).abs().max() > 1e-2  # the twins: another scale, another draw
    assert (plain(mask.roll(1)) - found).abs().max() > 1e-2


def test_attention_on_average_equals_attention_without_dropout():
    torch.manual_seed(5)
    layer = SelfAttention(12, 3, dropout=0.2, hidden_dropout=0.0, eps=1e-12)
    x = torch.randn(2, 5, 12)
    torch.nn.init.normal_(layer.output.weight, std=0.02)  # nearly linear, so that means can be compared
    mean = torch.stack([layer(x, None)[0] for _ in range(3000)]).mean(0)
    expected = layer.eval()(x, None)[0]
    assert (mean - expected).abs().max() < 3e-3
