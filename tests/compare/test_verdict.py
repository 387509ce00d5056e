from __future__ import annotations

import re

import pytest

from halbert.compare.measurement import compare_all, undefined
from halbert.compare.verdict import judge, show
from tests.compare.made import quantity, taken


def verdict(*measurements, order=("a", "b"), equal=()):
    return judge(measurements, compare_all(measurements, lambda *_: list(equal), lambda *_: True), order)


def near(middle, n=20, noise=0.02):
    return [middle * (1 + noise * ((k * 7) % 5 - 2) / 2) for k in range(n)]


def test_no_sentence_without_a_comparison():
    a = undefined(quantity("masked_loss"), "masked", "a", "c", "no head")
    assert verdict(a, taken("b", [1.0, 2.0], name="masked_loss")).sentences == []
    assert verdict(taken("a", [1.0, 2.0])).sentences == []
    nothing = verdict(a)
    assert (nothing.sentences, nothing.headline) == ([], [])


def test_one_sentence_for_each_comparison():
    made = [taken(s, near(i + 1.0), name=n) for n in ("x", "y") for i, s in enumerate("abc")]
    sentences = verdict(*made, equal=["tokenizer"]).sentences
    assert [(s.quantity, s.a, s.b) for s in sentences] == [
        (n, a, b) for n in ("x", "y") for a, b in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    assert all(s.equal_in == ["tokenizer"] for s in sentences)


@pytest.mark.parametrize(("low", "high"), [("a", "b"), ("b", "a")])
def test_a_clear_difference(low, high):
    values = {low: 0.010, high: 0.025}
    (s,) = verdict(*(taken(x, near(values[x]), name="latency_32_p50") for x in "ab")).sentences
    assert s.text.startswith(f"The latency_32_p50: {high} has 2.50 times that of {low} (")
    assert "a 10.00 ms, b 25.00 ms" in s.text if low == "a" else "a 25.00 ms, b 10.00 ms" in s.text
    assert "no clear difference" not in s.text


def test_no_clear_difference():
    (s,) = verdict(taken("a", near(1.0, noise=0.5)), taken("b", near(1.001, noise=0.5)[::-1])).sentences
    assert "no clear difference (a " in s.text and "times" not in s.text
    low, high = re.search(r"difference ([+-]?[\d.]+) (?:ms|s) to ([+-]?[\d.]+) ", s.text).groups()
    assert float(low) < 0 < float(high)


def test_shares_are_told_in_points():
    fields = {"name": "rows_accuracy", "unit": "share", "statistic": "mean", "better": "higher"}
    (s,) = verdict(taken("a", near(0.5), **fields), taken("b", near(0.75), **fields)).sentences
    assert "b is 25.0 points higher than a (a 50.0 %, b 75.0 %; difference +" in s.text and s.text.endswith("points).")


def test_exact_numbers():
    fields = {"name": "parameters", "unit": "parameters", "statistic": "exact"}
    (s,) = verdict(taken("a", [3e6], **fields), taken("b", [12e6], **fields)).sentences
    assert s.text == "The parameters: b has 4.00 times that of a (a 3.00 M, b 12.00 M)."
    (s,) = verdict(taken("a", [3e6], **fields), taken("b", [3e6], **fields)).sentences
    assert s.text == "The parameters: equal (3.00 M)."


def test_a_zero_is_not_divided_by():
    fields = {"name": "memory_added", "unit": "bytes", "statistic": "exact"}
    (s,) = verdict(taken("a", [0.0], **fields), taken("b", [5.0], **fields)).sentences
    assert s.text == "The memory_added: b is higher than a (a 0 B, b 5 B)."


def test_the_headline_is_size_speed_and_quality_of_the_first_two():
    made = []
    for i, s in enumerate("abc"):
        made += [
            taken(s, [1000.0 * (i + 1)], name="parameters", unit="parameters", statistic="exact"),
            taken(s, near(1.0 + i), name="latency_32_p50"),
            taken(s, near(100.0 / (i + 1)), name="throughput", unit="texts/s", better="higher"),
            taken(s, near(0.3 + i / 10), name="masked_accuracy", unit="share", statistic="mean", better="higher"),
            taken(s, near(0.5 + i / 10), name="rows_accuracy", unit="share", statistic="mean", better="higher"),
        ]
    told = verdict(*made, order=("b", "c", "a"))
    wanted = {s.quantity: s.text for s in told.sentences if {s.a, s.b} == {"b", "c"}}
    assert told.headline == [wanted["parameters"], wanted["throughput"], wanted["rows_accuracy"]]
    fewer = [m for m in made if m.name in ("masked_accuracy", "latency_32_p50")]
    assert [t.partition(":")[0] for t in verdict(*fewer).headline] == ["The latency_32_p50", "The masked_accuracy"]


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (11683584, "parameters", "11.68 M"), (999, "parameters", "999"), (1500, "parameters", "1.50 k"),
        (22352486400, "FLOP", "22.35 GFLOP"), (46766080, "bytes", "44.6 MiB"), (512, "bytes", "512 B"),
        (2 << 30, "bytes", "2.0 GiB"), (0.00521, "s", "5.21 ms"), (12.34, "s", "12.3 s"), (0.813, "share", "81.3 %"),
        (3.14159, "nats", "3.142 nats"), (321.04, "texts/s", "321.0 texts/s"), (12345.6, "texts/s", "12,346 texts/s"),
        (0.0, "s", "0.00 ms"),
    ],
)  # fmt: skip
def test_numbers_for_people(value, unit, shown):
    assert show(value, unit) == shown
    assert show(value, unit, sign=True) == (f"+{shown}" if value else shown)
    assert show(-value, unit).lstrip("-") == shown
