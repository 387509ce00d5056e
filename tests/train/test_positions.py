"""Positions that only a later phase is long enough for: copies, once, and the same when a run goes on in between."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from halbert.train.positions import copy_positions, lengthened
from halbert.train.pretraining import pretrain
from halbert.train.recipe import Phase, Stage
from tests import tiny
from tests.train import made


def table(rows=12):
    return torch.arange(float(rows))[:, None].repeat(1, 2)


@pytest.mark.parametrize(
    ("trained", "length", "found"),
    [
        (4, 8, [0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10, 11]),
        (3, 10, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 10, 11]),
        (8, 12, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]),
    ],
)
def test_further_positions_repeat_the_trained_ones(trained, length, found):
    positions = table()
    copy_positions(positions, trained, length)
    assert positions[:, 0].tolist() == found


def steps(stages, first=0):
    """At which steps what was copied, in a run that begins at one of them."""
    run = SimpleNamespace(progress=SimpleNamespace(step=first), model=SimpleNamespace())
    weight = table(64)
    run.model.encoder = SimpleNamespace(embeddings=SimpleNamespace(position=SimpleNamespace(weight=weight)))
    found, before = [], weight.clone()
    for _ in lengthened(iter(range(stages[-1].end - first)), stages, run):
        if not torch.equal(weight, before):
            found.append((run.progress.step, torch.nonzero((weight != before)[:, 0])[:, 0].tolist()))
            before = weight.clone()
        run.progress.step += 1
    return found


def test_they_are_copied_once_where_a_longer_phase_begins():
    stages = [Stage(0, 3, 8, 64), Stage(3, 5, 4, 64), Stage(5, 7, 16, 64), Stage(7, 9, 8, 64), Stage(9, 11, 16, 64)]
    assert steps(stages) == [(5, list(range(8, 16)))]
    assert steps(stages, first=5) == [(5, list(range(8, 16)))]  # the checkpoint is from before
    assert steps(stages, first=6) == []  # they are trained by then
    assert steps([Stage(0, 3, 8, 64), Stage(3, 5, 8, 32)]) == []


def test_a_run_that_goes_on_where_they_are_copied_ends_where_one_in_one_go_does(tmp_path):
    corpus = made.corpus(tmp_path / "corpus")
    phases = (Phase(length=8, steps=3), Phase(length=32, steps=3))
    recipe = made.recipe(corpus, phases=phases, steps=6, checkpoint_every=1, keep_checkpoints=9, log_every=1)
    whole = pretrain(recipe, tiny.tokenizer(), tmp_path / "whole")

    class Enough(Exception):
        pass

    for last in (2, 3, 4):

        def stop(entry, last=last):
            if entry["step"] == last:
                raise Enough

        with pytest.raises(Enough):
            pretrain(recipe, tiny.tokenizer(), tmp_path / f"at {last}", report=stop)
        resumed = pretrain(recipe, tiny.tokenizer(), tmp_path / f"at {last}", resume=True)
        for name, array in whole.arrays.items():
            assert (array == resumed.arrays[name]).all(), (last, name)


def test_a_model_that_is_begun_with_keeps_its_positions(tmp_path):
    """They are trained already. And who wants them drawn has them drawn."""
    corpus = made.corpus(tmp_path / "corpus")
    phases = (Phase(length=8, steps=1), Phase(length=32, steps=1))
    first = pretrain(made.recipe(corpus), tiny.tokenizer(), tmp_path / "first")
    still = {"phases": phases, "steps": 2, "warmup_steps": 0, "learning_rate": 1e-9, "log_every": 1}
    key = "encoder.embeddings.position.weight"
    adapted = pretrain(made.recipe(corpus, encoder={}, start=str(tmp_path / "first"), **still))
    assert abs(adapted.arrays[key] - first.arrays[key]).max() < 1e-6
    fresh = {
        how: pretrain(made.recipe(corpus, new_positions=how, **still), tiny.tokenizer()) for how in ("copied", "drawn")
    }
    drawn, copied = fresh["drawn"].arrays[key], fresh["copied"].arrays[key]
    assert abs(copied[8:16] - copied[:8]).max() < 1e-6 < abs(drawn[8:16] - drawn[:8]).max()
