"""Claims: each answer follows from figures, and the shipped ones come out as the sources say."""

from __future__ import annotations

import msgspec
import pytest

from halbert.compare.claims import (
    COUNTED,
    SHIPPED,
    Check,
    Claim,
    answer,
    answer_all,
    cases_of,
    figure_of,
    published,
    read_claims,
)
from halbert.errors import InputError, SpecError
from tests.compare.made import taken

# As FACTS 1.1 and 1.2 answer them; the row "16 GB against 160 GB" is three claims here: true, false and misleading.
ANSWERS = {
    "bert-340m": "misleading", "albert-110m": "false", "bert-16gb": "true", "albert-160gb": "false",
    "more-data": "misleading", "latency-halved": "false", "faster": "false", "hundred-languages": "false",
    "cross-lingual": "false", "easy-tuning": "false", "efficient-parameters": "true", "fewer-resources": "misleading",
    "unknown-words": "misleading", "better-on-tasks": "misleading", "overall-score": "cannot be measured here",
}  # fmt: skip
PAPERS = {
    "multilingual-110m": "false", "large-340m": "true", "xlarge-60m": "false", "xxlarge-235m": "false",
    "eighteen-times": "true", "xxlarge-squad": "false", "base-mnli": "misleading", "forty-epochs": "false",
    "bert-squad2-test": "false",
}  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), [("default", ANSWERS), ("papers", PAPERS)])
def test_shipped_claims(name, expected):
    found = answer_all(read_claims(name))
    assert {claim["id"]: claim["answer"] for claim in found} == expected
    for claim in found:
        assert claim["read"] and all(case["source"] for case in claim["cases"])


def test_every_fact_is_about_a_released_model_and_is_asked_for():
    asked = {p for name in SHIPPED for claim in read_claims(name) for check in claim.check for p in check.properties}
    for fact in published():
        assert fact.property in asked and fact.property not in COUNTED
        assert (fact.value is None) != (not fact.why) and (fact.value is None or fact.source)


def test_counted_figures_are_the_shapes_own():
    assert figure_of("albert-base-v2", "parameters").value == 11_683_584
    assert figure_of("bert-large-uncased", "flops_512").value == 335_007_449_088
    assert figure_of("bert-base-uncased", "weight_bytes").value == 437_928_960
    assert figure_of("albert-base-v2", "training_gigabytes").value is None
    assert figure_of("albert-base-v2", "overall_score").shown == "not known"


def check(**changes):
    fields = {
        "subjects": ("albert-base-v2", "bert-base-uncased"),
        "properties": ("parameters",),
        "relation": ">",
        "value": 50e6,
    }
    return Check(**{**fields, **changes})


def told(*checks):
    return answer(
        Claim(id="x", said="s", read="r", check=checks), {"subjects": [], "measurements": [], "comparisons": []}
    )


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([check(value=1e6)], "true"),
        ([check()], "misleading"),
        ([check(of="any")], "true"),
        ([check(value=1e9)], "false"),
        ([check(value=1e9, of="any")], "false"),
        ([check(value=1e6), check(value=1e9)], "false"),
        ([check(value=1e6), check()], "misleading"),
        ([check(properties=("overall_score",))], "cannot be measured here"),
        ([check(properties=("overall_score",)), check()], "cannot be measured here"),
        ([check(properties=("overall_score", "parameters"), value=1e6)], "cannot be measured here"),  # true as far as known
        ([check(properties=("overall_score", "parameters"))], "misleading"),
        ([check(properties=("overall_score", "parameters"), of="any")], "true"),
        ([check(properties=("overall_score",)), check(value=1e9)], "false"),
        ([check(relation="about", value=11.7e6, of="any")], "true"),
        ([check(relation="about", value=11.7e6, tolerance=0.001, of="any")], "false"),
        ([check(subjects=(), pairs=(("bert-base-uncased", "albert-base-v2"),), value=9)], "true"),
        ([check(subjects=(), pairs=(("albert-base-v2", "bert-base-uncased"),), value=9)], "false"),  # the twin: turned round
    ],
)  # fmt: skip
def test_answers(checks, expected):
    assert told(*checks).answer == expected


@pytest.mark.parametrize(
    ("relation", "low", "same", "high"),
    [("<", True, False, False), ("<=", True, True, False), (">", False, False, True), (">=", False, True, True),
     ("=", False, True, False)],
)  # fmt: skip
def test_relations(relation, low, same, high):
    c = check(relation=relation, value=2.0)
    assert (c.holds(1.9), c.holds(2.0), c.holds(2.1)) == (low, same, high)


def results(groups, equal=("shape",), values=(2.0, 3.0), width=0.1):
    """One comparison of two subjects, with an interval of the difference so wide on either side."""
    subjects = [
        {"name": n, "spec": {"num_hidden_groups": g, "num_hidden_layers": 3}} for n, g in zip("ab", groups, strict=True)
    ]
    rows = [taken(n, [v, v, v], name="latency_128_p50") for n, v in zip("ab", values, strict=True)]
    difference = values[1] - values[0]
    comparison = {
        "a": "a", "b": "b", "name": "latency_128_p50", "equal_in": list(equal), "low": difference - width,
        "high": difference + width,
    }  # fmt: skip
    return {"subjects": subjects, "measurements": msgspec.to_builtins(rows), "comparisons": [comparison]}


