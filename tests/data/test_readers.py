from __future__ import annotations

import gzip
import json

import pyarrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.data import readers
from halbert.data.readers import Example, iter_examples, read_examples, read_rows
from halbert.errors import InputError, MissingExtra
from tests import small


@pytest.fixture
def put(tmp_path):
    """Writes a file of the test's folder and returns its path."""

    def write(name: str, content: str | bytes):
        path = tmp_path / name
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def told(path, **options):
    return [(e.text, e.pair, e.label) for e in read_examples(path, **options)]


def test_csv_with_quotes_and_newlines(put):
    path = put("a.csv", 'label,text,other\nx,"one, ""two""\n\nthree",1\r\n"y", plain \'text\' ,\n')
    assert told(path) == [('one, "two"\n\nthree', None, "x"), (" plain 'text' ", None, "y")]
    assert told(str(path)) == told(path)


def test_tsv_has_no_quoting(put):
    path = put("a.tsv", 'text\tlabel\n"one\tx\nsaid "two", three\ty\n')
    assert told(path) == [('"one', None, "x"), ('said "two", three', None, "y")]


def test_jsonl(put):
    path = put(
        "a.jsonl", '{"text": "é \\u00e9 \\ud83d\\ude00", "label": "x"}\n\n{"label": "y", "text": "", "n": [1]}\n'
    )
    assert told(path) == [("é é 😀", None, "x"), ("", None, "y")]


def test_numbers_and_truths_are_labels(put):
    rows = [{"text": "a", "label": label} for label in (0, -3, 1.5, True, "0")]
    path = put("a.jsonl", "\n".join(map(json.dumps, rows)))
    assert [e.label for e in read_examples(path)] == ["0", "-3", "1.5", "True", "0"]


def test_lines_of_text(put):
    path = put("a.txt", "one\n\n two \r\n\n")
    assert told(path, labelled=False) == [(t, None, None) for t in ("one", "", " two ", "")]
    with pytest.raises(InputError, match="has no column 'label'"):
        read_examples(path)


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(
        pyarrow.table({"text_a": ["one", "two"] * 800, "text_b": ["", "b"] * 800, "label": [0, 1] * 800}), path
    )
    assert told(path) == [("one", "", "0"), ("two", "b", "1")] * 800


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtra, match=r"halbert\[io\]"):
        read_examples(tmp_path / "a.parquet")


def test_pairs_come_before_text(put):
    path = put("a.csv", "text,text_b,text_a,label\nt,b,a,x\n")
    assert told(path) == [("a", "b", "x")]
    assert told(path, labelled=False) == [("a", "b", None)]
    assert told(put("b.csv", "text,text_b,label\nt,b,x\n")) == [("t", None, "x")]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "txt"])
def test_packed_files_read_as_unpacked_ones(put, ending):
    text = {
        "csv": 'text,label\n"a\nb",x\n', "tsv": "text\tlabel\na\tx\n", "jsonl": '{"text": "a", "label": "x"}\n', "txt": "a\n\n",
    }[ending]  # fmt: skip
    plain, packed = put(f"a.{ending}", text), put(f"a.{ending}.gz", text)
    assert told(packed, labelled=ending != "txt") == told(plain, labelled=ending != "txt") != []


def test_a_byte_order_mark_is_no_text(put):
    assert told(put("a.csv", "\ufefftext,label\na,x\n")) == [("a", None, "x")]


