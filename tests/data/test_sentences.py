from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.data.sentences import split_sentences
from tests import tiny


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("   \t ", []),
        ("No stop at all", ["No stop at all"]),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("  White \t space\nis   folded.  Yes. ", ["White space is folded.", "Yes."]),
        ("Dr. Smith met Mrs. Jones. They spoke.", ["Dr. Smith met Mrs. Jones.", "They spoke."]),
        ("See e.g. Figure 2, i.e. Table 3. Then rest.", ["See e.g. Figure 2, i.e. Table 3.", "Then rest."]),
        ("J. R. R. Tolkien wrote. He did.", ["J. R. R. Tolkien wrote.", "He did."]),
        ("It costs 3.50 euros. Version 2.0 is out.", ["It costs 3.50 euros.", "Version 2.0 is out."]),
        ("Wait... What? No… Yes.", ["Wait...", "What?", "No…", "Yes."]),
        ("wait... what", ["wait... what"]),
        ('He said "Go." Then he left.', ['He said "Go."', "Then he left."]),
        ("“Really?” “Yes!” (It was so.) «Bon.» Fin.", ["“Really?”", "“Yes!”", "(It was so.)", "«Bon.»", "Fin."]),
        ("What?! No way!! Yes.", ["What?!", "No way!!", "Yes."]),
        ("这是一句。这是第二句！第三句？", ["这是一句。", "这是第二句！", "第三句？"]),
        ("彼は「行く。」と言った。終わり。", ["彼は「行く。」と言った。", "終わり。"]),
        ("「行くよ。」彼は言った。", ["「行くよ。」", "彼は言った。"]),
        ("长３．５米．很长．", ["长３．５米．", "很长．"]),
        ("မိုးရွာသည်။ နေပူသည်။", ["မိုးရွာသည်။", "နေပူသည်။"]),
        ("The gap is 5 mm. The next is not.", ["The gap is 5 mm.", "The next is not."]),
        ("यह एक वाक्य है। यह दूसरा है।", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        ("Über allem. Élan vital. Ça va.", ["Über allem.", "Élan vital.", "Ça va."]),
        ("A file.txt and example.com are one. Next.", ["A file.txt and example.com are one.", "Next."]),
        ("It ended in 1863. 10,000 heard it.", ["It ended in 1863.", "10,000 heard it."]),
    ],
)  # fmt: skip
def test_sentences(text, expected):
    assert split_sentences(text) == expected


@pytest.mark.parametrize("line", tiny.SPEECH)
def test_lincolns_lines_are_one_sentence_each(line):
    assert split_sentences(line) == [line]


PARTS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [". ", "! ", "? ", "... ", "Dr. ", "e.g. ", "A", " b", "“", "”", '"', "(", ")", "。", "！", "।", "…", "\n", "5"]
    ),
)


@given(st.lists(PARTS, max_size=25).map("".join))
def test_nothing_but_white_space_is_lost(text):
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(s and s == s.strip() and "  " not in s for s in sentences)
    folded = " ".join(text.split())
    at = 0
    for sentence in sentences:
        at = folded.index(sentence, at) + len(sentence)


@pytest.mark.parametrize(
    "hard", ["." * 100_000, ". " * 50_000, "a." * 50_000, "A. " * 30_000, '."' * 50_000, "x" * 200_000 + "."]
)
def test_time_is_linear(hard):
    start = time.monotonic()
    assert "".join(re.split(r"\s+", hard)) == "".join("".join(split_sentences(hard)).split())
    assert time.monotonic() - start < 3
