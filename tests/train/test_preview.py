"""What is told before the first step."""

from __future__ import annotations

import re

import pytest

from halbert.data.plan import START
from halbert.model import Model
from halbert.train.distributed import ALONE
from halbert.train.journal import Journal
from halbert.train.loop import Run
from halbert.train.objectives import pretraining_loss
from halbert.train.pretraining import Reader
from halbert.train.preview import estimate, examples
from halbert.train.recipe import Phase
from halbert.train.start import pretraining_heads, spec_of_recipe
from tests import tiny
from tests.train import made


@pytest.mark.parametrize("packing", ["bucket", "pack"])
@pytest.mark.parametrize(("objective", "names"), [("sop", ["in order", "swapped"]), ("nsp", ["is next", "random"])])
def test_an_example_of_each_label(tmp_path, packing, objective, names):
    corpus = made.corpus(tmp_path / "corpus")
    recipe = made.recipe(corpus, packing=packing, pretraining={"sentence_objective": objective})
    spec = spec_of_recipe(recipe, tiny.tokenizer())
    reader = Reader(recipe, corpus, tiny.tokenizer(), spec.pretraining)
    batches = [batch for batch, _ in zip((b.batch for b in reader.batches(0, START, ALONE)), range(8))]
    told = examples(batches, tiny.tokenizer(), objective)
    assert [line.partition(":")[0] for line in told] == names
    for line in told:
        text = line.partition(": ")[2]
        assert text.startswith("[CLS]") and text.count("[CLS]") == 1
        assert re.search(r"\[[^\]]+: [^\]]+\]", line), "nothing is hidden"


def test_the_time_of_later_phases_is_counted(tmp_path):
    """The last half has four times the pieces and eight times the length: more than four times the work."""
    phases = (Phase(length=8, share=0.5, batch_tokens=64), Phase(length=32, share=0.5, batch_tokens=256))
    recipe = made.recipe(made.corpus(tmp_path / "corpus"), steps=100, phases=phases)
    spec = spec_of_recipe(recipe, tiny.tokenizer())
    model = Model(spec.encoder, pretraining_heads(spec.pretraining))
    run = Run(model, pretraining_loss, recipe, steps=100, warmup=1, journal=Journal(), seed=0)
    found = re.search(r"about (\d+) s for all", estimate(0.1, recipe, spec, run))
    assert found is not None and 25 < int(found[1]) < 40
