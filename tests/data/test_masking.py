from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halbert.data.masking import _Units, mask_batch
from halbert.spec import PretrainSpec

V, MASK = 1009, 4
STARTS = np.arange(V) % 3 != 0  # every third id continues a word
KINDS = ["piece", "word", "ngram"]


def rows(count: int, width: int, seed: int = 0, words_only: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Ids 5.. with special 0 at the front, somewhere in the middle and over a padded end; and what may be masked."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, V, (count, width))
    if words_only:
        ids -= ids % 3 == 0
    maskable = np.ones_like(ids, bool)
    maskable[:, 0] = False
    maskable[np.arange(count), rng.integers(1, width, count)] = False
    maskable &= np.arange(width) < rng.integers(2, width + 1, count)[:, None]
    ids[~maskable] = 0
    return ids, maskable


def mask(ids, maskable, masking, seed=0, **options):
    spec = PretrainSpec(masking=masking, **options)
    return mask_batch(ids, maskable, STARTS, spec, MASK, V, np.random.default_rng(seed))


def words_of(ids: np.ndarray, maskable: np.ndarray) -> np.ndarray:
    """A word number for every maskable place of one row, -1 elsewhere: the slow way."""
    numbers, word = np.full(len(ids), -1), -1
    for i in range(len(ids)):
        if not maskable[i]:
            continue
        if word < 0 or STARTS[ids[i]] or not maskable[i - 1]:
            word += 1
        numbers[i] = word
    return numbers


@given(
    st.integers(1, 6), st.integers(2, 40), st.integers(0, 2**32), st.sampled_from(KINDS), st.floats(0.01, 0.9),
    st.integers(1, 4),
)  # fmt: skip
def test_what_masking_promises(count, width, seed, masking, share, longest):
    ids, maskable = rows(count, width, seed)
    before = ids.copy()
    masked = mask(ids, maskable, masking, seed, masking_prob=share, max_ngram=longest)
    np.testing.assert_array_equal(ids, before)  # the input is left alone
    flat = maskable.reshape(-1)
    assert flat[masked.positions].all()  # never a special token, never padding
    assert (np.diff(masked.positions) > 0).all()
    np.testing.assert_array_equal(masked.labels, before.reshape(-1)[masked.positions])
    untouched = np.ones(before.size, bool)
    untouched[masked.positions] = False
    np.testing.assert_array_equal(masked.ids.reshape(-1)[untouched], before.reshape(-1)[untouched])
    assert masked.ids.min() >= 0 and masked.ids.max() < V

    chosen = np.zeros(before.size, bool)
    chosen[masked.positions] = True
    for row_ids, row_may, row in zip(before, maskable, chosen.reshape(before.shape), strict=True):
        budget = max(1, round(row_may.sum() * share))
        if not row_may.any():
            assert not row.any()
        elif masking == "piece":
            assert row.sum() == budget
        else:
            words = words_of(row_ids, row_may)
            hit = set(words[row].tolist())
            np.testing.assert_array_equal(row, np.isin(words, list(hit)))  # whole words stay whole
            sizes = np.bincount(words[row_may])
            units = [sizes[w : w + (1 if masking == "word" else longest)].sum() for w in range(len(sizes))]
            assert 1 <= row.sum() <= max(budget, *units, 1)


@pytest.mark.parametrize("masking", KINDS)
def test_the_draw_depends_on_the_generator_alone(masking):
    ids, maskable = rows(20, 60)
    first, again, other = (mask(ids, maskable, masking, seed) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(first.positions) != len(other.positions) or (first.positions != other.positions).any()


@pytest.mark.parametrize("masking", KINDS)
@pytest.mark.parametrize("share", [0.15, 0.3])
def test_the_share_is_met(masking, share):
    ids, maskable = rows(400, 128)
    maskable[:, 100:] = False
    maskable[:, 1:100] = ids[:, 1:100] > 0
    full = maskable.sum(1) > 60
    ids, maskable = ids[full], maskable[full]
    assert len(ids) > 100
    masked = mask(ids, maskable, masking, masking_prob=share)
    assert len(masked.positions) / maskable.sum() == pytest.approx(share, abs=0.005)


def test_every_place_is_as_likely_as_any_other():
    ids = np.full((6000, 40), 7)
    masked = mask(ids, np.ones_like(ids, bool), "piece")
    hits = np.bincount(masked.positions % 40, minlength=40) / 6000
    assert np.abs(hits - 0.15).max() < 4 * np.sqrt(0.15 * 0.85 / 6000)


@pytest.mark.parametrize("masking", KINDS)
def test_eighty_ten_ten(masking):
    ids, maskable = rows(2000, 128, seed=1)
    masked = mask(ids, maskable, masking)
    n = len(masked.positions)
    assert n > 10_000
    found = masked.ids.reshape(-1)[masked.positions]
    # A random id is the mask, or the true one, once in V.
    shares = {
        "hidden": (found == MASK, 0.8 + 0.1 / V),
        "kept": (found == masked.labels, 0.1 + 0.1 / V),
        "other": ((found != MASK) & (found != masked.labels), 0.1 * (1 - 2 / V)),
    }
    for name, (seen, p) in shares.items():
        assert abs(seen.mean() - p) < 3 * np.sqrt(p * (1 - p) / n), name
    drawn = found[shares["other"][0]]
    assert abs(drawn.mean() - (V - 1) / 2) < 3 * V / np.sqrt(12 * len(drawn))
    assert drawn.min() < 5 and drawn.max() > V - 5  # over the whole vocabulary, as Google draws


@pytest.mark.parametrize(("longest", "shares"), [(3, [6 / 11, 3 / 11, 2 / 11]), (2, [2 / 3, 1 / 3]), (1, [1.0])])
def test_ngram_lengths_are_inverse_to_n(longest, shares):
    """FACTS 1.6: p(n) = 0.5455, 0.2727, 0.1818. With a budget of 1 a row holds exactly one unit."""
    ids, _ = rows(8000, 30, words_only=True)
    ids[ids == 0] = 7
    masked = mask(ids, np.ones_like(ids, bool), "ngram", masking_prob=0.001, max_ngram=longest)
    row, place = np.divmod(masked.positions, 30)
    first = np.full(8000, 30)
    np.minimum.at(first, row, place)
    sizes = np.bincount(row, minlength=8000)
    assert sizes.min() == 1 and sizes.max() == longest
    whole = first <= 30 - longest  # not cut short by the end of the row
    n = whole.sum()
    for size, p in enumerate(shares, 1):
        assert abs((sizes[whole] == size).mean() - p) <= 3 * np.sqrt(p * (1 - p) / n)
    last = np.zeros(8000, int)
    np.maximum.at(last, row, place)
    np.testing.assert_array_equal(last - first + 1, sizes)  # consecutive


def test_whole_word_masking_takes_single_words():
    ids, _ = rows(3000, 30, words_only=True)
    ids[ids == 0] = 7
    masked = mask(ids, np.ones_like(ids, bool), "word", masking_prob=0.001)
    assert np.bincount(masked.positions // 30).tolist() == [1] * 3000


def test_a_word_that_fills_the_row_is_masked_whole():
    ids = np.array([[0, 5, 6, 9, 12, 15, 0]])
    maskable = ids > 0
    assert mask(ids, maskable, "word").positions.tolist() == [1, 2, 3, 4, 5]
    begun_before = np.array([[0, 3, 6, 9, 12, 15, 0]])  # a cut may fall inside a word
    assert mask(begun_before, maskable, "word").positions.tolist() == [1, 2, 3, 4, 5]
    two_texts = np.array([[0, 5, 6, 0, 9, 12, 0]])
    assert mask(two_texts, two_texts > 0, "word").positions.tolist() in ([1, 2], [4, 5])


def test_a_row_without_pieces_has_nothing_masked():
    ids = np.array([[1, 2, 0, 0], [1, 9, 2, 0]])
    for masking in KINDS:
        assert mask(ids, ids > 2, masking).positions.tolist() == [5]


# Units tried one after the other, a row at a time: what the units of a whole batch must come to.


def slow_units(edges, end, row, rank, budget, bound, shrink, twin=""):
    covered = np.zeros(len(row), bool)
    taken = np.zeros(len(budget), int)
    for k in np.argsort(rank):
        r, last = row[k], end[k]
        if taken[r] >= budget[r]:
            continue
        room = bound[r] if taken[r] == 0 and twin != "the first is like the others" else budget[r] - taken[r]
        while shrink and last > k + 1 and edges[last] - edges[k] > room:
            last -= 1
        size = edges[last] - edges[k]
        if size > room and twin == "stops at the first that does not fit":
            taken[r] = 10**9
        if size > room or (covered[k:last].any() and twin != "may overlap"):
            continue
        covered[k:last] = True
        taken[r] += size
    return covered


@st.composite
def units(draw):
    """Words of 1 to 5 pieces in rows, a unit of up to 4 words at each, and what each row may hide."""
    words = draw(st.lists(st.integers(0, 25), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    row = np.repeat(np.arange(len(words)), words)
    edges = np.concatenate([[0], np.cumsum(rng.integers(1, 6, len(row)))])
    end = np.minimum(np.arange(len(row)) + rng.integers(1, 5, len(row)), np.repeat(np.cumsum(words), words))
    budget = rng.integers(1, 40, len(words))
    shrink = draw(st.booleans())
    bound = budget if shrink else rng.integers(budget, 60)
    return edges, end, row, rng.random(len(row)), budget, bound, shrink


def choose(made, share):
    edges, end, row, rank, budget, bound, shrink = made
    return _Units(edges, end, row, rank).choose(budget, bound, share, shrink)


@settings(max_examples=300)
@given(units(), st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]))
def test_a_batch_of_units_is_tried_one_by_one(made, share):
    """Exactly, and however many are settled together."""
    np.testing.assert_array_equal(choose(made, share), slow_units(*made))


@pytest.mark.parametrize(
    "twin", ["may overlap", "stops at the first that does not fit", "the first is like the others"]
)
def test_another_rule_gives_other_units(twin):
    differ = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        edges = np.concatenate([[0], np.cumsum(rng.integers(1, 6, 40))])
        end, row = np.minimum(np.arange(40) + rng.integers(1, 5, 40), 40), np.zeros(40, int)
        made = edges, end, row, rng.random(40), np.array([rng.integers(2, 40)]), np.array([60]), False
        np.testing.assert_array_equal(choose(made, 0.3), slow_units(*made))
        differ += (choose(made, 0.3) != slow_units(*made, twin)).any()
    assert differ > 10


def slow_rows(ids, maskable, spec: PretrainSpec, rng: np.random.Generator) -> np.ndarray:
    """Words and n-grams a row at a time."""
    longest = 1 if spec.masking == "word" else spec.max_ngram
    weights = 1.0 / np.arange(1, longest + 1)
    chosen = np.zeros_like(maskable)
    for i in range(len(ids)):
        numbers = words_of(ids[i], maskable[i])
        places = [np.flatnonzero(numbers == w) for w in range(numbers.max() + 1)]
        budget = max(1, round(maskable[i].sum() * spec.masking_prob))
        for first in rng.permutation(len(places)):
            size = int(rng.choice(longest, p=weights / weights.sum())) + 1
            unit: list[int] = []
            for word in places[first : first + size]:
                if unit and word[0] > unit[-1] + 1:
                    break  # a special token stands between
                unit += word.tolist()
            taken = chosen[i].sum()
            if chosen[i][unit].any() or (taken and taken + len(unit) > budget):
                continue
            chosen[i][unit] = True
            if chosen[i].sum() >= budget:
                break
    return chosen


def told(ids, maskable, chosen) -> list[float]:
    inner = chosen[:, 1:] & chosen[:, :-1]
    sizes = []
    for i in range(len(ids)):
        numbers = words_of(ids[i], maskable[i])
        sizes += np.bincount(numbers[numbers >= 0])[np.unique(numbers[chosen[i]])].tolist()
    columns = np.arange(ids.shape[1])
    return [
        chosen.sum(), inner.sum() / chosen.sum(), np.mean(sizes), (chosen.sum(0) * columns).sum() / chosen.sum(),
        chosen.sum(1).std(), STARTS[ids[chosen]].mean(),
    ]  # fmt: skip


@pytest.mark.parametrize("masking", ["word", "ngram"])
@pytest.mark.parametrize("changes", [{}, {"max_ngram": 2}, {"masking_prob": 0.17}])
def test_the_draws_are_those_of_rows_one_by_one(masking, changes):
    spec, slow, fast = PretrainSpec(masking=masking), [], []
    for seed in range(250):
        ids, maskable = rows(8, 64, seed)
        slow.append(told(ids, maskable, slow_rows(ids, maskable, spec, np.random.default_rng(seed))))
        chosen = np.zeros(ids.size, bool)
        chosen[mask(ids, maskable, masking, seed, **changes).positions] = True
        fast.append(told(ids, maskable, chosen.reshape(ids.shape)))
    a, b = np.array(slow), np.array(fast)
    # The rows are the same, so pairs of figures are compared.
    found = np.abs((a - b).mean(0)) / np.maximum((a - b).std(0, ddof=1) / np.sqrt(len(a)), 1e-9)
    if changes and (masking, changes) != ("word", {"max_ngram": 2}):
        assert found.max() > 6, "another draw is told apart"
    else:
        assert found.max() < 3, found


@given(
    st.integers(1, 6), st.integers(4, 40), st.integers(0, 2**32), st.sampled_from(KINDS), st.floats(0.01, 0.9),
)  # fmt: skip
def test_no_row_holds_more_than_a_shape_has_room_for(count, width, seed, masking, share):
    ids, maskable = rows(count, width, seed)
    most = max(1, round(width * share))
    spec = PretrainSpec(masking=masking, masking_prob=share)
    found = mask_batch(ids, maskable, STARTS, spec, MASK, V, np.random.default_rng(seed), most=most)
    assert np.bincount(found.positions // width, minlength=count).max() <= most


def test_a_faithful_share_counts_special_tokens():
    """Google: int(round(.15 * tokens)), 19 of 128 (FACTS 5.7), whatever may be masked of them; at most what there is."""
    ids = np.full((5, 128), 7)
    maskable = np.arange(128) < np.array([125, 60, 17, 2, 1])[:, None]
    lengths = maskable.sum(1) + 3
    spec = PretrainSpec(faithful=True)
    found = mask_batch(ids, maskable, STARTS, spec, MASK, V, np.random.default_rng(0), lengths=lengths)
    assert np.bincount(found.positions // 128).tolist() == [19, 9, 3, 1, 1]
    for length, wanted in zip((64, 128, 256, 384, 512), (10, 19, 38, 58, 77), strict=True):
        row = np.full((1, length), 7)
        found = mask_batch(row, row > 0, STARTS, spec, MASK, V, np.random.default_rng(0), lengths=np.array([length]))
        assert len(found.positions) == wanted


def test_a_faithful_ngram_runs_over_a_separator_and_a_clean_one_does_not():
    ids = np.tile([7, 7, 0, 7, 7], (4000, 1))
    for faithful, wanted in ((True, True), (False, False)):
        spec = PretrainSpec(masking="ngram", masking_prob=0.5, faithful=faithful)
        lengths = np.full(4000, 4)
        found = mask_batch(ids, ids > 0, STARTS, spec, MASK, V, np.random.default_rng(0), lengths=lengths)
        chosen = np.zeros(ids.size, bool)
        chosen[found.positions] = True
        chosen = chosen.reshape(ids.shape)
        across = (chosen[:, 1] & chosen[:, 3] & ~chosen[:, 0] & ~chosen[:, 4]).mean()
        within = (chosen[:, 0] & chosen[:, 1]).mean()
        assert (across > within / 2) == wanted
