"""The soak's check must fail on everything it is there to find."""

from __future__ import annotations

import pytest

from benchmarks.soak import check


def log():
    rows = [{"precision": "bf16"}]
    for number in range(30):
        rows += [{"id": f"soak-{number}", "sent": number}, {"memory": 100 + number % 3, "at": number}]
        answer = {"status": 429} if number % 3 == 0 else {"status": 200, "cosine": 0.99999, "sha256": "a"}
        rows.append({"id": f"soak-{number}", "ms": 1.0, **answer})
    return [*rows, {"killed": 1, "at": 5}, {"killed": 1, "at": 10}, {"ended": 0}]


def last(rows, **changes):
    """The rows with the last answer changed."""
    at = max(i for i, row in enumerate(rows) if "status" in row)
    return [*rows[:at], {**rows[at], **changes}, *rows[at + 1 :]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [r for r in rows if not ("status" in r and r["id"] == "soak-7")],
            "1 of 30 requests have no answer, the first is soak-7",
        ),
        (
            lambda rows: [*rows, next(r for r in reversed(rows) if "status" in r)],
            "have several answers, the first is soak-29",
        ),
        (lambda rows: [*rows, {"id": "other", "status": 429, "ms": 1}], "1 answers are to nothing that was sent"),
        (lambda rows: last(rows, status=500), "1 answers have the status 500"),
        (lambda rows: last(rows, status=0), "1 answers have the status 0"),
        (lambda rows: last(rows, cosine=0.9998), "1 vectors are off, the first by a cosine of 0.999800 (soak-29)"),
        (lambda rows: last(rows, cosine=float("nan")), "1 vectors are off"),
        (lambda rows: [{**r, "memory": 2 * r["memory"]} if r.get("at", 0) > 20 else r for r in rows], "memory grew"),
        (lambda rows: [r for r in rows if "memory" not in r], "looked at 0 times"),
        (lambda rows: rows[:-1], "ended with nothing"),
        (lambda rows: [r for r in rows if r.get("at") != 10 or "killed" not in r], "not killed twice"),
        (lambda rows: [{**r, "killed": 0} if "killed" in r else r for r in rows], "not killed twice"),
        (lambda rows: [*rows[:-1], {"ended": 1}], "ended with [1]"),
        (lambda rows: [{**r, "status": 429} if "status" in r else r for r in rows], "nothing was answered with 200"),
        (lambda rows: rows[:1], "0 of 0 requests have no answer"),
    ],
)
def test_what_is_wrong_is_found(change, message):
    assert check(log()) == []
    assert any(message in told for told in check(change(log())))
