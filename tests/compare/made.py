"""Quantities, subjects and results for the tests of the audit, made without measuring anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from halbert.compare.audit import SCHEMA, describe_subject
from halbert.compare.claims import answer_all, read_claims
from halbert.compare.measurement import Comparison, Measurement, Quantity, compare_all, measured, undefined
from halbert.compare.subject import Subject
from halbert.compare.verdict import judge
from halbert.spec import difference
from tests import small


def quantity(name: str = "throughput", **changes: Any) -> Quantity:
    fields = {"title": f"The {name}", "unit": "s", "statistic": "p50", "better": "lower", "how": f"how {name} is made"}
    return Quantity(**{"name": name, **fields, **changes})


def taken(subject: str, samples: list[float], items: Any = None, **changes: Any) -> Measurement:
    return measured(quantity(**changes), "probe", subject, samples, "halbert audit …", items)


def subject(name: str, folder: Path = Path("nowhere"), seed: int = 0, **changes: Any) -> Subject:
    return Subject(name=name, bundle=small.bundle(seed=seed, **changes), folder=folder, description=f"about {name}")


def results(names: tuple[str, ...] = ("bert", "albert", "third"), how: str = "each in turn") -> dict[str, Any]:
    """What an audit of models with these names would write; every kind of cell is in it."""
    changes: list[dict[str, Any]] = [{}, small.ALBERT, {"num_hidden_groups": 1}]
    subjects = [subject(name, **changed) for name, changed in zip(names, changes)]
    measurements = []
    for i, name in enumerate(names):
        command = "halbert audit a b --only x --out again"
        for q, samples in (
            (quantity("parameters", unit="parameters", statistic="exact", how=how), [1000.0 * (i + 1)]),
            (quantity("bytes_on_disk", unit="bytes", statistic="exact"), [4096.0]),
            (quantity("latency_32_p50"), [0.001 * (i + 1) + 1e-5 * k for k in range(20)]),
            (
                quantity("throughput", unit="texts/s", better="higher"),
                [321.0 + 7 * ((k * (i + 2)) % 5) for k in range(9)],
            ),
            (quantity("rows_accuracy", unit="share", statistic="mean", better="higher"), [0.5, 0.6 + i / 10, 0.7]),
            (quantity("masked_loss", unit="nats", statistic="mean"), [5.0 + i, 5.5 + i, 5.25 + i]),
        ):
            if q.name == "masked_loss" and i == 1:
                measurements.append(undefined(q, "masked", name, command, "no masked-piece head"))
            else:
                measurements.append(measured(q, q.name, name, samples, command))
    comparisons = compare_all(measurements, lambda a, b: ["tokenizer"], lambda name, a, b: True)
    described = [describe_subject(s) for s in subjects]
    described[0]["curve"] = [{"tokens": 100 * k, "masked_loss": 5.0 - k / 10} for k in range(10)]
    return {
        "schema": SCHEMA, "created": "2026-01-02T03:04:05+00:00", "seconds": 12.5, "halbert": "0", "command": "halbert audit a b",
        "notes": ["held equal: nothing"],
        "machine": {"processor": "a processor", "cores": 2, "memory_bytes": 1 << 33, "system": "a system", "python": "3",
                    "versions": {"numpy": "2"}, "load_before": 0.5},
        "subjects": described,
        "differences": [
            {"a": names[0], "b": s.name, "knobs": msgspec.to_builtins(difference(subjects[0].bundle.spec, s.bundle.spec)),
             "parameters_difference": s.bundle.spec.encoder.count_encoder() - subjects[0].bundle.spec.encoder.count_encoder()}
            for s in subjects[1:]
        ],
        "measurements": msgspec.to_builtins(measurements),
        "comparisons": msgspec.to_builtins(comparisons),
        "verdict": msgspec.to_builtins(judge(measurements, comparisons, list(names))),
        "weights": {},
        "claims": answer_all(read_claims("default")),
    }  # fmt: skip


__all__ = ["Comparison", "Measurement", "quantity", "results", "subject", "taken"]
