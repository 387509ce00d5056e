"""Shards in memory, drawn by hypothesis or by hand."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st


class Shard(NamedTuple):
    ids: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    vocab_size: int = 60_000

    def document_of(self, at: int) -> int:
        """The document that the id at this place belongs to."""
        sentence = int(np.searchsorted(self.sentences, at, side="right")) - 1
        return int(np.searchsorted(self.documents, sentence, side="right")) - 1


def shard(lengths: list[list[int]]) -> Shard:
    """Sentence lengths by document; the id of every piece is its own place."""
    sentences = np.concatenate([[0], np.cumsum([n for d in lengths for n in d])]).astype(np.int64)
    documents = np.concatenate([[0], np.cumsum([len(d) for d in lengths])]).astype(np.int64)
    return Shard(np.arange(sentences[-1], dtype=np.uint16), sentences, documents)


shards = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=8), min_size=1, max_size=7).map(shard)
