"""Tags to entities and logits to answers."""

from __future__ import annotations

import numpy as np
import pytest

from halbert.heads import HeadSpec
from halbert.tasks.decoding import decode_span, decode_tags

LABELS = ("O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC")
HEAD = HeadSpec(kind="tag", labels=LABELS)
TEXT = "Ann Bell met Carl"
SPANS = [None, (0, 3), (4, 6), (6, 8), (9, 12), (13, 17), None]  # "Bell" is two pieces
WORDS = [None, 0, 1, 1, 2, 3, None]


def tagged(*labels: str) -> list[tuple[str, str]]:
    order = [labels[w] if w is not None else "O" for w in WORDS]
    order[3] = "S-PER"  # what a later piece says does not count
    logits = np.eye(len(LABELS), dtype=np.float32)[[LABELS.index(label) for label in order]]
    found = decode_tags(logits, SPANS, WORDS, HEAD, TEXT)["entities"]
    assert all(TEXT[e["start"] : e["end"]] == e["text"] for e in found)
    return [(e["text"], e["label"]) for e in found]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("B-PER", "I-PER", "O", "B-PER"), [("Ann Bell", "PER"), ("Carl", "PER")]),
        (("I-PER", "I-PER", "O", "I-PER"), [("Ann Bell", "PER"), ("Carl", "PER")]),  # IOB1
        (("B-PER", "E-PER", "O", "S-PER"), [("Ann Bell", "PER"), ("Carl", "PER")]),  # BIOES
        (("B-PER", "B-PER", "I-LOC", "I-LOC"), [("Ann", "PER"), ("Bell", "PER"), ("met Carl", "LOC")]),
        (("O", "B-LOC", "O", "I-PER"), [("Bell", "LOC"), ("Carl", "PER")]),
        (("S-PER", "I-PER", "O", "O"), [("Ann", "PER"), ("Bell", "PER")]),
        (("O", "O", "O", "O"), []),
    ],
)
def test_entities(labels, expected):
    assert tagged(*labels) == expected


def test_words_of_their_own():
    head = HeadSpec(kind="tag", labels=("NOUN", "VERB"))
    logits = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1, 0, 0]]
    found = decode_tags(logits, SPANS, WORDS, head, TEXT)["entities"]
    assert [(e["text"], e["label"]) for e in found] == [
        ("Ann", "NOUN"),
        ("Bell", "NOUN"),
        ("met", "VERB"),
        ("Carl", "NOUN"),
    ]


def span(starts, ends, most=30):
    """[CLS] q [SEP] Ann Bell(2) met Carl [SEP]"""
    spans = [None, (0, 1), None, *SPANS[1:]]
    segments = [0, 0, 0, 1, 1, 1, 1, 1, 1]
    logits = np.zeros((9, 2), np.float32)
    for i, value in starts.items():
        logits[i, 0] = value
    for i, value in ends.items():
        logits[i, 1] = value
    return decode_span(logits, spans, segments, TEXT, most)["answer"]


def test_answers():
    assert span({4: 9}, {5: 9})["text"] == "Bell"
    assert span({4: 9}, {5: 9})["probability"] > 0.99
    assert span({6: 9, 3: 5}, {4: 9})["text"] == "Ann Be"  # an end before the start is none
    assert span({1: 99, 3: 5}, {1: 99, 3: 5})["text"] == "Ann"  # the question is not the text
    assert span({3: 9}, {7: 9})["text"] == TEXT
    assert span({3: 9}, {7: 9, 4: 1}, most=2)["text"] == "Ann Be"
    assert span({0: 9, 4: 5}, {0: 9, 5: 5}) is None  # [CLS]: there is no answer
    assert 0 < span({}, {})["probability"] < 0.2
