"""``halbert vocab``."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import Json, Quiet
from halbert.cli.output import Bars, note, print_json
from halbert.files import check_target, read_lines, require_file, whole_folder
from halbert.processes import open_pool
from halbert.spec import TextSpec

HELP = (
    "Learn a WordPiece or unigram vocabulary from text files, and say how it fits text it has not seen (every hundredth "
    "line is kept apart for that)."
)
EXAMPLE = "Example: halbert vocab corpus.txt --kind unigram --size 8000 --out tokenizer"
_APART = 100  # every hundredth line is not learnt from
_MOST_APART = 2_000


class KindChoice(enum.StrEnum):
    """The two tokenizers."""

    wordpiece = "wordpiece"
    unigram = "unigram"


def run(
    files: Annotated[list[Path], typer.Argument(metavar="FILES…", help="UTF-8 text files, .gz too.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    kind: Annotated[KindChoice, typer.Option(help="Which tokenizer.")] = KindChoice.wordpiece,
    size: Annotated[int, typer.Option(help="Most pieces, special tokens included.")] = 30000,
    cased: Annotated[bool, typer.Option("--cased", help="Keep capitals.")] = False,
    accents: Annotated[bool, typer.Option("--accents", help="Keep accents (implied by --cased).")] = False,
    coverage: Annotated[float, typer.Option(help="Share of all letters whose characters are learnt.")] = 0.99995,
    min_frequency: Annotated[int, typer.Option(min=1, help="Leave out words seen less often.")] = 1,
    reserve: Annotated[
        list[str] | None, typer.Option("--reserve", metavar="TOKEN", help="A token of your own; repeatable.")
    ] = None,
    language_exponent: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Weigh languages (one a file, such as de.txt) by share^S; BERT used 0.7."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that count words; the result is the same. Default: all cores.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.text.learn import count_words, learn_from_counts, report, weigh

    check_target(out)
    for file in files:
        require_file(file, "text file")
    spec = TextSpec(kind=kind.value, lower_case=not cased, strip_accents=not (cased or accents))
    apart: list[str] = []

    def learnt_from(file: Path) -> Iterator[str]:
        for number, line in enumerate(read_lines(file), 1):
            if number % _APART or len(apart) >= _MOST_APART:
                yield line
            else:
                apart.append(line)

    languages: dict[str, Counter[str]] = {}
    bars = Bars(quiet)
    # Processes are started when a file is long enough for several.
    with open_pool(workers) as pool, bars.task("counting words", len(files)) as step:
        for file in files:
            language = file.name.split(".")[0] if language_exponent is not None else ""
            languages.setdefault(language, Counter()).update(count_words(learnt_from(file), spec, pool))
            step(file.name)
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
    note(f"wrote {out}: {tokenizer.vocab_size:,} pieces")
    if found.unknown is not None and found.pieces_per_word is not None and found.covered is not None:
        note(
            f"on {found.words:,} words kept apart: {found.pieces_per_word:.2f} pieces per word, {found.unknown:.3%} of them "
            f"unknown; {found.covered:.3%} of the characters covered"
        )
