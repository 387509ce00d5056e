"""Learn a vocabulary of either kind from text."""

from __future__ import annotations

import io
from collections.abc import Iterable

import sentencepiece
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from halbert.errors import InputError
from halbert.spec import TextSpec
from halbert.text.tokenizer import SPECIALS, Tokenizer
from halbert.text.unigram import Unigram, preprocess
from halbert.text.wordpiece import WordPiece, normalizer

# Symbols ALBERT's README hands to spm_train as pieces of their own.
_ALBERT_SYMBOLS = ["(", ")", '"', "-", ".", "–", "£", "€"]
SMALLEST = 32


def learn_vocabulary(texts: Iterable[str], size: int, spec: TextSpec) -> Tokenizer:
    """A tokenizer whose vocabulary of at most ``size`` pieces was learnt from ``texts``; the same text, the same pieces.

    WordPiece: the merge procedure of ``tokenizers``' WordPieceTrainer. Unigram: ``sentencepiece`` with ALBERT's
    settings (README: pad 0, unk 1, [CLS] [SEP] [MASK] as control symbols, character coverage 0.99995).
    Raises :class:`InputError` when the text cannot fill the vocabulary.
    """
    if size < SMALLEST:
        raise InputError(f"a vocabulary of {size} pieces was asked for; expected at least {SMALLEST}")
    return _wordpiece(texts, size, spec) if spec.kind == "wordpiece" else _unigram(texts, size, spec)


def _wordpiece(texts: Iterable[str], size: int, spec: TextSpec) -> Tokenizer:
    special = list(SPECIALS["wordpiece"].values())
    engine = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    engine.normalizer = normalizer(spec)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=special, show_progress=False, limit_alphabet=max(16, size // 8)
    )
    engine.train_from_iterator(texts, trainer)
    table = engine.get_vocab()
    if len(table) <= len(special) + 1:
        raise InputError("the text holds no words to learn a vocabulary from")
    return WordPiece(sorted(table, key=table.__getitem__), spec)


def _unigram(texts: Iterable[str], size: int, spec: TextSpec) -> Tokenizer:
    names = SPECIALS["unigram"]
    written = io.BytesIO()
    prepared = (line for line in (preprocess(text, spec)[0] for text in texts) if line)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=prepared,
            model_writer=written,
            vocab_size=size,
            model_type="unigram",
            character_coverage=0.99995,
            pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
            pad_piece=names["pad"], unk_piece=names["unk"],
            control_symbols=[names["cls"], names["sep"], names["mask"]],
            user_defined_symbols=_ALBERT_SYMBOLS,
            num_threads=1,  # its sums depend on the number of threads
            minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        raise InputError(f"no unigram vocabulary of {size} pieces can be learnt from this text: {error}") from None
    return Unigram(written.getvalue(), spec)
