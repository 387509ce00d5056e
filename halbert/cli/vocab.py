"""``halbert vocab``."""

from __future__ import annotations

import enum
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import Json, Quiet, Texts, text_column
from halbert.cli.output import Bars, note, print_json
from halbert.files import check_target, whole_folder
from halbert.processes import open_pool
from halbert.spec import TextSpec

HELP = (
    "Learn a WordPiece or unigram vocabulary from text (whatever halbert corpus reads), and say how it fits text it has not seen "
    "(every hundredth paragraph is kept apart for that)."
)
EXAMPLE = "Example: halbert vocab corpus.txt --kind unigram --size 8000 --out tokenizer"
_APART = 100  # every hundredth paragraph is not learnt from
_MOST_APART = 2_000
_WORTH = 0.005  # share of words that lose accents, from which it is said


class KindChoice(enum.StrEnum):
    """The two tokenizers."""

    wordpiece = "wordpiece"
    unigram = "unigram"


def plain(word: str) -> str:
    """A word without its accents."""
    return "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")


def losing_accents(texts: list[str]) -> tuple[float, str] | None:
    """The share of words that have accents, and the commonest of them; None where it is too small to matter."""
    words = Counter(word.strip(string.punctuation).lower() for text in texts for word in text.split())
    accented = Counter({word: n for word, n in words.items() if plain(word) != word})
    share = accented.total() / max(1, words.total())
    return (share, accented.most_common(1)[0][0]) if share >= _WORTH else None


def run(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES…", help="Text, JSON Lines and Parquet as for halbert corpus, also folders and de=FILE."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    column: Texts = None,
    kind: Annotated[KindChoice, typer.Option(help="Which tokenizer.")] = KindChoice.wordpiece,
    size: Annotated[int, typer.Option(help="Most pieces, special tokens included.")] = 30000,
    cased: Annotated[bool, typer.Option("--cased", help="Keep capitals.")] = False,
    accents: Annotated[bool, typer.Option("--accents", help="Keep accents (implied by --cased).")] = False,
    coverage: Annotated[float, typer.Option(help="Share of all letters whose characters are learnt.")] = 0.99995,
    min_frequency: Annotated[int, typer.Option(min=1, help="Leave out words seen less often.")] = 1,
    reserve: Annotated[
        list[str] | None,
        typer.Option(
            "--reserve",
            metavar="TOKEN",
            help="A token of your own, for programs to put in by its number: no text is cut into it; repeatable.",
        ),
    ] = None,
    language_exponent: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Weigh languages (de=FILE, or de.txt) by share^S; BERT used 0.7."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that count words; the result is the same. Default: all cores.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.data.blocks import paragraphs
    from halbert.data.inputs import Input, find_inputs, size_of
    from halbert.text.learn import count_words, learn_from_counts, report, weigh

    check_target(out)
    inputs = find_inputs(files, column=text_column(column))
    for item in inputs:
        size_of(item)  # what is not there is named before anything is read
    spec = TextSpec(kind=kind.value, lower_case=not cased, strip_accents=not (cased or accents))
    apart: list[str] = []

    def learnt_from(item: Input) -> Iterator[str]:
        for number, text in enumerate(paragraphs(item), 1):
            if number % _APART or len(apart) >= _MOST_APART:
                yield text
            else:
                apart.append(text)

    languages: dict[str, Counter[str]] = {}
    bars = Bars(quiet)
    # Processes are started when a file is long enough for several.
    with open_pool(workers) as pool, bars.task("counting words", len(inputs)) as step:
        for item in inputs:
            language = (item.language or Path(item.name).name.split(".")[0]) if language_exponent is not None else ""
            languages.setdefault(language, Counter()).update(count_words(learnt_from(item), spec, pool))
            step(item.name)
    words = languages[""] if language_exponent is None else weigh(languages, language_exponent)
    with bars.task("learning pieces", None):
        tokenizer = learn_from_counts(
            words, size, spec, coverage=coverage, min_frequency=min_frequency, reserved=reserve or ()
        )
    with whole_folder(out) as folder:
        tokenizer.save(folder)
    found = report(tokenizer, apart)
    if json:
        print_json(
            {"kind": kind.value, "size": size, **{name: getattr(found, name) for name in found.__struct_fields__}}
        )
    fewer = f" (of {size:,}: the text has no more)" if tokenizer.vocab_size < size else ""
    note(f"wrote {out}: {tokenizer.vocab_size:,} pieces{fewer}")
    if found.unknown is not None and found.pieces_per_word is not None and found.covered is not None:
        note(
            f"on {found.words:,} words kept apart: {found.pieces_per_word:.2f} pieces per word, {found.unknown:.3%} of them "
            f"unknown; {found.covered:.3%} of the characters covered"
        )
        if spec.strip_accents and (lost := losing_accents(apart)):
            share, word = lost
            note(
                f"accents are taken away, from {share:.1%} of these words (such as {word}, which becomes {plain(word)}); "
                "--accents keeps them"
            )
    else:
        note(f"how it fits cannot be said of so little text: every {_APART}th paragraph is kept apart for that")
