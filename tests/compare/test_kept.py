"""Samples on disk: nothing is measured twice, nothing of another audit is mixed in, a kill costs one round."""

from __future__ import annotations

import json

import pytest

from halbert.compare.kept import Kept
from halbert.compare.schedule import Budget, run_probe
from halbert.errors import InputError
from tests.compare.made import subject
from tests.compare.test_schedule import Recorder

SUBJECTS = [subject(name) for name in ("a", "b", "c")]
PLAN = {"models": {"a": "1"}, "rows": None}


def taken(probe):
    return [call for call in probe.calls if call[0] != "prepare"]


def test_a_stopped_probe_goes_on_where_it_was(tmp_path):
    class Stops(Recorder):
        def sample(self, subject, prepared, round_number):
            if (round_number, subject.name) == (2, "b"):
                raise KeyboardInterrupt
            return super().sample(subject, prepared, round_number)

    kept = Kept(tmp_path / "out", PLAN, False)
    with pytest.raises(KeyboardInterrupt):
        run_probe(Stops(), SUBJECTS, "command", kept=kept)
    kept.leave()
    again = Recorder()
    found = run_probe(again, SUBJECTS, "command", kept=Kept(tmp_path / "out", PLAN, True))
    assert {number for number, _ in taken(again)} == {2, 3, 4}  # the round that was cut is taken whole
    assert found == run_probe(Recorder(), SUBJECTS, "command")


def test_a_finished_probe_is_not_even_prepared(tmp_path):
    first = run_probe(Recorder(), SUBJECTS, "command", kept=Kept(tmp_path / "out", PLAN, False))
    again, seen = Recorder(), []
    assert run_probe(again, SUBJECTS, "command", seen.append, kept=Kept(tmp_path / "out", PLAN, True)) == first
    assert again.calls == [] and len(seen) == 15  # and its progress bar fills


def test_more_rounds_only_add(tmp_path):
    kept = Kept(tmp_path / "out", PLAN, False)
    run_probe(Recorder(), SUBJECTS, "command", kept=kept)
    (tmp_path / "out").mkdir()
    kept.move_into(tmp_path / "out")
    kept.remove()
    longer = Recorder()
    longer.rounds = 8
    found = run_probe(longer, SUBJECTS, "command", kept=Kept(tmp_path / "out", PLAN, True))
    assert {number for number, _ in taken(longer)} == {5, 6, 7}
    assert len(found[0].samples) == 8


def test_a_line_that_a_kill_cut_is_left_out(tmp_path):
    kept = Kept(tmp_path / "out", PLAN, False)
    run_probe(Recorder(), SUBJECTS, "command", kept=kept)
    file = kept.place / "recorder.jsonl"
    whole = file.read_text()
    for cut in (len(whole) - 1, len(whole) - 20, whole.rindex("{", 0, -40), whole.rindex("\n", 0, -1) + 1):
        file.write_text(whole[:cut])
        rounds = kept.rounds("recorder")
        assert len(rounds) == 4 and rounds[3]["a"]["judged"] == (0.5, [0.0, 1.0])
    file.write_text("")
    assert kept.rounds("recorder") == [] and kept.rounds("never") == []


def test_a_cut_line_does_not_spoil_what_is_added_after_it(tmp_path):
    kept = Kept(tmp_path / "out", PLAN, False)
    run_probe(Recorder(), SUBJECTS, "command", kept=kept)
    file = kept.place / "recorder.jsonl"
    file.write_text(file.read_text()[:-10])
    found = run_probe(Recorder(), SUBJECTS, "command", kept=kept)
    assert found == run_probe(Recorder(), SUBJECTS, "command")
    assert len(kept.rounds("recorder")) == 5 and len(kept.rounds("recorder")[4]) == 3


def test_samples_of_another_audit_are_refused(tmp_path):
    kept = Kept(tmp_path / "out", PLAN, False)
    run_probe(Recorder(), SUBJECTS, "command", kept=kept)
    with pytest.raises(InputError, match="--resume, or remove it"):
        Kept(tmp_path / "out", PLAN, False)
    with pytest.raises(InputError, match="of other depth \\(--quick, --full\\), models; go on with the same"):
        Kept(tmp_path / "out", {"models": {"a": "2"}, "rows": 5}, True)
    assert json.loads((kept.place / "plan.json").read_text()) == PLAN
    with pytest.raises(InputError, match="holds no audit to go on with"):
        Kept(tmp_path / "other", PLAN, True)
    (tmp_path / "out").mkdir()
    kept.move_into(tmp_path / "out")
    kept.remove()
    with pytest.raises(InputError, match="of other depth \\(--quick, --full\\)"):
        Kept(tmp_path / "out", {**PLAN, "rows": 5}, True)
    assert not kept.place.exists()  # nothing is left of a try that was refused


def test_what_stays_after_a_failure(tmp_path):
    kept = Kept(tmp_path / "out", PLAN, False)
    kept.keep("p", {"a": {"one": 1.0}})
    kept.leave()
    assert kept.place.exists()
    kept.remove()
    kept = Kept(tmp_path / "out", PLAN, False)
    kept.leave()  # nothing was measured yet
    assert not kept.place.exists()


def test_a_spent_budget_stops_after_two_rounds(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("halbert.compare.schedule.time.monotonic", lambda: clock[0])

    class Slow(Recorder):
        def sample(self, subject, prepared, round_number):
            clock[0] += 10
            return super().sample(subject, prepared, round_number)

    budget = Budget(100.0, 2)
    first, second = Slow(), Slow()
    run_probe(first, SUBJECTS[:1], "command", budget=budget)
    assert len(taken(first)) == 5  # 50 seconds are its half
    run_probe(second, SUBJECTS, "command", budget=budget)
    assert len(taken(second)) == 6  # 60 seconds for two rounds: more than the 50 that were left
    assert len(taken(Slow())) == 0


def test_a_probe_that_knows_enough_stops():
    class Narrow(Recorder):
        narrow = 0.01
        rounds = 100

    probe = Narrow()
    probe.quantities = [q for q in probe.quantities if q.name == "one"]
    found = run_probe(probe, SUBJECTS, "command")
    assert len(found[0].samples) == 20  # 1 in 9700 a round
    probe.narrow = 1e-9
    assert len(run_probe(probe, SUBJECTS, "command")[0].samples) == 100
