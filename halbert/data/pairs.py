"""Sentence pairs for NSP and SOP, drawn at training time from a seed; nothing of them is stored.

An instance is two ranges of ids and a label. Labels are clean by default: every NSP negative comes from another
document, every SOP example is two adjacent parts of one document, and a chunk of a single sentence has no pair label.
``faithful`` draws as Google's ``create_pretraining_data.py`` does (see :mod:`halbert.data.faithful`).

Where the next chunk begins depends on this chunk's draws alone, so the draws are made for *every* sentence as if a
chunk began there, and the chunks that do begin are found by following the links from each document's first sentence,
all documents and all powers of two at once. No loop runs over instances, and one huge document costs no more than many
small ones.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np

FIRST = 0  # label: IS_NEXT for NSP, IN_ORDER for SOP
SECOND = 1  # label: RANDOM for NSP, SWAPPED for SOP
NO_LABEL = -1
LABEL_NAMES = {"nsp": ("is_next", "random"), "sop": ("in_order", "swapped"), "none": ("single", "single")}
RETRIES = 10  # of Google's, for a random document that is another one


class Text(Protocol):
    """What is read: a shard of a corpus, or several put together."""

    @property
    def sentences(self) -> np.ndarray:
        """Where each sentence begins in the ids, and the end."""

    @property
    def documents(self) -> np.ndarray:
        """Where each document begins in the sentences, and the end."""


class Pairs(NamedTuple):
    """Instances as parallel int64 arrays (N,): ranges of ids in the text, and the pair label."""

    a_start: np.ndarray
    a_end: np.ndarray
    b_start: np.ndarray
    b_end: np.ndarray
    label: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Pieces of each instance with its special tokens."""
        b = self.b_end - self.b_start
        return self.a_end - self.a_start + b + 2 + (b > 0)