def measured(**changes):
    pairs = (("albert-base-v2", "bert-base-uncased"),)
    fields = {"properties": (), "measured": ("latency_128_p50",), "relation": "<", "value": 1}
    return check(subjects=(), pairs=pairs, **{**fields, **changes})


@pytest.mark.parametrize(
    ("groups", "equal", "ratios"),
    [((3, 1), ("shape",), [1.5]), ((1, 3), ("shape",), [2 / 3]), ((3, 1), (), []), ((1, 1), ("shape",), [])],
)
def test_what_was_measured_counts_where_one_of_equal_shape_shares(groups, equal, ratios):
    found = list(cases_of(measured(), results(groups, equal)))
    assert [float(case.figure.split(" ")[0]) for case in found] == [pytest.approx(r, abs=1e-3) for r in ratios]
    assert [case.agrees for case in found] == [r < 1 for r in ratios]
    assert all(case.source.startswith("measured in this audit") for case in found)


@pytest.mark.parametrize(
    ("values", "width", "changes", "agrees"),
    [
        ((3.0, 2.9), 0.05, {}, True), ((3.0, 2.9), 0.2, {}, None), ((2.9, 3.0), 0.05, {}, False),
        ((3.0, 1.5), 0.05, {"relation": "about", "value": 0.5, "tolerance": 0.05}, True),
        ((3.0, 1.5), 0.05, {"relation": "about", "value": 0.5, "tolerance": 0.001}, None),
        ((3.0, 2.5), 0.05, {"relation": "about", "value": 0.5}, False),
        ((3.0, 1.7), 0.9, {"relation": "about", "value": 0.5}, None),
    ],
)  # fmt: skip
def test_the_whole_interval_speaks_or_none_of_it(values, width, changes, agrees):
    (case,) = cases_of(measured(**changes), results((3, 1), values=values, width=width))
    assert case.agrees is agrees


def test_a_measurement_that_does_not_decide_leaves_nothing_open():
    wide = results((3, 1), values=(3.0, 2.9), width=0.5)
    for properties, expected in ((("flops_128",), "false"), ((), "cannot be measured here")):
        claim = Claim(id="x", said="s", read="r", check=(measured(properties=properties),))
        assert answer(claim, wide).answer == expected


GOOD = """
[[claim]]
id = "a"
said = "s"
read = "r"
[[claim.check]]
subjects = ["bert-base-uncased"]
properties = ["parameters"]
relation = ">"
value = 1
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[claim", "is not valid TOML"), ("a = 1", "holds no claims"), (GOOD + GOOD, "'a' is there twice"),
        (GOOD.replace("bert-base-uncased", "bert-bas-uncased"), "did you mean 'bert-base-uncased'"),
        (GOOD.replace("relation", "relatoin"), "unknown field relatoin"), (GOOD.replace('">"', '"~"'), "relation"),
        (GOOD.replace("value = 1", "value = nan"), "expected a number"),
        (GOOD.replace('subjects = ["bert-base-uncased"]', "subjects = []"), "either subjects or pairs"),
        (GOOD.replace('properties = ["parameters"]', 'measured = ["throughput"]'), "give pairs"),
        (GOOD.replace('"parameters"', '"paramters"'), "did you mean 'parameters'"),
        (GOOD.replace('subjects = ["bert-base-uncased"]', 'pairs = [["bert-base-uncased", "bert-base-cased"]]').replace(
            'properties = ["parameters"]', 'measured = ["througput"]'), "did you mean 'throughput'"),
        (GOOD[: GOOD.index("[[claim.check]]")] + "check = []", "has no check"),
    ],
)  # fmt: skip
def test_files_that_hold_no_claims(tmp_path, text, says):
    (tmp_path / "claims.toml").write_text(text)
    with pytest.raises((InputError, SpecError), match=says):
        read_claims(tmp_path / "claims.toml")


def test_a_name_that_is_none():
    with pytest.raises(InputError, match="did you mean 'papers'"):
        read_claims("paper")


def test_figures_are_divided_in_the_order_of_the_claim():
    """BERT to ALBERT is another question than ALBERT to BERT: the measured ratio follows the claim's pairs."""
    found = results((3, 1), values=(2.0, 3.0))  # a is BERT's kind: 2 s, b shares: 3 s
    for pair, ratio in (
        (("albert-base-v2", "bert-base-uncased"), [1.5]), (("bert-base-uncased", "albert-base-v2"), [2 / 3]),
        (("bert-base-uncased", "bert-large-uncased"), []),
    ):  # fmt: skip
        (check_of,) = [
            check(subjects=(), pairs=(pair,), properties=(), measured=("latency_128_p50",), relation="<", value=1)
        ]
        told = [float(case.figure.split(" ")[0]) for case in cases_of(check_of, found)]
        assert told == [pytest.approx(r, abs=1e-3) for r in ratio]


def test_figures_of_two_machines_speak_for_nothing():
    found = results((3, 1)) | {"merged": [{"subjects": ["a"]}, {"subjects": ["b"]}]}
    assert list(cases_of(measured(), found)) == []
    found["merged"] = [{"subjects": ["a", "b"]}, {"subjects": ["c"]}]
    assert len(list(cases_of(measured(), found))) == 1
