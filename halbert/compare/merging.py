"""Several audits as one: other machines, other dates, further models, with every figure where it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from halbert.compare.baseline import measurements_of, other_grounds
from halbert.compare.machine import named_machine
from halbert.compare.measurement import PACED, Measurement, compare_all
from halbert.compare.verdict import judge
from halbert.errors import InputError

_SHAPE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def merge(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Results of several audits as those of one; a subject that is in several is told apart by machine or date.

    Figures of different audits are compared where they were made alike (``how``), times and memory on machines of one kind
    only, their samples resampled apart. Claims are left to the caller. Raises :class:`InputError` for fewer than two
    results, or the same one twice.
    """
    if len(found) < 2:
        raise InputError("one result was given; merging needs at least two")
    marks = [(r["created"], r["command"], r["machine"]["processor"]) for r in found]
    if len(set(marks)) < len(marks):
        raise InputError("the same result was given twice; expected those of different audits")
    names = _names(found)
    measurements, origin = [], {}
    for number, results in enumerate(found):
        for m in measurements_of(results):
            name = names[number][m.subject]
            origin[name] = number
            measurements.append(msgspec.structs.replace(m, subject=name))
    subjects = [
        {**subject, "name": names[number][subject["name"]]}
        for number, r in enumerate(found)
        for subject in r["subjects"]
    ]
    described = {s["name"]: s for s in subjects}
    made = {(m.name, m.subject): m for m in measurements}
    for name in dict.fromkeys(m.name for m in measurements):  # every figure has its row whole
        some = next(m for m in measurements if m.name == name)
        measurements += [
            msgspec.structs.replace(
                some, subject=s["name"], samples=[], value=None, low=None, high=None, items=None, labels=None,
                why="its audit did not measure this",
            )
            for s in subjects if (name, s["name"]) not in made
        ]  # fmt: skip
    inside = {
        (number, frozenset((c["a"], c["b"]))): c["equal_in"] for number, r in enumerate(found) for c in r["comparisons"]
    }
    back = {new: old for table in names for old, new in table.items()}
    parts = [part for number, r in enumerate(found) for part in _parts(r, names[number])]
    home = {name: part for part in parts for name in part["subjects"]}

    def machine(subject: str) -> tuple[str, int]:
        told = home[subject]["machine"]
        return told["processor"], told["cores"]

    def equal_in(a: str, b: str) -> list[str]:
        if origin[a] == origin[b]:
            return inside.get((origin[a], frozenset((back[a], back[b]))), [])
        return _equal(described[a], described[b]) + (["machine"] if machine(a) == machine(b) else [])

    def comparable(one: Measurement, two: Measurement) -> bool:
        if one.unit in PACED and one.statistic != "exact" and machine(one.subject) != machine(two.subject):
            return False
        of, other = (found[origin[m.subject]] for m in (one, two))
        a, b = (msgspec.structs.replace(m, subject=back[m.subject]) for m in (one, two))
        if of is other:
            return _were_compared(of, a.name, a.subject, b.subject)
        own, others = ({**r, "data": home[m.subject]["data"]} for r, m in ((of, one), (other, two)))
        return other_grounds(a, b, own, others) is None

    comparisons = compare_all(
        measurements,
        equal_in,
        lambda name, a, b: (name, a) in made and (name, b) in made and comparable(made[name, a], made[name, b]),
        lambda a, b: home[a] is home[b],
    )
    order = [s["name"] for s in subjects]
    weights = next((dict(r["weights"]) for r in found if r.get("weights")), {})
    told = dict(found[0])
    return {
        **told,
        "data": _agreed([r.get("data", {}) for r in found]),
        "seconds": round(sum(r.get("seconds", 0.0) for r in found), 1),
        "notes": [
            f"Put together from {len(found)} audits. Figures of different audits are compared where they were made alike, times and "
            "memory on machines of one kind only; times also depend on the day.",
            *dict.fromkeys(note for r in found for note in r["notes"]),
        ],
        "merged": parts,
        "subjects": subjects,
        "differences": [
            {**d, "a": names[n][d["a"]], "b": names[n][d["b"]]} for n, r in enumerate(found) for d in r["differences"]
        ],
        "measurements": msgspec.to_builtins(measurements),
        "comparisons": msgspec.to_builtins(comparisons),
        "weights": weights,
        "verdict": msgspec.to_builtins(judge(measurements, comparisons, order, weights)),
    }  # fmt: skip


def _parts(results: Mapping[str, Any], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The audits that results are of (several, where they were themselves put together), with the subjects' new names."""
    every = results.get("merged") or [{**results, "subjects": list(names)}]
    return [
        {
            "created": r["created"], "command": r["command"], "machine": r["machine"], "data": r.get("data", {}),
            "subjects": [names[name] for name in r["subjects"]],
        }
        for r in every
    ]  # fmt: skip


def _agreed(several: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Fingerprints of data that no result contradicts; the others are each audit's own."""
    every = {where: {data[where] for data in several if where in data} for data in several for where in data}
    return {where: next(iter(kinds)) for where, kinds in every.items() if len(kinds) == 1}


def _were_compared(results: Mapping[str, Any], name: str, a: str, b: str) -> bool:
    """Whether the audit itself compared the two in this quantity: masked pieces of other vocabularies it does not."""
    return any(c["name"] == name and {c["a"], c["b"]} == {a, b} for c in results["comparisons"])


def _names(found: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """New names of every result's subjects: their own, where no other has them, else with what tells the results apart."""
    own = [[s["name"] for s in r["subjects"]] for r in found]
    marks = [
        [r["created"][:10] for r in found],
        [named_machine(r["machine"]) for r in found],
        [f"{r['machine']['processor']}, {r['created'][:16].replace('T', ' ')}" for r in found],
    ]
    mark = next((m for m in marks if len(set(m)) == len(m)), [str(i + 1) for i in range(len(found))])
    return [
        {
            name: f"{name} ({mark[number]})"
            if any(name in other for i, other in enumerate(own) if i != number)
            else name
            for name in names
        }
        for number, names in enumerate(own)
    ]


def _equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    equal = ["shape"] if all(a["spec"].get(field) == b["spec"].get(field) for field in ("model_type", *_SHAPE)) else []
    x, y = a["parameters"]["encoder"], b["parameters"]["encoder"]
    return equal + (["parameters (within 2 %)"] if abs(x - y) <= 0.02 * x else [])
