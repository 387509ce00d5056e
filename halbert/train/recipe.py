"""Recipes: what a training run does, as inert values read from TOML."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from halbert.errors import InputError, SpecError, nearest
from halbert.files import read_text
from halbert.spec import ModelSpec, from_dict

TrainPrecision = Literal["auto", "fp32", "bf16", "fp16"]
Optimizer = Literal["adamw", "adamw-google", "lamb", "lamb-google"]
Schedule = Literal["linear", "google", "constant", "polynomial"]


_LENGTH = 128
_STARTS = ("random", "pmi-svd")


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a pre-training with its own length: so many ``steps``, or a ``share`` of the recipe's.

    ``batch_tokens`` 0 means the recipe's.
    """

    length: int
    steps: int = 0
    share: float = 0.0
    batch_tokens: int = 0


class Stage(msgspec.Struct, frozen=True):
    """A phase worked out: steps ``begin`` to ``end`` (from 0, the last excluded) at this length and batch."""

    begin: int
    end: int
    length: int
    batch_tokens: int


class PretrainRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pre-training run. ``preset`` or ``encoder`` says which encoder; ``corpus`` is a corpus folder.

    A step is one update of the weights by the gradients of ``accumulate`` batches (counted over all processes) of at
    most ``batch_tokens`` pieces each, padding included. The shipped ones (``halbert/recipes``) say why they have their values.
    """

    corpus: str = ""
    preset: str = ""
    encoder: dict[str, Any] = {}
    pretraining: dict[str, Any] = {}
    start: str = "random"  # or "pmi-svd" (train/warmstart.py), or a MODEL, whose shape it then has too
    start_parallel: str = ""  # a corpus each of whose documents is one text in several languages
    translation_weight: float = 0.0  # of a text's mean state pointing where start_parallel puts its translations
    translation_span: int = 0  # pieces whose mean does, wherever a text ends; 0: those of a text
    # How long, and in which portions.
    steps: int = 1000
    length: int = _LENGTH
    batch_tokens: int = 4096
    phases: tuple[Phase, ...] = ()
    accumulate: int = 1
    packing: Literal["bucket", "pack"] = "bucket"
    long_sentences: Literal["split", "cut"] = "split"  # what they have beyond length: read next, or never
    new_positions: Literal["copied", "drawn"] = (
        "copied"  # what those begin as that only a later phase is long enough for
    )
    window_shards: int = 4
    language_exponent: float = 1.0
    seed: int = 0
    # What a step does.
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    schedule: Schedule = "linear"
    warmup_steps: int = 100
    power: float = 0.5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-6
    clip: float = 1.0
    on_spike: Literal["stop", "skip"] = "stop"
    spike_factor: float = 2.0
    # How the machine does it.
    precision: TrainPrecision = "auto"
    compile: bool = False
    checkpoint_activations: Literal["none", "layer"] = "none"
    workers: int = 2
    strategy: Literal["ddp", "fsdp"] = "ddp"
    # What is kept and told.
    checkpoint_every: int = 0
    keep_checkpoints: int = 3
    log_every: int = 10
    layer_decay: ClassVar[float] = 1.0  # a fine-tuning can choose it

    def named(self) -> PretrainRecipe:
        """With the names of its corpora alone: where they lay on this machine is nobody else's business."""
        start = self.start if self.start_model is None else Path(self.start).absolute().name
        if start in _STARTS and self.start_model is not None:  # a folder that is called so
            start = f"./{start}"
        return msgspec.structs.replace(
            self, corpus=Path(self.corpus).name, start_parallel=Path(self.start_parallel).name, start=start
        )

    @property
    def start_model(self) -> str | None:
        """The model whose weights it begins with, if it does."""
        return None if self.start in _STARTS else self.start

    def __post_init__(self) -> None:
        check_common(self)
        if not self.start:
            raise SpecError("start is empty; expected random, pmi-svd or a model")
        if self.start_parallel and self.start != "pmi-svd":
            raise SpecError(f'start_parallel is a corpus for start = "pmi-svd"; the start is {self.start}')
        if not 0 <= self.translation_weight < math.inf:
            raise SpecError(f"translation_weight is {self.translation_weight}; expected a number, at least 0")
        if self.steps < 1 or not 0 <= self.warmup_steps <= self.steps:
            raise SpecError(
                f"steps {self.steps} and warmup_steps {self.warmup_steps}: expected 1 or more, and no more warm-up than steps "
                "(--set both)"
            )
        check_batch(self.length, self.batch_tokens)
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise SpecError(f"{name} is {getattr(self, name)}; expected at least {least}")
        for name, low, high in _BETWEEN:
            if not low < getattr(self, name) <= high:
                raise SpecError(f"{name} is {getattr(self, name)}; expected more than {low} and at most {high}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise SpecError(f"betas are {self.betas}; expected two numbers, each at least 0 and less than 1")
        self.stages()

    def stages(self) -> tuple[Stage, ...]:
        """The phases in order, which fill all steps; one of them when the recipe names none.

        Shares are cut at the nearest step. Raises :class:`SpecError` when phases do not add up to the recipe's steps.
        """
        if not self.phases:
            return (Stage(0, self.steps, self.length, self.batch_tokens),)
        if self.length not in (_LENGTH, *(phase.length for phase in self.phases)):
            raise SpecError(
                f"length is {self.length}, but the phases have their own: change phases, or set phases=[] for one length"
            )
        stages, done, taken = [], 0.0, 0
        for phase in self.phases:
            if (phase.steps > 0) == (phase.share > 0) or not (phase.steps >= 0 and 0 <= phase.share <= 1):
                raise SpecError(
                    f"a phase has steps {phase.steps} and share {phase.share}; expected either steps, or a share up to 1"
                )
            check_batch(phase.length, phase.batch_tokens or self.batch_tokens)
            done += phase.steps or phase.share * self.steps
            end = round(done)
            if end > taken:
                stages.append(Stage(taken, end, phase.length, phase.batch_tokens or self.batch_tokens))
            taken = end
        if taken != self.steps:
            raise SpecError(f"the phases take {done:g} steps and the recipe {self.steps}; expected the same")
        return tuple(stages)

    @property
    def longest(self) -> int:
        """Pieces of the longest sequence of any phase."""
        return max([phase.length for phase in self.phases] or [self.length])

    def total_steps(self, steps: int | None = None) -> int:
        """Steps in all: the recipe's, unless others are given."""
        return self.steps if steps is None else steps

    def warmup_of(self, steps: int) -> int:
        """Warm-up steps out of ``steps``."""
        return min(self.warmup_steps, steps)


_LEAST = {
    "accumulate": 1, "translation_span": 0, "window_shards": 1, "workers": 0, "checkpoint_every": 0, "keep_checkpoints": 1, "log_every": 1,
}  # fmt: skip
_BETWEEN = (
    ("language_exponent", 0, 1), ("power", 0, 10), ("epsilon", 0, 1), ("clip", 0, 1e6), ("spike_factor", 1, 1e6),
)  # fmt: skip


class FinetuneRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fine-tuning run; the defaults lie inside the BERT paper's grid (appendix A.3) but for the length.

    ``steps`` 0 means ``epochs``. ``evaluate_every`` 0 means after each epoch; ``patience`` is how many of these
    evaluations may pass without a better one before the run ends (0: it never ends early). ``dropout`` and
    ``classifier_dropout`` default to the model's own. ``layer_decay`` multiplies the rate once for each layer between a
    parameter and the head. ``halbert/tasks/named.py`` has the papers' values.
    """

    # How long, and in which portions.
    epochs: int = 3
    steps: int = 0
    batch_size: int = 32
    length: int = _LENGTH
    stride: int = 32
    seed: int = 0
    # What a step does.
    learning_rate: float = 5e-5
    warmup_share: float = 0.1
    schedule: Schedule = "linear"
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.01
    layer_decay: float = 1.0
    clip: float = 1.0
    dropout: float | None = None
    classifier_dropout: float | None = None
    # What is asked for.
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: float = 0.0
    temperature: float = 0.05
    # Which weights are kept, and what happens when they go wrong.
    evaluate_every: int = 0
    patience: int = 0
    keep: Literal["best", "last"] = "best"
    on_divergence: Literal["restart", "stop", "ignore"] = "restart"
    # How the machine does it.
    precision: TrainPrecision = "auto"
    checkpoint_every: int = 0
    log_every: int = 10

    # What a pre-training can choose and a fine-tuning cannot.
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    epsilon: ClassVar[float] = 1e-6
    power: ClassVar[float] = 1.0
    accumulate: ClassVar[int] = 1
    on_spike: ClassVar[Literal["stop", "skip"]] = "stop"
    spike_factor: ClassVar[float] = float("inf")
    compile: ClassVar[bool] = False
    strategy: ClassVar[Literal["ddp", "fsdp"]] = "ddp"
    keep_checkpoints: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_common(self)
        for name, least in (("epochs", 1), ("batch_size", 1), ("length", 4)):
            if getattr(self, name) < least:
                raise SpecError(f"{name} is {getattr(self, name)}; expected at least {least}")
        for name in ("steps", "stride", "evaluate_every", "patience", "checkpoint_every", "log_every"):
            if getattr(self, name) < (name == "log_every"):
                raise SpecError(f"{name} is {getattr(self, name)}; expected at least {int(name == 'log_every')}")
        for name, low, high in _TUNED_BETWEEN:
            value = getattr(self, name)
            if value is not None and not low <= value < high:
                raise SpecError(f"{name} is {value}; expected at least {low} and less than {high}")
        if not 0 < self.layer_decay <= 1:
            raise SpecError(f"layer_decay is {self.layer_decay}; expected more than 0 and at most 1")
        if not 0 < self.temperature <= 1 or self.clip <= 0:
            raise SpecError(
                f"temperature {self.temperature}, clip {self.clip}: expected more than 0, and at most 1 of the first"
            )

    def total_steps(self, steps: int | None = None) -> int:
        """Steps in all, which have to be given: they depend on how many examples there are."""
        if steps is None:
            raise SpecError("a fine-tuning recipe does not know its number of steps; give it")
        return steps

    def warmup_of(self, steps: int) -> int:
        """Warm-up steps out of ``steps``, a fraction of a step left out."""
        return int(self.warmup_share * steps + 0.01)


_TUNED_BETWEEN = (
    ("warmup_share", 0, 1), ("dropout", 0, 1), ("classifier_dropout", 0, 1), ("label_smoothing", 0, 1),
)  # fmt: skip


def check_batch(length: int, batch_tokens: int) -> None:
    """Raise :class:`SpecError` for a length or a batch no run could use."""
    if length < 8 or batch_tokens < length:
        raise SpecError(
            f"length {length} and batch_tokens {batch_tokens}: expected at least 8, and a batch that holds one sequence"
        )


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


def describe(recipe: PretrainRecipe, spec: ModelSpec) -> str:
    """The plan for people, a line each: parameters by part, phases, pieces in all, optimiser, learning rate, objective.

    Pieces are an upper bound: what padding takes of a batch is not known before.
    """
    parts = {name.replace("_", " "): count for name, count in spec.encoder.count_parameters().items() if count}
    if spec.pretraining.sentence_objective == "none":
        parts.pop("pair head", None)
    parts["all parameters"] = sum(parts.values())
    rows = [(name, f"{count:>{len(f'{max(parts.values()):,}')},}") for name, count in parts.items()]
    stages, pieces = recipe.stages(), 0
    for number, stage in enumerate(stages, 1):
        step = stage.batch_tokens * recipe.accumulate
        pieces += step * (stage.end - stage.begin)
        batches = f" ({recipe.accumulate} batches)" if recipe.accumulate > 1 else ""
        name = f"phase {number}" if len(stages) > 1 else "steps"
        rows.append((name, f"{stage.end - stage.begin:,} of {step:,} pieces{batches}, length {stage.length}"))
    schedule = recipe.schedule + (f" (power {recipe.power:g})" if recipe.schedule == "polynomial" else "")
    learns = spec.pretraining
    rows += [
        ("pieces in all", f"{pieces:,} at most"),
        ("optimiser", f"{recipe.optimizer}, decay {recipe.weight_decay:g}, gradients cut to a norm of {recipe.clip:g}"),
        ("learning rate", f"{recipe.learning_rate:g}, {schedule}, warm-up {recipe.warmup_steps:,} steps"),
        (
            "objective",
            f"{learns.masking} masking of {learns.masking_prob:.0%}, pairs {learns.sentence_objective}"
            + (f", translations weighing {recipe.translation_weight:g}" if recipe.translation_weight else ""),
        ),
    ]
    return "\n".join(f"{name:<16}{value}" for name, value in rows)
