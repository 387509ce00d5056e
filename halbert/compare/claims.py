"""Claims about BERT and ALBERT, each answered with a figure: counted from shapes, published, or measured in this audit.

The rules, and the claims that are asked by default: ``halbert/compare/facts/claims.toml``. What was published, with its
table or section: ``published.toml`` beside it.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from halbert import presets
from halbert.compare.verdict import show
from halbert.errors import InputError, SpecError, nearest
from halbert.files import read_text
from halbert.spec import EncoderSpec, from_dict

Relation = Literal["about", "=", "<", "<=", ">", ">="]
Answer = Literal["true", "false", "misleading", "cannot be measured here"]
SHIPPED = {"default": "claims.toml", "papers": "papers.toml"}

# What follows from a shape alone.
COUNTED: dict[str, tuple[str, str, Callable[[EncoderSpec], float]]] = {
    "parameters": ("encoder parameters", "parameters", lambda e: e.count_encoder()),
    "flops_128": ("work for 128 pieces", "FLOP", lambda e: e.count_flops(128)),
    "flops_512": ("work for 512 pieces", "FLOP", lambda e: e.count_flops(512)),
    "weight_bytes": ("weights in fp32", "bytes", lambda e: 4 * e.count_encoder()),
}


# Quantities of an audit that a claim can name; of others no claim was ever read.
MEASURED = (
    "memory_added", "memory_peak", "first_answer", "bytes_on_disk", "throughput", "masked_accuracy",
    *(f"latency_{length}_{statistic}" for length in (8, 32, 128, 512, "16x32") for statistic in ("p50", "p95", "p99")),
)  # fmt: skip


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A relation that is to hold in ``every`` case, or in ``any``: for each subject (or pair: the first divided by the
    second) and each property. ``tolerance`` is relative, for ``about``. Subjects are released names or patterns of such."""

    subjects: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    properties: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    relation: Relation
    value: float
    tolerance: float = 0.05
    of: Literal["every", "any"] = "every"

    def __post_init__(self) -> None:
        if bool(self.subjects) == bool(self.pairs) or not (self.properties or self.measured):
            raise SpecError("a check has either subjects or pairs, and at least one property or measured quantity")
        if self.measured and not self.pairs:
            raise SpecError("measured quantities are compared in pairs; give pairs instead of subjects")
        if not math.isfinite(self.value) or not 0 <= self.tolerance < 1:
            raise SpecError(f"value {self.value}, tolerance {self.tolerance}: expected a number, and a share below 1")

    def holds(self, value: float) -> bool:
        """Whether the relation holds for a figure."""
        match self.relation:
            case "about":
                return abs(value - self.value) <= self.tolerance * abs(self.value)
            case "=":
                return math.isclose(value, self.value, rel_tol=1e-9)
            case "<":
                return value < self.value
            case "<=":
                return value <= self.value
            case ">":
                return value > self.value
            case _:
                return value >= self.value


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A statement, where it was read, and what has to hold for it to be true."""

    id: str
    said: str
    read: str
    check: tuple[Check, ...]

    def __post_init__(self) -> None:
        if not self.check:
            raise SpecError(f"the claim {self.id!r} has no check")


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One figure that speaks for a claim or against it; ``agrees`` None: no figure is known, or its interval is too wide.

    ``extra`` is what this audit measured: where it does not decide, it leaves nothing open.
    """

    what: str
    figure: str
    source: str
    agrees: bool | None
    extra: bool = False


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A claim with its answer and the figures behind it."""

    id: str
    said: str
    read: str
    answer: Answer
    cases: list[Case]


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published figure, or why there is none."""

    subject: str
    property: str
    value: float | None = None
    unit: str = ""
    source: str = ""
    why: str = ""


class Figure(msgspec.Struct, frozen=True):
    """A number and how it is shown; none where there is no such number, and then why."""

    value: float | None
    shown: str
    source: str


