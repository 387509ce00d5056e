"""``halbert pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import MODEL_HELP, Quiet, Set
from halbert.cli.output import Bars, note, training_report
from halbert.files import check_target

HELP = "Pre-train a BERT, an ALBERT or anything between, from a corpus and a recipe (a .toml file or a shipped name)."
EXAMPLE = (
    "Example: halbert pretrain albert-mini --tokenizer ./tokenizer --set corpus=corpus --set steps=500 --out albert"
)


def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A .toml file, or bert-mini, albert-mini.")],
    tokenizer: Annotated[str, typer.Option(metavar="MODEL", help=f"Whose tokenizer. {MODEL_HELP}")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    set: Set = None,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.source import resolve_tokenizer
    from halbert.train.pretraining import pretrain, spec_of_recipe
    from halbert.train.recipe import read_recipe

    check_target(out)
    plan = read_recipe(recipe, set or [])
    text = resolve_tokenizer(tokenizer)
    encoder = spec_of_recipe(plan, text).encoder
    if not quiet:
        note(
            f"{encoder.count_encoder():,} encoder parameters, about {plan.batch_tokens:,} pieces a step, {plan.steps:,} steps"
        )
    with Bars(quiet).task(f"Pre-training {out.name}", plan.steps) as step:
        bundle = pretrain(plan, text, out, report=training_report(step))
    training = bundle.provenance["training"]
    last = training["journal"][-1]
    note(
        f"wrote {out}: {training['tokens']:,} pieces in {training['seconds']:.0f} s, masked-piece loss {last['masked_loss']:.3f}"
    )
