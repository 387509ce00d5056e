"""``halbert tokenize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from halbert.cli.options import Column, Input, Json, MaxLength, Model, column_names
from halbert.cli.output import Bars, check_source, print_json, print_line, table, texts_from
from halbert.data.addresses import brought
from halbert.errors import InputError

if TYPE_CHECKING:
    from halbert.text import Tokenizer

HELP = "Show how a model reads texts: pieces, ids, segments and character spans; or how well it fits many languages."
EXAMPLE = 'Example: halbert tokenize ./model "Hello world" --json'


def run(
    model: Model,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT…", help="Texts.")] = None,
    input: Input = None,
    column: Column = None,
    pair: Annotated[bool, typer.Option("--pair", help="Read two texts as one pair.")] = False,
    max_length: MaxLength = None,
    languages: Annotated[
        Path | None,
        typer.Option(
            "--languages", metavar="DIR", help="Measure the fit to every language of DIR (de.txt, fr.txt.gz …)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """See HELP."""
    from halbert.source import resolve_tokenizer

    if languages is not None and (texts or input or pair or column):
        raise InputError("--languages reads its own files; give it without texts, --input, --column and --pair")
    tokenizer = resolve_tokenizer(model)
    if languages is not None:
        _measure_languages(tokenizer, languages, json)
        return
    called = column_names(column)
    check_source(texts, input, called)
    with brought(input) as file:
        examples = list(texts_from(texts, file, called))
    if pair and input is None:
        if len(examples) % 2:
            raise InputError(f"--pair needs an even number of texts, found {len(examples)}")
        both = [(a.text, b.text) for a, b in zip(examples[::2], examples[1::2], strict=True)]
    else:
        both = [(e.text, e.pair) for e in examples]  # type: ignore[misc]
    for text, second in both:
        encoding = tokenizer.encode(text, second, max_length=max_length)
        if json:
            told = msgspec.to_builtins(encoding)
            print_line({name: told[name] for name in ("ids", "tokens", "segments", "spans")})
        else:
            print(" ".join(encoding.tokens))


def _measure_languages(tokenizer: Tokenizer, folder: Path, json: bool) -> None:
    from halbert.text.languages import language_files, measure_file

    files = language_files(folder)
    with Bars(quiet=len(files) < 20).task("Measuring", len(files)) as step:
        found = []
        for code, file in files:
            found.append(measure_file(tokenizer, code, file))
            step(code)
    if json:
        print_json([msgspec.to_builtins(fit) for fit in found])
        return

    def shown(value: float | None, form: str) -> str:
        return "not known" if value is None else format(value, form)

    rows = [
        [
            fit.code, fit.name, shown(fit.characters, ",d"), shown(fit.covered, ".1%"), shown(fit.unknown, ".2%"),
            shown(fit.pieces_per_word, ".2f"), shown(fit.pieces_per_character, ".2f"),
        ]
        for fit in found
    ]  # fmt: skip
    head = ["code", "language", "characters", "covered", "unknown pieces", "pieces per word", "per character"]
    table(head, rows, right=(2, 3, 4, 5, 6))