def read_claims(name: str | os.PathLike[str]) -> list[Claim]:
    """The claims of a TOML file, or shipped ones by name (``default``, ``papers``).

    Raises :class:`InputError` when there is no such file, and :class:`SpecError` for what no claim can say.
    """
    if str(name) in SHIPPED:
        text = _shipped(SHIPPED[str(name)])
    else:
        if not Path(name).exists():
            raise InputError(
                f"{name}: no such file, and no shipped claims{nearest(str(name), SHIPPED)}: {', '.join(SHIPPED)}"
            )
        text = read_text(name, "file of claims")
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: is not valid TOML: {error}") from None
    rows = values.get("claim")
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{name}: holds no claims; expected [[claim]] tables")
    claims = [from_dict(Claim, row, f"{name}, claim {i}") for i, row in enumerate(rows, 1)]
    twice = [a for a, rest in itertools.groupby(sorted(c.id for c in claims)) if len(list(rest)) > 1]
    if twice:
        raise InputError(f"{name}: the claim {twice[0]!r} is there twice")
    for claim in claims:
        for check in claim.check:
            for pattern in check.subjects:
                _released(pattern)
            for released in itertools.chain.from_iterable(check.pairs):
                presets.get(released)
            for asked, known in ((check.properties, _properties()), (check.measured, MEASURED)):
                for unknown in (one for one in asked if one not in known):
                    told = ", ".join(sorted(known))
                    raise InputError(
                        f"{name}, claim {claim.id}: {unknown!r} is not known{nearest(unknown, known)}; known: {told}"
                    )
    return claims


def _properties() -> set[str]:
    return COUNTED.keys() | {fact.property for fact in published()}


def _shipped(file: str) -> str:
    return resources.files("halbert").joinpath("compare", "facts", file).read_text("utf-8")


@functools.cache
def published() -> tuple[Fact, ...]:
    """The registry of published figures."""
    return tuple(from_dict(Fact, row, "published.toml") for row in tomllib.loads(_shipped("published.toml"))["fact"])


def _released(pattern: str) -> list[str]:
    names = [name for name in presets.all_presets() if fnmatchcase(name, pattern)]
    if not names:
        raise InputError(
            f"{pattern!r} is no released model, and no pattern of any{nearest(pattern, presets.all_presets())}"
        )
    return names


def figure_of(subject: str, name: str) -> Figure:
    """What is known of a released model: counted, or published."""
    if name in COUNTED:
        _, unit, count = COUNTED[name]
        value = count(presets.get(subject).spec.encoder)
        shown = f"{value:,.0f}" if unit == "parameters" else show(value, unit)
        return Figure(value, shown, "counted from its shape")
    for fact in published():
        if fact.property == name and fnmatchcase(subject, fact.subject):
            if fact.value is None:
                return Figure(None, "not known", fact.why)
            return Figure(fact.value, f"{fact.value:,g}{' ' * bool(fact.unit)}{fact.unit}", fact.source)
    return Figure(None, "not known", "not in the registry of published figures for this model")


def _title(name: str) -> str:
    return COUNTED[name][0] if name in COUNTED else name.replace("_", " ")


def cases_of(check: Check, results: Mapping[str, Any]) -> Iterator[Case]:
    """Every figure that a check looks at."""
    for name in check.properties:
        for subject in dict.fromkeys(n for pattern in check.subjects for n in _released(pattern)):
            found = figure_of(subject, name)
            agrees = None if found.value is None else check.holds(found.value)
            yield Case(what=f"{subject}, {_title(name)}", figure=found.shown, source=found.source, agrees=agrees)
        for a, b in check.pairs:
            one, two = figure_of(a, name), figure_of(b, name)
            what = f"{a} to {b}, {_title(name)}"
            if one.value is None or not two.value:
                missing = one if one.value is None else two
                yield Case(what=what, figure="not known", source=missing.source, agrees=None)
                continue
            ratio = one.value / two.value
            source = one.source if one.source == two.source else f"{one.source}; {two.source}"
            shown = f"{ratio:.3f} times ({one.shown}, {two.shown})"
            yield Case(what=what, figure=shown, source=source, agrees=check.holds(ratio))
    for name in check.measured:
        yield from _measured(check, name, results)


