"""What follows from the measurements, written by rule: no sentence without a comparison behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from halbert.compare.measurement import Comparison, Measurement
from halbert.compare.scores import SURE, Ranking, Row, rank_all


class Sentence(msgspec.Struct, frozen=True, kw_only=True):
    """One statement, the quantity it rests on, and in what the two subjects were equal."""

    text: str
    quantity: str
    a: str
    b: str
    equal_in: list[str]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Every statement that can be made, the three that matter most for the first two subjects, scores by criterion, and
    who wins for whom."""

    headline: list[str]
    sentences: list[Sentence]
    scores: list[Row]
    rankings: list[Ranking]


def judge(
    measurements: Sequence[Measurement],
    comparisons: Sequence[Comparison],
    order: Sequence[str],
    weights: Mapping[str, float] | None = None,
) -> Verdict:
    """One sentence for each quantity and pair; the headline is size, speed and quality of the first pair.

    ``weights`` of criteria are the user's own profile, beside the shipped ones.
    """
    values = {(m.name, m.subject): m for m in measurements}
    sentences = [_sentence(c, values) for c in comparisons]
    first = [s for s in sentences if {s.a, s.b} == set(order[:2])]
    quality = [s for s in first if s.quantity.endswith("_accuracy") and s.quantity != "masked_accuracy"]
    masked = [s for s in first if s.quantity == "masked_accuracy"]
    speed = [s for s in first if s.quantity in ("throughput", "latency_32_p50")]
    size = [s for s in first if s.quantity == "parameters"]
    headline = [group[0].text for group in (size, speed[-1:], quality or masked) if group]
    rows, rankings = rank_all(measurements, comparisons, order, weights)
    return Verdict(headline=headline, sentences=sentences, scores=rows, rankings=rankings)


def outcome(ranking: Mapping[str, Any]) -> str:
    """A profile's outcome (as ``results.json`` has it) in a sentence, with what would change it."""
    missing = ", ".join(ranking["missing"]).lower()
    if not ranking["scores"]:
        return (
            f"{ranking['title']}: not judged, since this was not measured, not learnt by any, or not in a way that can be "
            f"compared: {missing}."
        )
    told = ", ".join(f"{name} {score:.1f}" for name, score in ranking["scores"].items())
    chances = ranking["probabilities"]
    likely = max(chances, key=lambda name: chances[name])
    sure = f"first in {100 * chances[likely]:.0f} % of draws"
    if ranking["winner"] is not None:
        text = f"{ranking['title']}: {ranking['winner']} ({told}; {sure})."
    elif ranking["single"]:
        text = f"{ranking['title']}: no winner is called on figures of one run ({told}; {', '.join(ranking['single']).lower()})."
    else:
        alike = ", ".join(ranking["alike"]) if chances[likely] >= SURE else ""
        but = f", but no figure sets it apart from {alike} beyond chance" if alike else ""
        text = f"{ranking['title']}: no clear winner ({told}; {likely} is {sure}{but})."
    if missing:
        text += f" Not counted (not measured, not learnt by any, or not in a way that can be compared): {missing}."
    for flip in ranking["flips"][:1]:
        text += (
            f" With a weight of {flip['weight']:g} for {flip['criterion']}, instead of {flip['instead_of']:g}, "
            f"{flip['leader']} leads."
        )
    return text


def _sentence(c: Comparison, values: dict[tuple[str, str], Measurement]) -> Sentence:
    a, b = values[c.name, c.a], values[c.name, c.b]
    assert a.value is not None and b.value is not None
    numbers = f"{c.a} {show(a.value, c.unit)}, {c.b} {show(b.value, c.unit)}"
    if c.difference == 0 and a.statistic == "exact":
        text = f"{a.title}: equal ({show(a.value, c.unit)})."
    elif not c.significant:
        # A 95 % interval that leaves 0 out is not enough where many things are compared.
        among = ", among so many comparisons" if c.low > 0 or c.high < 0 else ""
        text = f"{a.title}: no clear difference{among} ({numbers}; difference {interval(c)})."
    else:
        more = c.difference > 0
        many, few = (c.b, c.a) if more else (c.a, c.b)
        high, low = (b.value, a.value) if more else (a.value, b.value)
        if c.unit == "share":
            text = f"{a.title}: {many} is {100 * abs(c.difference):.1f} points higher than {few} ({numbers}; difference {interval(c)})."
        elif low > 0:
            bound = "" if a.statistic == "exact" else f"; difference {interval(c)}"
            text = f"{a.title}: {many} has {high / low:.2f} times that of {few} ({numbers}{bound})."
        else:
            text = f"{a.title}: {many} is higher than {few} ({numbers})."
    blind = [m.subject for m in (a, b) if not m.learnt]
    if blind:
        assert a.floor is not None
        who = f"{blind[0]} is not" if len(blind) == 1 else "Neither is"
        text += (
            f" {who} above the {show(a.floor, c.unit)} of always giving the commonest class: too few steps, or a learning rate "
            "that does not suit (--set epochs=…, --set learning_rate=…)."
        )
    return Sentence(text=text, quantity=c.name, a=c.a, b=c.b, equal_in=c.equal_in)


def interval(c: Comparison) -> str:
    """The 95 % interval of a difference, for people."""
    if c.unit == "share":
        return f"{100 * c.low:+.1f} to {100 * c.high:+.1f} points"
    return f"{show(c.low, c.unit, True)} to {show(c.high, c.unit, True)}"


def show(value: float, unit: str, sign: bool = False) -> str:
    """A number with its unit, scaled for people: 11.7 M, 44.6 MiB, 5.21 ms, 81.3 %."""
    plus = "+" if sign and value > 0 else ""
    size = abs(value)
    if unit == "bytes":
        for step, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if size >= step:
                return f"{plus}{value / step:.1f} {name}"
        return f"{plus}{value:.0f} B"
    if unit == "s":
        return f"{plus}{value * 1000:.2f} ms" if size < 1 else f"{plus}{value:.1f} s"
    if unit == "share":
        return f"{plus}{100 * value:.1f} %"
    if unit == "ratio":
        return f"{plus}{value:.3g}"
    if unit == "cosine":
        return f"{plus}{value:.5f}"
    if unit == "languages":
        return f"{plus}{value:.0f} languages"
    if unit in ("parameters", "FLOP"):
        for scale, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
            if size >= scale:
                return f"{plus}{value / scale:.2f}{name}" + ("FLOP" if unit == "FLOP" else "")
        return f"{plus}{value:.0f}"
    digits = 3 if size < 10 else 1 if size < 1000 else 0
    return f"{plus}{value:,.{digits}f} {unit}"
