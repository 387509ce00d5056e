"""Many texts through a backend: each once, sorted by length, in batches of so many tokens; answers in input order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from halbert.data.batches import Rows, group_by_length, pad_rows
from halbert.errors import InputError
from halbert.run.backend import Favoured
from halbert.run.windows import Row, Window, windows_of
from halbert.text import Tokenizer

Encoded = Sequence[tuple[Sequence[int], Sequence[int]]]
Long = Literal["truncate", "window"]
_LEAST = 64  # pieces of a batch, below which two are slower than one
_UNEVEN = 2  # places of a padded batch for each of its pieces, at most


def in_batches(
    encoded: Encoded,
    pad_id: int,
    favoured: Favoured,
    most: int | None = None,
    exact: bool = False,
) -> Iterator[tuple[np.ndarray, Rows]]:
    """(row numbers, batch) over all encoded texts; rows of similar length share a batch, at most ``most`` wide.

    ``exact``: every text is a batch of its own, so that nothing else can change a bit of its answer.
    """
    if not encoded:
        return
    lengths = np.array([len(ids) for ids, _ in encoded])
    if favoured.sizes and len(encoded) > 1 and not exact:
        for group in share_out(lengths, favoured):
            yield group, pad_rows([encoded[i] for i in group], pad_id, 16, most)
        return
    padded = favoured.padded(lengths)
    for group in group_by_length(padded, 1 if exact else favoured.tokens, multiple=1):
        yield group, pad_rows([encoded[i] for i in group], pad_id, int(padded[group[0]]), most)


def share_out(lengths: np.ndarray, favoured: Favoured) -> Iterator[np.ndarray]:
    """Row numbers of batches that are computed without padding, longest rows first.

    Each is filled up to a size that is computed without loss. Batches of long and very short rows are kept apart all the
    same: attention is over as many places as the longest row has.
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    start, among = 0, favoured.together
    while start < len(order):
        done = int(ends[start - 1]) if start else 0
        left = int(ends[-1]) - done
        size = min(favoured.size(max(left // among, _LEAST)), favoured.tokens)
        stop = int(np.searchsorted(ends, done + size, "right"))
        stop = max(min(stop, start + _UNEVEN * size // int(lengths[order[start]])), start + 1)
        yield order[start:stop]
        start = stop
        if size < favoured.tokens:
            among = max(among - 1, 1)


class Work(NamedTuple):
    """What a model has to read for some texts.

    ``rows`` encoded, each of text ``owner[row]`` and with ``share[row]`` of its tokens; ``windows`` tells of the rows that
    are only part of a text. Equal texts are one, and text i of the input is number ``unique[i]``; ``first`` says where a
    text stands in the input. ``cut`` texts were shortened, ``windowed`` were read in windows.
    """

    rows: list[Row]
    owner: np.ndarray
    share: np.ndarray
    unique: np.ndarray
    first: np.ndarray
    windows: dict[int, Window]
    cut: int
    windowed: int

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Results of the texts (N, …) out of those of the rows: the mean of a text's windows by their own tokens."""
        if len(self.owner) > len(self.first):
            weighted = values * self.share[:, None]
            values = np.zeros((len(self.first), *values.shape[1:]), values.dtype)
            np.add.at(values, self.owner, weighted)
        return values[self.unique]

    def own(self, row: int, mask: np.ndarray) -> np.ndarray:
        """A row of a batch's mask, 1 at the tokens that count for it."""
        if row in self.windows:
            window = self.windows[row]
            mask = np.zeros_like(mask)
            mask[window.low : window.high] = 1
        return mask


def prepare(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Tokenizer, length: int, long: Long = "truncate"
) -> Work:
    """Encode every different text once.

    A text beyond ``length`` pieces is cut there, or (``window``) read in windows (:mod:`halbert.run.windows`), of a pair
    the second text. Raises :class:`InputError` for pairs that are not as many, and for what is no list of texts.
    """
    for given in (texts, pairs):
        if given is None:
            continue
        if isinstance(given, str):
            raise InputError("expected a list of texts, found one text; write [text]")
        wrong = next((i for i, text in enumerate(given) if not isinstance(text, str)), None)
        if wrong is not None:
            more = (
                "; of pairs the second texts are a list of their own" if isinstance(given[wrong], (tuple, list)) else ""
            )
            raise InputError(f"text {wrong} is of the type {type(given[wrong]).__name__}; expected str{more}")
    if pairs is not None and len(pairs) != len(texts):
        raise InputError(f"{len(texts)} texts and {len(pairs)} second texts; expected as many of both")
    numbers: dict[object, int] = {}
    unique = np.empty(len(texts), np.int64)
    first: list[int] = []
    for i, key in enumerate(texts if pairs is None else zip(texts, pairs, strict=True)):
        number = numbers.setdefault(key, len(first))
        if number == len(first):
            first.append(i)
        unique[i] = number
    seconds = None if pairs is None else [pairs[i] for i in first]
    rows: list[Row] = []
    owner: list[int] = []
    share: list[float] = []
    windows: dict[int, Window] = {}
    cut = windowed = 0
    whole = tokenizer.encode_batch([texts[i] for i in first], seconds)
    for number, (ids, segments) in enumerate(whole):
        if len(ids) <= length:
            rows.append((ids, segments))
            owner.append(number)
            share.append(1.0)
            continue
        parts, places, shortened = windows_of(ids, segments, length) if long == "window" else ([], [], True)
        cut += shortened
        if not parts:
            second = None if seconds is None else [seconds[number]]
            parts = tokenizer.encode_batch([texts[first[number]]], second, max_length=length)
        windowed += len(places) > 1
        windows |= dict(enumerate(places, len(rows)))
        own = [place.high - place.low for place in places] or [1]
        rows += parts
        owner += [number] * len(parts)
        share += [count / sum(own) for count in own]
    return Work(
        rows, np.array(owner, np.int64), np.array(share, np.float32), unique, np.array(first, np.int64), windows, cut,
        windowed,
    )  # fmt: skip
