"""Scores from 0 to 100, who wins for whom, how sure that is, and what would change it.

A criterion's score is ``100 * best / own`` where less is better and ``100 * own / best`` where more is, over the subjects
of the audit; shares (accuracies) are scored by what they lack of 1, of which less is better. A profile's score is the
weighted mean over the criteria that every subject has; where half of its weight or its heaviest criterion was not
measured it is not judged. The probability of winning is the share of draws in which a subject is first when every figure
is drawn from a normal distribution of its interval's width; no winner is called on figures that have no interval, nor
where it is not better than each other subject in at least one figure beyond chance, of a criterion in which it scores a
point more (of two equal models one is first in 95 % of draws in every tenth audit; a byte less on disk is no reason).
What no subject has learnt beyond a predictor that reads nothing is not scored.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import NamedTuple

import msgspec
import numpy as np

from halbert.compare.measurement import Comparison, Measurement
from halbert.compare.noise import NOISES
from halbert.errors import InputError, nearest
from halbert.spec import from_dict

DRAWS = 10_000
SURE = 0.95  # probability from which a winner is called one
_WIDTH = 2 * 1.959963984540054  # standard deviations in a 95 % interval
NOTICED = 1.0  # points of a criterion's score, below which a difference is no reason to choose by
LEAST_LACK = 1e-3  # a share is never scored as lacking less of 1: the last errors of a test are chance


class Criterion(NamedTuple):
    """What is scored: the mean of the quantities whose whole name the pattern matches."""

    name: str
    title: str
    pattern: str


CRITERIA = (
    Criterion("size", "Size on disk", "bytes_on_disk"),
    Criterion("memory", "Memory", "memory_peak"),
    Criterion("latency", "Speed, one text", "latency_32_p50"),
    Criterion("throughput", "Speed, many texts", "throughput"),
    Criterion("quality", "Accuracy on tasks", "(?!masked_accuracy$).*_accuracy"),
    Criterion("labels", "Accuracy from few labels", r".*_from_(16|64)_labels"),
    Criterion("robustness", "Accuracy on text made harder", f".*_under_({'|'.join(noise.name for noise in NOISES)})"),
    Criterion("languages", "Languages it can write", "languages_written"),
    Criterion("translations", "Translations found", "translations_found"),
    Criterion("transfer", "Accuracy in other languages", ".*_transfer"),
    Criterion("masked", "Masked pieces", "masked_accuracy"),
    Criterion("tuning", "Time to fine-tune", ".*_seconds"),
)


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose choice it is, and what counts how much for them."""

    name: str
    title: str
    weights: dict[str, float]

    def __post_init__(self) -> None:
        known = [c.name for c in CRITERIA]
        for name, weight in self.weights.items():
            if name not in known:
                raise InputError(f"no criterion is called {name!r}{nearest(name, known)}; known: {', '.join(known)}")
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"the weight of {name} is {weight}; expected a number of at least 0")
        if not any(self.weights.values()):
            raise InputError(f"the profile {self.name!r} gives no criterion any weight")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A criterion's scores by subject, and the quantities behind them."""

    name: str
    title: str
    quantities: list[str]
    scores: dict[str, float]
    sure: bool  # every figure has an interval


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """With this weight of a criterion instead of its own (the others kept) another subject leads."""

    criterion: str
    weight: float
    instead_of: float
    leader: str


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """A profile's outcome. ``winner`` is None where no subject is first with a probability of 95 %.

    ``missing`` are criteria with weight that were not measured (or learnt), ``single`` those with figures of one run, ``alike`` the
    subjects that who leads is not better than in any figure beyond chance. Without scores it was not judged.
    """

    name: str
    title: str
    weights: dict[str, float]
    scores: dict[str, float]
    probabilities: dict[str, float]
    winner: str | None
    flips: list[Flip]
    missing: list[str]
    single: list[str]
    alike: list[str]


def profiles(own: Mapping[str, float] | None = None) -> list[Profile]:
    """The shipped profiles; the user's own weights first, if given."""
    text = resources.files("halbert").joinpath("compare", "facts", "profiles.toml").read_text("utf-8")
    shipped = [from_dict(Profile, row, "profiles.toml") for row in tomllib.loads(text)["profile"]]
    mine = [Profile(name="own", title="Your own weights", weights=dict(own))] if own else []
    return mine + shipped


def read_weights(words: Sequence[str]) -> dict[str, float]:
    """``size=3`` and the like. Raises :class:`InputError` for what is no weight."""
    found = {}
    for word in words:
        name, equals, number = word.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise InputError(f"{word!r}: expected criterion=number, for example size=3")
    if found:
        Profile(name="own", title="", weights=found)
    return found


class Table(NamedTuple):
    """Drawn scores: (criteria, subjects, draws); the first draw is the figures themselves."""

    rows: list[Row]
    drawn: np.ndarray
    order: list[str]


def table_of(measurements: Sequence[Measurement], order: Sequence[str]) -> Table:
    """Every criterion that all subjects have a figure for."""
    rng = np.random.default_rng(0)
    rows, drawn = [], []
    by_name: dict[str, dict[str, Measurement]] = {}
    for m in measurements:
        if m.value is not None:
            by_name.setdefault(m.name, {})[m.subject] = m
    for criterion in CRITERIA:
        names = [
            name
            for name, found in by_name.items()
            if re.fullmatch(criterion.pattern, name)
            and all(subject in found for subject in order)
            and any(found[subject].learnt for subject in order)
        ]
        if not names:
            continue
        scores = np.mean([_scored([by_name[name][s] for s in order], rng) for name in names], 0)
        drawn.append(scores)
        told = dict(zip(order, (round(float(x), 1) for x in scores[:, 0]), strict=True))
        sure = all(by_name[name][s].low is not None for name in names for s in order)
        rows.append(Row(name=criterion.name, title=criterion.title, quantities=names, scores=told, sure=sure))
    return Table(rows, np.array(drawn) if drawn else np.zeros((0, len(order), 1 + DRAWS)), list(order))


