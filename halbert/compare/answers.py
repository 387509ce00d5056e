"""Pros, cons and common questions, answered by rule from what is beyond chance: no sentence without a cell behind it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from halbert.compare.verdict import outcome, show

MOST = 6  # pros, and cons, of one model


class Said(NamedTuple):
    """A sentence, and the part of the page it rests on: a quantity's row, the table of scores or that of the knobs."""

    text: str
    link: str


class Sides(NamedTuple):
    """What speaks for a model and what against it."""

    name: str
    pros: list[Said]
    cons: list[Said]


def pros_and_cons(results: dict[str, Any]) -> list[Sides]:
    """For every model: where it is better, or worse, than each of the others beyond chance, the largest ratio first.

    One quantity of a kind is enough (of latencies at several lengths the clearest).
    """
    names = [s["name"] for s in results["subjects"]]
    values = {(m["name"], m["subject"]): m for m in results["measurements"]}
    beats: dict[str, dict[str, set[str]]] = {}
    for c in results["comparisons"]:
        if c["better"]:
            worse = c["a"] if c["better"] == c["b"] else c["b"]
            beats.setdefault(c["name"], {}).setdefault(c["better"], set()).add(worse)
    found = []
    for name in names:
        others = [other for other in names if other != name]
        pros: list[tuple[float, Said]] = []
        cons: list[tuple[float, Said]] = []
        for quantity, wins in beats.items():
            lost_to = [other for other in others if name in wins.get(other, ())]
            if wins.get(name, set()) >= set(others):
                pros.append(_said(quantity, name, others, values))
            elif len(lost_to) == len(others):
                cons.append(_said(quantity, name, others, values))
        found.append(Sides(name, _clearest(pros), _clearest(cons)))
    return found


def _said(
    quantity: str, name: str, others: Sequence[str], values: dict[tuple[str, str], dict[str, Any]]
) -> tuple[float, Said]:
    own = values[quantity, name]
    against = [(other, values[quantity, other]) for other in others]
    shown = ", ".join(f"{other} {show(m['value'], m['unit'])}" for other, m in against)
    near = min(against, key=lambda pair: abs(pair[1]["value"] - own["value"]))[1]["value"]
    if own["unit"] == "share":  # as a ratio of what is lacking, like the scores
        ratio = (1 - min(near, own["value"]) + 1e-3) / (1 - max(near, own["value"]) + 1e-3)
    else:
        ratio = max(near, own["value"]) / max(min(near, own["value"]), 1e-12)
    return ratio, Said(f"{own['title']}: {show(own['value'], own['unit'])} ({shown})", quantity)


def _clearest(found: list[tuple[float, Said]]) -> list[Said]:
    kinds: dict[str, tuple[float, Said]] = {}
    for ratio, said in found:
        kind = re.sub(
            r"_(p50|p95|p99|\d+|\d+x\d+|typos|strangers|capitals|disorder|labels|macro_f1)(?=_|$)", "", said.link
        )
        if kind not in kinds or ratio > kinds[kind][0]:
            kinds[kind] = (ratio, said)
    ordered = sorted(kinds.values(), key=lambda pair: -pair[0])
    return [said for _, said in ordered[:MOST]]


class Question(NamedTuple):
    """What people ask, and what was measured about it."""

    text: str
    answer: list[Said]


def questions(results: dict[str, Any]) -> list[Question]:
    """The common questions about the first two models that something was measured for."""
    if len(results["subjects"]) < 2:
        return []
    a, b = (s["name"] for s in results["subjects"][:2])
    first = [s for s in results["verdict"]["sentences"] if {s["a"], s["b"]} == {a, b}]
    clear = {(c["name"]) for c in results["comparisons"] if {c["a"], c["b"]} == {a, b}}

    def about(pattern: str) -> list[Said]:
        return [
            Said(s["text"], s["quantity"])
            for s in first
            if re.fullmatch(pattern, s["quantity"]) and s["quantity"] in clear
        ]

    def profile(*names: str) -> list[Said]:
        return [
            Said(outcome(r), "scores") for r in results["verdict"]["rankings"] if r["name"] in names and r["scores"]
        ]

    asked: list[tuple[str, Callable[[], list[Said]]]] = [
        (f"What is the main difference between {a} and {b}?", lambda: [*_knobs(results, a, b), *about("parameters|flops_128")]),
        (f"Is {b} faster?", lambda: about("latency_(8|128)_p50|throughput")),
        (f"Is {b} smaller?", lambda: about("bytes_on_disk|memory_peak")),
        ("Which is more accurate?", lambda: about("(?!masked).*_accuracy")),
        (f"Can {b} be fine-tuned easily?", lambda: about(".*_(failed|any_rate|seconds|from_16_labels|from_64_labels)")),
        ("Which copes better with typing errors and unknown names?", lambda: about(".*_under_(typos_30|strangers)|unknown_typos_30")),
        ("Which knows more languages?", lambda: about("languages_written|translations_found")),
        ("Which says more honestly how sure it is?", lambda: about(".*_calibration")),
        ("Which for research, or wherever accuracy counts most?", lambda: profile("accuracy")),
        ("Which for a phone, which for a server?", lambda: profile("phone", "server")),
        ("Which with few labels?", lambda: profile("labels")),
    ]  # fmt: skip
    answered = (Question(text, answer()) for text, answer in asked)
    return [question for question in answered if question.answer]


def _knobs(results: dict[str, Any], a: str, b: str) -> list[Said]:
    """The knob that costs or saves most parameters."""
    for d in results["differences"]:
        counted = [knob for knob in d["knobs"] if knob["parameters"]]
        if {d["a"], d["b"]} == {a, b} and counted:
            most = max(counted, key=lambda knob: abs(knob["parameters"]))
            text = f"{most['field']}: {most['a']} in {d['a']}, {most['b']} in {d['b']} ({most['parameters']:+,} parameters)."
            return [Said(text, "knobs")]
    return []
