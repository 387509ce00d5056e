"""Tiny models of distinct, mostly prime sizes, with weights large enough for every mistake to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from halbert.bundle import Bundle
from halbert.heads import HeadSpec
from halbert.spec import EncoderSpec, ModelSpec, TextSpec
from halbert.text.wordpiece import WordPiece
from halbert.weights import names

_WORDS = "the cat sat on a mat ##s ##ed un ##want want ##ing runn wa , . ' ! ? 1 2 Cat é 世 界 dog eat"
WORDS = _WORDS.split()
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LABELS = ("red", "green", "blue")

HEADS = {
    "mlm": HeadSpec(kind="mlm"),
    "pair": HeadSpec(kind="pair"),
    "label": HeadSpec(kind="label", labels=LABELS),
    "score": HeadSpec(kind="score"),
    "choice": HeadSpec(kind="choice", choices=3),
    "span": HeadSpec(kind="span"),
    "tag": HeadSpec(kind="tag", labels=(*LABELS, "grey", "none")),
}


def tokenizer(**switches: Any) -> WordPiece:
    return WordPiece(SPECIALS + WORDS, TextSpec(**switches))


def encoder(**changes: Any) -> EncoderSpec:
    """BERT-like unless changed. The head width 14 is even, so that heads can also be doubled by mistake."""
    fields: dict[str, Any] = {
        "vocab_size": 101,
        "embedding_size": 42,
        "hidden_size": 42,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 53,
        "max_position_embeddings": 37,
        "type_vocab_size": 2,
        **changes,
    }
    return EncoderSpec(**{"num_hidden_groups": fields["num_hidden_layers"], **fields})


ALBERT = {"embedding_size": 11, "num_hidden_groups": 1, "hidden_act": "gelu_new"}


def arrays(spec: EncoderSpec, heads: Mapping[str, HeadSpec], seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor drawn, biases and LayerNorms too; embeddings are small, so that LayerNorm's epsilon matters."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for entry in names.expected(spec, dict(heads), names.layout_of(spec)):
        std = 0.05 if "embeddings" in entry.ours and "norm" not in entry.ours else 0.15
        mean = 1.0 if entry.ours.endswith("norm.weight") else 0.0
        drawn[entry.ours] = (mean + std * rng.standard_normal(entry.shape)).astype(np.float32)
    return drawn


def bundle(
    spec: EncoderSpec | None = None, heads: Mapping[str, HeadSpec] | None = None, seed: int = 0, **others: Any
) -> Bundle:
    spec = spec or encoder()
    heads = dict(heads or {})
    words = others.pop("tokenizer", None) or tokenizer()
    model = ModelSpec(encoder=spec, text=words.spec)
    return Bundle(model, words, arrays(spec, heads, seed), heads, name="tiny", **others)


# Lincoln at Gettysburg, 1863: enough text to learn tiny vocabularies from.
SPEECH = """\
Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, and \
dedicated to the proposition that all men are created equal.
Now we are engaged in a great civil war, testing whether that nation, or any nation so conceived and so dedicated, can \
long endure.
We are met on a great battle-field of that war.
We have come to dedicate a portion of that field, as a final resting place for those who here gave their lives that \
that nation might live.
It is altogether fitting and proper that we should do this.
But, in a larger sense, we can not dedicate, we can not consecrate, we can not hallow this ground.
The brave men, living and dead, who struggled here, have consecrated it, far above our poor power to add or detract.
The world will little note, nor long remember what we say here, but it can never forget what they did here.
It is for us the living, rather, to be dedicated here to the unfinished work which they who fought here have thus far \
so nobly advanced.
It is rather for us to be here dedicated to the great task remaining before us, that from these honored dead we take \
increased devotion to that cause for which they gave the last full measure of devotion.
We here highly resolve that these dead shall not have died in vain, that this nation, under God, shall have a new birth \
of freedom, and that government of the people, by the people, for the people, shall not perish from the earth.
In 1863, 10,000 heard it.
""".splitlines()
