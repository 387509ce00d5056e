from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.data.features import check_labels, encode_examples, label_order
from halbert.data.readers import Example
from halbert.errors import InputError
from tests import tiny


def examples(*labels):
    return [Example(text="a", label=label) for label in labels]


def test_labels_keep_the_order_they_appear_in():
    assert label_order(examples("b", "a", "b", "c"), "train.csv") == ("b", "a", "c")


def test_numbers_are_ordered_by_size():
    assert label_order(examples("10", "2", "-1", "2"), "train.csv") == ("-1", "2", "10")
    assert label_order(examples("10", "2", "x"), "train.csv") == ("10", "2", "x")


@pytest.mark.parametrize("odd", ["²", "①", "--1", "-", "1.5", "9" * 5000])
def test_what_only_looks_like_a_number_is_a_name(odd):
    assert label_order(examples(odd, "1", "0"), "train.csv") == (odd, "1", "0")


@pytest.mark.parametrize(("rows", "found"), [(examples("x", "x"), "'x'"), (examples(None, None), "none"), ([], "none")])
def test_one_class_is_refused(rows, found):
    with pytest.raises(InputError, match=rf"train\.csv: all rows have one label \({found}\)"):
        label_order(rows, "train.csv")


def test_unknown_labels_are_refused():
    labels = tuple("abcdefgh")
    check_labels(examples("a", "h", None), labels, "dev.csv")
    with pytest.raises(
        InputError, match=r"dev\.csv: the label 'z' is not among the 8 labels .* \(a, b, c, d, e, f, …\)"
    ):
        check_labels(examples("a", "z"), labels, "dev.csv")
    with pytest.raises(InputError, match=r"'z' is not among the 2 labels of the training data \(a, b\)$"):
        encode_examples(examples("z"), tiny.tokenizer(), 9, ("a", "b"))


def test_class_numbers():
    rows = examples("b", "a", None, "b")
    assert encode_examples(rows, tiny.tokenizer(), 9, ("a", "b")).target.tolist() == [1, 0, -100, 1]
    assert encode_examples(rows, tiny.tokenizer(), 9).target.tolist() == [-100] * 4


def test_nothing_is_nothing():
    found = encode_examples([], tiny.tokenizer(), 9, ("a", "b"))
    assert (found.encoded, len(found), found.rows, found.target.tolist(), found.cut) == ([], 0, 0, [], (0, 0, 0))


def test_pairs_and_singles_do_not_mix():
    with pytest.raises(InputError, match="some examples are pairs and some are not"):
        encode_examples([Example(text="a"), Example(text="a", pair="b")], tiny.tokenizer(), 9)


TEXTS = st.lists(st.sampled_from(["the", "cat", "runn", "wanted", "zzz", "."]), max_size=9).map(" ".join)


@given(st.one_of(st.lists(TEXTS, max_size=6), st.lists(st.tuples(TEXTS, TEXTS), max_size=6)), st.integers(3, 14))
def test_features_are_the_tokenizers_and_cuts_are_counted(rows, length):
    tokenizer = tiny.tokenizer()
    pairs = [r if isinstance(r, tuple) else (r, None) for r in rows]
    features = encode_examples([Example(text=a, pair=b) for a, b in pairs], tokenizer, length)
    whole = [tokenizer.encode(a, b) for a, b in pairs]
    over = [len(e.ids) for e in whole if len(e.ids) > length]  # one that just fits is not cut
    assert features.cut == (len(over), sum(over) - length * len(over), max(over, default=0))
    cut = [tokenizer.encode(a, b, max_length=length) for a, b in pairs]
    assert features.encoded == [(e.ids, e.segments) for e in cut]
