"""Pros, cons and questions: every sentence has its cell, and none is said of what is not beyond chance."""

from __future__ import annotations

import copy

from halbert.compare.answers import pros_and_cons, questions
from tests.compare.made import results


def test_sides_rest_on_what_is_beyond_chance():
    made = results()
    better = {(c["name"], c["better"]) for c in made["comparisons"] if c["better"]}
    sides = {side.name: side for side in pros_and_cons(made)}
    assert list(sides) == ["bert", "albert", "third"]
    assert any(said.link == "parameters" for said in sides["bert"].pros)
    assert any(said.link == "parameters" for said in sides["third"].cons)
    for side in sides.values():
        for said in side.pros:
            assert (said.link, side.name) in better
        for said in side.cons:
            assert (said.link, side.name) not in better
    # In the middle is neither best nor worst.
    assert not any(said.link == "parameters" for said in (*sides["albert"].pros, *sides["albert"].cons))


def test_nothing_is_said_where_nothing_is_clear():
    made = results()
    for c in made["comparisons"]:
        c["better"], c["significant"] = None, False
    assert all(not side.pros and not side.cons for side in pros_and_cons(made))


def test_one_latency_is_enough():
    made = results(("bert", "albert"))
    for length in (8, 128):
        for m in [m for m in made["measurements"] if m["name"] == "latency_32_p50"]:
            made["measurements"].append({**copy.deepcopy(m), "name": f"latency_{length}_p50"})
        for c in [c for c in made["comparisons"] if c["name"] == "latency_32_p50"]:
            made["comparisons"].append({**c, "name": f"latency_{length}_p50"})
    fast = pros_and_cons(made)[0].pros
    assert sum(said.link.startswith("latency") for said in fast) == 1


def test_questions_are_answered_from_the_first_pair():
    made = results()
    asked = {question.text: question.answer for question in questions(made)}
    assert "What is the main difference between bert and albert?" in asked
    assert "Is albert faster?" in asked and "Which is more accurate?" in asked
    assert not any("languages" in text for text in asked)  # was not measured
    cells = {m["name"] for m in made["measurements"]}
    for answer in asked.values():
        assert answer
        for said in answer:
            assert said.link in cells | {"scores", "knobs"}
            assert "third" not in said.text or said.link == "scores"


def test_a_single_model_has_no_questions():
    made = results()
    made["subjects"] = made["subjects"][:1]
    assert questions(made) == []
