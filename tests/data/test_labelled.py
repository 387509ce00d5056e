"""Files of every form, and what is said of those that cannot be used."""

from __future__ import annotations

import json

import pytest

from halbert.data.labelled import DataFile, survey
from halbert.data.readers import Example
from halbert.errors import InputError

CONLL = "-DOCSTART- -X- O\n\nAnn NNP B-PER\nBell NNP I-PER\n\n\nsat VBD O\n"
CONLLU = (
    "# text = don't\n1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_\n1\tdo\tdo\tAUX\tVB\t_\t0\t_\t_\t_\n"
    "2\tn't\tnot\tPART\tRB\t_\t1\t_\t_\t_\n2.1\tgone\t_\t_\t_\t_\t_\t_\t_\t_\n\n1\t#\t#\tSYM\tNN\t_\t0\t_\t_\t_\n"
)
WNUT = "Ann\tB-person\nBell\tI-person\n\t\n#\tO\n\t\n"


def squad(**changes):
    qa = {"id": "q1", "question": "Who?", "answers": [{"answer_start": 0, "text": "Ann"}], **changes}
    none = {"id": "q2", "question": "Why?", "answers": [], "is_impossible": True, "plausible_answers": [{"text": "x"}]}
    return json.dumps({"version": "v2.0", "data": [{"paragraphs": [{"context": "Ann sat.", "qas": [qa, none]}]}]})


def read(tmp_path, name, content, form, **how):
    (tmp_path / name).write_text(content)
    return list(DataFile(tmp_path / name, form, **how))


@pytest.mark.parametrize(
    ("name", "content", "columns", "wanted"),
    [
        ("a.conll", CONLL, {}, [(("Ann", "Bell"), ("B-PER", "I-PER")), (("sat",), ("O",))]),
        ("a.conll", CONLL, {"label": "2"}, [(("Ann", "Bell"), ("NNP", "NNP")), (("sat",), ("VBD",))]),
        ("a.conll", WNUT, {}, [(("Ann", "Bell"), ("B-person", "I-person")), (("#",), ("O",))]),
        ("a.conllu", CONLLU, {}, [(("do", "n't"), ("AUX", "PART")), (("#",), ("SYM",))]),
        ("a.conllu", CONLLU, {"label": "xpos"}, [(("do", "n't"), ("VB", "RB")), (("#",), ("NN",))]),
        ("a.jsonl", '{"tokens": ["a", "b"], "ner_tags": [0, 3]}', {}, [(("a", "b"), ("0", "3"))]),
        ("a.jsonl", '{"x": {"w": ["a"]}, "t": ["O"]}', {"text": "x.w", "label": "t"}, [(("a",), ("O",))]),
    ],
)  # fmt: skip
def test_tagged(tmp_path, name, content, columns, wanted):
    found = read(tmp_path, name, content, "tagged", columns=columns)
    assert [(e.words, e.tags) for e in found] == wanted
    assert all(e.text == " ".join(e.words) for e in found)


def test_questions(tmp_path):
    a, b = read(tmp_path, "a.json", squad(), "questions")
    assert (a.text, a.pair, a.id, a.answers) == ("Who?", "Ann sat.", "q1", ((0, "Ann"),))
    assert (b.id, b.answers) == ("q2", ())


@pytest.mark.parametrize(
    ("row", "columns", "wanted"),
    [
        ({"text": "t", "choices": ["x", "y"], "label": 1}, {}, ("t", ("x", "y"), "1")),
        ({"text": "t", "choices": ["x", "y"], "label": "B"}, {}, ("t", ("x", "y"), "1")),
        ({"text": "t", "choices": ["x", "y"], "label": "x"}, {}, ("t", ("x", "y"), "0")),
        ({"q": {"stem": "t", "choices": [{"label": "C", "text": "x"}, {"label": "A", "text": "y"}]}, "key": "A"},
         {"text": "q.stem", "choices": "q.choices", "label": "key"}, ("t", ("x", "y"), "1")),
        ({"text": "t", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "label": "1"}, {}, ("t", ("x", "y"), "0")),
        ({"sent1": "t", "sent2": "He", "e0": "x", "e1": "y", "label": "1"},
         {"text": "sent1", "prefix": "sent2", "choices": ("e0", "e1")}, ("t", ("He x", "He y"), "1")),
    ],
)  # fmt: skip
def test_choices(tmp_path, row, columns, wanted):
    (found,) = read(tmp_path, "a.jsonl", json.dumps(row), "choices", columns=columns)
    assert (found.text, found.choices, found.label) == wanted


def test_tables(tmp_path):
    scored = read(tmp_path, "a.tsv", "s1\ts2\tscore\na\tb\t2.5\n", "scored", columns={"text_a": "s1", "text_b": "s2"})
    assert [(e.text, e.pair, e.score) for e in scored] == [("a", "b", 2.5)]
    cola = read(tmp_path, "b.tsv", "gj04\t1\t\tA cat.\ngj04\t0\t*\tCat a.\n", "labelled",
                columns={"text": "4", "label": "2"}, header=False)  # fmt: skip
    assert [(e.text, e.label) for e in cola] == [("A cat.", "1"), ("Cat a.", "0")]
    several = read(tmp_path, "c.csv", "text,labels\nx,a|b\ny,\nz,b\n", "labelled")
    assert [e.labels for e in several] == [("a", "b"), (), ("b",)]
    lists = read(tmp_path, "c.jsonl", '{"text": "x", "labels": ["a", "b"]}\n{"text": "y", "labels": []}', "labelled")
    assert [e.labels for e in lists] == [("a", "b"), ()]
    pairs = read(tmp_path, "d.csv", "text_a,text_b,text_c\na,b,c\n", "pairs")
    assert [(e.text, e.pair, e.third, e.score) for e in pairs] == [("a", "b", "c", None)]
    likeness = read(tmp_path, "e.csv", "text_a,text_b,score\na,b,3\n", "pairs")
    assert [e.score for e in likeness] == [3.0]
    assert [e.text for e in read(tmp_path, "f.txt", "a\nb\n", "texts")] == ["a", "b"]


