"""``halbert vocab``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.output import note
from halbert.files import check_target, read_lines, require_file, whole_folder
from halbert.spec import TextSpec

HELP = "Learn a WordPiece or unigram vocabulary from text files."
EXAMPLE = "Example: halbert vocab corpus.txt --kind unigram --size 8000 --out tokenizer"


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
) -> None:
    """See HELP."""
    from halbert.text.learn import learn_vocabulary

    check_target(out)
    for file in files:
        require_file(file, "text file")
    spec = TextSpec(kind=kind.value, lower_case=not cased, strip_accents=not (cased or accents))
    tokenizer = learn_vocabulary((line for file in files for line in read_lines(file)), size, spec)
    with whole_folder(out) as folder:
        tokenizer.save(folder)
    note(f"wrote {out}: {tokenizer.vocab_size:,} pieces")