BAD = {
    "missing file": ("none.csv", None, "no such file; expected a data file"),
    "empty file": ("a.csv", "", "is empty"),
    "header only": ("a.csv", "text,label\n", "holds no rows"),
    "header only, packed": ("a.csv.gz", "text,label\n", "holds no rows"),
    "packed nothing": ("a.csv.gz", "", "holds no rows"),
    "blank lines only": ("a.jsonl", "\n \n", "holds no rows"),
    "no label": ("a.csv", "text,lable\na,x\n", "no column 'label'; did you mean 'lable'.*columns text, lable"),
    "no text": ("a.csv", "texts,label\na,x\n", "no column 'text'; did you mean 'texts'"),
    "half a pair": ("a.jsonl", '{"text_a": "a", "label": "x"}', "no column 'text'; did you mean 'text_a'"),
    "unlike names": ("a.csv", "sentence,label\na,x\n", "no column 'text'; found the columns sentence, label, expected text"),
    "same name twice": ("a.csv", "text,label,text\na,x,b\n", "two columns have the same name"),
    "short row": ("a.csv", "text,label\na,x\n\nb\n", "line 4 has 1 columns, the header has 2"),
    "long row": ("a.tsv", "text\tlabel\na\tx\ty\n", "line 2 has 3 columns, the header has 2"),
    "unquoted comma": ("a.csv", "text,label\nno, thanks,x\n", "line 2 has 3 columns"),
    "open quote": ("a.csv", 'text,label\n"a,x\n', "line 2: .*"),
    "text after a quote": ("a.csv", 'text,label\n"a"b,x\n', "line 2: .*"),
    "bad JSON": ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": \n', "line 2 is not valid JSON"),
    "no object": ("a.jsonl", '["text"]\n', "line 1 is not a JSON object"),
    "deep JSON": ("a.jsonl", "[" * 200_000, "line 1 is not valid JSON"),
    "endless number": ("a.jsonl", '{"text": ' + "9" * 5000 + "}", "line 1 is not valid JSON"),
    "half a character": ("a.jsonl", '{"text": "a \\ud800", "label": "x"}', "line 1 is not valid JSON: .*surrogate"),
    "half a label": ("a.jsonl", '{"text": "a", "label": "\\uDFFF"}', "line 1 is not valid JSON: .*surrogate"),
    "half a column": ("a.jsonl", '{"text": "a", "\\ud800": "x"}', "line 1 is not valid JSON: .*surrogate"),
    "not UTF-8": ("a.csv", b"text,label\na,x\ncaf\xe9,x\n", "line 3 is not UTF-8"),
    "UTF-16": ("a.csv", "text,label\n".encode("utf-16"), "line 1 is not UTF-8"),
    "surrogate bytes": ("a.txt", b"\xed\xa0\x80", "line 1 is not UTF-8"),
    "wrong ending": ("a.xlsx", "x", r"ends in '.xlsx'; expected one of .csv, .tsv, .jsonl, .parquet, .txt"),
    "no ending": ("data", "x", "ends in 'nothing'"),
    "empty label": ("a.csv", "text,label\na,x\nb,\n", "row 2 has no text in column 'label' \\(found ''\\)"),
    "null label": ("a.jsonl", '{"text": "a", "label": null}', "row 1 has no text in column 'label' \\(found None\\)"),
    "NaN label": ("a.jsonl", '{"text": "a", "label": NaN}', "row 1 has no text in column 'label' \\(found nan\\)"),
    "number as text": ("a.jsonl", '{"text": 3, "label": "x"}', "row 1 has no text in column 'text' \\(found 3\\)"),
    "key lost later": ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "a"}', "row 2 has no text in column 'label'"),
    "no Parquet": ("a.parquet", "PAR1 but not really", "is not a readable Parquet file"),
    "not packed": ("a.csv.gz", None, "no such file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, put, case):
    name, content, said = BAD[case]
    path = tmp_path / name if content is None else put(name, content)
    with pytest.raises(InputError, match=said) as caught:
        read_examples(path)
    assert name in str(caught.value)


def test_a_folder_and_a_false_gz(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(InputError, match="is a folder, expected a data file"):
        read_examples(tmp_path / "a.csv")
    (tmp_path / "b.csv.gz").write_bytes(b"text,label\na,x\n")
    with pytest.raises(InputError, match="cannot be unpacked"):
        read_examples(tmp_path / "b.csv.gz")


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=12)


@given(rows=st.lists(st.tuples(TEXTS, TEXTS.filter(bool)), min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    wanted = [Example(text=text, label=label) for text, label in rows]
    assert read_examples(small.write_csv(folder / "a.csv", rows)) == wanted
    for ascii_only in (True, False):
        lines = [json.dumps({"text": t, "label": y}, ensure_ascii=ascii_only) for t, y in rows]
        (folder / "a.jsonl").write_text("\n".join(lines), "utf-8", newline="")
        assert read_examples(folder / "a.jsonl") == wanted
    parquet.write_table(pyarrow.Table.from_pylist([{"text": t, "label": y} for t, y in rows]), folder / "a.parquet")
    assert read_examples(folder / "a.parquet") == wanted


def test_rows_are_read_one_at_a_time(put):
    rows = read_rows(put("a.csv", "text,label\na,x\nragged\n"))
    assert next(rows) == {"text": "a", "label": "x"}
    with pytest.raises(InputError, match="line 3"):
        next(rows)


def test_every_ending_is_tried_here():
    assert set(readers.ENDINGS) == {".csv", ".tsv", ".jsonl", ".parquet", ".txt"}


def test_banking77(shared_data):
    examples = read_examples_of_banking(shared_data)
    assert len(examples) == 3080 and len({e["category"] for e in examples}) == 77


def read_examples_of_banking(shared_data):
    return list(read_rows(shared_data / "banking77" / "test.csv"))


def test_a_text_that_was_named_is_read_alone(tmp_path):
    """Where a file also has the columns of pairs, which were answered without a word."""
    (tmp_path / "a.csv").write_text("text_a,text_b,body\nx,y,z\n")

    def read(**columns):
        return [(e.text, e.pair) for e in iter_examples(tmp_path / "a.csv", labelled=False, columns=columns)]

    assert read(text="body") == [("z", None)] and read() == [("x", "y")]
    with pytest.raises(InputError, match="no column 'nope'"):
        read(text="nope")
    with pytest.raises(InputError, match="text and text_a were both named"):
        read(text="body", text_a="text_a")


def test_numbers_are_the_columns_of_a_file_without_a_header(tmp_path):
    for name, line in (("a.csv", "red,the cat\n"), ("a.tsv", "red\tthe cat\n")):
        (tmp_path / name).write_text(line * 2)
        found = list(iter_examples(tmp_path / name, columns={"text": "2", "label": "1"}))
        assert [(e.text, e.label) for e in found] == [("the cat", "red")] * 2
    (tmp_path / "b.csv").write_text("1,2\nred,the cat\n")  # a header of numbers is one
    assert [e.text for e in iter_examples(tmp_path / "b.csv", labelled=False, columns={"text": "2"})] == ["the cat"]
    with pytest.raises(InputError, match="no column '3'"):
        list(iter_examples(tmp_path / "a.csv", labelled=False, columns={"text": "3"}))
