"""Every sentence of Tatoeba (112 languages) and SIB-200 (205 languages), with released vocabularies: zero differences."""

from __future__ import annotations

import gzip
import os

import pytest
import sentencepiece
import transformers

from halbert.spec import TextSpec
from halbert.text.unigram import Unigram
from halbert.text.wordpiece import WordPiece, read_vocab
from tests.text import google

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sentences(shared_data):
    found: dict[str, None] = {}
    for name in ("tatoeba/tatoeba.tsv.gz", "sib200/train.tsv.gz", "sib200/dev.tsv.gz", "sib200/test.tsv.gz"):
        with gzip.open(shared_data / name, "rt", encoding="utf-8", newline="\n") as stream:
            for line in stream:
                found |= dict.fromkeys(line.rstrip("\n").split("\t"))
    assert len(found) > 300_000
    return list(found)


VOCABULARIES = {
    "uncased": ("bert-base-uncased-vocab.txt", True),
    "cased": ("bert-base-multilingual-cased-vocab.txt", False),
}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.timeout(1200)
def test_wordpiece_as_google(shared_data, sentences, vocabulary):
    file, lower = VOCABULARIES[vocabulary]
    words = read_vocab(shared_data / "vocab" / file)
    table = {token: i for i, token in enumerate(words)}
    tokenizer = WordPiece(words, TextSpec(compat="google", lower_case=lower, strip_accents=lower))
    for text, ids in zip(sentences, tokenizer.bulk(sentences), strict=True):
        assert ids == google.full(text, table, lower, lower), text


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.timeout(1200)
def test_wordpiece_as_transformers(shared_data, sentences, vocabulary):
    file, lower = VOCABULARIES[vocabulary]
    words = read_vocab(shared_data / "vocab" / file)
    oracle = transformers.BertTokenizer(vocab=str(shared_data / "vocab" / file), do_lower_case=lower)
    tokenizer = WordPiece(words, TextSpec(lower_case=lower, strip_accents=lower))
    for start in range(0, len(sentences), 10_000):
        part = sentences[start : start + 10_000]
        expected = oracle(part, add_special_tokens=False)["input_ids"]
        # transformers takes "[MASK]" in a text for the mask, Halbert for five words.
        for text, ids, theirs in zip(part, tokenizer.bulk(part), expected, strict=True):
            assert ids == theirs or "[" in text, text


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.timeout(1200)
def test_unigram_as_google(shared_data, sentences, keep):
    """Differences are ties: two segmentations whose scores differ by less than the rounding of float sums."""
    model = (shared_data / "vocab" / "albert-v1-30k-spiece.model").read_bytes()
    oracle = sentencepiece.SentencePieceProcessor(model_proto=model)
    tokenizer = Unigram(model, TextSpec(kind="unigram", lower_case=not keep, strip_accents=not keep))
    differ = []
    for text, ids in zip(sentences, tokenizer.bulk(sentences), strict=True):
        prepared = google.preprocess(text, not keep, keep)
        expected = [oracle.PieceToId(p) for p in google.encode_pieces(oracle.EncodeAsPieces, prepared)]
        if ids != expected:
            a, b = (sum(oracle.GetScore(i) for i in found) for found in (ids, expected))
            assert abs(a - b) <= 1e-4, text
            differ.append(text)
    if os.environ.get("HALBERT_SHOW"):
        print(f"{len(differ)} ties of {len(sentences)}")
    assert len(differ) <= len(sentences) // 1_000
