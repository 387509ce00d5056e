"""Tokenizers on disk: what is saved loads again, here and in transformers, with the same ids."""

from __future__ import annotations

import gzip
import json
import shutil

import pytest
import transformers

from halbert.errors import InputError
from halbert.spec import TextSpec
from halbert.text import load_tokenizer
from halbert.text.unigram import Unigram
from halbert.text.wordpiece import WordPiece
from tests import tiny
from tests.text.made import KINDS, learnt

TEXTS = [
    *tiny.SPEECH[:6],
    "",
    "Élan vital: naïve café, nations!",
    'He said "nation" - THE END.',
    "``we'' can't",
    "  odd   spacing\tand\nlines ",
    "世界 한국어 x",
    "battle-field of war. (it) is £5 — ﬁne ½ e\u0301 ㍿ １２ \u00a0y",
]
SWITCHES = [(lower, strip) for lower in (True, False) for strip in (True, False)]


@pytest.mark.parametrize(("lower", "strip"), SWITCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(tmp_path, kind, lower, strip):
    tokenizer = learnt(kind, lower=lower, strip=strip)
    tokenizer.save(tmp_path)
    for back in (load_tokenizer(tmp_path), load_tokenizer(tmp_path, tokenizer.spec)):
        assert back.fingerprint == tokenizer.fingerprint
        assert back.bulk(TEXTS) == tokenizer.bulk(TEXTS)


@pytest.mark.parametrize(("lower", "strip"), SWITCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_what_is_saved(tmp_path, kind, lower, strip):
    tokenizer = learnt(kind, lower=lower, strip=strip)
    spec = tiny.encoder(vocab_size=tokenizer.vocab_size, **(tiny.ALBERT if kind == "unigram" else {}))
    tiny.bundle(spec, tokenizer=tokenizer).save(tmp_path / "model")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert {
        name: theirs.convert_tokens_to_ids(token) for name, token in tokenizer.special.items()
    } == tokenizer.special_ids
    assert len(theirs) == tokenizer.vocab_size
    for text in TEXTS:
        found = tokenizer.encode(text, TEXTS[0])
        expected = theirs(text, TEXTS[0])
        assert (found.ids, found.segments) == (expected["input_ids"], expected["token_type_ids"]), text


def test_transformers_reads_the_official_albert_vocabulary(tmp_path, shared_data):
    data = (shared_data / "vocab" / "albert-v1-30k-spiece.model").read_bytes()
    tokenizer = Unigram(data, TextSpec(kind="unigram"))
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert [ids for ids, _ in tokenizer.encode_batch(TEXTS)] == theirs(TEXTS)["input_ids"]


@pytest.mark.parametrize(("lower", "strip"), SWITCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_one_file_that_transformers_5_saves(tmp_path, kind, lower, strip):
    """``tokenizer.json`` alone: the SentencePiece model is put together again."""
    tokenizer = learnt(kind, lower=lower, strip=strip)
    tokenizer.save(tmp_path / "ours")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert not any((tmp_path / "theirs" / name).exists() for name in ("vocab.txt", "spiece.model"))
    back = load_tokenizer(tmp_path / "theirs")
    assert back.fingerprint == tokenizer.fingerprint
    assert back.bulk(TEXTS) == tokenizer.bulk(TEXTS)
    assert [back.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_the_official_albert_vocabulary_from_the_file_of_transformers_5(tmp_path, shared_data):
    """What AlbertTokenizer itself makes of ``spiece.model``, on real text."""
    file = shared_data / "vocab" / "albert-v1-30k-spiece.model"
    tokenizer = Unigram(file.read_bytes(), TextSpec(kind="unigram"))
    shutil.copy(file, tmp_path / "spiece.model")
    transformers.AlbertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "spiece.model").exists()
    back = load_tokenizer(tmp_path / "saved")
    assert back.fingerprint == tokenizer.fingerprint
    sentences = gzip.decompress((shared_data / "sib200" / "test.tsv.gz").read_bytes()).decode().splitlines()[::7]
    texts = TEXTS + [line.split("\t")[-1] for line in sentences]
    assert back.bulk(texts) == tokenizer.bulk(texts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told["model"].update(type="BPE"), "of the kind 'BPE'"),
        (lambda told: told["normalizer"]["normalizers"].pop(0), "expected those of ALBERT"),
        (lambda told: told["normalizer"]["normalizers"][0].update(content="'"), "expected those of ALBERT"),
        (lambda told: told.update(pre_tokenizer=None), "expected those of ALBERT"),
        (lambda told: told["model"].update(byte_fallback=True), "byte_fallback is True"),
        (lambda told: told["pre_tokenizer"]["pretokenizers"][1].update(replacement="_"), "replacement is '_'"),
        (lambda told: told["pre_tokenizer"]["pretokenizers"][1].update(prepend_scheme="never"), "prepend_scheme is 'never'"),
        (lambda told: told["model"]["vocab"].append(["x", "1"]), "no list of pieces and scores"),
        (lambda told: told["model"]["vocab"][9].__setitem__(1, 1e300), "no list of pieces and scores"),
        (lambda told: told["model"].update(unk_id=None), "no list of pieces and scores"),
        (lambda told: told["model"].update(unk_id=-7), "not a SentencePiece model"),
        (lambda told: told["model"]["vocab"].append(told["model"]["vocab"][9]), "not a SentencePiece model"),
        (lambda told: told["normalizer"]["normalizers"][-1].update(precompiled_charsmap="%"), "not in base64"),
        (lambda told: told["normalizer"]["normalizers"][-1].update(precompiled_charsmap="AAAA"), "not a SentencePiece model"),
    ],
)  # fmt: skip
def test_a_unigram_file_of_other_rules(tmp_path, change, message):
    learnt("unigram").save(tmp_path)
    (tmp_path / "spiece.model").unlink()
    file = tmp_path / "tokenizer.json"
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))
    with pytest.raises(InputError, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("rule", "value", "word"),
    [
        ("continuing_subword_prefix", "@@", "continuing_subword_prefix is '@@'"),
        ("unk_token", "<unk>", "unk_token is '<unk>'"),
        ("max_input_chars_per_word", 7, "max_input_chars_per_word is 7"),
        ("max_input_chars_per_word", 200, None),
    ],
)
def test_a_wordpiece_file_of_other_rules(tmp_path, rule, value, word):
    learnt("wordpiece").save(tmp_path / "ours")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    told = json.loads(file.read_text())
    assert told["model"][rule] != value
    told["model"][rule] = value
    file.write_text(json.dumps(told))
    if word is None:
        load_tokenizer(tmp_path)
        return
    with pytest.raises(InputError, match=word):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("config", "lower", "strip"),
    [
        ({}, True, True),
        ({"do_lower_case": False}, False, False),
        ({"do_lower_case": True, "strip_accents": False}, True, False),
        ({"do_lower_case": False, "strip_accents": True}, False, True),
        ({"do_lower_case": False, "strip_accents": None}, False, False),
        (None, True, True),
    ],
)
def test_switches_of_a_wordpiece_folder(tmp_path, tiny_tokenizer, config, lower, strip):
    tiny_tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.unlink() if config is None else file.write_text(json.dumps(config))
    spec = load_tokenizer(tmp_path).spec
    assert (spec.kind, spec.compat, spec.lower_case, spec.strip_accents) == ("wordpiece", "transformers", lower, strip)


