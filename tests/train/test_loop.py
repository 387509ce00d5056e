from __future__ import annotations

import itertools
import json
import types

import msgspec
import numpy as np
import pytest
import torch

from halbert.errors import HalbertError, InputError
from halbert.model import Model
from halbert.train import loop
from halbert.train.journal import Journal
from halbert.train.loop import choose_precision
from halbert.train.objectives import Loss
from halbert.train.optimizers import make_optimizer
from halbert.train.schedule import linear
from tests import small, tiny
from tests.train import made
from tests.train.made import run_steps

HEADS = {"mlm": tiny.HEADS["mlm"], "pair": tiny.HEADS["pair"]}


def model(**changes) -> Model:
    return Model(small.encoder(**changes), HEADS).initialize(0)


def a_loss(model: Model, batch: made.Batch) -> Loss:
    """Something of every parameter."""
    output = model(batch.ids)
    total = model.answer("mlm", output).logsumexp(-1).pow(2).mean() + model.answer("pair", output).pow(2).mean()
    return Loss(total, {"loss": total.detach(), "twice": 2 * total.detach()})


def batches(seed=0):
    drawn = np.random.default_rng(seed)
    while True:
        yield made.batch(torch.from_numpy(drawn.integers(0, 101, (2, 9))))


def take(model, steps=5, loss=a_loss, seed=0, journal=None, **options):
    recipe = made.recipe(
        learning_rate=options.pop("learning_rate", 1e-3),
        weight_decay=0.1,
        log_every=options.pop("every", 10),
        spike_factor=1e6,
    )
    return run_steps(
        model, options.pop("batches", batches()), loss, recipe,
        steps=steps, warmup=options.pop("warmup", 2), journal=journal or Journal(), seed=seed, **options,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [{}, small.ALBERT])
def test_decay_leaves_out_biases_and_layer_norms(shape):
    net = model(**shape)
    names = {id(p): name for name, p in net.named_parameters()}
    decayed, plain = make_optimizer(net, made.recipe(weight_decay=0.25, epsilon=1e-6)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.25, 0.0)
    assert (decayed["betas"], decayed["eps"]) == ((0.9, 0.999), 1e-6)
    told = [[names[id(p)] for p in group["params"]] for group in (decayed, plain)]
    assert sorted(told[0] + told[1]) == sorted(names.values())  # all, once, however many layers share them
    assert {n.rsplit(".", 1)[1] for n in told[1]} == {"bias", "weight"}
    assert all(n.endswith(("bias", "norm.weight")) for n in told[1])
    assert not any(n.endswith(("bias", "norm.weight")) for n in told[0])


def test_steps_are_those_of_a_loop_written_out():
    """AdamW with bias correction, the norm of all gradients cut to 1, decay on matrices only, linear rates."""
    ours, steps = model(), 5
    theirs = {name: p.astype(np.float64) for name, p in arrays(ours).items()}
    moments = {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in theirs.items()}
    stand_in, drawn, cut = model(), batches(), 0
    for step in range(steps):
        with torch.no_grad():
            for name, p in stand_in.named_parameters():
                p.copy_(torch.from_numpy(theirs[name]))
        stand_in.zero_grad()
        a_loss(stand_in, next(drawn)).total.backward()
        gradients = {name: p.grad.double().numpy() for name, p in stand_in.named_parameters()}
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        cut += norm > 1
        rate = linear(step, 1e-3, 2, steps)
        for name, g in gradients.items():
            g = g / max(norm, 1.0)
            m, v = moments[name]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            moments[name] = (m, v)
            decay = 0.1 if g.ndim >= 2 else 0.0
            update = m / (1 - 0.9 ** (step + 1)) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-6)
            theirs[name] = theirs[name] - rate * (update + decay * theirs[name])
    assert cut > 0
    start = arrays(ours)
    take(ours, steps)
    for name, p in arrays(ours).items():
        np.testing.assert_allclose(p, theirs[name], atol=2e-5, err_msg=name)
        # A key bias adds the same to all scores of a row: it has no slope, and stays.
        assert (np.abs(p - start[name]).max() > 1e-4) != name.endswith("key.bias"), name


def arrays(net):
    return {name: p.detach().numpy().copy() for name, p in net.named_parameters()}


def test_dropout_draws_from_the_seed():
    drops = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    nets = [model(**drops) for _ in range(4)]
    for net, seed in zip(nets, (0, 0, 1), strict=False):
        torch.rand(7)  # whatever was drawn before
        take(net, seed=seed)
    still = model()
    take(still)
    first, again, other = (made.weights(net)["encoder.pooler.weight"] for net in nets[:3])
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, made.weights(still)["encoder.pooler.weight"])
    assert not nets[0].training  # ready for use