def _measured(check: Check, name: str, results: Mapping[str, Any]) -> Iterator[Case]:
    """What this audit measured, on one machine, of two models of equal shape of which one shares its layers, divided in
    the order of the claim's own pairs.

    It speaks for a claim, or against it, where the whole interval does.
    """
    orders = {tuple(_shares(presets.get(model).spec.flat()) for model in pair) for pair in check.pairs}
    first = next(iter(orders))
    if len(orders) > 1 or first[0] == first[1]:
        return  # the claim is not about sharing
    shares = {s["name"]: _shares(s["spec"]) == first[0] for s in results["subjects"]}
    home = {name: i for i, audit in enumerate(results.get("merged", ())) for name in audit["subjects"]}
    found = {m["subject"]: m for m in results["measurements"] if m["name"] == name and m["value"]}
    for c in results["comparisons"]:
        if c["name"] != name or "shape" not in c["equal_in"] or shares[c["a"]] == shares[c["b"]]:
            continue
        if home.get(c["a"]) != home.get(c["b"]):
            continue
        a, b = (c["a"], c["b"]) if shares[c["a"]] else (c["b"], c["a"])
        if a not in found or b not in found:
            continue
        one, two = found[a], found[b]
        ends = sorted(1 + (-1 if a == c["a"] else 1) * c[end] / two["value"] for end in ("low", "high"))
        yield Case(
            what=f"{a} to {b}, {one['title'].lower()}",
            figure=f"{one['value'] / two['value']:.3f} times, {ends[0]:.3f} to {ends[1]:.3f} "
            f"({show(one['value'], one['unit'])}, {show(two['value'], two['unit'])})",
            source=f"measured in this audit: {one['how']}", agrees=_wholly(check, *ends),
            extra=bool(check.properties),
        )  # fmt: skip


def _shares(spec: Mapping[str, Any]) -> bool:
    return bool(spec["num_hidden_groups"] < spec["num_hidden_layers"])


def _wholly(check: Check, low: float, high: float) -> bool | None:
    """Whether the relation holds all over an interval (True), nowhere in it (False), or in a part."""
    held = {check.holds(low), check.holds(high)}
    inside = check.relation in ("about", "=") and low < check.value < high
    return None if len(held) > 1 or (held == {False} and inside) else held.pop()


def answer(claim: Claim, results: Mapping[str, Any]) -> Answered:
    """A claim's answer; ``results`` is what ``results.json`` holds (subjects, measurements, comparisons)."""
    cases, outcomes = [], []
    for check in claim.check:
        found = list(cases_of(check, results))
        cases += found
        outcomes.append(
            _outcome(check.of, [case.agrees for case in found if case.agrees is not None or not case.extra])
        )
    kinds: tuple[Answer, ...] = ("false", "cannot be measured here", "misleading", "true")
    said = next(kind for kind in kinds if kind in outcomes)
    return Answered(id=claim.id, said=claim.said, read=claim.read, answer=said, cases=cases)


def _outcome(of: str, told: Sequence[bool | None]) -> Answer:
    """Of all cases: what is not known (None) leaves open only what the others do not decide."""
    if of == "any" and any(told):
        return "true"
    if True in told and False in told:
        return "misleading"
    if not told or None in told:
        return "cannot be measured here"
    return "true" if told[0] else "false"


NOTHING: dict[str, Any] = {"subjects": [], "measurements": [], "comparisons": []}


def answer_all(claims: Sequence[Claim], results: Mapping[str, Any] = NOTHING) -> list[dict[str, Any]]:
    """All answers, as ``results.json`` has them."""
    return [msgspec.to_builtins(answer(claim, results)) for claim in claims]
