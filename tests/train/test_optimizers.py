from __future__ import annotations

import io
import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from halbert.heads import HeadSpec
from halbert.model import Model
from halbert.train import optimizers
from halbert.train.optimizers import Lamb, clip_gradients, decays, make_optimizer, parameter_groups
from halbert.train.recipe import FinetuneRecipe, PretrainRecipe
from halbert.weights import names
from tests import small, tiny
from tests.train.made import trust_ratios
from tests.train.updates import MISTAKES, updates

KINDS = ("adamw", "adamw-google", "lamb", "lamb-google")
GOLDEN = Path(__file__).parent.parent / "golden" / "optimizers" / "toy.txt"
X = np.array([0.4, 0.2, -0.5])


class Toy(nn.Module):
    """One matrix (decayed) and one bias (not), float64."""

    def __init__(self, rows: int = 3, columns: int = 1, seed: int = 0) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        self.matrix = nn.Parameter(torch.randn(rows, columns, generator=drawn, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(columns, generator=drawn, dtype=torch.float64))


def goldens(kind):
    for line in GOLDEN.read_text().splitlines():
        if line.startswith(kind + " "):
            _, step, *numbers = line.split()
            yield int(step), [float(n) for n in numbers]


def toy_steps(kind):
    net = Toy()
    net.bias.requires_grad_(False)
    with torch.no_grad():
        net.matrix.copy_(torch.tensor([[0.1], [-0.2], [-0.1]]).double())
        net.matrix[:, 0] = torch.tensor([0.1, -0.2, -0.1], dtype=torch.float64)
    rate, decay = (0.2, 0.0) if "adam" in kind else (0.02, 0.01)
    optimizer = make_optimizer(net, PretrainRecipe(optimizer=kind, learning_rate=rate, weight_decay=decay))
    while True:
        optimizer.zero_grad()
        (torch.from_numpy(X) - net.matrix[:, 0]).square().mean().backward()
        optimizer.step()
        yield net.matrix[:, 0].detach().numpy().copy(), trust_ratios(optimizer).get("matrix", 1.0)


def off_golden(kind, steps):
    """The largest distance from the goldens."""
    wanted, worst = dict(goldens(kind)), 0.0
    assert {1, 2, 10, 100} <= set(wanted)
    for step, (w, ratio) in enumerate(itertools.islice(steps, 100), 1):
        if step in wanted:
            worst = max(worst, *np.abs(w - wanted[step][:3]))
            if wanted[step][3:]:
                worst = max(worst, abs(ratio - wanted[step][3]))
    return worst


@pytest.mark.parametrize("kind", ["adamw-google", "lamb-google"])
def test_goldens(kind):
    """FACTS 5.5."""
    assert off_golden(kind, toy_steps(kind)) < 1e-8


@pytest.mark.parametrize("mistake", ["", *MISTAKES])
@pytest.mark.parametrize("kind", ["adamw-google", "lamb-google"])
def test_every_mistake_misses_the_goldens(kind, mistake):
    rate, decay = (0.2, 0.0) if "adam" in kind else (0.02, 0.01)
    start = np.array([0.1, -0.2, -0.1])
    off = off_golden(kind, updates(kind, start, lambda w: 2 / 3 * (w - X), rate, decay, mistake=mistake))
    if mistake == "coupled decay" and not decay:
        assert off < 1e-8  # nothing to couple; below, something is
    else:
        assert (off > 1e-6) == bool(mistake)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("together", [False, True], ids=["blocks", "together"])
def test_tensors_of_every_kind_are_updated_as_written_out(kind, together, monkeypatch):
    """Matrices larger than a block and no multiple of one, a zero matrix, excluded tensors, many steps."""
    if together:
        monkeypatch.setattr(Lamb, "_alone", staticmethod(lambda p: False))
    monkeypatch.setattr(optimizers, "BLOCK", 7)
    net = Toy(13, 3)
    net.zero = nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    start = {name: p.detach().numpy().copy() for name, p in net.named_parameters()}
    drawn = np.random.default_rng(1)
    gradients = {name: [drawn.standard_normal(p.shape) for _ in range(20)] for name, p in net.named_parameters()}
    gradients["zero"][0][:] = 0
    optimizer = make_optimizer(net, PretrainRecipe(optimizer=kind, learning_rate=0.01, weight_decay=0.1))
    for step in range(20):
        for name, p in net.named_parameters():
            p.grad = torch.from_numpy(gradients[name][step].copy())
        optimizer.step()
        for name, p in net.named_parameters():
            np.testing.assert_array_equal(p.grad.numpy(), gradients[name][step])
    ends, ratios = {}, {}
    for mistake in ("", *MISTAKES):
        for name in start:
            feed = iter(gradients[name])
            rows = updates(kind, start[name], lambda _, feed=feed: next(feed), 0.01, 0.1, name == "bias", mistake)
            ends[mistake, name], ratios[mistake, name] = list(itertools.islice(rows, 20))[-1]
    for name, p in net.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), ends["", name], rtol=0, atol=1e-7, err_msg=name)
    for mistake in MISTAKES:
        assert np.abs(net.matrix.detach().numpy() - ends[mistake, "matrix"]).max() > 1e-6, mistake
    told = trust_ratios(optimizer)
    assert told == pytest.approx({n: ratios["", n] for n in ("matrix", "zero")} if "lamb" in kind else {})


