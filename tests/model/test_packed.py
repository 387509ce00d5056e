"""Several sequences in a row give what they give alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from halbert.model import Model
from tests import tiny

HEADS = {"mlm": tiny.HEADS["mlm"], "pair": tiny.HEADS["pair"]}
SHAPES = {"bert": {}, "albert": tiny.ALBERT, "groups": {"attention_groups": 1, "ffn_groups": 2, "inner_group_num": 2}}
LENGTHS = [[11, 5, 13], [23, 3], [29]]  # by row; the rest of 31 is padding
WIDTH = 31


def model(shape="bert", std=0.2, **changes) -> Model:
    dry = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return Model(tiny.encoder(**{**SHAPES[shape], **dry, "initializer_range": std, **changes}), HEADS).initialize(0)


def batches(seed=0):
    """The same sequences, one a row and packed: keyword arguments of the model, masked positions, labels."""
    rng = np.random.default_rng(seed)
    lengths = [n for row in LENGTHS for n in row]
    names = ("ids_BS", "mask_BS", "segments_BS")
    alone = {name: torch.zeros(len(lengths), WIDTH, dtype=torch.long) for name in names}
    packed = {
        name: torch.zeros(len(LENGTHS), WIDTH, dtype=torch.long)
        for name in (*names[::2], "position_ids_BS", "sequence_BS")
    }
    labels, starts, i = [], [], 0
    places = {"alone": [], "packed": []}
    for row, inside in enumerate(LENGTHS):
        at = 0
        for number, n in enumerate(inside, 1):
            ids, segments = rng.integers(5, 101, n), np.arange(n) > n // 2
            here = slice(at, at + n)
            for name, value in (("ids_BS", ids), ("segments_BS", segments)):
                alone[name][i, :n] = torch.from_numpy(value.astype(np.int64))
                packed[name][row, here] = torch.from_numpy(value.astype(np.int64))
            alone["mask_BS"][i, :n] = 1
            packed["position_ids_BS"][row, here] = torch.arange(n)
            packed["sequence_BS"][row, here] = number
            starts.append(row * WIDTH + at)
            for place in rng.choice(n, 2, replace=False):
                places["alone"].append(i * WIDTH + int(place))
                places["packed"].append(row * WIDTH + at + int(place))
                labels.append(int(rng.integers(0, 101)))
            at, i = at + n, i + 1
    packed["starts_P"] = torch.tensor(starts)
    return (
        (alone, torch.tensor(places["alone"])), (packed, torch.tensor(places["packed"])), torch.tensor(labels),
        torch.tensor([i % 2 for i in range(len(lengths))]),
    )  # fmt: skip


def loss_of(net, batch, labels, pairs):
    arguments, places = batch
    output = net(**arguments)
    masked = functional.cross_entropy(net.answer("mlm", output, places), labels)
    return masked, functional.cross_entropy(net.answer("pair", output), pairs), output


def off(net, packed):
    """How far apart: masked loss, pair loss, pooled states."""
    alone, _, labels, pairs = batches()
    one, two = loss_of(net, alone, labels, pairs), loss_of(net, packed, labels, pairs)
    assert one[2].pooled_BH.shape == two[2].pooled_BH.shape == (6, net.spec.hidden_size)
    return [
        float((a - b).detach().abs().max())
        for a, b in ((one[0], two[0]), (one[1], two[1]), (one[2].pooled_BH, two[2].pooled_BH))
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_rows_give_the_same(shape):
    net = model(shape)
    _, packed, labels, pairs = batches()
    assert max(off(net, packed)) < 1e-5
    # Also where probabilities are asked for, and the gradients.
    probabilities = net(**packed[0], attentions=True)
    torch.testing.assert_close(probabilities.last_BSH, net(**packed[0]).last_BSH, atol=1e-5, rtol=0)
    sequence = packed[0]["sequence_BS"]
    same = sequence[:, None, :, None] == sequence[:, None, None, :]
    assert all(float(p[~same.expand_as(p)].detach().max()) == 0 for p in probabilities.attentions)
    gradients = []
    for batch in (batches()[0], packed):
        net.zero_grad()
        masked, pair, _ = loss_of(net, batch, labels, pairs)
        (masked + pair).backward()
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters()})
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mistake", ["crossing", "positions", "starts", "segments"])
def test_every_mistake_shows(shape, mistake):
    net, (_, (arguments, places), _, _) = model(shape), batches()
    wrong = dict(arguments)
    if mistake == "crossing":  # padding is hidden, other sequences are not
        wrong["mask_BS"] = (wrong.pop("sequence_BS") > 0).long()
    elif mistake == "positions":
        del wrong["position_ids_BS"]
    elif mistake == "starts":
        wrong["starts_P"] = arguments["starts_P"] + 1
    else:
        del wrong["segments_BS"]
    assert max(off(net, (wrong, places))) > 1e-3


def test_rows_longer_than_the_positions_hold_short_sequences():
    net, (_, packed, labels, pairs) = model(max_position_embeddings=29), batches()  # rows are of 31
    longer = model(max_position_embeddings=31)
    table = net.encoder.embeddings.position.weight
    state = {**net.state_dict(), "encoder.embeddings.position.weight": torch.cat([table, torch.zeros(2, 42)])}
    longer.load_state_dict(state)
    one, two = loss_of(net, packed, labels, pairs), loss_of(longer, packed, labels, pairs)
    torch.testing.assert_close(one[:2], two[:2])
    assert max(off(longer, packed)) < 1e-5


@pytest.mark.parametrize("packed", [False, True])
def test_rows_of_padding_are_numbers_in_every_type(packed):
    """A row that only fills the shape must not spoil the others' gradients, in bfloat16 neither."""
    net = model()
    alone, wide, labels, pairs = batches()
    arguments, places = wide if packed else alone
    arguments["sequence_BS" if packed else "mask_BS"][-1] = 0
    keep = places < (len(arguments["ids_BS"]) - 1) * WIDTH
    with torch.autocast("cpu", torch.bfloat16):
        output = net(**arguments, attentions=True)
        assert all(torch.isfinite(p).all() for p in output.attentions)
        masked = functional.cross_entropy(net.answer("mlm", net(**arguments), places[keep]).float(), labels[keep])
        pair = functional.cross_entropy(net.answer("pair", net(**arguments)).float(), pairs, reduction="none")
    (masked + pair[:-1].mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
