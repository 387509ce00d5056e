"""Sentence pairs for NSP and SOP, drawn at training time from (seed, epoch, shard); nothing of them is stored.

An instance is two ranges of a shard's ids and a label. Labels are clean: every NSP negative comes from another
document, every SOP example is two adjacent parts of one document, and a chunk of a single sentence has no pair label
(Google's generators silently make an NSP negative of it, for both objectives).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from halbert.data.corpus import CorpusShard

FIRST = 0  # label: IS_NEXT for NSP, IN_ORDER for SOP
SECOND = 1  # label: RANDOM for NSP, SWAPPED for SOP
NO_LABEL = -1
LABEL_NAMES = {"nsp": ("is_next", "random"), "sop": ("in_order", "swapped"), "none": ("single", "single")}


class Pairs(NamedTuple):
    """Instances as parallel int64 arrays (N,): ranges of ids in the shard, and the pair label."""

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
    shard: CorpusShard,
    objective: Literal["nsp", "sop", "none"],
    length: int,
    seed: tuple[int, ...],
    short_prob: float = 0.1,
) -> Pairs:
    """Cut a shard into instances of at most ``length`` pieces, special tokens included, in random order.

    As in Google's ``create_pretraining_data.py``, whole sentences are gathered until the target length is reached, and
    with probability ``short_prob`` the target is shorter. The draw depends on ``seed`` alone.
    """
    rng = np.random.default_rng(seed)
    room = length - (2 if objective == "none" else 3)
    sentences, documents = np.asarray(shard.sentences), np.asarray(shard.documents)
    rows: list[tuple[int, int, int, int, int]] = []
    for d in range(len(documents) - 1):
        at, end = int(documents[d]), int(documents[d + 1])
        while at < end:
            target = room if rng.random() >= short_prob else int(rng.integers(2, room + 1))
            stop = int(np.searchsorted(sentences, sentences[at] + target, side="left"))
            stop = min(max(stop, at + 1), end)
            if objective == "none" or stop - at < 2:
                start = int(sentences[at])
                whole = min(int(sentences[stop]), start + length - 2)
                rows.append((start, whole, whole, whole, NO_LABEL))
                at = stop
                continue
            cut = int(rng.integers(at + 1, stop))
            a = (int(sentences[at]), int(sentences[cut]))
            if objective == "nsp" and len(documents) > 2 and rng.random() < 0.5:
                other = int(rng.integers(0, len(documents) - 2))
                other += other >= d
                first = int(rng.integers(documents[other], documents[other + 1]))
                begin = int(sentences[first])
                b = (begin, min(int(sentences[documents[other + 1]]), begin + max(1, target - (a[1] - a[0]))))
                rows.append((*_fit(a, b, room), SECOND))
                at = cut  # the sentences that were not used are read again
                continue
            a0, a1, b0, b1 = _fit(a, (int(sentences[cut]), int(sentences[stop])), room)
            if objective == "sop" and rng.random() < 0.5:
                rows.append((b0, b1, a0, a1, SECOND))
            else:
                rows.append((a0, a1, b0, b1, FIRST))
            at = stop
    table = np.array(rows, np.int64).reshape(-1, 5)
    return Pairs(*table[rng.permutation(len(table))].T)


def _fit(a: tuple[int, int], b: tuple[int, int], room: int) -> tuple[int, int, int, int]:
    """Shorten the longer range, away from where the two meet, until both fit."""
    (a0, a1), (b0, b1) = a, b
    over = (a1 - a0) + (b1 - b0) - room
    if over > 0:
        half = room // 2
        cut_a = min(max(0, (a1 - a0) - half), over) if (b1 - b0) > half else over
        cut_a = min(cut_a, a1 - a0 - 1)
        a0 += cut_a
        b1 -= over - cut_a
    return a0, a1, b0, b1