def test_the_first_step_without_correction_is_longer():
    """FACTS 5.5: 0.1 / sqrt(0.001) times the rate."""
    for kind, length in (("adamw", 1.0), ("adamw-google", 3.16228)):
        net = Toy()
        before = net.bias.detach().clone()
        net.bias.grad = torch.full_like(net.bias, 50.0)
        make_optimizer(net, PretrainRecipe(optimizer=kind, learning_rate=0.01)).step()
        assert float((before - net.bias).detach()) / 0.01 == pytest.approx(length, rel=1e-5)


SHAPES = [{}, small.ALBERT, {"inner_group_num": 2, "num_hidden_groups": 1}, {"pooler": "none"}]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exclusions_by_name_are_those_by_shape_and_those_of_google(shape):
    spec = small.encoder(**shape)
    heads = {k: HeadSpec(kind=k) for k in ("mlm", "pair") if k == "mlm" or spec.pooler != "none"}
    parameters = dict(Model(spec, heads).named_parameters())
    assert {n for n, p in parameters.items() if decays(n)} == {n for n, p in parameters.items() if p.ndim >= 2}
    for kind in ("adamw", "lamb-google"):
        groups = make_optimizer(Model(spec, heads), PretrainRecipe(optimizer=kind)).param_groups
        assert sum(len(g["params"]) for g in groups) == len(parameters)  # each once, shared or not
        assert [g["weight_decay"] for g in groups] == [0.01, 0.0]
        assert [g.get("adapt") for g in groups] == ([True, False] if "lamb" in kind else [None, None])
        assert {n for n in groups[1]["param_names"]} == {n for n in parameters if not decays(n)}


def test_exclusions_are_those_of_googles_patterns():
    """``optimization.py``: exclude_from_weight_decay=["LayerNorm", "layer_norm", "bias"], searched for in the name."""
    rows = [row for table in vars(names).values() if isinstance(table, list) for row in table]
    told = [(row.ours, name) for row in rows for name in (row.bert_tf1, row.albert_tf1) if name is not None]
    assert len(told) > 40
    for ours, google in told:
        assert decays(ours) == (re.search("LayerNorm|layer_norm|bias", google) is None), (ours, google)


def net(shape, seed=0):
    spec = small.encoder(**shape, vocab_size=101)
    return Model(spec, {"mlm": tiny.HEADS["mlm"], "pair": tiny.HEADS["pair"]}).initialize(seed)