def _scored(found: Sequence[Measurement], rng: np.random.Generator) -> np.ndarray:
    """Scores (subjects, 1 + draws) of one quantity."""
    values = np.array([m.value for m in found], float)[:, None]
    spread = np.array([0.0 if m.low is None or m.high is None else (m.high - m.low) / _WIDTH for m in found])[:, None]
    noise = rng.standard_normal((len(found), DRAWS))
    drawn = np.concatenate([values, values + spread * noise], 1)
    less = found[0].better == "lower"
    if found[0].unit == "share" and not less:
        drawn, less = np.maximum(1 - drawn, LEAST_LACK), True
    drawn = np.maximum(drawn, 1e-12)
    return 100 * drawn.min(0) / drawn if less else 100 * drawn / drawn.max(0)


def rank(table: Table, profile: Profile, comparisons: Sequence[Comparison]) -> Ranking:
    """A profile's outcome; ``comparisons`` say which figures differ beyond chance."""
    weights = np.array([profile.weights.get(row.name, 0.0) for row in table.rows])
    there = {row.name for row in table.rows}
    missing = [c.title for c in CRITERIA if profile.weights.get(c.name, 0) and c.name not in there]
    lacking = [weight for name, weight in profile.weights.items() if name not in there]
    heaviest = max(profile.weights.values())
    without_heaviest = lacking.count(heaviest) == list(profile.weights.values()).count(heaviest)
    empty = Ranking(
        name=profile.name, title=profile.title, weights=dict(profile.weights), scores={}, probabilities={}, winner=None,
        flips=[], missing=missing, single=[], alike=[],
    )  # fmt: skip
    if sum(lacking) >= sum(profile.weights.values()) / 2 or without_heaviest:
        return empty
    overall = np.einsum("c,csn->sn", weights, table.drawn) / weights.sum()
    level = np.isclose(overall, overall.max(0), rtol=1e-9, atol=0)
    chances = (level / level.sum(0))[:, 1:].mean(1)  # equal ones share a draw
    exact = overall[:, 0]
    lead = int(exact.argmax())
    counted = [row for row, weight in zip(table.rows, weights, strict=True) if weight]
    single = [row.title for row in counted if not row.sure]
    best = table.order[lead]
    better = {(c.name, c.a if c.better == c.b else c.b) for c in comparisons if c.better == best}
    beaten = {
        name for row in counted for name, score in row.scores.items()
        if row.scores[best] - score >= NOTICED and any((quantity, name) in better for quantity in row.quantities)
    }  # fmt: skip
    alike = [name for name in table.order if name not in beaten and name != best]
    return msgspec.structs.replace(
        empty,
        scores=dict(zip(table.order, (round(float(x), 1) for x in exact), strict=True)),
        probabilities=dict(zip(table.order, (round(float(p), 4) for p in chances), strict=True)),
        winner=best if chances[lead] >= SURE and not single and not alike else None, alike=alike,
        flips=_flips(table, weights, lead) if level[:, 0].sum() == 1 else [], single=single,
    )  # fmt: skip


FAR = 10.0  # times a weight: who would weigh a criterion so differently has another profile


def _near(at: float, weight: float) -> bool:
    """Whether a weight is one that somebody with this profile might have."""
    return weight / FAR <= at <= FAR * max(weight, 0.5)


def _flips(table: Table, weights: np.ndarray, lead: int) -> list[Flip]:
    """For each criterion the nearest weight at which another leads, nearest (as a factor) first."""
    found = []
    scores = table.drawn[:, :, 0]
    for c, row in enumerate(table.rows):
        others = np.delete(np.arange(len(weights)), c)
        for s, name in enumerate(table.order):
            gap = scores[:, s] - scores[:, lead]  # of each criterion
            rest = float(weights[others] @ gap[others])
            if s == lead or abs(gap[c]) < 1e-9 or not weights[others].any():
                continue
            at = -rest / gap[c]
            # Beyond it the other leads: by more weight where it is better in this, by less where it is worse.
            if (
                at >= 0
                and (at > weights[c]) == (gap[c] > 0)
                and not math.isclose(at, weights[c])
                and _near(at, weights[c])
            ):
                found.append(
                    Flip(criterion=row.name, weight=round(float(at), 3), instead_of=float(weights[c]), leader=name)
                )
    return sorted(found, key=lambda f: abs(math.log((f.weight + 0.1) / (f.instead_of + 0.1))))[:3]


def rank_all(
    measurements: Sequence[Measurement],
    comparisons: Sequence[Comparison],
    order: Sequence[str],
    own: Mapping[str, float] | None = None,
) -> tuple[list[Row], list[Ranking]]:
    """Scores by criterion, and every profile's outcome. What was not compared (masked pieces of other tokenizers, figures
    that were made otherwise) is not scored."""
    pairs = Counter(c.name for c in comparisons)
    whole = {name for name, count in pairs.items() if count == math.comb(len(order), 2)}
    scored = [m for m in measurements if m.name in whole or m.low is None]
    table = table_of(scored, order)
    return table.rows, [rank(table, profile, comparisons) for profile in profiles(own)]
