from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from halbert.data.instances import IGNORED, PretrainBatch
from halbert.data.pairs import NO_LABEL
from halbert.data.plan import Plan
from halbert.model import Model
from halbert.spec import PretrainSpec
from halbert.train import objectives, vocabulary
from halbert.train.objectives import Meaning, pretraining_loss, translation_loss
from halbert.train.vocabulary import hits
from tests import tiny
from tests.train import made

V = 997
MLM, PAIR = tiny.HEADS["mlm"], tiny.HEADS["pair"]
DRY = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout_prob": 0.0}
SHAPES = {"bert": {}, "albert": tiny.ALBERT}


def model(shape="bert", heads=None, seed=0, **changes) -> Model:
    spec = tiny.encoder(vocab_size=V, **DRY, **SHAPES[shape], **changes)
    return Model(spec, heads or {"mlm": MLM, "pair": PAIR}).initialize(seed)


def batch(rows=6, width=23, seed=0) -> PretrainBatch:
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, V, (rows, width))
    mask = (np.arange(width) < rng.integers(9, width + 1, rows)[:, None]).astype(np.int64)
    segments = (np.arange(width) >= rng.integers(3, 9, rows)[:, None]).astype(np.int64) * mask
    positions = np.flatnonzero((rng.random((rows, width)) < 0.15) & (mask == 1))
    labels = ids.reshape(-1)[positions].copy()
    ids.reshape(-1)[positions] = 4
    return PretrainBatch(ids * mask, mask, segments, positions, labels, rng.integers(-1, 2, rows))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_loss_at_masked_positions_is_the_loss_of_all_logits_there(shape):
    net, made = model(shape, initializer_range=0.2), batch()
    loss = pretraining_loss(net, made)
    ids, mask, segments = (torch.from_numpy(array) for array in made[:3])
    output = net(ids, mask, segments)
    everywhere = torch.full(ids.shape, -100)
    everywhere.view(-1)[torch.from_numpy(made.positions)] = torch.from_numpy(made.labels)
    logits = net.answer("mlm", output)
    assert logits.shape == (*ids.shape, V)
    masked = functional.cross_entropy(logits.transpose(1, 2), everywhere)  # -100: not counted
    torch.testing.assert_close(loss.parts["masked_loss"], masked.detach())
    right = (logits.argmax(-1) == everywhere)[everywhere >= 0].float().mean()
    torch.testing.assert_close(loss.parts["masked_accuracy"], right)

    known = made.pair_labels != NO_LABEL
    assert 0 < known.sum() < len(known)
    probabilities = net.answer("pair", output).softmax(-1).detach().numpy()[known]
    truth = made.pair_labels[known]
    pair = -np.log(probabilities[np.arange(len(truth)), truth]).mean()
    assert float(loss.parts["pair_loss"]) == pytest.approx(pair, rel=1e-5)
    assert float(loss.parts["pair_accuracy"]) == pytest.approx((probabilities.argmax(1) == truth).mean())
    assert float(loss.total.detach()) == pytest.approx(float(masked.detach()) + pair, rel=1e-5)

    # And the same gradients.
    loss.total.backward()
    ours = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    output = net(ids, mask, segments)
    whole = functional.cross_entropy(net.answer("mlm", output).transpose(1, 2), everywhere)
    whole = whole + functional.cross_entropy(
        net.answer("pair", output), torch.from_numpy(made.pair_labels), ignore_index=-1
    )
    whole.backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_without_a_pair_there_is_no_pair_loss():
    alone = pretraining_loss(model(heads={"mlm": MLM}, pooler="none"), batch())
    assert set(alone.parts) == {"masked_loss", "masked_accuracy"}
    unlabelled = pretraining_loss(model(), batch()._replace(pair_labels=np.full(6, NO_LABEL)))
    assert float(unlabelled.parts["pair_loss"]) == float(unlabelled.parts["pair_accuracy"]) == 0
    for loss in (alone, unlabelled):
        assert float(loss.total.detach()) == float(loss.parts["masked_loss"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("std", [0.02, 0.1])
def test_loss_at_initialisation(shape, std):
    """FACTS 5.3: ln V + 0.7737 s² D / 2 with truncated normal weights, D the width before the vocabulary; ln 2 for pairs."""
    losses = []
    for seed in range(3):
        net = model(shape, seed=seed, initializer_range=std).eval()
        with torch.no_grad():
            losses.append(pretraining_loss(net, batch(160, 37, seed)))
    masked, pair = (np.mean([float(loss.parts[part]) for loss in losses]) for part in ("masked_loss", "pair_loss"))
    spread = 0.7737 * std**2 * net.spec.embedding_size / 2
    assert masked == pytest.approx(math.log(V) + spread, abs=0.03)
    assert pair == pytest.approx(math.log(2), abs=0.03)
    assert np.mean([float(loss.total) for loss in losses]) == pytest.approx(
        math.log(V) + spread + math.log(2), abs=0.05
    )


def test_what_only_fills_a_shape_counts_nowhere():
    """The same loss, parts and gradients with rows of padding, places without a label and nothing else."""
    net, made = model(initializer_range=0.2), batch()
    width = made.ids.shape[1]

    def taller(array):
        return np.concatenate([array, np.zeros((3, width), np.int64)])

    filled = PretrainBatch(
        *(taller(array) for array in made[:3]),
        np.concatenate([made.positions, np.zeros(7, np.int64)]),
        np.concatenate([made.labels, np.full(7, IGNORED)]),
        np.concatenate([made.pair_labels, np.full(3, NO_LABEL)]),
    )
    assert filled.masked == made.masked == len(made.positions)
    gradients = []
    plain, full = (pretraining_loss(net, b) for b in (made, filled))
    for loss in (plain, full):
        net.zero_grad()
        loss.total.backward()
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters()})
    torch.testing.assert_close(full.total, plain.total, atol=1e-5, rtol=1e-5)
    for name, value in plain.parts.items():
        torch.testing.assert_close(full.parts[name], value, atol=1e-5, rtol=1e-5)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-3, msg=name)


