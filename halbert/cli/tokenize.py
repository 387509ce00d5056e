"""``halbert tokenize``."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from halbert.cli.options import Input, Json, MaxLength, Model
from halbert.cli.output import print_line, texts_from
from halbert.errors import InputError

HELP = "Show how a model reads texts: pieces, ids, segments and character spans."
EXAMPLE = 'Example: halbert tokenize ./model "Hello world" --json'


def run(
    model: Model,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT…", help="Texts.")] = None,
    input: Input = None,
    pair: Annotated[bool, typer.Option("--pair", help="Read two texts as one pair.")] = False,
    max_length: MaxLength = None,
    json: Json = False,
) -> None:
    """See HELP."""
    from halbert.source import resolve_tokenizer

    tokenizer = resolve_tokenizer(model)
    examples = texts_from(texts, input)
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
