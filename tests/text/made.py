"""Tokenizers for the text tests, made once."""

from __future__ import annotations

import functools
from typing import Any

from halbert.spec import TextSpec
from halbert.text import Tokenizer
from halbert.text.learn import learn_vocabulary
from tests import tiny

# Kinds, and a size each that the speech can fill.
KINDS = {"wordpiece": 200, "unigram": 150}


@functools.cache
def learnt(kind: Any, size: int | None = None, lower: bool = True, strip: bool = True) -> Tokenizer:
    return learn_vocabulary(
        tiny.SPEECH, size or KINDS[kind], TextSpec(kind=kind, lower_case=lower, strip_accents=strip)
    )