def draw_pairs(
    text: Text,
    objective: Literal["nsp", "sop", "none"],
    length: int,
    seed: tuple[int, ...],
    short_prob: float = 0.1,
    *,
    faithful: bool = False,
    split_long: bool = False,
    copies: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Pairs:
    """Cut a text into instances of at most ``length`` pieces, special tokens included, in random order.

    As in Google's generator, whole sentences are gathered until the target length is reached; with probability
    ``short_prob`` the target is shorter, for each chunk (``faithful``: for each document). A negative's second part
    begins at a random sentence of another document of the same group (of any other where a group is one document;
    ``faithful``: of any, once in D^10 the same), and the sentences that it displaces are read again.

    Too long a pair loses pieces of whichever part is longer, the first at its front, the second at its end
    (``faithful``: each piece at either end). So the first part always ends where a sentence ends and the second begins
    where one begins, whatever the label: were swapped parts cut where they lie in the text instead, the piece before
    [SEP] alone would give most labels away.

    ``split_long``: what a sentence has beyond ``length`` begins the next chunk, instead of never being read, and a chunk
    without a label that cuts its last sentence leaves it to the next as a whole. What begins within a sentence has no pair
    label, and labels are of whole sentences as before. (``faithful`` knows nothing of this.)

    ``copies`` (D,) says how many times each document is read, 1 by default; ``groups`` cuts the documents into groups,
    as offsets that begin with 0 and end with D. The draw depends on the arguments alone.
    """
    rng = np.random.default_rng(seed)
    sentences, documents = np.asarray(text.sentences), np.asarray(text.documents)
    count = len(documents) - 1
    copies = np.ones(count, np.int64) if copies is None else np.asarray(copies)
    groups = np.array([0, count]) if groups is None else groups
    draw = _Draw(sentences, documents, groups, objective, length, faithful, split_long and not faithful)
    passes = [draw.chunks(np.flatnonzero(copies > i), short_prob, rng) for i in range(int(copies.max(initial=0)))]
    table = np.concatenate([np.empty((5, 0), np.int64), *passes], axis=1)
    return Pairs(*table[:, rng.permutation(table.shape[1])])


class _Draw:
    """One text and what is asked of it; every array below is (n,), one entry a sentence, or (c,), one a chunk."""

    def __init__(
        self,
        sentences: np.ndarray,
        documents: np.ndarray,
        groups: np.ndarray,
        objective: Literal["nsp", "sop", "none"],
        length: int,
        faithful: bool,
        split_long: bool,
    ) -> None:
        self.objective, self.faithful, self.split_long = objective, faithful, split_long
        self.room = length - (2 if objective == "none" else 3)
        self.sentences, self.documents, whole = sentences, documents, np.ones(len(sentences) - 1, bool)
        if split_long:
            self.sentences, self.documents, whole = _split(sentences, documents, self.room)
        # Sentences as they are: which of those here begin one, their numbers (and the end's), how many are before each.
        self.begins = whole
        self.wholes = np.append(np.flatnonzero(whole), len(whole))
        self.before = np.append(0, np.cumsum(whole))
        documents = self.documents
        sizes = np.diff(documents)
        self.document_of = np.repeat(np.arange(len(sizes)), sizes)
        # The documents from which a negative of each document is drawn: a range [low, high).
        self.low, self.high = (np.repeat(edge, np.diff(groups)) for edge in (groups[:-1], groups[1:]))
        alone = self.high - self.low < 2
        self.low, self.high = np.where(alone, 0, self.low), np.where(alone, len(sizes), self.high)

    def chunks(self, read: np.ndarray, short_prob: float, rng: np.random.Generator) -> np.ndarray:
        """Instances (5, c) of one pass over some documents."""
        starts = self.sentences[:-1]
        n, unit = len(starts), len(self.documents) - 1 if self.faithful else len(starts)
        target = np.where(rng.random(unit) < short_prob, rng.integers(2, self.room, unit, endpoint=True), self.room)
        if self.faithful:
            target = target[self.document_of]
        at = np.arange(n)
        stop = np.searchsorted(self.sentences, starts + target)
        stop = np.clip(stop, at + 1, self.documents[1:][self.document_of])
        # Places where a chunk can be cut in two: before a sentence, of a chunk that begins with one.
        inside = np.where(self.begins, self.before[stop] - self.before[at + 1], 0)
        drawn = self.wholes[self.before[at + 1] + (rng.random(n) * inside).astype(np.int64)]
        cut = np.where(inside > 0, drawn, at + 1)
        coin = (rng.random(n) < 0.5) & (inside > 0)
        if self.objective == "nsp":
            negative = coin | ((inside == 0) & self.faithful)
            if not self.faithful and len(self.documents) < 3:
                negative[:] = False
        else:
            negative = (inside == 0) & (self.faithful and self.objective == "sop")
        following = np.where(negative, cut, stop)
        if self.split_long:  # what has no label and loses its end leaves the sentence that it cuts to the next
            over = (self.sentences[stop] - starts > self.room) & (stop - at > 1)
            following -= over & ((self.objective == "none") | ~self.begins)
        begins = _reached(following, self.documents[:-1][read], self.documents)
        at, cut, stop, target, coin, negative, inside = (
            x[begins] for x in (at, cut, stop, target, coin, negative, inside)
        )
        if self.objective == "none":
            return self._single(at, stop)
        swapped = coin & (self.objective == "sop")
        end_of = self.wholes[
            self.before[stop]
        ]  # where a sentence ends: that one of two does not must not show in a label
        a0, a1, b0, b1 = self.sentences[at], self.sentences[cut], self.sentences[cut], self.sentences[end_of]
        other, end = self._random_parts(self.document_of[at[negative]], (target - (a1 - a0))[negative], rng)
        b0[negative], b1[negative] = other, end
        a0, b0 = np.where(swapped, b0, a0), np.where(swapped, a0, b0)
        a1, b1 = np.where(swapped, b1, a1), np.where(swapped, a1, b1)
        a0, a1, b0, b1 = self._shortened(a0, a1, b0, b1, rng)
        found = np.stack([a0, a1, b0, b1, np.where(negative | swapped, SECOND, FIRST)])
        alone = (inside == 0) & ~negative
        found[:, alone] = self._single(at[alone], stop[alone])
        return found

    def _single(self, at: np.ndarray, stop: np.ndarray) -> np.ndarray:
        a0 = self.sentences[at]
        room = self.room + (self.objective != "none")  # there is no second [SEP]
        a1 = np.minimum(self.sentences[stop], a0 + room)
        return np.stack([a0, a1, a1, a1, np.full(len(at), NO_LABEL)])

    def _random_parts(
        self, own: np.ndarray, target: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.low[own], self.high[own]
        if self.faithful:
            low, high = np.zeros_like(own), np.full_like(own, len(self.documents) - 1)
        others = np.maximum(high - low - 1, 1)
        other = low + (rng.random(len(own)) * others).astype(np.int64)
        other += (other >= own) & (high - low > 1)
        if self.faithful:  # every try may have hit the document itself
            other = np.where(rng.random(len(own)) < 1.0 / (high - low) ** float(RETRIES), own, other)
        size = self.documents[other + 1] - self.documents[other]
        first = self.documents[other] + (rng.random(len(own)) * size).astype(np.int64)
        first = self.wholes[self.before[first + 1] - 1]
        last = np.searchsorted(self.sentences, self.sentences[first] + np.maximum(target, 1))
        last = self.wholes[self.before[np.minimum(last, self.documents[other + 1])]]
        return self.sentences[first], self.sentences[last]

    def _shortened(
        self,
        a0: np.ndarray,
        a1: np.ndarray,
        b0: np.ndarray,
        b1: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, ...]:
        """Take one piece after the other off the longer part, off the second where both are as long."""
        a, b = a1 - a0, b1 - b0
        over = np.maximum(a + b - self.room, 0)
        level = np.maximum(over - np.abs(a - b), 0)  # pieces taken in turn, when both are as long
        off_b = np.where(b > a, over - level, 0) + (level + 1) // 2
        off_a = over - off_b
        if self.faithful:
            front_a, front_b = rng.binomial(off_a, 0.5), rng.binomial(off_b, 0.5)
        else:
            front_a, front_b = off_a, np.zeros_like(off_b)
        return a0 + front_a, a1 - (off_a - front_a), b0 + front_b, b1 - (off_b - front_b)


def _split(sentences: np.ndarray, documents: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sentences of at most so many pieces, a chunk's fill where one has more; the documents of these; which begin a sentence."""
    sizes = np.diff(sentences)
    parts = -(-sizes // most)
    begin = np.append(0, np.cumsum(parts))
    owner = np.repeat(np.arange(len(sizes)), parts)
    part = np.arange(begin[-1]) - begin[owner]
    starts = sentences[owner] + part * most
    return np.append(starts, sentences[-1]), begin[documents], part == 0


def _reached(following: np.ndarray, roots: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """The sentences, sorted, that walks meet which begin at ``roots`` and go from i to ``following[i]`` > i.

    A walk ends with its document. In round k, 2^k steps of every walk are taken at once.
    """
    n = len(following)
    link = np.append(following, n)
    ends = np.zeros(n + 1, bool)
    ends[documents] = True
    link[ends[link]] = n
    seen = np.zeros(n + 1, bool)
    seen[roots] = True
    while True:
        reached = np.flatnonzero(seen[:n])
        new = link[reached]
        new = new[~seen[new] & (new < n)]
        if not len(new):
            return reached
        seen[new] = True
        link = link[link]
