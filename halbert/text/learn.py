"""Learn a vocabulary of either kind from text."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable

import sentencepiece
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from halbert.errors import InputError
from halbert.spec import TextSpec
from halbert.text.characters import bert_normalizer
from halbert.text.tokenizer import SPECIALS, Tokenizer
from halbert.text.unigram import Unigram, prepare
from halbert.text.wordpiece import WordPiece

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
    clean, split = bert_normalizer(spec), pre_tokenizers.BertPreTokenizer()
    chunks = Counter(chunk for text in texts for chunk in clean.normalize_str(text).split())
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word, _ in split.pre_tokenize_str(chunk):
            words[word] += count
    if not words:
        raise InputError("the text holds no words to learn a vocabulary from")
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    # The trainer numbers letters in the order of a hash table, and breaks ties by number: both are fixed here. Every
    # letter may stand at the start of a word and inside one.
    most = min(max(16, size // 8), (size - len(special)) // 2)
    alphabet = sorted(sorted(letters, key=lambda letter: (-letters[letter], letter))[:most])
    inside = sorted({f"##{letter}" for word in words for letter in word[1:]} & {f"##{letter}" for letter in alphabet})
    engine = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[*special, *inside], show_progress=False,
        initial_alphabet=alphabet, limit_alphabet=len(alphabet),
    )  # fmt: skip
    engine.train_from_iterator((f"{word} " * count for word, count in words.items()), trainer)
    table = engine.get_vocab()
    return WordPiece(sorted(table, key=table.__getitem__), spec)


def _unigram(texts: Iterable[str], size: int, spec: TextSpec) -> Tokenizer:
    names = SPECIALS["unigram"]
    written = io.BytesIO()
    prepared = (line for text in texts if (line := " ".join(prepare(chunk, spec) for chunk in text.split())))
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=prepared,
            model_writer=written,
            vocab_size=size,
            model_type="unigram",
            hard_vocab_limit=False,  # a small text may hold fewer pieces than were asked for
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
