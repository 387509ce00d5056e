"""Which pieces are hidden, and by what: pieces, whole words, or n-grams of whole words; 80 % / 10 % / 10 %.

BERT paper 3.1 and appendix A.1; ALBERT paper 4.1: n-gram lengths with p(n) proportional to 1/n, n <= 3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from halbert.spec import PretrainSpec


class Masked(NamedTuple):
    """Inputs (B, S) with pieces hidden, the flat positions (M,) that were chosen, and their true ids (M,)."""

    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


def mask_batch(
    ids: np.ndarray,
    maskable: np.ndarray,
    starts_word: np.ndarray,
    spec: PretrainSpec,
    mask_id: int,
    vocab_size: int,
    rng: np.random.Generator,
    *,
    lengths: np.ndarray | None = None,
    most: int | None = None,
) -> Masked:
    """Choose about ``masking_prob`` of each row's real pieces and hide them.

    ``ids`` (B, S); ``maskable`` (B, S) is False for special tokens and padding, which are never chosen; ``starts_word``
    (V,) says which pieces begin a word; a word ends where something stands that is not maskable, and so does an n-gram.

    A row's share is ``max(1, round(masking_prob * n))`` with n its maskable pieces, half to even. Words and n-grams are
    tried in random order and taken when they fit into what is left of the share and touch none taken before; the first
    is taken whatever its size, unless that is above ``most``, so that lengths are not bent in short rows. With ``most``
    at least every row's share, no row has more than ``most`` pieces chosen.

    ``faithful`` (google-research/albert, ``create_masked_lm_predictions``): n is ``lengths`` (B,), special tokens
    counted; words and n-grams run on over a separator; one that does not fit loses words until it does, and none is
    larger than the share.
    """
    count = maskable.sum(1)
    whole = lengths if spec.faithful and lengths is not None else count
    budget = np.minimum(np.maximum(1, np.round(whole * spec.masking_prob)).astype(np.int64), count)
    if spec.masking == "piece":
        positions = _choose_pieces(maskable, budget, rng)
    else:
        positions = _choose_words(ids, maskable, starts_word, budget, most, spec, rng)
    labels = ids.reshape(-1)[positions]
    hidden = ids.copy()
    dice = rng.random(len(positions))
    flat = hidden.reshape(-1)
    flat[positions[dice < 0.8]] = mask_id
    other = positions[dice >= 0.9]
    flat[other] = rng.integers(0, vocab_size, len(other))
    return Masked(hidden, positions, labels)


def _choose_pieces(maskable: np.ndarray, budget: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scores = rng.random(maskable.shape)
    scores[~maskable] = 2.0
    order = scores.argsort(1)[:, : int(budget.max(initial=0))]
    columns = order[np.arange(order.shape[1]) < budget[:, None]]
    return np.sort(np.repeat(np.arange(len(budget)) * maskable.shape[1], budget) + columns)


def _choose_words(
    ids: np.ndarray,
    maskable: np.ndarray,
    starts_word: np.ndarray,
    budget: np.ndarray,
    most: int | None,
    spec: PretrainSpec,
    rng: np.random.Generator,
) -> np.ndarray:
    where = np.flatnonzero(maskable)
    if not len(where):
        return where
    row_of = where // maskable.shape[1]
    fresh = np.diff(row_of, prepend=-1) > 0
    breaks = fresh if spec.faithful else fresh | (np.diff(where, prepend=-2) > 1)
    begins = starts_word[ids.reshape(-1)[where]] | breaks
    first = np.flatnonzero(begins)  # pieces that begin the W words
    edges = np.append(first, len(where))
    if spec.masking == "word":
        sizes = np.ones(len(first), np.int64)
    else:
        weights = 1.0 / np.arange(1, spec.max_ngram + 1)
        sizes = 1 + np.searchsorted(np.cumsum(weights / weights.sum())[:-1], rng.random(len(first)), side="right")
    opens = np.flatnonzero(breaks[first])  # words that begin a text
    limit = np.repeat(np.append(opens[1:], len(first)), np.diff(opens, append=len(first)))
    units = _Units(edges, np.minimum(np.arange(len(first)) + sizes, limit), row_of[first], rng.random(len(first)))
    bound = budget if spec.faithful else np.full_like(budget, most or len(where))
    covered = units.choose(budget, bound, min(1.0, 2 * spec.masking_prob), shrink=spec.faithful)
    return where[np.repeat(covered, np.diff(edges))]


class _Units:
    """One unit for each of W words: the words from it up to ``end`` (W,), in a row (W,), tried in order of ``rank`` (W,).

    ``edges`` (W + 1,) are the words' first pieces, and the end.
    """

    def __init__(self, edges: np.ndarray, end: np.ndarray, row: np.ndarray, rank: np.ndarray) -> None:
        self.edges, self.end, self.row, self.rank = edges, end, row, rank
        self.size = edges[end] - edges[:-1]

    def choose(self, budget: np.ndarray, bound: np.ndarray, share: float, shrink: bool) -> np.ndarray:
        """Words (W,) that are taken when each row tries its units one after the other, for all rows at once.

        The units of the lowest ranks (about ``share`` of them) are settled together as if there were no budget; of
        those kept, each row takes as many as fit. What is then left of a budget, mostly a piece or two, is filled unit
        by unit, one of every row in a round. ``bound`` (B,) limits a row's first unit.
        """
        first, settled = self._settled(share)
        order = np.argsort(self.row[first] + self.rank[first])
        first, settled = first[order], settled[order]
        row, size = self.row[first], self.size[first]
        opening = np.diff(row, prepend=-1) > 0
        in_row = np.diff(np.flatnonzero(opening), append=len(row))
        before = np.cumsum(size * settled) - size * settled
        before -= np.repeat(before[opening], in_row)
        # What is too large is passed over, so only those taken end the count; or it is cut, and is another unit then.
        over = (before + size > budget[row]) & (settled | shrink) & ~(opening & (size <= bound[row]))
        ended = np.cumsum(over)
        ended -= np.repeat((ended - over)[opening], in_row)
        kept = first[settled & (ended == 0)]
        taken = np.bincount(self.row[kept], self.size[kept], len(budget)).astype(np.int64)
        last = np.full(len(budget), -1.0)
        np.maximum.at(last, self.row[kept], self.rank[kept])
        covered = np.zeros(len(self.row), bool)
        self._cover(covered, kept, self.end[kept])
        open_ = np.flatnonzero((self.rank > last[self.row]) & (taken < budget)[self.row] & ~covered)
        while len(open_):
            row = self.row[open_]
            room = np.where(taken == 0, bound, budget - taken)[row]
            end = self.end[open_]
            if shrink:
                for _ in range(int((end - open_).max()) - 1):
                    end = end - ((self.edges[end] - self.edges[open_] > room) & (end - open_ > 1))
            size = self.edges[end] - self.edges[open_]
            ahead = np.concatenate([[0], np.cumsum(covered)])
            fits = (
                (size <= room)
                & (ahead[end] == ahead[open_])
                & (taken[row] < budget[row])
                & (self.rank[open_] > last[row])
            )
            if not shrink:  # what does not fit now never will
                open_, end, size, row = open_[fits], end[fits], size[fits], row[fits]
                fits = np.ones(len(open_), bool)
            order = np.flatnonzero(fits)
            order = order[np.argsort(row[order] + self.rank[open_[order]])]
            order = order[np.diff(row[order], prepend=-1) > 0]
            if not len(order):
                break
            unit = open_[order]
            self._cover(covered, unit, end[order])
            taken[row[order]] += size[order]
            last[row[order]] = self.rank[unit]
        return covered

    def _cover(self, covered: np.ndarray, unit: np.ndarray, end: np.ndarray) -> None:
        for ahead in range(int((end - unit).max(initial=0))):
            covered[unit[unit + ahead < end] + ahead] = True

    def _settled(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Units with a rank below ``share``, and which are taken when these are tried and only overlap is refused.

        A unit that no open neighbour precedes is taken, its neighbours are refused, and so on until none is open.
        """
        at = np.flatnonzero(self.rank < share)
        end, rank = self.end[at], self.rank[at]
        longest = int((end - at).max(initial=1))
        # Units at distance d in this list overlap when the later begins before the earlier ends.
        clash = [at[d:] < end[:-d] for d in range(1, min(longest, len(at)))]
        open_ = np.ones(len(at), bool)
        taken = np.zeros(len(at), bool)
        while open_.any():
            alive = np.where(open_, rank, 2.0)
            ahead = alive.copy()
            for d, both in enumerate(clash, 1):
                np.minimum(ahead[:-d], alive[d:], out=ahead[:-d], where=both)
                np.minimum(ahead[d:], alive[:-d], out=ahead[d:], where=both)
            new = open_ & (alive <= ahead)
            taken |= new
            open_ &= ~new
            for d, both in enumerate(clash, 1):
                open_[:-d] &= ~(both & new[d:])
                open_[d:] &= ~(both & new[:-d])
        return at, taken
