from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.data.pairs import FIRST, NO_LABEL, SECOND, Pairs, _reached, draw_pairs
from tests.data.shards import Shard, shard, shards

OBJECTIVES = ["nsp", "sop", "none"]
seeds = st.tuples(st.integers(0, 2**32), st.integers(0, 50))


@given(shards, st.sampled_from(OBJECTIVES), st.integers(8, 64), seeds, st.booleans())
def test_instances(made, objective, length, seed, split_long):
    pairs = draw_pairs(made, objective, length, seed, split_long=split_long)
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
        else:
            assert same
        if label == FIRST:
            assert a1 == b0, "the two parts are adjacent"
        elif objective == "sop":
            assert b1 <= a0 and (b1 == a0 or a1 - a0 + b1 - b0 == length - 3), "but for what they lost"
        # No label shows in where the parts meet: a sentence ends, and one begins.
        assert a1 in made.sentences and b0 in made.sentences


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


@given(st.data())
def test_the_walk_of_all_documents_is_that_of_each(data):
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=6))
    documents = np.concatenate([[0], np.cumsum(sizes)])
    following = np.array(
        [
            data.draw(st.integers(i + 1, documents[d + 1]))
            for d in range(len(sizes))
            for i in range(*documents[d : d + 2])
        ]
    )
    read = data.draw(st.lists(st.sampled_from(range(len(sizes))), unique=True))
    wanted = set()
    for d in read:
        at = documents[d]
        while at < documents[d + 1]:
            wanted.add(int(at))
            at = following[at]
    found = _reached(following, documents[:-1][np.array(read, np.int64)], documents)
    assert found.tolist() == sorted(wanted)


def test_one_huge_document_is_read_whole():
    made = shard([[5] * 60_000])
    pairs = draw_pairs(made._replace(ids=np.zeros(300_000, np.uint16)), "sop", 32, (0,), 0.0)
    covered = np.zeros(300_001, np.int64)
    for start, end in ((pairs.a_start, pairs.a_end), (pairs.b_start, pairs.b_end)):
        np.add.at(covered, start, 1)
        np.add.at(covered, end, -1)
    assert covered.cumsum().max() == 1 and covered.cumsum()[:-1].mean() > 0.9


@given(shards, st.sampled_from(OBJECTIVES), st.integers(8, 64), seeds, st.data())
def test_copies_say_how_often_a_document_is_read(made, objective, length, seed, data):
    count = len(made.documents) - 1
    copies = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    pairs = draw_pairs(made, objective, length, seed, copies=copies)
    own = [made.document_of(at) for at in pairs.a_start]
    if objective == "nsp":
        own = [made.document_of(at) for at, label in zip(pairs.a_start, pairs.label)]
    assert {d for d in range(count) if copies[d]} == set(own)
    single = [d for d in range(count) if made.documents[d + 1] - made.documents[d] == 1]
    for d in single:
        assert own.count(d) == copies[d]


@given(shards, st.integers(8, 64), seeds)
def test_faithful_instances(made, length, seed):
    """Every instance is a pair; two parts that are not random are adjacent before either lost pieces."""
    for objective in ("nsp", "sop"):
        pairs = draw_pairs(made, objective, length, seed, faithful=True)
        assert (pairs.lengths <= length).all() and set(pairs.label.tolist()) <= {FIRST, SECOND}
        assert (pairs.a_end > pairs.a_start).all() and (pairs.b_end > pairs.b_start).all()
        for a0, a1, b0, b1, label in zip(*pairs):
            assert made.document_of(a0) == made.document_of(a1 - 1)
            assert made.document_of(b0) == made.document_of(b1 - 1)
            if label == FIRST:
                assert made.document_of(a0) == made.document_of(b0) and a1 <= b0


