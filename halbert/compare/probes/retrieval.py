"""Whether a model knows a translation: for each sentence, is it the nearest of all sentences of the other side?"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from halbert.compare.measurement import Quantity
from halbert.compare.probes.learnt import Learnt
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject
from halbert.data.readers import Example, iter_examples, read_rows
from halbert.errors import InputError
from halbert.run.predictor import Predictor

MOST = 200  # pairs of a language: what chance finds depends on how many there are to choose from
FEWEST = 20  # of fewer a share says little
_TATOEBA = {"text_a": "sentence", "text_b": "english", "language": "lang"}


def read_parallel(path: str | os.PathLike[str], most: int = MOST) -> dict[str, list[Example]]:
    """Pairs by language, at most ``most`` of each: columns text_a, text_b and language, or sentence, english and lang.

    Raises :class:`InputError` where the columns are missing or no language has enough pairs.
    """
    first = next(iter(read_rows(Path(path))), {})
    columns = _TATOEBA if set(_TATOEBA.values()) <= set(first) else {}
    found: dict[str, list[Example]] = {}
    for example in iter_examples(path, labelled=False, columns=columns, fixed=True):
        if example.pair is None:
            raise InputError(f"{path}: has no column 'text_b'; expected text_a, text_b and language")
        some = found.setdefault(example.language or "", [])
        if len(some) < most:
            some.append(example)
    enough = {language or "all": pairs for language, pairs in found.items() if len(pairs) >= FEWEST}
    if not enough:
        raise InputError(f"{path}: no language has {FEWEST} pairs")
    return enough


class RetrievalProbe(Learnt):
    """Mean vectors, centred on each side of a language; nearest by cosine, both ways (Artetxe and Schwenk 2019)."""

    name = "retrieval"
    title = "Translations found"

    def __init__(self, predictors: dict[str, Predictor], pairs: dict[str, list[Example]], where: str) -> None:
        self.predictors = predictors
        self.pairs = pairs
        sizes = [len(some) for some in pairs.values()]
        over = "languages" if len(pairs) > 1 else "pairs"  # a single language is no sample of languages
        self.quantities = [
            Quantity(name="translations_found", title="Translations found, over languages", unit="share", statistic="mean",
                     better="higher", labels=sorted(pairs) if len(pairs) > 1 else None,
                     how=f"{where}: {len(pairs)} languages, {min(sizes)} to {max(sizes)} pairs of each; mean vectors, the "
                         "mean of a side taken away, nearest by cosine, share found, both ways; chance finds one of a "
                         f"language's pairs; mean over {over}, interval over {over}"),
        ]  # fmt: skip

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """One share a language; of a single language one a pair."""
        predictor = self.predictors[subject.name]
        found = []
        for language in sorted(self.pairs):
            sides = [
                predictor.embed(texts, pooling="mean")
                for texts in ([e.text for e in self.pairs[language]], [e.pair or "" for e in self.pairs[language]])
            ]
            found.append(found_pairs(*sides))
        return {
            "translations_found": found[0].tolist() if len(found) == 1 else [float(pairs.mean()) for pairs in found]
        }


def found_share(a: np.ndarray, b: np.ndarray) -> float:
    """The share of rows (N, H) whose partner in the other array is the nearest by cosine, both ways, after centring."""
    return float(found_pairs(a, b).mean())


def found_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,): 0, 1/2 or 1 for each pair of rows (N, H): found neither way, one way, both ways."""
    sides = []
    for side in (a, b):
        centred = side - side.mean(0)
        sides.append(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))
    likeness = sides[0] @ sides[1].T
    own = np.arange(len(likeness))
    return np.mean([likeness.argmax(1) == own, likeness.argmax(0) == own], 0)
