"""Paragraphs that were there before: found by hash after normalisation, in bounded memory, and taken out of shards.

Two paragraphs are the same when they are equal once lower-cased, with every digit a 0, and without accents, punctuation,
symbols and white space (Wenzek et al. 2020, CCNet, section 3.1). The first in the order of the corpus stays. Paragraphs
that differ in a word are not found. Hashes have 64 bits: of 100 million paragraphs, one is taken for another by chance with
probability 0.0003.
"""

from __future__ import annotations

import hashlib
import string
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from halbert.data.manifest import Dropped, Shard
from halbert.data.shards import KINDS, file_name, offsets, save_shard

# Paragraphs whose hashes are compared at once.
TOGETHER = 1 << 22
_DIGITS = bytes.maketrans(string.digits.encode(), b"0" * 10)
_NOTHING = bytes(c for c in range(128) if not chr(c).isalnum())


class _Kept(dict[int, str]):
    """What is left of a character."""

    def __missing__(self, code: int) -> str:
        kind = unicodedata.category(chr(code))
        if kind == "Nd":
            kept = "0"
        else:
            # Vowel signs are marks too: only the accents of European scripts go.
            kept = chr(code) if kind[0] in "LNM" and not 0x300 <= code < 0x370 else ""
        self[code] = kept
        return kept


_KEPT = _Kept()


def paragraph_key(paragraph: str) -> int:
    """64 bits of what counts in a paragraph; 0, which is like no other, for nothing."""
    if paragraph.isascii():
        bare = paragraph.lower().encode().translate(_DIGITS, _NOTHING)
    else:
        text = unicodedata.normalize("NFD", paragraph.lower()).translate(_KEPT)
        bare = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(bare, digest_size=8).digest(), "little") if bare else 0


def sort_keys(folder: Path, number: int) -> None:
    """Beside a shard, the keys of its paragraphs in order, with their places."""
    keys = np.load(folder / file_name("paragraphs", number), mmap_mode="r")[:, 3]
    order = np.argsort(keys, kind="stable")
    np.save(folder / file_name("keys", number), keys[order])
    np.save(folder / file_name("places", number), order.astype(np.uint32))


def mark_duplicates(folder: Path, numbers: Sequence[int]) -> None:
    """For every shard, which of its paragraphs were there before (``doubles-K.npy``).

    A range of keys at a time, small enough for memory.
    """
    total = 0
    for number in numbers:
        sort_keys(folder, number)
        count = len(np.load(folder / file_name("keys", number), mmap_mode="r"))
        np.save(folder / file_name("doubles", number), np.zeros(count, bool))
        total += count
    ranges = -(-total // TOGETHER) or 1
    edges = [(1 << 64) * i // ranges for i in range(ranges + 1)]
    for low, high in pairwise(edges):
        found, places, owners = [], [], []
        for number in numbers:
            keys = np.load(folder / file_name("keys", number), mmap_mode="r")
            begin = int(np.searchsorted(keys, np.uint64(max(low, 1))))
            end = len(keys) if high == 1 << 64 else int(np.searchsorted(keys, np.uint64(high)))
            found.append(np.array(keys[begin:end]))
            places.append(np.array(np.load(folder / file_name("places", number), mmap_mode="r")[begin:end]))
            owners.append(np.full(end - begin, number, np.uint32))
        key, place, owner = np.concatenate(found), np.concatenate(places), np.concatenate(owners)
        order = np.argsort(key, kind="stable")  # shards come in order, and their places too
        again = order[1:][key[order[1:]] == key[order[:-1]]]
        if not len(again):
            continue
        again = again[np.argsort(owner[again], kind="stable")]
        marked, begins = np.unique(owner[again], return_index=True)
        for number, own in zip(marked.tolist(), np.split(again, begins[1:]), strict=True):
            doubles = np.load(folder / file_name("doubles", number), mmap_mode="r+")
            doubles[place[own]] = True


class Thinning(NamedTuple):
    """A shard to be written without its marked paragraphs, under its number in the corpus."""

    folder: Path
    number: int
    shard: Shard
    out: Path
    new: int
    unknown: int  # the id of unknown pieces


def all_doubles(folder: Path, number: int) -> bool:
    """Whether nothing would be left of a shard."""
    return bool(np.load(folder / file_name("doubles", number), mmap_mode="r").all())


def drop_all(folder: Path, number: int, shard: Shard) -> Dropped:
    """What is lost with a shard of which nothing is left."""
    return Dropped(paragraphs=len(np.load(folder / file_name("doubles", number), mmap_mode="r")), bytes=shard.bytes)


def thin(work: Thinning) -> tuple[Shard, Dropped]:
    """Write what is left of a shard, which is something, and say what is not; everything is index arithmetic."""
    folder, number, shard, out, new, unknown = work
    ids, sentences, documents = (np.load(folder / file_name(kind, number), mmap_mode="r") for kind in KINDS)
    table = np.load(folder / file_name("paragraphs", number), mmap_mode="r")
    doubles = np.load(folder / file_name("doubles", number), mmap_mode="r")
    count = table[:, 0].astype(np.int64)
    dropped = Dropped(paragraphs=int(doubles.sum()), bytes=int(table[:, 2][doubles].sum()))
    kept = np.repeat(~doubles, count)
    lengths = np.diff(sentences)
    left = np.diff(offsets(kept)[documents])
    chosen = ids[np.repeat(kept, lengths)]
    arrays = {"ids": chosen, "sentences": offsets(lengths[kept]), "documents": offsets(left[left > 0])}
    written = save_shard(
        out, new, arrays, language=shard.language, characters=int(table[:, 1][~doubles].sum()),
        bytes=int(table[:, 2][~doubles].sum()), unknown=int(np.count_nonzero(chosen == unknown)),
    )  # fmt: skip
    return written, dropped
