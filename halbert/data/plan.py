"""What pre-training reads, in which order: a function of its arguments alone, which can begin anywhere.

An epoch's shards are shuffled and taken in windows of a few; a window's instances are drawn, shuffled and put into
batches. A batch is named by (epoch, window, offset), and opening a window reads nothing but its own shards, so that a
plan for any size of corpus needs no table of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from halbert.data.batches import group_by_length
from halbert.data.corpus import Corpus
from halbert.data.instances import Places, PretrainBatch, Shape, assemble
from halbert.data.packing import pack
from halbert.data.pairs import Pairs, draw_pairs
from halbert.errors import InputError, SpecError
from halbert.spec import PretrainSpec
from halbert.text import Tokenizer

SHAPES = 6
PACKED = 8  # instances in a packed row, at most
_ORDER, _PAIRS, _BATCHES, _MASKS, _LANGUAGES = range(1, 6)  # what a generator is seeded for


class Position(msgspec.Struct, frozen=True):
    """Names a batch, the next one to be read."""

    epoch: int = 0
    window: int = 0
    offset: int = 0


START = Position()


class Text(NamedTuple):
    """The shards of a window as one: ids, where sentences and documents begin, and each language's documents."""

    ids: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    groups: np.ndarray
    copies: np.ndarray


class Groups(NamedTuple):
    """Instances (N,) in the order of batches; batch i is ``order[begin[i]:end[i]]`` in shape number ``shape[i]``."""

    order: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    shape: np.ndarray
    places: Places | None = None