def test_negatives_stay_in_their_group():
    made = shard([[4] * 90] * 5)
    pairs = draw_pairs(made, "nsp", 24, (0,), groups=np.array([0, 2, 4, 5]))
    negative = pairs.label == SECOND
    a, b = (np.array([made.document_of(x) for x in at[negative]]) for at in (pairs.a_start, pairs.b_start))
    assert (a != b).all() and negative.sum() > 20
    assert (a[a < 4] // 2 == b[a < 4] // 2).all()
    assert set(b[a == 4].tolist()) == {0, 1, 2, 3}, "a group of one document takes from all"


# The same rules, one instance after the other. A twin has one of them changed, and must be told apart.


def slow_pairs(made: Shard, objective: str, length: int, rng: np.random.Generator, twin: str = "") -> Pairs:
    room = length - (2 if objective == "none" else 3)
    sentences, documents, rows = made.sentences.tolist(), made.documents.tolist(), []
    for d in range(len(documents) - 1):
        at, end = documents[d], documents[d + 1]
        while at < end:
            target = room
            if rng.random() < (0.2 if twin == "twice as many are short" else 0.1):
                target = int(rng.integers(room // 2 if twin == "short is half" else 2, room + 1))
            stop = at + 1
            while stop < end and sentences[stop] - sentences[at] < target:
                stop += 1
            if twin == "a sentence less" and stop - at > 1:
                stop -= 1
            if objective == "none" or stop - at == 1:
                most = length - 3 if twin == "single rows lose a piece" else length - 2
                last = min(sentences[stop], sentences[at] + most)
                rows.append((sentences[at], last, last, last, NO_LABEL))
                at = stop
                continue
            cut = at + 1 if twin == "the cut is first" else int(rng.integers(at + 1, stop))
            coin = rng.random() < (0.45 if twin == "labels are uneven" else 0.5)
            a, b = [sentences[at], sentences[cut]], [sentences[cut], sentences[stop]]
            at = stop
            if coin and objective == "nsp":
                other = int(rng.integers(0, len(documents) - 1))
                while other == d:
                    other = int(rng.integers(0, len(documents) - 1))
                first = int(rng.integers(documents[other], documents[other + 1]))
                if twin == "the other begins with its document":
                    first = documents[other]
                last = first + 1
                while last < documents[other + 1] and sentences[last] - sentences[first] < target - (a[1] - a[0]):
                    last += 1
                b = [sentences[first], sentences[last]]
                if twin != "nothing is put back":
                    at = cut
            if coin and objective == "sop":
                a, b = b, a
            while a[1] - a[0] + b[1] - b[0] > room:
                longer = a if a[1] - a[0] > b[1] - b[0] else b
                if twin == "the second loses all":
                    longer = b if b[1] - b[0] > 1 else a
                front = longer is a
                if twin == "the wrong end is lost":
                    front = not front
                if twin == "swapped parts are cut where they lie" and coin:
                    front = not front
                if front:
                    longer[0] += 1
                else:
                    longer[1] -= 1
            rows.append((*a, *b, SECOND if coin else FIRST))
    return Pairs(*np.array(rows, np.int64).T)


def statistics(made: Shard, pairs: Pairs) -> list[float]:
    a, b, lengths = pairs.a_end - pairs.a_start, pairs.b_end - pairs.b_start, pairs.lengths
    known = pairs.label != NO_LABEL
    whole = [np.isin(x, made.sentences).mean() for x in pairs[:4]]
    document = np.searchsorted(made.sentences[made.documents], pairs.b_start[known], side="right") - 1
    into = made.sentences[made.documents][document]
    return [
        len(known), known.mean(), (pairs.label == SECOND).sum() / max(known.sum(), 1), lengths.sum(), lengths.mean(),
        lengths.std(), (lengths == lengths.max()).mean(), (a / (a + b))[known].mean() if known.any() else 0,
        (a - b)[known].std() if known.any() else 0, lengths[~known].mean() if (~known).any() else 0, *whole,
        (pairs.b_start[known] - into).mean() if known.any() else 0, (a == b).mean(),
    ]  # fmt: skip


def deviation(objective: str, length: int, twin: str = "", draws: int = 250) -> float:
    rng = np.random.default_rng(5)
    made = shard([rng.integers(1, 40, int(rng.integers(1, 60))).tolist() for _ in range(12)])
    slow = np.array([statistics(made, slow_pairs(made, objective, length, rng, twin)) for _ in range(draws)])
    fast = np.array([statistics(made, draw_pairs(made, objective, length, (9, i))) for i in range(draws)])
    error = np.sqrt((slow.var(0, ddof=1) + fast.var(0, ddof=1)) / draws)
    return float((np.abs(slow.mean(0) - fast.mean(0)) / np.maximum(error, 1e-9)).max())


@pytest.mark.parametrize("length", [48, 128])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_draws_are_those_of_the_plain_rules(objective, length):
    assert deviation(objective, length) < 3.5  # the largest of 16 figures


@pytest.mark.parametrize(
    ("objective", "twin"),
    [
        ("none", "twice as many are short"), ("none", "short is half"), ("none", "single rows lose a piece"),
        ("sop", "a sentence less"), ("sop", "the cut is first"), ("sop", "labels are uneven"),
        ("sop", "the wrong end is lost"), ("sop", "swapped parts are cut where they lie"),
        ("sop", "the second loses all"), ("nsp", "nothing is put back"),
        ("nsp", "the other begins with its document"), ("nsp", "the wrong end is lost"), ("nsp", "labels are uneven"),
    ],
)  # fmt: skip
def test_a_changed_rule_is_told_apart(objective, twin):
    assert deviation(objective, 48, twin) > 6


def read(made, pairs):
    """Which pieces are in an instance."""
    found = np.zeros(len(made.ids), bool)
    for a0, a1, b0, b1, _ in zip(*pairs, strict=True):
        found[a0:a1] = found[b0:b1] = True
    return found


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_of_a_long_sentence_is_read(objective):
    made = shard([[500, 10], [500, 10], [3000], [7, 150, 9]])
    cut = np.zeros(len(made.ids), bool)
    for seed in range(100):
        cut |= read(made, draw_pairs(made, objective, 64, (seed,)))
    assert cut.mean() < 0.2  # whatever the draw
    found = [read(made, draw_pairs(made, objective, 64, (seed,), split_long=True)) for seed in range(20)]
    assert min(each.mean() for each in found) > (0.85 if objective != "none" else 0.999999)
    assert np.any(found, axis=0).mean() > 0.99


def test_sentences_that_are_not_long_are_drawn_as_ever():
    made = shard([[5, 6, 61, 8] * 5] * 20)
    for objective in ("nsp", "sop"):
        for a, b in zip(
            draw_pairs(made, objective, 64, (3,)), draw_pairs(made, objective, 64, (3,), split_long=True), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    lost, kept = (read(made, draw_pairs(made, "none", 64, (3,), split_long=split)).mean() for split in (False, True))
    assert lost < 0.9 and kept == 1


@pytest.mark.parametrize("objective", ["nsp", "sop"])
def test_a_long_sentence_shows_in_no_label(objective):
    """Both labels are as long, begin and end alike, in whole sentences but for what a pair loses."""
    made = shard([[9, 200, 30, 5, 90, 12]] * 60)
    table = np.concatenate(
        [np.stack(draw_pairs(made, objective, 64, (seed,), split_long=True)) for seed in range(60)], axis=1
    )
    pairs = Pairs(*table[:, table[4] != NO_LABEL])
    for label in (FIRST, SECOND):
        some = pairs.label == label
        for edge in (pairs.a_end, pairs.b_start):
            assert np.isin(edge[some], made.sentences).all()
    first, second = (pairs.lengths[pairs.label == label] for label in (FIRST, SECOND))
    error = np.sqrt(first.var() / len(first) + second.var() / len(second))
    assert abs(first.mean() - second.mean()) < (4 * error + 0.5 if objective == "sop" else 8)