def descend(model, optimizer, steps):
    for step in steps:
        ids = torch.from_numpy(np.random.default_rng(step).integers(0, 101, (2, 9)))
        output = model(ids)
        loss = model.answer("mlm", output).logsumexp(-1).pow(2).mean() + model.answer("pair", output).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        clip_gradients(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (step + 1)
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("shape", [{}, small.ALBERT], ids=["bert", "albert"])
@pytest.mark.parametrize("kind", KINDS)
def test_resumed_is_the_same_to_the_bit(kind, shape):
    recipe = PretrainRecipe(optimizer=kind)
    straight = net(shape)
    descend(straight, make_optimizer(straight, recipe), range(10))
    first = net(shape)
    before = make_optimizer(first, recipe)
    descend(first, before, range(5))
    kept = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": before.state_dict()}, kept)
    kept.seek(0)
    state = torch.load(kept, weights_only=True)
    second = net(shape, seed=1)
    second.load_state_dict(state["model"])
    after = make_optimizer(second, recipe)
    after.load_state_dict(state["optimizer"])
    descend(second, after, range(5, 10))
    for (name, p), q in zip(straight.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q), name
    # The state is needed for that: without it the end is another one.
    third = net(shape)
    third.load_state_dict(state["model"])
    descend(third, make_optimizer(third, recipe), range(5, 10))
    assert not torch.equal(third.encoder.pooler.weight, straight.encoder.pooler.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_them_descend(kind):
    model = net(small.ALBERT)
    optimizer = make_optimizer(model, PretrainRecipe(optimizer=kind))
    first = descend(model, optimizer, range(1))
    assert descend(model, optimizer, range(1, 20)) < first
    ratios = trust_ratios(optimizer)
    assert set(ratios) == ({n for n, _ in model.named_parameters() if decays(n)} if "lamb" in kind else set())
    assert all(math.isfinite(r) and r > 0 for r in ratios.values())


def test_fine_tuning_keeps_adamw():
    optimizer = make_optimizer(net({}), FinetuneRecipe(learning_rate=3e-5, weight_decay=0.02))
    assert type(optimizer) is torch.optim.AdamW
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (3e-5, 0.02, (0.9, 0.999), 1e-6)


def test_parameters_without_a_gradient_stay():
    model = net({})
    for kind in KINDS:
        optimizer = make_optimizer(model, PretrainRecipe(optimizer=kind))
        assert trust_ratios(optimizer) == {}
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        model.heads["pair"].dense.weight.grad = torch.ones_like(model.heads["pair"].dense.weight)
        optimizer.step()
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        assert moved == {"heads.pair.dense.weight"}
        optimizer.zero_grad()


def test_a_model_of_one_kind_of_parameters_has_one_group():
    assert [g["weight_decay"] for g in parameter_groups(nn.LayerNorm(3), 0.1)] == [0.1, 0.0]
    assert len(parameter_groups(nn.Embedding(3, 2), 0.1)) == 1


@pytest.mark.parametrize("most", [0.5, 1e3])
def test_clipping(most):
    drawn = np.random.default_rng(0)
    gradients = [drawn.standard_normal(shape) for shape in ((3, 5), (7,))]
    parameters = [nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.from_numpy(g.copy())
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    assert float(clip_gradients([*parameters, nn.Parameter(torch.zeros(2))], most)) == pytest.approx(norm)
    for p, g in zip(parameters, gradients, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g * most / max(norm, most), rtol=1e-12)


def test_norms_are_those_of_whole_tensors_when_processes_share_them(tmp_path):
    """Two processes, FSDP2: the same weights after five steps as in one, for every optimiser.

    Sets of names have another order in each of them, as they have in processes that nobody told a seed.
    """
    script = [sys.executable, "-m", "tests.train.sharded", str(tmp_path / "meeting")]
    processes = [
        subprocess.Popen([*script, str(rank)], cwd=GOLDEN.parents[3], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         env={**os.environ, "PYTHONHASHSEED": str(rank + 2)})
        for rank in (0, 1)
    ]  # fmt: skip
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        assert "all equal" in out