def test_a_batch_with_nothing_to_find_has_no_loss():
    nothing = batch()._replace(labels=np.full_like(batch().labels, IGNORED), pair_labels=np.full(6, NO_LABEL))
    loss = pretraining_loss(model(), nothing)
    assert float(loss.total.detach()) == 0.0 and float(loss.parts["masked_accuracy"]) == 0.0


def packed_and_alone(tmp_path) -> tuple[PretrainBatch, PretrainBatch]:
    """A packed batch of a corpus, and the same instances with a row for each."""
    corpus = made.corpus(tmp_path / "toy")
    plan = Plan(corpus, tiny.tokenizer(), PretrainSpec(), length=32, batch_tokens=256, seed=3, packed=True)
    packed = next(plan.batches())[0]
    assert packed.sequence is not None and packed.starts is not None and packed.position_ids is not None
    width, rows = packed.ids.shape[1], []
    labels = dict(zip(packed.positions.tolist(), packed.labels.tolist(), strict=True))
    for row, number in [(r, n) for r in range(len(packed.ids)) for n in range(1, packed.sequence[r].max() + 1)]:
        columns = np.flatnonzero(packed.sequence[row] == number)
        flat = row * width + columns
        known = packed.pair_labels[packed.starts == flat[0]]
        rows.append((packed.ids[row, columns], packed.segments[row, columns], flat, int(known[0])))
    shape = (len(rows), max(len(ids) for ids, *_ in rows))
    ids, mask, segments = (np.zeros(shape, np.int64) for _ in range(3))
    positions, found = [], []
    for i, (row_ids, row_segments, flat, _) in enumerate(rows):
        n = len(row_ids)
        ids[i, :n], mask[i, :n], segments[i, :n] = row_ids, 1, row_segments
        for column, place in enumerate(flat.tolist()):
            if labels.get(place, IGNORED) != IGNORED and place in packed.positions[packed.labels != IGNORED]:
                positions.append(i * shape[1] + column)
                found.append(labels[place])
    alone = PretrainBatch(
        ids, mask, segments, np.array(positions), np.array(found), np.array([label for *_, label in rows])
    )
    assert len(rows) > len(packed.ids), "nothing was packed"
    assert len(found) == packed.masked
    return packed, alone


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_packed_rows_have_the_loss_of_rows_of_their_own(shape, taught, tmp_path):
    packed, alone = packed_and_alone(tmp_path)
    net = model(shape, initializer_range=0.3)
    table = torch.randn(V, net.spec.hidden_size, generator=torch.Generator().manual_seed(1))
    meaning = Meaning(table, 1.0) if taught else None
    a, b = pretraining_loss(net, packed, meaning), pretraining_loss(net, alone, meaning)
    assert ("translation_loss" in a.parts) == taught
    for name, value in a.parts.items():
        assert float(value) == pytest.approx(float(b.parts[name]), abs=1e-5), name
    assert float(a.total.detach()) == pytest.approx(float(b.total.detach()), abs=1e-5)
    crossing = pretraining_loss(net, packed._replace(sequence=packed.mask), meaning)  # the twin that must differ
    assert abs(float(crossing.total.detach()) - float(b.total.detach())) > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hits_are_those_of_argmax_ties_included(dtype):
    torch.manual_seed(0)
    logits = torch.randint(-3, 4, (500, 11)).to(dtype)  # full of ties
    labels = torch.randint(0, 11, (500,))
    labels[::7] = IGNORED
    expected = (logits.argmax(-1) == labels).sum()
    assert 0 < expected < 200 and hits(logits, labels) == expected
    assert hits(logits, torch.full_like(labels, IGNORED)) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_vocabulary_in_blocks_is_the_plain_cross_entropy(dtype, monkeypatch):
    torch.manual_seed(0)
    logits = (4 * torch.randn(37, 101)).to(dtype)
    labels = torch.randint(0, 101, (37,))
    labels[5:9] = IGNORED
    labels[20:30] = logits[20:30].argmax(-1)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    plain = torch.nn.functional.cross_entropy(theirs.float(), labels, ignore_index=IGNORED)
    (3 * plain).backward()
    for block in (101, 1000, 1 << 20):  # a row at a time, some, all
        monkeypatch.setattr(vocabulary, "_BLOCK", block)
        ours.grad = None
        loss, right = vocabulary.vocabulary_loss(ours, labels)
        (3 * loss).backward()
        assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)
        assert float(right) == pytest.approx(((logits.argmax(-1) == labels).sum() / 33).item())
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-7)
    assert torch.equal(ours.detach(), logits)  # the logits themselves are left as they were


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, {"num_hidden_groups": 1}, {"inner_group_num": 2}], ids=["bert", "shared", "inner"]
)
def test_only_what_is_needed_of_the_last_block_changes_nothing(packed, changes, tmp_path, monkeypatch):
    """The same loss and gradients as with all states; the twin reads one column beside the right one."""
    given = packed_and_alone(tmp_path)[0] if packed else batch()
    net = model(initializer_range=0.2, **changes)
    found = objectives.needed(given)
    assert found is not None and 2 * found.columns.shape[1] <= given.ids.shape[1]

    def told():
        net.zero_grad()
        loss = pretraining_loss(net, given)
        loss.total.backward()
        return float(loss.total.detach()), [p.grad.clone() for p in net.parameters()]

    loss, gradients = told()
    for other, same in ((None, True), (found._replace(columns=(found.columns + 1) % given.ids.shape[1]), False)):
        monkeypatch.setattr(objectives, "needed", lambda batch, other=other: other)
        expected, wanted = told()
        assert (abs(loss - expected) < 1e-5) == same
        if same:
            for a, b in zip(gradients, wanted, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_where_most_is_needed_all_is_computed():
    dense = batch()
    assert objectives.needed(dense._replace(positions=np.arange(14))) is None  # 14 of the first row's 23
    assert objectives.needed(dense._replace(positions=np.array([3, 30, 50]))).columns.shape == (6, 2)


def slow_translation_loss(states, ids, sequence, table):
    texts = [(b, n) for b in range(len(ids)) for n in sorted(set(sequence[b]) - {0})]
    x = np.stack([states[b][sequence[b] == n].mean(0) for b, n in texts])
    y = np.stack([table[ids[b][sequence[b] == n]].mean(0) for b, n in texts])
    x, y = x - x.mean(0), y - y.mean(0)
    return np.mean(1 - (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))


def test_what_texts_mean():
    rng = np.random.default_rng(0)
    states, ids, table = rng.normal(size=(3, 7, 4)), rng.integers(0, 30, (3, 7)), rng.normal(size=(30, 4))
    sequence = np.array([[1, 1, 1, 2, 2, 0, 0], [1] * 7, [0] * 7])
    given = [torch.from_numpy(array) for array in (states, ids, sequence)]
    expected, vectors = slow_translation_loss(states, ids, sequence, table), torch.from_numpy(table)
    assert float(translation_loss(*given, 2, vectors)) == pytest.approx(expected, abs=1e-6)
    assert float(translation_loss(*given, 1, vectors)) != pytest.approx(expected, abs=1e-3)
    same = torch.from_numpy(2 * table[ids] + 5)
    assert float(translation_loss(same, *given[1:], 2, vectors)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("span", [0, 3])
def test_what_is_hidden_belongs_to_what_a_text_means(span):
    net, made = model(initializer_range=0.2).eval(), batch()
    table = torch.randn(net.spec.vocab_size, net.spec.hidden_size, generator=torch.Generator().manual_seed(0))
    plain, loss = pretraining_loss(net, made), pretraining_loss(net, made, Meaning(table, 0.5, span))
    whole = made.ids.copy().reshape(-1)
    known = made.labels != IGNORED
    whole[made.positions[known]] = made.labels[known]
    assert (whole != made.ids.reshape(-1)).any()
    with torch.no_grad():
        states = net(*(torch.from_numpy(a) for a in (made.ids, made.mask, made.segments))).last_BSH.numpy()
    texts = made.mask * (1 + np.arange(made.ids.shape[1]) // span) if span else made.mask
    expected = slow_translation_loss(states, whole.reshape(made.ids.shape), texts, table.numpy())
    assert float(loss.parts["translation_loss"]) == pytest.approx(expected, abs=1e-5)
    assert float(loss.total.detach()) == pytest.approx(float(plain.total.detach()) + 0.5 * expected, abs=1e-5)
    wrong = slow_translation_loss(states, made.ids, made.mask, table.numpy())
    assert abs(wrong - expected) > 1e-4
