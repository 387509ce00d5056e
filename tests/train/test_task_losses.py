"""The loss of every form of data, against its formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from halbert.data.forms import encode
from halbert.data.instances import IGNORED
from halbert.data.readers import Example
from halbert.errors import InputError
from halbert.heads import HeadSpec
from halbert.spec import PretrainSpec
from halbert.train import objectives
from halbert.train.objectives import Wanted, task_loss
from halbert.train.portions import Portions, outputs
from halbert.train.prepared import start_model
from tests import small

HEADS = {
    "labelled": HeadSpec(kind="label", labels=("x", "y", "z")), "several": HeadSpec(kind="label", labels=("x", "y", "z"), several=True),
    "scored": HeadSpec(kind="score"), "choices": HeadSpec(kind="choice"), "tagged": HeadSpec(kind="tag", labels=("O", "B-X", "I-X")),
    "questions": HeadSpec(kind="span"), "pairs": None, "near": None,
}  # fmt: skip
EXAMPLES = {
    "labelled": [Example(text="the cat", label="x"), Example(text="a mat on", label="z"), Example(text="dog", label="y")],
    "several": [Example(text="the cat", labels=("x", "z")), Example(text="a mat on", labels=())],
    "scored": [Example(text="the", pair="cat", score=2.5), Example(text="a mat", pair="on", score=0.0)],
    "choices": [Example(text="the", choices=("cat", "dog eat", "1"), label="1"), Example(text="on", choices=("a", "mat"), label="0")],
    "tagged": [
        Example(text="the wanted cat", words=("the", "wanted", "cat"), tags=("O", "B-X", "I-X")),
        Example(text="dog", words=("dog",), tags=("O",)),
    ],
    "questions": [
        Example(text="the", pair="a mat on the cat", answers=((2, "mat on"),), id="1"),
        Example(text="the dog", pair="a cat", answers=(), id="2"),
    ],
    "pairs": [
        Example(text="the", pair="cat", third="dog"), Example(text="a mat", pair="on"), Example(text="1", pair="cat"),
        Example(text="a mat", pair="2", third="cat"),
    ],
    "near": [Example(text="the", pair="cat", score=1.0), Example(text="a", pair="mat", score=3.0), Example(text="1", pair="2", score=3.0)],
}  # fmt: skip
FORM = {"several": "labelled", "near": "pairs"}


def setting(kind, smoothing=0.0, weights=None):
    form, head = FORM.get(kind, kind), HEADS[kind]
    bundle = small.bundle(("mlm",), seed=2)
    model = start_model(bundle, head, 1)
    features = encode(form, EXAMPLES[kind], bundle.tokenizer, 16, head, 2)
    portions = Portions(form, features, bundle.tokenizer, 8, 0, 130, PretrainSpec())
    batch = portions.batch(np.arange(len(portions.widths)), (0,))
    loss = task_loss(form, Wanted(weights, smoothing), model, batch)
    values = [torch.tensor(v) for v in outputs(model, None if head is None else head.kind, features, 0, 8)]
    return model, features, loss, values


def expected(kind, features, values, weights=None):
    target = features.target
    if kind == "labelled":
        return functional.cross_entropy(torch.stack(values), torch.tensor(target), weights)
    if kind == "several":
        table, wanted = torch.stack(values).double(), torch.tensor(target).double()
        return -(wanted * table.sigmoid().log() + (1 - wanted) * (1 - table.sigmoid()).log()).mean()
    if kind == "scored":
        return sum((float(v) - t) ** 2 for v, t in zip(values, target, strict=True)) / len(target)
    if kind == "choices":
        parts = [torch.cat(values[a:b]) for a, b in ((0, 3), (3, 5))]
        return sum(-part.log_softmax(0)[t] for part, t in zip(parts, target, strict=True)) / 2
    if kind == "tagged":
        found = [
            -row.log_softmax(-1)[i, tag]
            for r, row in enumerate(values)
            for i, tag in enumerate(features.of("tags", r))
            if tag >= 0
        ]
        assert len(found) == 4
        return sum(found) / 4
    if kind == "questions":
        ends = [-row.log_softmax(0)[target[r][side], side] for r, row in enumerate(values) for side in (0, 1)]
        return sum(ends) / len(ends)
    unit = [v / v.norm() for v in values]
    if (
        kind == "pairs"
    ):  # the, cat, dog | a mat, on | 1, cat | a mat, 2, cat: neither "cat" nor what else "a mat" has is wrong
        first, second = [unit[i] for i in (0, 3, 5, 7)], [unit[i] for i in (1, 4, 6, 8, 2, 9)]
        hidden = {(0, 2), (0, 5), (1, 3), (2, 0), (2, 5), (3, 1)}
        loss = 0.0
        for i, one in enumerate(first):
            near = {j: float(one @ other) / 0.05 for j, other in enumerate(second) if (i, j) not in hidden}
            loss += math.log(sum(math.exp(v) for v in near.values())) - near[i]
        return loss / 4
    near = [float(unit[2 * i] @ unit[2 * i + 1]) / 0.05 for i in range(3)]
    return math.log(1 + math.exp(near[0] - near[1]) + math.exp(near[0] - near[2]))


@pytest.mark.parametrize("kind", HEADS)
def test_the_formula(kind):
    model, features, loss, values = setting(kind)
    assert float(loss.total.detach()) == pytest.approx(float(expected(kind, features, values)), rel=1e-4)
    assert float(loss.parts["loss"]) == float(loss.total.detach())
    loss.total.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "pooler" not in name)


@pytest.mark.parametrize("kind", [*HEADS])
def test_in_half_precision(kind):
    # Products of the model in bfloat16, the loss itself in fp32: it used to end in an overflow for pairs.
    whole = setting(kind)[2].total
    with torch.autocast("cpu", torch.bfloat16):
        half = setting(kind)[2].total
    assert half.dtype == torch.float32
    assert float(half.detach()) == pytest.approx(float(whole.detach()), rel=0.05, abs=0.02)


def test_class_weights_and_smoothing():
    weights = torch.tensor([1.0, 4.0, 0.5])
    _, features, loss, values = setting("labelled", weights=weights)
    assert float(loss.total.detach()) == pytest.approx(float(expected("labelled", features, values, weights)), rel=1e-4)
    _, features, smooth, values = setting("labelled", smoothing=0.3)
    logs = torch.stack(values).log_softmax(-1)
    wanted = 0.7 * float(expected("labelled", features, values)) + 0.3 * -float(logs.mean())
    assert float(smooth.total.detach()) == pytest.approx(wanted, rel=1e-4)
    assert float(smooth.parts["loss"]) == pytest.approx(float(expected("labelled", features, values)), rel=1e-4)


def test_masked_text():
    bundle = small.bundle(("mlm",), seed=2)
    model = start_model(bundle, HeadSpec(kind="mlm"), 0)
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.detach().numpy(), bundle.arrays[name])  # its own head, not a fresh one
    features = encode("texts", [Example(text="the cat sat on a mat " * 3)] * 4, bundle.tokenizer, 12, None)
    portions = Portions("texts", features, bundle.tokenizer, 3, 0, 130, PretrainSpec())
    one, again = portions.batch(np.arange(3), (0, 1)), portions.batch(np.arange(3), (0, 1))
    np.testing.assert_array_equal(one.ids, again.ids)
    assert (portions.batch(np.arange(3), (0, 2)).ids != one.ids).any()
    loss = task_loss("texts", Wanted(), model, one)
    assert 0 < float(loss.parts["loss"]) < 20 and one.masked > 0


@pytest.mark.parametrize("form", ["labelled", "choices", "questions"])
def test_batches_begin_anywhere(form):
    bundle = small.bundle()
    features = encode(form, EXAMPLES[form] * 7, bundle.tokenizer, 16, HEADS[form])
    portions = Portions(form, features, bundle.tokenizer, 4, 3, 130, PretrainSpec())
    whole = portions.batches()
    first = [next(whole) for _ in range(3 * portions.an_epoch)]
    for step in (0, 1, portions.an_epoch, 2 * portions.an_epoch + 1):
        for batch, again in zip(first[step:], portions.batches(step), strict=False):
            np.testing.assert_array_equal(batch.rows.ids, again.rows.ids)
            np.testing.assert_array_equal(batch.target, again.target)
    seen = [row.tobytes() for batch in first[: portions.an_epoch] for row in batch.target]
    wanted = [row.tobytes() for row in np.asarray(features.target)]
    assert sorted(seen) == sorted(wanted)  # every example once an epoch


def test_a_batch_without_anything_to_learn_from_changes_nothing():
    """Such as a window that owns no first piece of a word: 0 divided by 0 would be taken for a divergence."""
    model = torch.nn.Linear(3, 4)
    for weights, smoothing in ((None, 0.0), (torch.arange(1.0, 5.0), 0.1)):
        loss = objectives._classes(Wanted(weights, smoothing), model(torch.ones(5, 3)), torch.full((5,), IGNORED))
        loss.total.backward()
        assert float(loss.total.detach()) == float(loss.parts["loss"]) == 0 and not model.weight.grad.any()


def test_what_counts_nowhere_changes_no_loss():
    """With weights and smoothing as torch's own mean has it."""
    drawn = torch.Generator().manual_seed(0)
    logits, target = torch.randn(9, 4, generator=drawn), torch.tensor([0, 1, IGNORED, 3, 2, IGNORED, 1, 0, 3])
    for weights, smoothing in ((None, 0.0), (None, 0.1), (torch.arange(1.0, 5.0), 0.0), (torch.arange(1.0, 5.0), 0.1)):
        loss = objectives._classes(Wanted(weights, smoothing), logits, target)
        theirs = functional.cross_entropy(logits, target, weights, ignore_index=IGNORED, label_smoothing=smoothing)
        torch.testing.assert_close(loss.total, theirs)


def test_a_length_that_leaves_no_room_for_a_text():
    with pytest.raises(InputError, match="length 4 leaves no room for a text beside its question"):
        encode("questions", EXAMPLES["questions"], small.bundle().tokenizer, 4, HEADS["questions"], 2)
