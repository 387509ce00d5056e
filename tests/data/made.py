"""A small corpus for the tests of data and training."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halbert.data.corpus import Corpus, build_corpus
from halbert.spec import TextSpec
from halbert.text import Tokenizer
from halbert.text.learn import learn_vocabulary
from tests import tiny

# One speech as several documents, one of a single sentence.
DOCUMENTS = [tiny.SPEECH[:3], tiny.SPEECH[3:5], [tiny.SPEECH[5]], tiny.SPEECH[6:10], [" ".join(tiny.SPEECH[10:])]]


@functools.cache
def words(kind: Any = "wordpiece") -> Tokenizer:
    return learn_vocabulary(tiny.SPEECH, {"wordpiece": 200, "unigram": 150}[kind], TextSpec(kind=kind))


def corpus(folder: Path, documents: Sequence[Sequence[str]] = DOCUMENTS, **options: Any) -> Corpus:
    return build_corpus(documents, options.pop("tokenizer", None) or words(), folder, **options)
