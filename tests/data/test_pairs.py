from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.data.pairs import FIRST, NO_LABEL, SECOND, draw_pairs
from tests.data.shards import shard, shards

OBJECTIVES = ["nsp", "sop", "none"]
seeds = st.tuples(st.integers(0, 2**32), st.integers(0, 50))


@given(shards, st.sampled_from(OBJECTIVES), st.integers(8, 64), seeds)
def test_instances(made, objective, length, seed):
    pairs = draw_pairs(made, objective, length, seed)
    assert len(pairs.label) >= 1
    assert (pairs.lengths <= length).all() and (pairs.lengths >= 3).all()
    for a0, a1, b0, b1, label in zip(*pairs):
        assert 0 <= a0 < a1 <= len(made.ids) and 0 <= b0 <= b1 <= len(made.ids)
        assert made.document_of(a0) == made.document_of(a1 - 1)
        if label == NO_LABEL:
            assert b0 == b1
            continue
        assert objective != "none" and b0 < b1 and made.document_of(b0) == made.document_of(b1 - 1)
        same = made.document_of(a0) == made.document_of(b0)
        if objective == "nsp":
            assert same == (label == FIRST), "a negative is from another document, a positive is not"
            if label == FIRST:
                assert a1 == b0
            # A negative's first part ends where a sentence ends; its second begins where one begins.
            assert a1 in made.sentences and b0 in made.sentences
        else:
            assert same and (a1 == b0 if label == FIRST else b1 == a0), "the two parts are adjacent"
            assert (a1 if label == FIRST else b1) in made.sentences


@given(shards, st.sampled_from(OBJECTIVES), st.integers(8, 40), seeds)
def test_the_seed_decides_alone(made, objective, length, seed):
    np.random.seed(0)
    first = draw_pairs(made, objective, length, seed)
    np.random.seed(1)
    for a, b in zip(first, draw_pairs(made, objective, length, seed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_is_another_draw():
    made = shard([[5, 6, 7, 8] * 5] * 20)
    for objective in OBJECTIVES:
        a, b = (draw_pairs(made, objective, 32, (seed, 0)) for seed in (0, 1))
        assert len(a.label) != len(b.label) or (a.a_start != b.a_start).any()


@pytest.mark.parametrize("objective", ["nsp", "sop"])
def test_labels_are_about_even(objective):
    """Over many seeds the share of second labels lies within 3 standard errors of one half."""
    made = shard([[4, 9, 6, 3, 8] * 4] * 15)
    labels = np.concatenate([draw_pairs(made, objective, 48, (seed,)).label for seed in range(90)])
    known = labels[labels != NO_LABEL]
    assert len(known) > 3000 and len(known) > 0.8 * len(labels)
    assert abs((known == SECOND).mean() - 0.5) < 3 * 0.5 / math.sqrt(len(known))


def test_one_document_has_no_other():
    labels = draw_pairs(shard([[5] * 50]), "nsp", 32, (0,)).label
    assert SECOND not in labels and FIRST in labels


def test_every_piece_is_read_without_an_objective_unless_it_is_cut():
    """Sentences shorter than the room: nothing but what hangs over is left out, nothing is read twice."""
    made = shard([[3, 4, 5] * 6, [7] * 9])
    pairs = draw_pairs(made, "none", 4096, (0,), short_prob=0.0)
    covered = np.concatenate([np.arange(a, b) for a, b in zip(pairs.a_start, pairs.a_end)])
    np.testing.assert_array_equal(np.sort(covered), np.arange(len(made.ids)))


def test_sop_reads_everything_that_fits_once():
    made = shard([[3, 4, 5] * 6, [7] * 9])
    pairs = draw_pairs(made, "sop", 4096, (0,), short_prob=0.0)
    covered = [
        np.arange(x, y) for a, b in ((pairs.a_start, pairs.a_end), (pairs.b_start, pairs.b_end)) for x, y in zip(a, b)
    ]
    np.testing.assert_array_equal(np.sort(np.concatenate(covered)), np.arange(len(made.ids)))


def test_instances_fill_the_length():
    """With sentences of 5 pieces and 64 places, most instances use nearly all; a tenth is short on purpose."""
    made = shard([[5] * 400] * 3)
    lengths = draw_pairs(made, "sop", 64, (0,)).lengths
    assert np.median(lengths) >= 60
    short = np.mean([(draw_pairs(made, "sop", 64, (s,)).lengths < 58).mean() for s in range(20)])
    assert 0.04 < short < 0.2
    assert (draw_pairs(made, "sop", 64, (0,), short_prob=0.0).lengths >= 60).mean() > 0.9
