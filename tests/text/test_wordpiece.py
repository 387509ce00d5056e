from __future__ import annotations

import hashlib
import json
import unicodedata

import pytest
import transformers
from hypothesis import example, given
from hypothesis import strategies as st

from halbert.errors import InputError
from halbert.spec import TextSpec
from halbert.text.wordpiece import WordPiece, read_vocab
from tests import tiny

# The vocabulary of both repositories' tokenization_test.py; the two tokens Halbert also needs stand at its end.
_REPOSITORY = "[UNK] [CLS] [SEP] want ##want ##ed wa un runn ##ing , [PAD] [MASK]"
REPOSITORY = _REPOSITORY.split()


def make(vocab: list[str], **switches) -> WordPiece:
    return WordPiece(vocab, TextSpec(**switches))


def tokens(tokenizer: WordPiece, text: str) -> list[str]:
    return [tokenizer.vocab[piece.id] for piece in tokenizer.pieces(text)]


def test_the_repositories_full_tokenizer_test():
    tokenizer = make(REPOSITORY, compat="google")
    assert tokens(tokenizer, "UNwant\u00e9d,running") == ["un", "##want", "##ed", ",", "runn", "##ing"]
    assert tokenizer.bulk(["UNwant\u00e9d,running"]) == [[7, 4, 5, 10, 8, 9]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", []), ("unwanted running", "un ##want ##ed runn ##ing"), ("unwantedX running", "[UNK] runn ##ing")],
)
def test_the_repositories_wordpiece_test(text, expected):
    assert tokens(make(REPOSITORY), text) == (expected.split() if expected else [])


def words(text: str, *vocab: str, **switches) -> list[str]:
    """The words a text falls into, each of them being in the vocabulary."""
    return tokens(make(list(dict.fromkeys([*tiny.SPECIALS, *vocab])), **switches), text)


def test_the_repositories_basic_tokenizer_tests():
    assert words("ah\u535a\u63a8zz", "ah", "\u535a", "\u63a8", "zz") == ["ah", "\u535a", "\u63a8", "zz"]
    lower, kept = ["hello", "!", "how", "are", "you", "?"], ["HeLLo", "!", "how", "Are", "yoU", "?"]
    assert words(" \tHeLLo!how  \n Are yoU?  ", *lower, *kept) == lower
    assert words(" \tHeLLo!how  \n Are yoU?  ", *lower, *kept, lower_case=False, strip_accents=False) == kept
    assert words("H\u00e9llo", "hello", "h\u00e9llo") == ["hello"]
    assert words("H\u00e9llo", "hello", "h\u00e9llo", strip_accents=False) == ["h\u00e9llo"]


@pytest.mark.parametrize("space", [" ", "\t", "\r", "\n", "\u00a0"])
def test_whitespace_parts_words(space):
    assert words(f"un{space}want", "un", "want", "unwant") == ["un", "want"]


@pytest.mark.parametrize("character", ["\u0005", "\u0000", "\ufffd", "\u200b"])
def test_control_characters_vanish(character):
    assert words(f"un{character}want", "un", "want", "unwant") == ["unwant"]


@pytest.mark.parametrize("character", ["A", "\U0001f4a9"])
def test_others_stay(character):
    assert words(f"un{character}want", "un", "want", "unwant", f"un{character}want".lower()) == [
        f"un{character}want".lower()
    ]


@pytest.mark.parametrize("mark", ["-", "$", "`", "."])
def test_punctuation_is_a_word(mark):
    assert words(f"un{mark}want", "un", "want", mark) == ["un", mark, "want"]


@pytest.mark.parametrize(("compat", "limit"), [("google", 200), ("transformers", 100)])
def test_longest_word(compat, limit):
    tokenizer = make([*tiny.SPECIALS, "a", "##a"], compat=compat)
    assert len(tokenizer.pieces("a" * limit)) == limit
    assert tokens(tokenizer, "a" * (limit + 1)) == ["[UNK]"]


@pytest.fixture(scope="module")
def official(shared_data):
    file = shared_data / "vocab" / "bert-base-uncased-vocab.txt"
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith("07eced375cec144d27c900241f3e3394")
    return make(read_vocab(file), compat="google")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("John Johanson's house", "2198 13093 3385 1005 1055 2160"),
        ("unaffable", "14477 20961 3468"),
        ("Élan vital: naïve café", "3449 2319 8995 1024 15743 7668"),
        ("don't stop-believin' $5.00", "2123 1005 1056 2644 1011 19337 2666 6371 1005 1002 1019 1012 4002"),
        ("[MASK] is not special here", "1031 7308 1033 2003 2025 2569 2182"),
        ("a" * 201, "100"),
    ],
)
def test_official_ids(official, text, ids):
    assert official.bulk([text])[0] == [int(i) for i in ids.split()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("한국어", "ᄒ ##ᅡ ##ᆫ ##ᄀ ##ᅮ ##ᆨ ##ᄋ ##ᅥ"),
        ("ひらがな", "ひ ##ら ##か ##な"),
        ("你好,世界 abc", "[UNK] [UNK] , 世 [UNK] abc"),
        ("a\u200bb\ufffdc", "abc"),
    ],
)
def test_official_tokens(official, text, expected):
    assert tokens(official, text) == expected.split()


def test_sample_text(official, shared_data):
    lines = (shared_data / "sample" / "sample_text.txt").read_text(encoding="utf-8").splitlines()
    ids = official.bulk([line.strip() for line in lines if line.strip()])
    assert (len(ids), sum(map(len, ids))) == (31, 1_019)
    digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    assert digest == "8f682f669d3da9bacc23c7a266283c874999f7ae57c1d9b5ab7ba1b8177a4428"


