"""Recipes: what a training run does, as inert values read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from halbert.errors import InputError, SpecError, nearest
from halbert.files import read_text
from halbert.spec import from_dict

TrainPrecision = Literal["auto", "fp32", "bf16"]


class PretrainRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pre-training run. ``preset`` or ``encoder`` says which encoder; ``corpus`` is a corpus folder."""

    corpus: str = ""
    preset: str = ""
    encoder: dict[str, Any] = {}
    pretraining: dict[str, Any] = {}
    steps: int = 1000
    length: int = 128
    batch_tokens: int = 4096
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    optimizer: Literal["adamw"] = "adamw"
    precision: TrainPrecision = "auto"
    start: Literal["random", "pmi-svd"] = "random"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_common(self)
        if self.steps < 1 or not 0 <= self.warmup_steps <= self.steps:
            raise SpecError(
                f"steps {self.steps} and warmup_steps {self.warmup_steps}: expected 1 or more, and no more warm-up than steps"
            )
        if self.length < 8 or self.batch_tokens < self.length:
            raise SpecError(
                f"length {self.length} and batch_tokens {self.batch_tokens}: expected at least 8, and a batch that holds one sequence"
            )


class FinetuneRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fine-tuning run; the defaults lie inside the BERT paper's grid (appendix A.3) but for the length."""

    epochs: int = 3
    learning_rate: float = 5e-5
    batch_size: int = 32
    length: int = 128
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    precision: TrainPrecision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_common(self)
        if self.epochs < 1 or self.batch_size < 1 or self.length < 4:
            raise SpecError(
                f"epochs {self.epochs}, batch_size {self.batch_size}, length {self.length}: expected at least 1, 1 and 4"
            )
        if not 0 <= self.warmup_share < 1:
            raise SpecError(f"warmup_share is {self.warmup_share}; expected at least 0 and less than 1")


def check_common(recipe: PretrainRecipe | FinetuneRecipe) -> None:
    """Raise :class:`SpecError` for values no run could use."""
    if not 0 < recipe.learning_rate < 10:
        raise SpecError(f"learning_rate is {recipe.learning_rate}; expected more than 0 and less than 10")
    if not 0 <= recipe.weight_decay < 10:
        raise SpecError(f"weight_decay is {recipe.weight_decay}; expected at least 0 and less than 10")
    if not 0 <= recipe.seed < 2**32:
        raise SpecError(f"seed is {recipe.seed}; expected at least 0 and less than 2**32")


def shipped() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(
        f.name.removesuffix(".toml")
        for f in resources.files("halbert").joinpath("recipes").iterdir()
        if f.name.endswith(".toml")
    )


def read_recipe(name: str, changes: Iterable[str] = ()) -> PretrainRecipe:
    """A recipe file, or a shipped recipe by name, with ``key=value`` changes (TOML values; dots reach into tables).

    Raises :class:`InputError` when there is no such recipe, :class:`SpecError` for a wrong field or value.
    """
    if Path(name).suffix == ".toml":
        text = read_text(name, "recipe")
    elif name in shipped():
        text = resources.files("halbert").joinpath("recipes", f"{name}.toml").read_text("utf-8")
    else:
        raise InputError(
            f"{name!r}: no recipe file (NAME.toml) and no shipped recipe{nearest(name, shipped())}; shipped: {', '.join(shipped())}"
        )
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # beside bad syntax: endless numbers, endless nesting
        raise InputError(f"{name}: is not valid TOML: {error}") from None
    return from_dict(PretrainRecipe, apply_changes(values, changes), name)


def apply_changes(values: dict[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """``values`` with ``key=value`` changes applied; a value that is no TOML is taken as text."""
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise InputError(f"--set {change!r}: expected key=value, for example --set steps=2000")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            value = text
        *tables, last = key.split(".")
        place = values
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {change!r}: {table} is not a table")
        place[last] = value
    return values
