"""Small models and files that the tests of commands, runs and audits share."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from halbert.bundle import Bundle
from halbert.heads import HeadSpec
from halbert.spec import EncoderSpec
from tests import tiny

# Long enough for the latency probe's 128 pieces, and quick to build, train and compile.
SHAPE: dict[str, Any] = {
    "embedding_size": 12,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 17,
    "max_position_embeddings": 130,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout_prob": 0.0,
}
ALBERT: dict[str, Any] = {"embedding_size": 5, "num_hidden_groups": 1, "hidden_act": "gelu_new"}
# A word that tells the class, and words that tell nothing.
TOLD = {"red": "cat", "green": "mat", "blue": "sat"}
NOISE = ("the", "on", "a", "1", "2", ".")


def encoder(**changes: Any) -> EncoderSpec:
    return tiny.encoder(**{**SHAPE, **changes})


def bundle(heads: Sequence[str] = ("mlm", "pair"), seed: int = 0, **changes: Any) -> Bundle:
    """A saved-to-be bundle with these of ``tiny.HEADS``."""
    chosen: dict[str, HeadSpec] = {name: tiny.HEADS[name] for name in heads}
    return tiny.bundle(encoder(**changes), chosen, seed=seed)


def rows(count: int, labels: Sequence[str] = tiny.LABELS) -> list[tuple[str, str]]:
    """(text, label): the one word of ``TOLD`` in the text says the label. Equal counts, no two texts alike in a class."""
    made = []
    for i in range(count):
        label = labels[i % len(labels)]
        noise = [NOISE[(i // 3 + k * (i // 18 + 1)) % len(NOISE)] for k in range(3)]
        noise.insert(i % 4, TOLD[label])
        made.append((" ".join(noise), label))
    return made


def write_csv(path: Path, table: Iterable[Sequence[str]], header: Sequence[str] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        written = csv.writer(stream, lineterminator="\n")
        written.writerow(header)
        written.writerows(table)
    return path


def left_in(folder: Path) -> list[str]:
    """Everything below a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