def bucket_lengths(length: int, shapes: int = SHAPES) -> tuple[int, ...]:
    """At most so many widths for rows of up to ``length``: equal steps, in multiples of 8 but for the last.

    Equal steps, because the instances that are short on purpose have every length alike; six, because eight save less than
    half a point of padding more (``benchmarks/results/instances.json``) and each is a shape to compile.
    """
    step = -(-length // (8 * shapes)) * 8
    return (*range(step, length, step), length)


class Plan:
    """The batches of a corpus for one phase of pre-training.

    ``length`` counts special tokens; a batch has about ``batch_tokens`` places. With ``static_shapes`` there are at most
    six shapes, each always exactly the same; without, a batch is as wide as its longest row, rounded up to 8. ``packed``
    puts several instances into a row, which leaves one shape. ``split_long``: see :func:`halbert.data.pairs.draw_pairs`.

    ``language_exponent`` S draws shards so that a language with the share p of the tokens gets a share proportional to
    p^S, over epochs (BERT's multilingual README: S = 0.7): rare languages' shards come more than once an epoch, others
    not in each.

    Raises :class:`InputError` when the corpus was made with another tokenizer and :class:`SpecError` for impossible
    numbers.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: Tokenizer,
        spec: PretrainSpec,
        *,
        length: int,
        batch_tokens: int,
        seed: int,
        window_shards: int = 4,
        language_exponent: float = 1.0,
        static_shapes: bool = True,
        packed: bool = False,
        split_long: bool = False,
    ) -> None:
        numbers = {"length": (length, 5), "batch_tokens": (batch_tokens, 1), "seed": (seed, 0)}
        for name, (value, least) in {**numbers, "window_shards": (window_shards, 1)}.items():
            if value < least:
                raise SpecError(f"{name} is {value}; expected at least {least}")
        if not 0.0 <= language_exponent <= 1.0:
            raise SpecError(f"language_exponent is {language_exponent}; expected 0 to 1")
        corpus.check_tokenizer(tokenizer)
        self.corpus, self.tokenizer, self.spec = corpus, tokenizer, spec
        self.length, self.batch_tokens, self.seed, self.window_shards = length, batch_tokens, seed, window_shards
        self.fixed, self.packed, self.split_long = static_shapes, packed, split_long
        self.languages = [shard.language for shard in corpus.manifest.shards]
        self._rates = _rates([shard.tokens for shard in corpus.manifest.shards], self.languages, language_exponent)
        widths = (length,) if packed else bucket_lengths(length)
        self.shapes = [self.shape(width) for width in widths]

    def shape(self, width: int, rows: int | None = None) -> Shape:
        """The shape of batches of a width; as many rows as fit, unless told."""
        rows = max(1, self.batch_tokens // width) if rows is None else rows
        masked = max(1, round(width * self.spec.masking_prob))
        return Shape(rows, width, masked, PACKED if self.packed else 1, self.fixed)

    def windows(self, epoch: int) -> list[tuple[int, ...]]:
        """The numbers of the shards of each window of an epoch."""
        copies = _copies(self._rates, self.languages, self.seed, epoch)
        order = np.random.default_rng((_ORDER, self.seed, epoch)).permutation(np.repeat(np.arange(len(copies)), copies))
        k = self.window_shards
        return [tuple(order[i : i + k].tolist()) for i in range(0, len(order), k)]

    def window(self, epoch: int, number: int) -> Window:
        """Open a window: read its shards, draw its instances and their order."""
        return Window(self, epoch, number)

    def batches(self, position: Position = START) -> Iterator[tuple[PretrainBatch, Position]]:
        """Batches without end, epoch after epoch, each with the position that follows it.

        A batch in which nothing is hidden is left out; raises :class:`InputError` when an epoch has no other.
        """
        epoch, found = position.epoch, position != Position(position.epoch)
        for window, offset, after in self.walk(position):
            batch = window.batch(offset)
            if batch.masked:
                found = True
                yield batch, after
            if after.epoch > epoch:
                if not found:
                    raise InputError(f"{self.corpus.folder}: the corpus holds nothing that could be masked")
                epoch, found = after.epoch, False

    def walk(self, position: Position = START) -> Iterator[tuple[Window, int, Position]]:
        """Where each batch is to be had, without end: its window, its offset there, and the position that follows."""
        epoch, first, offset = position.epoch, position.window, position.offset
        while True:
            windows = len(self.windows(epoch))
            for number in range(first, windows):
                window = self.window(epoch, number)
                after = Position(epoch, number + 1) if number + 1 < windows else Position(epoch + 1)
                for at in range(offset, len(window)):
                    yield window, at, Position(epoch, number, at + 1) if at + 1 < len(window) else after
                offset = 0
            epoch, first, offset = epoch + 1, 0, 0

    def epoch(self, number: int) -> Iterator[PretrainBatch]:
        """The batches of one epoch."""
        for w in range(len(self.windows(number))):
            window = self.window(number, w)
            yield from map(window.batch, range(len(window)))


class Window:
    """The batches of a few shards: ``len(window)`` of them, each a function of (seed, epoch, window, offset)."""

    def __init__(self, plan: Plan, epoch: int, number: int) -> None:
        self.plan, self.epoch, self.number = plan, epoch, number
        text = _text_of(plan.corpus, plan.windows(epoch)[number], plan.languages)
        spec = plan.spec
        self.ids = text.ids
        self.pairs = draw_pairs(
            text, spec.sentence_objective, plan.length, (_PAIRS, plan.seed, epoch, number), spec.short_prob,
            faithful=spec.faithful, split_long=plan.split_long, copies=text.copies, groups=text.groups,
        )  # fmt: skip
        rng = np.random.default_rng((_BATCHES, plan.seed, epoch, number))
        lengths = self.pairs.lengths
        if plan.packed:
            self.groups = _packed(lengths, plan.shapes[0], rng)
        elif plan.fixed:
            self.groups = _bucketed(lengths, plan.shapes, rng)
        else:
            self.groups = _sorted(lengths, plan.batch_tokens, rng)

    def __len__(self) -> int:
        return len(self.groups.begin)

    def batch(self, offset: int) -> PretrainBatch:
        """The batch at an offset."""
        plan, groups = self.plan, self.groups
        chosen = slice(groups.begin[offset], groups.end[offset])
        pairs = Pairs(*(field[groups.order[chosen]] for field in self.pairs))
        places = None
        if groups.places is not None:
            places = Places(*(field[chosen] for field in groups.places))
        if plan.fixed or plan.packed:
            shape = plan.shapes[groups.shape[offset]]
        else:
            width = min(plan.length, -(-int(pairs.lengths.max()) // 8) * 8)
            shape = plan.shape(width, len(pairs.label))
        rng = np.random.default_rng((_MASKS, plan.seed, self.epoch, self.number, offset))
        return assemble(self.ids, pairs, places, shape, plan.tokenizer, plan.spec, rng)


def _text_of(corpus: Corpus, numbers: tuple[int, ...], languages: list[str]) -> Text:
    """A window's shards put together, those of one language beside each other; each shard once, however often read."""
    unique = sorted(set(numbers), key=lambda i: (languages[i], i))
    shards = [corpus.shard(i) for i in unique]
    count = [len(shard.documents) - 1 for shard in shards]

    def joined(arrays: list[np.ndarray]) -> np.ndarray:
        """Offsets that begin with 0 and end with a total, one set after the other."""
        begins = np.cumsum([0, *(int(a[-1]) for a in arrays)])
        return np.concatenate([a[:-1] + b for a, b in zip(arrays, begins)] + [begins[-1:]])

    edges = np.cumsum([0, *count])
    new = [i for i in range(len(unique)) if i == 0 or languages[unique[i]] != languages[unique[i - 1]]]
    return Text(
        np.concatenate([shard.ids for shard in shards]) if len(shards) > 1 else np.asarray(shards[0].ids),
        joined([shard.sentences for shard in shards]),
        joined([shard.documents for shard in shards]),
        np.append(edges[new], edges[-1]),
        np.repeat([numbers.count(i) for i in unique], count),
    )


def _bucketed(lengths: np.ndarray, shapes: list[Shape], rng: np.random.Generator) -> Groups:
    """Batches that are full, of the narrowest shape that holds a row; what is left over goes to the next wider one.

    So at most one batch of a window is not full.
    """
    order = rng.permutation(len(lengths))
    bucket = np.searchsorted([shape.width for shape in shapes], lengths[order])
    taken, begin, end, kind = [], [], [], []
    waiting, at = order[:0], 0
    for number, shape in enumerate(shapes):
        pool = np.concatenate([waiting, order[bucket == number]])
        full = len(pool) if number == len(shapes) - 1 else len(pool) // shape.rows * shape.rows
        taken.append(pool[:full])
        waiting = pool[full:]
        begin.append(np.arange(at, at + full, shape.rows))
        end.append(np.minimum(begin[-1] + shape.rows, at + full))
        kind.append(np.full(len(begin[-1]), number))
        at += full
    shuffled = rng.permutation(sum(map(len, begin)))
    begins, ends, kinds = (np.concatenate(x)[shuffled] for x in (begin, end, kind))
    return Groups(np.concatenate(taken), begins, ends, kinds)


def _packed(lengths: np.ndarray, shape: Shape, rng: np.random.Generator) -> Groups:
    order = rng.permutation(len(lengths))
    places = pack(lengths[order], shape.width, shape.instances)
    rows = int(places.row.max(initial=-1)) + 1
    row = rng.permutation(rows)[places.row]
    by_row = np.lexsort((places.number, row))
    row = row[by_row]
    edges = np.searchsorted(row, np.arange(0, rows + shape.rows, shape.rows))
    return Groups(
        order[by_row], edges[:-1], edges[1:], np.zeros(len(edges) - 1, np.int64),
        Places(row % shape.rows, places.column[by_row], places.number[by_row]),
    )  # fmt: skip


def _sorted(lengths: np.ndarray, batch_tokens: int, rng: np.random.Generator) -> Groups:
    groups = group_by_length(lengths, batch_tokens, rng)
    ends = np.cumsum([len(group) for group in groups])
    return Groups(np.concatenate(groups), np.concatenate([[0], ends[:-1]]), ends, np.zeros(len(ends), np.int64))


def _rates(tokens: list[int], languages: list[str], exponent: float) -> np.ndarray:
    """How often each shard is read an epoch, on average; the tokens of an epoch stay as many as they are."""
    names, which = np.unique(languages, return_inverse=True)
    if exponent == 1.0 or len(names) < 2:
        return np.ones(len(tokens))
    share = np.bincount(which, tokens) / sum(tokens)
    wanted = share**exponent
    return (wanted / wanted.sum() / share)[which]


def _copies(rates: np.ndarray, languages: list[str], seed: int, epoch: int) -> np.ndarray:
    """How often each shard is read in this epoch.

    Each shard counts on at its rate from a phase of its own, and the phases of a language's shards are spread evenly,
    so that every epoch comes as near to a language's share as whole shards allow, and the epochs together to it.
    """
    rng = np.random.default_rng((_LANGUAGES, seed))
    phase = np.empty(len(rates))
    for name in sorted(set(languages)):
        own = np.flatnonzero(np.array(languages) == name)
        phase[own] = (rng.permutation(len(own)) + rng.random()) / len(own)
    copies = np.floor((epoch + 1) * rates + phase) - np.floor(epoch * rates + phase)
    return np.where(rates == 1.0, 1, copies).astype(np.int64)