def test_journal_and_summary_tell_what_the_clock_and_the_tokens_say(monkeypatch, tmp_path):
    clock = itertools.count(100.0, 2.0)
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    losses = iter(range(1, 8))

    def loss(model, batch):
        value = torch.tensor(float(next(losses)))
        return Loss(model.encoder.pooler.bias.sum() * 0 + value, {"loss": value, "half": value / 2})

    shown = []
    journal = Journal(tmp_path / "journal.jsonl", shown.append)
    summary = take(model(), 7, loss, journal=journal, every=3)
    assert [entry["step"] for entry in journal.entries] == [3, 6, 7]
    assert [entry["loss"] for entry in journal.entries] == [2, 5, 7]  # means since the entry before
    assert [entry["half"] for entry in journal.entries] == [1, 2.5, 3.5]
    assert [entry["tokens"] for entry in journal.entries] == [54, 108, 126]
    # The clock is read five times a step: before and after, around the wait for a batch, and for the next checkpoint.
    assert [entry["seconds"] for entry in journal.entries] == [24, 48, 56]
    assert [entry["tokens_per_second"] for entry in journal.entries] == [2.2, 2.2, 2.2]
    assert {entry["waiting"] for entry in journal.entries} == {0.25} and {e["padding"] for e in journal.entries} == {0}
    assert [entry["learning_rate"] for entry in journal.entries] == [linear(s, 1e-3, 2, 7) for s in (2, 5, 6)]
    assert {entry["steps"] for entry in journal.entries} == {7}
    told = {"steps": 7, "tokens": 126, "seconds": 56, "precision": "fp32", "padding": 0, "waiting": 0.25}
    assert summary == told
    assert shown == journal.entries
    assert [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()] == journal.entries


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_no_number_names_its_step_and_spoils_nothing(bad, where):
    net, calls = model(), itertools.count(1)

    def loss(model, batch):
        right = a_loss(model, batch)
        if next(calls) < 4:
            return right
        if where == "loss":
            return Loss(right.total + bad, right.parts)
        root = model.encoder.pooler.weight.abs().sum() * 0
        return Loss(right.total + torch.sqrt(root) * 0, right.parts)  # the slope of a root at 0

    with pytest.raises(
        HalbertError, match=r"^step 4: the loss or its gradient is not finite.* a lower learning_rate \(0\.001"
    ):
        take(net, 9, loss)
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_precision_is_what_the_machine_can(monkeypatch):
    cpu = torch.device("cpu")
    for can, gains, automatic in ((True, True, "bf16"), (True, False, "fp32"), (False, True, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda can=can: {"avx512_bf16": can})
        monkeypatch.setattr(loop, "gains_by_bf16", lambda gains=gains: gains)
        if can:
            assert choose_precision("bf16", cpu) == "bf16"  # asked for it is given, also where it is slower
        assert choose_precision("auto", cpu) == automatic
        assert choose_precision("fp32", cpu) == "fp32"
    with pytest.raises(InputError, match="cannot multiply bfloat16; use precision=fp32"):
        choose_precision("bf16", cpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_precision("auto", cpu) == "fp32"


def test_bf16_multiplies_in_bf16_and_keeps_weights_in_fp32(monkeypatch):
    monkeypatch.setattr(loop, "choose_precision", lambda wanted, device: "bf16")
    seen = []

    def loss(model, batch):
        output = model(batch.ids)
        seen.append(model.encoder.pooler(output.last_BSH[:, 0]).dtype)
        return a_loss(model, batch)

    net = model()
    assert take(net, 1, loss)["precision"] == "bf16"
    assert seen == [torch.bfloat16]
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_what_json_has_no_word_for_is_null_and_can_be_read_again(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write({"step": 1, "gradient_norm": float("inf"), "masked_loss": 1.0})
    size = journal.kept()
    journal.write({"step": 2})
    with (tmp_path / "journal.jsonl").open("a") as stream:
        stream.write('{"step": 3, "brok')
    again = Journal(tmp_path / "journal.jsonl")
    again.rewind(size)
    assert again.entries == [{"step": 1, "gradient_norm": None, "masked_loss": 1.0}]
    again.rewind(10**6)  # a loss of power took what the checkpoint says was there: no NULs take its place
    assert again.kept() == size and len(again.entries) == 1
    again.rewind(0)
    assert again.entries == [] and again.kept() == 0


def test_a_small_loss_may_double():
    losses = iter([0.02] * 30 + [0.06] + [0.02] * 9)

    def scaled(net, batch):
        wanted = next(losses)
        loss = a_loss(net, batch).total
        return Loss(loss * (wanted / loss.detach()), {"loss": torch.tensor(wanted)})

    recipe = made.recipe(learning_rate=1e-5, spike_factor=2.0)
    told = run_steps(model(), batches(), scaled, recipe, steps=40, warmup=2, journal=Journal(), seed=0)
    assert told["steps"] == 40


def test_the_last_entry_has_losses_also_when_the_last_step_was_left_out():
    losses = iter([1.0] * 29 + [100.0])

    def scaled(net, batch):
        wanted = next(losses)
        loss = a_loss(net, batch).total
        return Loss(loss * (wanted / loss.detach()), {"loss": torch.tensor(wanted)})

    journal = Journal()
    recipe = made.recipe(learning_rate=1e-5, spike_factor=2.0, on_spike="skip", log_every=100)
    run_steps(model(), batches(), scaled, recipe, steps=30, warmup=2, journal=journal, seed=0)
    assert "skipped" in journal.entries[0] and journal.entries[-1]["loss"] == pytest.approx(1.0)


def test_in_fp16_a_step_that_is_left_out_is_left_out_alone(monkeypatch):
    """The scaler is asked to look at the gradients once a step; and it is restored as it was."""
    monkeypatch.setattr(loop, "choose_precision", lambda wanted, device: "fp16")
    losses = iter([1.0] * 25 + [50.0] + [1.0] * 14)

    def scaled(net, batch):
        wanted = next(losses)
        loss = a_loss(net, batch).total
        return Loss(loss * (wanted / loss.detach()), {"loss": torch.tensor(wanted)})

    recipe = made.recipe(learning_rate=1e-5, spike_factor=2.0, on_spike="skip")
    run = loop.Run(model(), scaled, recipe, steps=40, warmup=2, journal=Journal(), seed=0)
    assert run.scaler.is_enabled()
    assert run.take(batches())["steps"] == 40
    kept = json.loads(json.dumps(run.scaler.state_dict()))
    run.scaler.load_state_dict(msgspec.convert({"scale": kept}, loop.Progress).scale)
    assert isinstance(run.scaler.state_dict()["growth_interval"], int)
