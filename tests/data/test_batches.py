from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from halbert.data.batches import group_by_count, group_by_length, pad_rows

LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=60).map(np.array)


@given(LENGTHS, st.integers(1, 400), st.sampled_from([1, 8]), st.one_of(st.none(), st.integers(0, 99)))
def test_group_by_length_covers_each_row_once_within_its_budget(lengths, budget, multiple, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    groups = group_by_length(lengths, budget, rng, multiple)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    padded = -(-lengths // multiple) * multiple
    for group in groups:
        assert len(group) == 1 or padded[group].max() * len(group) <= budget
    # No group could take in the next shorter row as well.
    by_length = sorted(groups, key=lambda group: (-padded[group].max(), -padded[group].min()))
    for group, after in itertools.pairwise(by_length):
        assert padded[group].min() >= padded[after].max()
        assert padded[group].max() * (len(group) + 1) > budget
    if seed is None:
        assert [int(i) for group in groups for i in group] == sorted(range(len(lengths)), key=lambda i: -padded[i])


def test_group_by_length_shuffles_with_a_generator():
    lengths = np.repeat([8, 16], 40)
    a, b, c = (group_by_length(lengths, 64, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert [g.tolist() for g in a] == [g.tolist() for g in b] != [g.tolist() for g in c]
    # Neither the long ones first, nor rows in their order.
    assert {int(lengths[g[0]]) for g in a[:8]} == {8, 16}
    assert any(sorted(g.tolist()) != list(range(min(g), max(g) + 1)) for g in a)


def test_grouping_by_length_leaves_little_padding():
    lengths = np.random.default_rng(0).integers(16, 129, 2000)
    groups = group_by_length(lengths, 4096, np.random.default_rng(1))
    assert sum(lengths[g].max() * len(g) for g in groups) < 1.1 * lengths.sum()


@given(LENGTHS, st.integers(1, 9), st.integers(0, 99))
def test_group_by_count_covers_each_row_once(lengths, size, seed):
    groups = group_by_count(lengths, size, np.random.default_rng(seed))
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    assert sorted(map(len, groups))[1:] == [size] * (len(groups) - 1) or len(lengths) > 50 * size
    assert max(map(len, groups)) <= size
    again = group_by_count(lengths, size, np.random.default_rng(seed))
    assert [g.tolist() for g in groups] == [g.tolist() for g in again]


def test_group_by_count_puts_similar_lengths_together_in_random_order():
    lengths = np.random.default_rng(0).integers(1, 129, 1600)
    groups = group_by_count(lengths, 16, np.random.default_rng(1))
    spread = [int(np.ptp(lengths[g])) for g in groups]
    assert np.mean(spread) < 6
    means = np.array([lengths[g].mean() for g in groups])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


@given(
    st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=30), min_size=1, max_size=5),
    st.sampled_from([1, 4, 8]), st.one_of(st.none(), st.integers(30, 37)),
)  # fmt: skip
def test_pad_rows(texts, multiple, most):
    encoded = [(ids, [i % 2 for i in range(len(ids))]) for ids in texts]
    rows = pad_rows(encoded, 0, multiple, most)
    longest = max(map(len, texts))
    width = -(-longest // multiple) * multiple
    assert rows.ids.shape == rows.mask.shape == rows.segments.shape == (len(texts), min(width, most or width))
    for i, (ids, segments) in enumerate(encoded):
        n, pad = len(ids), rows.ids.shape[1] - len(ids)
        assert rows.ids[i].tolist() == ids + [0] * pad
        assert rows.mask[i].tolist() == [1] * n + [0] * pad
        assert rows.segments[i].tolist() == segments + [0] * pad


def test_pad_rows_pads_with_the_pad_id():
    assert pad_rows([([5], [0])], 7, 2).ids.tolist() == [[5, 7]]
