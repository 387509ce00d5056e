"""``start = "pmi-svd"``: piece embeddings from the corpus' own statistics instead of noise.

A truncated singular value decomposition of the positive pointwise mutual information of pieces and their neighbours
(Levy and Goldberg 2014; context counts to the power 0.75 as in their 2015 paper). With the usual start a small model
spends its first millions of pieces on learning how frequent each piece is; this start already knows.

With parallel texts, pieces of all languages are also told by the texts they stand in (Levy, Søgaard and Goldberg 2017), so
that words of the same meaning begin near each other.
"""

from __future__ import annotations

import math

import numpy as np

from halbert.data.corpus import Corpus
from halbert.errors import InputError, missing_extra

try:
    from scipy import sparse
    from scipy.sparse.linalg import svds
except ImportError:
    raise missing_extra("scipy", "evaluate", "the pmi-svd start") from None

WINDOW = 5  # neighbours on each side, weighted 1 / distance
CONTEXT_POWER = 0.75
SPREAD = 0.05  # standard deviation of the result
# Pieces that are counted, some minutes' work; of a larger corpus the same share of every shard, so that each language keeps its.
MOST = 200_000_000
# Pairs of neighbours that are remembered (12 bytes each, and as many again twice over at the end). Beyond that the weaker half
# is forgotten, which are chance meetings.
MOST_PAIRS = 30_000_000
_SLICE = 4_000_000  # pairs whose information is computed at once
# Weight of what texts a piece stands in, beside its neighbours. Measured on 312 languages, translations that the start by
# itself finds (Tatoeba): 6.5 % with 1, 8.0 % with 3, 9.1 % without neighbours.
PARALLEL = 3.0


def neighbour_counts(corpus: Corpus) -> sparse.csr_matrix:
    """Weighted counts (V, V) of pieces within :data:`WINDOW` of each other in one document; one shard in memory at a time, and
    at most :data:`MOST_PAIRS` pairs.

    Of a corpus of more than :data:`MOST` pieces the beginning of every shard is counted.
    """
    V = corpus.manifest.vocab_size
    share = min(1.0, MOST / max(1, corpus.manifest.tokens))
    whole = math.lcm(
        *range(1, WINDOW + 1)
    )  # times which every weight is a whole number, so that no order of sums matters
    parts: list[sparse.csr_matrix] = []
    for number in range(len(corpus)):
        shard = corpus.shard(number)
        ids = np.asarray(shard.ids[: math.ceil(share * len(shard.ids))], np.int64)
        begins = np.asarray(shard.sentences)[np.asarray(shard.documents)[:-1]]
        document = np.zeros(len(ids), np.int64)
        document[begins[1 : np.searchsorted(begins, len(ids))]] = 1
        document = np.cumsum(document)
        for distance in range(1, min(WINDOW, len(ids) - 1) + 1):
            together = document[:-distance] == document[distance:]
            pairs = (ids[:-distance][together], ids[distance:][together])
            weights = np.full(together.sum(), float(whole // distance))
            parts.append(sparse.coo_matrix((weights, pairs), shape=(V, V)).tocsr())
            # A sum costs what its parts hold: those of small shards are added to each other before they are to a large one.
            while len(parts) > 1 and parts[-2].nnz < 2 * parts[-1].nnz:
                small = parts.pop()
                parts[-1] = _strongest(parts[-1] + small, MOST_PAIRS)
    counts = sparse.csr_matrix((V, V), dtype=np.float64)
    while parts:
        counts = _strongest(counts + parts.pop(), MOST_PAIRS)
    return (counts + counts.T) / whole


def _strongest(counts: sparse.csr_matrix, most: int) -> sparse.csr_matrix:
    """The same, or where these are more than ``most`` no more than half as many, the largest."""
    if counts.nnz > most:
        place = counts.nnz - most // 2 - 1
        counts.data[counts.data <= np.partition(counts.data, place)[place]] = 0
        counts.eliminate_zeros()
    return counts


def document_counts(corpus: Corpus) -> sparse.csr_matrix:
    """Counts (V, D) of pieces in each document; one shard in memory at a time."""
    V = corpus.manifest.vocab_size
    parts = []
    for number in range(len(corpus)):
        shard = corpus.shard(number)
        ids = np.asarray(shard.ids, np.int64)
        begins = np.asarray(shard.sentences)[np.asarray(shard.documents)]
        document = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
        shape = (V, len(begins) - 1)
        parts.append(sparse.coo_matrix((np.ones(len(ids)), (ids, document)), shape=shape).tocsr())
    return sparse.hstack(parts, "csr")


def positive_pmi(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Positive pointwise mutual information of rows (pieces) and columns (contexts), contexts to :data:`CONTEXT_POWER`."""
    total = counts.data.sum()
    piece = np.asarray(counts.sum(1)).ravel() / total
    context = (np.asarray(counts.sum(0)).ravel() / total) ** CONTEXT_POWER
    context /= context.sum()
    parts, start = [], 0
    while start < counts.shape[0]:
        stop = max(start + 1, int(np.searchsorted(counts.indptr, counts.indptr[start] + _SLICE)))
        found = counts[start:stop].tocoo()
        pmi = np.log(found.data / total / (piece[start:stop][found.row] * context[found.col]))
        kept = pmi > 0
        parts.append(sparse.csr_matrix((pmi[kept], (found.row[kept], found.col[kept])), shape=found.shape))
        start = stop
    return sparse.vstack(parts, "csr")


def piece_embeddings(corpus: Corpus, width: int, seed: int, parallel: Corpus | None = None) -> np.ndarray:
    """Piece embeddings (V, E) with columns centred and a standard deviation of :data:`SPREAD`; the same for the same seed.

    Each document of ``parallel`` is one text in several languages. Pieces that never occur get the mean, which is 0.
    Raises :class:`InputError` when the corpus is too small for ``width``, or the two were made with different tokenizers.
    """
    counts = neighbour_counts(corpus)
    if not counts.nnz or width >= min(counts.shape):
        raise InputError(f"{corpus.folder}: too little text, or too few pieces, for a pmi-svd start of width {width}")
    matrix = positive_pmi(counts)
    if parallel is not None:
        if parallel.manifest.tokenizer != corpus.manifest.tokenizer:
            raise InputError(f"{parallel.folder} was made with another tokenizer than {corpus.folder}")
        matrix = sparse.hstack([matrix, PARALLEL * positive_pmi(document_counts(parallel))], "csr")
    first = np.random.default_rng(seed).standard_normal(min(matrix.shape))
    left, values, _ = svds(matrix, k=width, v0=first)
    values = np.where(values > 1e-9 * values.max(), values, 0.0)  # directions without meaning differ from run to run
    order = np.argsort(-values, kind="stable")
    table = left[:, order] * np.sqrt(values[order])
    # A singular vector's sign is arbitrary: the largest entry of each column is made positive.
    table *= np.sign(table[np.abs(table).argmax(0), np.arange(width)])
    table -= table.mean(0)
    return (table * (SPREAD / table.std())).astype(np.float32)