@pytest.mark.parametrize(
    ("config", "lower", "strip"), [({}, True, True), ({"do_lower_case": False, "keep_accents": True}, False, False)]
)
def test_switches_of_a_unigram_folder(tmp_path, config, lower, strip):
    learnt("unigram").save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    spec = load_tokenizer(tmp_path).spec
    assert (spec.kind, spec.lower_case, spec.strip_accents) == ("unigram", lower, strip)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("tokenizer_config.json", b"[]", "tokenizer_config.json: expected a JSON object"),
        ("tokenizer_config.json", b"{", "is not valid JSON"),
        ("vocab.txt", b"", r"vocab\.txt: is empty"),
        ("vocab.txt", b"[PAD]\n\xff\n", r"vocab\.txt: line 2 is not UTF-8"),
        ("vocab.txt", b"[PAD]\n[UNK]\n", r"vocab\.txt: the vocabulary lacks the special token '\[CLS\]'"),
        ("vocab.txt", b"[PAD]\n[PAD]\n", r"vocab\.txt: the vocabulary holds 1 tokens twice"),
        ("spiece.model", b"x", r"spiece\.model: is not a SentencePiece model"),
    ],
)
def test_damaged_files(tmp_path, tiny_tokenizer, name, data, message):
    tiny_tokenizer.save(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        load_tokenizer(tmp_path)


def test_no_tokenizer(tmp_path):
    with pytest.raises(InputError, match=r"found neither vocab\.txt"):
        load_tokenizer(tmp_path)


def test_lines_of_a_vocabulary_end_only_at_newlines(tmp_path, tiny_tokenizer):
    odd = [*tiny_tokenizer.vocab, "a\u2028b", "c\u0085d", "\u001c"]
    (tmp_path / "vocab.txt").write_bytes(("\n".join(odd) + "\n").encode())
    assert load_tokenizer(tmp_path).vocab == odd


@pytest.mark.parametrize(("compat", "limit"), [("google", 200), ("transformers", 100)])
def test_the_word_limit_holds_in_transformers(tmp_path, compat, limit):
    """A word of 150 characters is pieces for Google, and unknown to transformers' own class."""
    vocab = list(dict.fromkeys([*tiny.SPECIALS, *tiny.WORDS, "##a"]))
    tokenizer = WordPiece(vocab, TextSpec(compat=compat))
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for size in (limit - 1, limit, limit + 1, 150):
        ours = tokenizer.encode("a" * size, "the cat")
        found = theirs("a" * size, "the cat")
        assert (found["input_ids"], found["token_type_ids"]) == (ours.ids, ours.segments)
    assert load_tokenizer(tmp_path, tokenizer.spec).vocab == vocab
