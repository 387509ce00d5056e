"""Piece embeddings that know translations: moved until a text's mean vector is the nearest to that of its translation.

Translation ranking with the other translations of the batch as wrong answers (Guo et al. 2018, section 3; additive margin 0),
of bags of pieces: nothing but the table is learnt, which takes minutes where a whole model would take days. In the multilingual
text of 2026-11-29 a start by neighbours and common texts finds 7.5 % of Tatoeba's translations, and 19.3 % after two passes of
this (21.9 % in that of docs/languages.md).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from halbert.data.corpus import Corpus
from halbert.errors import InputError

BATCH = 2048  # texts, each beside a translation
PASSES = 2  # over all translations
LONGEST = 128  # pieces of a text that count
SCALE = 20.0  # of the cosines, as in sentence-transformers' losses
LEARNING_RATE = 0.01  # at the beginning, then down to 0


class Translations:
    """The documents of a corpus, each one text in several languages; the first is what the others are translations of."""

    def __init__(self, corpus: Corpus) -> None:
        self.shards = [corpus.shard(number) for number in range(len(corpus))]
        found = []
        for number, shard in enumerate(self.shards):
            documents = np.asarray(shard.documents, np.int64)
            counts = np.diff(documents)
            rows = np.stack([np.full(len(counts), number), documents[:-1], counts], 1)
            found.append(rows[counts > 1])
        self.documents = np.concatenate(found)  # (D, 3): shard, first sentence, sentences
        if len(self.documents) < 2:
            raise InputError(f"{corpus.folder}: holds no texts in several languages, each a document of its own")

    def __len__(self) -> int:
        """Translations in all."""
        return int((self.documents[:, 2] - 1).sum())

    def draw(self, rng: np.random.Generator, size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Pieces of ``size`` texts, and of a translation of each."""
        chosen = self.documents[rng.choice(len(self.documents), size, replace=False)]
        others = 1 + rng.integers(0, chosen[:, 2] - 1)
        return (
            [self._pieces(shard, first) for shard, first, _ in chosen],
            [self._pieces(shard, first + other) for (shard, first, _), other in zip(chosen, others, strict=True)],
        )

    def _pieces(self, shard: int, sentence: int) -> np.ndarray:
        sentences = self.shards[shard].sentences
        begin = int(sentences[sentence])
        return np.asarray(self.shards[shard].ids[begin : min(int(sentences[sentence + 1]), begin + LONGEST)], np.int64)


def ranking_loss(first: torch.Tensor, second: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, both ways, of finding row ``i`` of one among all rows of the other (N, E), by cosine.

    ``same`` (N, N): rows that say the same and are not wrong answers to each other.
    """
    scores = SCALE * functional.normalize(first, dim=-1) @ functional.normalize(second, dim=-1).T
    scores = scores.masked_fill(same & ~torch.eye(len(same), dtype=torch.bool), -math.inf)
    right = torch.arange(len(scores))
    return (functional.cross_entropy(scores, right) + functional.cross_entropy(scores.T, right)) / 2


def bring_together(table: np.ndarray, parallel: Corpus, seed: int) -> np.ndarray:
    """The table (V, E), learnt on from what it is; centred, with the standard deviation that it had. The same for a seed.

    Memory: the table five times, and a batch. Raises :class:`InputError` when no document has two texts.
    """
    texts, rng = Translations(parallel), np.random.default_rng(seed)
    size = min(BATCH, len(texts.documents))
    steps = math.ceil(PASSES * len(texts) / size)
    weight = torch.nn.Parameter(torch.from_numpy(table.copy()))
    optimizer = torch.optim.Adam([weight], lr=LEARNING_RATE)
    for step in range(steps):
        sides = texts.draw(rng, size)
        _, codes = np.unique([pieces.tobytes() for pieces in sides[0]], return_inverse=True)
        first, second = (_means(weight, side) for side in sides)
        loss = ranking_loss(first, second, torch.from_numpy(codes[:, None] == codes[None]))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = weight.detach().numpy()
    found -= found.mean(0)
    return (found * (table.std() / found.std())).astype(np.float32)


def _means(weight: torch.Tensor, texts: list[np.ndarray]) -> torch.Tensor:
    """Mean vectors (N, E) of the pieces of texts."""
    begins = np.cumsum([0, *map(len, texts[:-1])])
    return functional.embedding_bag(
        torch.from_numpy(np.concatenate(texts)), weight, torch.from_numpy(begins), mode="mean"
    )
