"""What goes wrong in the middle of a pre-training: what was learnt until then is kept, and gone on from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from halbert.data.corpus import Corpus
from halbert.errors import Diverged, HalbertError, InputError
from halbert.train import loop
from halbert.train.checkpoints import Checkpoints
from halbert.train.pretraining import Reader, pretrain
from halbert.train.start import spec_of_recipe
from tests import tiny
from tests.train import made

STEPS = 60


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return made.corpus(tmp_path_factory.mktemp("text") / "toy", shard_tokens=60)


def kept(out: Path) -> list[int]:
    return Checkpoints(out / "training/checkpoints").steps()


def steps_of(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "training/journal.jsonl").read_text().splitlines()]


def leaping(monkeypatch, at: int) -> None:
    """From that step on the loss is a hundred times what it was, until the test takes it back."""
    usual = loop.Run._gradients

    def worse(self, batches, stop):
        found = usual(self, batches, stop)
        return found._replace(loss=100 * found.loss) if self.progress.step == at else found

    monkeypatch.setattr(loop.Run, "_gradients", worse)


@pytest.mark.parametrize("at", [3, 40])
def test_a_leap_keeps_what_was_learnt_before_it(corpus, tmp_path, monkeypatch, at):
    """Also among the first steps, where nothing is usual yet: there, what guesses blindly is the measure."""
    recipe = made.recipe(corpus, steps=STEPS, log_every=1)
    leaping(monkeypatch, at)
    why = "guessing blindly has 3.5" if at == 3 else "the loss "
    with pytest.raises(Diverged, match=rf"step {at + 1}: .*{why}.*the last checkpoint is that of step {at}\b"):
        pretrain(recipe, tiny.tokenizer(), tmp_path / "out")
    assert kept(tmp_path / "out") == [at] and steps_of(tmp_path / "out") == list(range(1, at + 1))
    monkeypatch.undo()
    again = pretrain(recipe, tiny.tokenizer(), tmp_path / "out", resume=True)
    straight = pretrain(recipe, tiny.tokenizer())
    assert steps_of(tmp_path / "out") == list(range(1, STEPS + 1))
    assert all(np.array_equal(array, straight.arrays[name]) for name, array in again.arrays.items())


def test_with_skip_it_goes_on_past_the_leap(corpus, tmp_path, monkeypatch):
    leaping(monkeypatch, 5)
    with pytest.raises(Diverged, match="Go on with --resume and on_spike=skip"):
        pretrain(made.recipe(corpus, steps=10), tiny.tokenizer(), tmp_path / "out")
    done = pretrain(made.recipe(corpus, steps=10, on_spike="skip"), tiny.tokenizer(), tmp_path / "out", resume=True)
    assert done.provenance["training"]["steps"] == 10
    assert any("skipped" in entry for entry in done.provenance["training"]["journal"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_takes_nothing_away(tmp_path, workers):
    corpus = made.corpus(tmp_path / "corpus", shard_tokens=60)
    recipe = made.recipe(corpus, window_shards=1, workers=workers, steps=500, log_every=1)
    reader = Reader(recipe, corpus, tiny.tokenizer(), spec_of_recipe(recipe, tiny.tokenizer()).pretraining)
    last = reader.plan(recipe.stages()[0]).windows(0)[-1][0]
    file = corpus.folder / f"ids-{last:05d}.npy"
    whole = file.read_bytes()
    np.save(file, np.array([2, 3], np.uint16))
    with pytest.raises(InputError, match="is damaged"):
        pretrain(recipe, tiny.tokenizer(), tmp_path / "out")
    (step,) = kept(tmp_path / "out")
    assert step == steps_of(tmp_path / "out")[-1] > 0
    file.write_bytes(whole)
    assert pretrain(recipe, tiny.tokenizer(), tmp_path / "out", resume=True).provenance["training"]["steps"] == 500


def test_what_fails_at_the_first_step_leaves_nothing(corpus, tmp_path, monkeypatch):
    usual = loop.Run._gradients
    monkeypatch.setattr(loop.Run, "_gradients", lambda *given: usual(*given)._replace(loss=float("nan")))
    with pytest.raises(Diverged, match="not finite"):
        pretrain(made.recipe(corpus), tiny.tokenizer(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_journal_that_cannot_be_written_says_so(corpus, tmp_path, monkeypatch):
    recipe = made.recipe(corpus, steps=20, log_every=1, checkpoint_every=5)
    original = Path.open

    def full(self, *rest, **more):
        if (
            self.name == "journal.jsonl"
            and rest[:1] == ("a",)
            and self.exists()
            and self.read_bytes().count(b"\n") == 8
        ):
            raise OSError(28, "No space left on device")
        return original(self, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(HalbertError, match=r"journal\.jsonl: cannot be written: No space left on device; .*--resume"):
        pretrain(recipe, tiny.tokenizer(), tmp_path / "out")
    assert kept(tmp_path / "out")[-1] == 5
