"""Google's generators of pre-training data, draw for draw over ``random.Random``: slow, and what the fast path answers to.

Sources: google-research/bert and google-research/albert, ``create_pretraining_data.py``. Their fallbacks are kept: a
chunk of a single sentence gets a random second part under both objectives, the target length is drawn once a document,
a "random" document may be the same one, and a share of the length counts [CLS] and [SEP].
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from halbert.spec import PretrainSpec
from halbert.text import Tokenizer

Document = list[list[str]]  # sentences of pieces
RETRIES = 10  # for a random document that is another one


class Instance(NamedTuple):
    """Pieces with some hidden, segments, where they are hidden and what stood there.

    ``second`` is the generators' ``is_random_next``: a random second part, or a swapped pair. ``boundary`` says which
    pieces begin a word; BERT's generator has none.
    """

    tokens: list[str]
    segments: list[int]
    second: bool
    positions: list[int]
    labels: list[str]
    boundary: list[int] | None

    def __str__(self) -> str:
        """As the generators print a ``TrainingInstance``."""
        boundary = [] if self.boundary is None else [f"token_boundary: {_spaced(self.boundary)}"]
        told = [f"tokens: {_spaced(self.tokens)}", f"segment_ids: {_spaced(self.segments)}", *boundary]
        told += [f"is_random_next: {self.second}", f"masked_lm_positions: {_spaced(self.positions)}"]
        return "\n".join([*told, f"masked_lm_labels: {_spaced(self.labels)}", "", ""])


def _spaced(values: Sequence[object]) -> str:
    return " ".join(map(str, values))


def read_documents(lines: Iterable[str], tokenizer: Tokenizer) -> list[Document]:
    """Pieces of a text with one sentence a line and a blank line between documents."""
    documents: list[Document] = [[]]
    for line in lines:
        if not line.strip():
            documents.append([])
        elif ids := tokenizer.bulk([line.strip()])[0]:
            documents[-1].append([tokenizer.vocab[i] for i in ids])
    return [document for document in documents if document]


class Generator:
    """Draws instances as BERT's generator does (pieces or words), or as ALBERT's (n-grams).

    ``spec`` chooses between ``nsp`` and ``sop``; ``predictions`` is the generators' ``max_predictions_per_seq``.
    ``seed`` is theirs, ``numpy_seed`` that of the n-gram lengths, which ALBERT's generator leaves unseeded.
    """

    def __init__(
        self,
        spec: PretrainSpec,
        vocab: Sequence[str],
        *,
        length: int,
        predictions: int,
        seed: int = 12345,
        numpy_seed: int = 0,
    ) -> None:
        self.spec, self.vocab, self.length, self.predictions = spec, vocab, length, predictions
        self.rng, self.numpy = random.Random(seed), np.random.RandomState(numpy_seed)
        weights = 1.0 / np.arange(1, spec.max_ngram + 1)
        self.weights = weights / weights.sum()

    def instances(self, documents: Sequence[Document], duplicates: int) -> list[Instance]:
        """``duplicates`` passes over the documents, in random order."""
        shuffled = list(documents)
        self.rng.shuffle(shuffled)
        found = [x for _ in range(duplicates) for d in range(len(shuffled)) for x in self._document(shuffled, d)]
        self.rng.shuffle(found)
        return found

    def _document(self, documents: Sequence[Document], number: int) -> list[Instance]:
        rng, document, room = self.rng, documents[number], self.length - 3
        target = room
        if rng.random() < self.spec.short_prob:
            target = rng.randint(2, room)
        found, at, i = [], 0, 0
        while i < len(document):
            i += 1
            if i < len(document) and sum(map(len, document[at:i])) < target:
                continue
            cut = at + 1 if i - at == 1 else at + rng.randint(1, i - at - 1)
            coin = i - at > 1 and rng.random() < 0.5
            a = [piece for sentence in document[at:cut] for piece in sentence]
            b = [piece for sentence in document[cut:i] for piece in sentence]
            if i - at == 1 or (coin and self.spec.sentence_objective == "nsp"):
                b = self._random_part(documents, number, target - len(a))
                i = cut  # the sentences that were not used are put back
            elif coin:
                a, b = b, a
            self._shorten(a, b, room)
            found.append(self._masked(a, b, second=coin or not cut < i))
            at = i
        return found

    def _random_part(self, documents: Sequence[Document], number: int, target: int) -> list[str]:
        for _ in range(RETRIES):
            other = self.rng.randint(0, len(documents) - 1)
            if other != number:
                break
        found: list[str] = []
        for sentence in documents[other][self.rng.randint(0, len(documents[other]) - 1) :]:
            found += sentence
            if len(found) >= target:
                break
        return found

    def _shorten(self, a: list[str], b: list[str], room: int) -> None:
        while len(a) + len(b) > room:
            longer = a if len(a) > len(b) else b
            del longer[0 if self.rng.random() < 0.5 else -1]

    def _masked(self, a: list[str], b: list[str], second: bool) -> Instance:
        tokens = ["[CLS]", *a, "[SEP]", *b, "[SEP]"]
        special = {0, len(a) + 1, len(tokens) - 1}
        words: list[list[int]] = []
        for i, token in enumerate(tokens):
            if i in special:
                continue
            if self.spec.masking != "piece" and words and token.startswith("##"):
                words[-1].append(i)  # even when [SEP] stands between
            else:
                words.append([i])
        budget = min(self.predictions, max(1, round(len(tokens) * self.spec.masking_prob)))
        hidden, chosen = list(tokens), []
        for unit in self._units(words, budget):
            for i in unit:
                chosen.append(i)
                if self.rng.random() < 0.8:
                    hidden[i] = "[MASK]"
                elif self.rng.random() >= 0.5:
                    hidden[i] = self.vocab[self.rng.randint(0, len(self.vocab) - 1)]
        boundary = None
        if self.spec.masking == "ngram":
            boundary = [int(i in special or not t.startswith("##")) for i, t in enumerate(tokens)]
        positions = sorted(chosen)
        segments = [0] * (len(a) + 2) + [1] * (len(b) + 1)
        return Instance(hidden, segments, second, positions, [tokens[i] for i in positions], boundary)

    def _units(self, words: list[list[int]], budget: int) -> Iterable[list[int]]:
        ngrams = self.spec.masking == "ngram"
        order = list(range(len(words)))
        self.rng.shuffle(order)
        covered: set[int] = set()
        for first in order:
            if len(covered) >= budget:
                break
            n = int(self.numpy.choice(len(self.weights), p=self.weights)) + 1 if ngrams else 1
            unit = [i for word in words[first : first + n] for i in word]
            while n > 1 and len(covered) + len(unit) > budget:
                n -= 1
                unit = [i for word in words[first : first + n] for i in word]
            if len(covered) + len(unit) > budget or not covered.isdisjoint(unit):
                continue
            covered.update(unit)
            yield unit
        if ngrams:
            self.rng.shuffle(order)  # for a permutation objective that is switched off; the draws are used up


def generate(
    documents: Sequence[Document],
    vocab: Sequence[str],
    objective: Literal["nsp", "sop"],
    masking: Literal["piece", "word", "ngram"],
    *,
    length: int,
    predictions: int,
    duplicates: int,
    seed: int = 12345,
    numpy_seed: int = 0,
) -> list[Instance]:
    """The instances of one run of a generator with its default probabilities."""
    spec = PretrainSpec(sentence_objective=objective, masking=masking, faithful=True)
    made = Generator(spec, vocab, length=length, predictions=predictions, seed=seed, numpy_seed=numpy_seed)
    return made.instances(documents, duplicates)
