"""Learn a vocabulary of either kind from text.

From the counts of words, never from the text itself: memory follows the number of different words, the order of texts and
files does not matter, and languages can be weighted.
"""

from __future__ import annotations

import functools
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor

import msgspec
import sentencepiece
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from halbert.errors import InputError
from halbert.processes import in_order
from halbert.spec import TextSpec
from halbert.text.characters import JOINERS, characters
from halbert.text.tokenizer import SPECIALS, Tokenizer
from halbert.text.unigram import Unigram, prepare
from halbert.text.wordpiece import WordPiece

# Symbols ALBERT's README hands to spm_train as pieces of their own.
_ALBERT_SYMBOLS = ["(", ")", '"', "-", ".", "–", "£", "€"]
SMALLEST = 32
COVERAGE = 0.99995
# More different words than this are thinned out: those seen once go, then those seen twice, and so on.
MOST_WORDS = 20_000_000
# Characters that are counted at once.
BLOCK = 1 << 23
# Texts that are parted into words at once.
_TOGETHER = 256


def count_words(texts: Iterable[str], spec: TextSpec, pool: Executor | None = None) -> Counter[str]:
    """How often every word occurs, as a tokenizer of this spec sees words (unigram: what stands between white space).

    With a pool of processes the blocks of a long text are counted side by side; the counts are the same.
    """
    chunks: Counter[str] = Counter()
    least = 1
    for found in in_order(pool, functools.partial(_count, spec=spec), _blocks(texts)):
        chunks.update(found)
        while len(chunks) > MOST_WORDS:
            chunks = Counter({chunk: count for chunk, count in chunks.items() if count > least})
            least += 1
    words: Counter[str] = Counter()
    table = characters(spec)
    for chunk, count in chunks.items():
        for word in table.split(chunk) if spec.kind == "wordpiece" else prepare(chunk, spec).split():
            words[word] += count
    return words


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts of about ``BLOCK`` characters together, whoever counts them."""
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text) + 1
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _count(block: list[str], spec: TextSpec) -> Counter[str]:
    found: Counter[str] = Counter()
    for start in range(0, len(block), _TOGETHER):
        text = "\n".join(block[start : start + _TOGETHER])
        found.update((JOINERS.sub("", text) if spec.kind == "wordpiece" else text).split())
    return found


def weigh(languages: Mapping[str, Counter[str]], exponent: float) -> Counter[str]:
    """One count of words out of one per language, each language's share ``p`` raised to ``exponent``.

    As multilingual BERT (google-research/bert ``multilingual.md``, exponent 0.7): languages with little text are seen
    more often, those with much less often; a language is never scaled down below its text's share in the smallest.
    """
    totals = {language: sum(words.values()) for language, words in languages.items()}
    everything = sum(totals.values())
    weights = {language: (total / everything) ** (exponent - 1) for language, total in totals.items() if total}
    smallest = min(weights.values(), default=1.0)  # that of the biggest language: its counts stay as they are
    found: Counter[str] = Counter()
    for language in sorted(weights):
        factor = weights[language] / smallest
        for word, count in languages[language].items():
            found[word] += round(count * factor)
    return found


def learn_vocabulary(texts: Iterable[str], size: int, spec: TextSpec) -> Tokenizer:
    """A tokenizer whose vocabulary of at most ``size`` pieces was learnt from ``texts``, in any order."""
    return learn_from_counts(count_words(texts, spec), size, spec)


def learn_from_counts(
    words: Mapping[str, int],
    size: int,
    spec: TextSpec,
    *,
    coverage: float = COVERAGE,
    min_frequency: int = 1,
    reserved: Sequence[str] = (),
) -> Tokenizer:
    """A tokenizer learnt from how often words occur; the same counts, the same pieces.

    WordPiece: the merge procedure of ``tokenizers``' WordPieceTrainer. Unigram: ``sentencepiece`` with ALBERT's settings
    (README: pad 0, unk 1, [CLS] [SEP] [MASK] as control symbols, character coverage 0.99995). ``coverage`` is the share
    of all letters whose characters are in the vocabulary; words seen less than ``min_frequency`` times are left out;
    ``reserved`` tokens follow the special ones and never come from text. Raises :class:`InputError` when the text cannot
    fill the vocabulary, or a value is impossible.
    """
    if size < SMALLEST + len(reserved):
        raise InputError(f"a vocabulary of {size} pieces was asked for; expected at least {SMALLEST + len(reserved)}")
    if not 0.5 <= coverage <= 1:
        raise InputError(f"a character coverage of {coverage} was asked for; expected 0.5 to 1")
    taken = set(SPECIALS[spec.kind].values())
    if len(set(reserved) | taken) != len(reserved) + len(taken):
        raise InputError("reserved tokens must differ from each other and from the special tokens")
    kept = {word: count for word, count in words.items() if count >= max(min_frequency, 1)}
    if not kept:
        raise InputError(f"the text holds no words to learn a vocabulary from (seen at least {min_frequency} times)")
    learn = _wordpiece if spec.kind == "wordpiece" else _unigram
    return learn(kept, size, spec, coverage, list(reserved))


def _wordpiece(words: Mapping[str, int], size: int, spec: TextSpec, coverage: float, reserved: list[str]) -> Tokenizer:
    special = [*SPECIALS["wordpiece"].values(), *reserved]
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    # The trainer numbers letters in the order of a hash table, and breaks ties by number: both are fixed here. Every
    # letter may stand at the start of a word and inside one.
    most = min(max(16, size // 8), (size - len(special)) // 2)
    ordered = sorted(letters, key=lambda letter: (-letters[letter], letter))
    alphabet = sorted(ordered[: min(most, _covering(ordered, letters, coverage))])
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


def _covering(ordered: list[str], letters: Counter[str], coverage: float) -> int:
    """How many of the most frequent letters make up ``coverage`` of all."""
    wanted, seen = coverage * sum(letters.values()), 0
    for number, letter in enumerate(ordered, 1):
        seen += letters[letter]
        if seen >= wanted:
            return number
    return len(ordered)


def _unigram(words: Mapping[str, int], size: int, spec: TextSpec, coverage: float, reserved: list[str]) -> Tokenizer:
    names = SPECIALS["unigram"]
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(f"{word}\t{words[word]}" for word in sorted(words)),
            input_format="tsv",  # a word and how often it occurs
            model_writer=written,
            vocab_size=size,
            model_type="unigram",
            hard_vocab_limit=False,  # a small text may hold fewer pieces than were asked for
            character_coverage=coverage,
            pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
            pad_piece=names["pad"], unk_piece=names["unk"],
            control_symbols=[names["cls"], names["sep"], names["mask"], *reserved],
            user_defined_symbols=_ALBERT_SYMBOLS,
            num_threads=1,  # its sums depend on the number of threads
            minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        raise InputError(f"no unigram vocabulary of {size} pieces can be learnt from this text: {error}") from None
    return Unigram(written.getvalue(), spec)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What people ask next, on text the vocabulary was not learnt from. ``None``: there was no such text."""

    pieces: int
    words: int
    unknown: float | None
    pieces_per_word: float | None
    covered: float | None


def report(tokenizer: Tokenizer, texts: Sequence[str]) -> Report:
    """Share of unknown pieces, pieces per word (between white space), share of characters that are not unknown alone."""
    unknown = tokenizer.special_ids["unk"]
    ids = [i for found in tokenizer.bulk(texts) for i in found]
    words = sum(len(text.split()) for text in texts)
    letters = Counter(c for text in texts for c in text if not c.isspace())
    lost = sum(letters[c] for c in tokenizer.unknown_alone(letters))
    return Report(
        pieces=tokenizer.vocab_size, words=words, unknown=ids.count(unknown) / len(ids) if ids else None,
        pieces_per_word=len(ids) / words if words else None,
        covered=1 - lost / letters.total() if letters else None,
    )  # fmt: skip