BAD = {
    "columns missing": ("a.conll", "a\tO\nb\n", "tagged", {}, r"line 2 has 1 columns, expected at least 2: 'b'"),
    "tag column missing": ("a.conll", "a O\n", "tagged", {"label": "4"}, "line 1 has 2 columns, expected at least 4"),
    "no word": ("a.conll", "a\tO\n\tO\n", "tagged", {}, "line 2 has no word"),
    "no tag": ("a.conll", "a\tO\nb\t \t\n", "tagged", {}, "line 2 has no tag"),
    "nothing": ("a.conll", "\n\n", "tagged", {}, "holds no words"),
    "odd column": ("a.conll", "a O\n", "tagged", {"label": "ner"}, "the column 'ner' is neither a number nor one of id, form"),
    "unlike lists": ("a.jsonl", '{"words": ["a"], "tags": []}', "tagged", {}, "row 1 has 1 words and 0 tags"),
    "no lists": ("a.jsonl", '{"text": "a", "tags": []}', "tagged", {}, "row 1 has no list of texts in column words or tokens"),
    "no SQuAD": ("a.json", '{"rows": []}', "questions", {}, "is not in SQuAD's format"),
    "no JSON": ("a.json", "{", "questions", {}, "is not valid JSON"),
    "no context": ("a.json", '{"data": [{"paragraphs": [{"qas": []}]}]}', "questions", {}, "'context' is missing"),
    "id twice": ("a.json", squad(id="q2"), "questions", {}, "question id 'q2' occurs twice"),
    "span elsewhere": ("a.json", squad(answers=[{"answer_start": 4, "text": "Ann"}]), "questions", {},
                       "1 answers do not match their text. question 'q1': 'Ann' does not stand at character 4, where 'sat' does"),
    "span before": ("a.json", squad(answers=[{"answer_start": -1, "text": "Ann"}]), "questions", {}, "answer_start is -1"),
    "no start": ("a.json", squad(answers=[{"text": "Ann"}]), "questions", {}, "'answer_start' is missing"),
    "no questions": ("a.json", '{"data": [{"paragraphs": []}]}', "questions", {}, "holds no questions"),
    "one candidate": ("a.jsonl", '{"text": "t", "choices": ["x"], "label": 0}', "choices", {}, "no list of at least two candidates"),
    "no candidates": ("a.csv", "text,label\na,0\n", "choices", {}, "row 1 has no list of at least two candidates"),
    "wrong number": ("a.jsonl", '{"text": "t", "choices": ["x", "y"], "label": 2}', "choices", {},
                     "row 1: 2 in column 'label' is none of the 2 candidates; expected a number from 0 to 1, one of A, B"),
    "no text": ("a.jsonl", '{"txt": "t", "choices": ["x", "y"]}', "choices", {}, "no text in column 'text'; did you mean 'txt'"),
    "no number": ("a.csv", "text,score\na,1\nb,many\n", "scored", {}, "row 2 has no number in column 'score' \\(found 'many'\\)"),
    "not finite": ("a.csv", "text,score\na,nan\n", "scored", {}, "row 1 has no number"),
    "no score": ("a.csv", "text,scores\na,1\n", "scored", {}, "no column 'score'; did you mean 'scores'"),
    "mapped name": ("a.csv", "sentence,label\na,1\n", "labelled", {"text": "sentense"}, "no column 'sentense'; did you mean 'sentence'"),
    "no pairs": ("a.csv", "text\na\n", "pairs", {}, "has single texts; expected pairs"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_files_that_cannot_be_used(tmp_path, case):
    name, content, form, columns, said = BAD[case]
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path, name, content, form, columns=columns)
    assert name in str(caught.value)


def test_a_survey():
    rows = [Example(text="a", label="x"), Example(text="b", label="y"), Example(text="a", label="x")]
    found = survey(rows, "a.csv", dev=[Example(text="a", label="z"), Example(text="c", label="x")])
    assert (found.count, found.labels, found.overlap, found.several) == (3, {"x": 2, "y": 1}, 2, False)
    numbers = survey([Example(text="a", score=s) for s in (1.0, 2.0, 6.0)], "a.csv")
    assert (numbers.mean, numbers.variance) == (3.0, pytest.approx(14 / 3))
    tags = survey([Example(text="a b", words=("a", "b"), tags=("O", "B-X"))], "a.conll")
    assert tags.labels == {"O": 1, "B-X": 1}


def test_ids_that_occur_twice():
    rows = [Example(text="a", id=str(i % 7)) for i in range(9)]
    with pytest.raises(InputError, match=r"a\.csv: 2 ids occur more than once, for example '0'"):
        survey(rows, "a.csv")
    survey(rows[:7], "a.csv")