@pytest.mark.parametrize("name", ["bert-base-chinese", "bert-base-multilingual-cased"])
def test_other_official_vocabularies_load(shared_data, name):
    vocab = read_vocab(shared_data / "vocab" / f"{name}-vocab.txt")
    tokenizer = make(vocab, lower_case=False, strip_accents=False)
    assert tokenizer.vocab_size == {"bert-base-chinese": 21_128, "bert-base-multilingual-cased": 119_547}[name]
    assert tokens(tokenizer, "世界") == ["世", "界"]


CLEAN = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="\ufffd") | st.sampled_from(" \n.,'-é世")
)
SWITCHES = [(lower, strip) for lower in (True, False) for strip in (True, False)]


@given(CLEAN)
@example("unwanted , the cat's mats世界! é Cat")
def test_spans_show_the_piece(text):
    """Where nothing is folded, the characters of the span are the piece."""
    letters = sorted({c for c in text if not c.isspace()})
    tokenizer = make(
        list(dict.fromkeys([*tiny.SPECIALS, *tiny.WORDS, *letters[::2], *(f"##{c}" for c in letters)])),
        lower_case=False, strip_accents=False,
    )  # fmt: skip
    covered: set[int] = set()
    for i, start, end in tokenizer.pieces(text):
        covered |= set(range(start, end))
        token = tokenizer.vocab[i]
        if token != "[UNK]":
            assert text[start:end] == token.removeprefix("##")
    assert covered == {i for i, c in enumerate(text) if not c.isspace()}


@pytest.mark.parametrize(("lower", "strip"), SWITCHES)
@given(text=st.text())
@example(text="İstanbul ΟΔΟΣ ﬁn é e\u0301 한국어 \u0005x\ue000y ẞ")
def test_spans_lie_in_the_text(lower, strip, text):
    tokenizer = make([*tiny.SPECIALS, *tiny.WORDS], lower_case=lower, strip_accents=strip)
    last = 0
    for _, start, end in tokenizer.pieces(text):
        assert last <= start < end <= len(text)
        last = start


def test_spans_of_folded_text():
    text = "  The CÁT\u0005s, e\u0301! 世"
    pieces = make([*tiny.SPECIALS, *tiny.WORDS, "e"]).pieces(text)
    assert [text[start:end] for _, start, end in pieces] == ["The", "CÁT", "s", ",", "e", "!", "世"]


@given(st.lists(st.text(), max_size=4))
def test_bulk_gives_the_ids_of_pieces(texts):
    tokenizer = make([*tiny.SPECIALS, *tiny.WORDS])
    assert tokenizer.bulk(texts) == [[piece.id for piece in tokenizer.pieces(text)] for text in texts]


@pytest.fixture(scope="module", params=SWITCHES, ids=str)
def pair(request):
    lower, strip = request.param
    vocab = [*tiny.SPECIALS, *tiny.WORDS, *(f"{mark}{c}" for c in "abcdefxyzàéABC" for mark in ("", "##"))]
    vocab = list(dict.fromkeys(vocab))
    table = {token: i for i, token in enumerate(vocab)}
    theirs = transformers.BertTokenizer(vocab=table, do_lower_case=lower, strip_accents=strip)
    return make(vocab, lower_case=lower, strip_accents=strip), theirs


# Without "[": transformers takes a special token written in a text for one, Halbert only where masks are asked for.
UNBRACKETED = st.text(st.characters(codec="utf-8", exclude_characters="["))


@given(text=UNBRACKETED, other=UNBRACKETED)
@example(text="Unwanted cats, É e\u0301 世界", other="ab\u0005c\u00a0d")
def test_same_as_transformers(pair, text, other):
    ours, theirs = pair
    found, expected = ours.encode(text, other), theirs([text], [other], return_offsets_mapping=True)
    assert found.ids == expected["input_ids"][0]
    assert found.segments == expected["token_type_ids"][0]
    spans = [(0, 0) if span is None else span for span in found.spans]
    assert spans == expected["offset_mapping"][0]


@pytest.mark.parametrize("text", ["the cat sat on a mat", "unwanted cats , dog", "the cat ' mats ! 1 2 é"])
def test_decode_inverts_clean_text(text):
    tokenizer = make([*tiny.SPECIALS, *tiny.WORDS], strip_accents=False)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_decode_leaves_special_tokens_out_but_shows_masks():
    tokenizer = make([*tiny.SPECIALS, *tiny.WORDS])
    ids = [*tokenizer.encode("the [MASK] xyz", "sat", masks=True).ids, tokenizer.special_ids["pad"]]
    assert tokenizer.decode(ids) == "the [MASK] [UNK] sat"
    for bad in (-1, tokenizer.vocab_size):
        with pytest.raises(InputError, match=f"id {bad} is outside the vocabulary of {tokenizer.vocab_size} tokens"):
            tokenizer.decode([bad])


def test_starts_word():
    tokenizer = make(REPOSITORY)
    assert [tokenizer.vocab[i] for i in range(13) if not tokenizer.starts_word[i]] == ["##want", "##ed", "##ing"]


def test_an_unusable_vocabulary():
    with pytest.raises(InputError, match=r"lacks the special token '\[MASK\]'"):
        make(REPOSITORY[:-1])
    with pytest.raises(InputError, match="holds 2 tokens twice"):
        make([*REPOSITORY, "un", ","])


def test_a_cased_e_with_a_combining_accent_stays_as_it_is():
    text = unicodedata.normalize("NFD", "é")
    assert words(text, "é", text, lower_case=False, strip_accents=False) == [text]
