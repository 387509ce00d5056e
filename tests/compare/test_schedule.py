from __future__ import annotations

import itertools

import numpy as np
import pytest

from halbert.compare.probes import engines, latency, throughput
from halbert.compare.probes.engines import EnginesProbe
from halbert.compare.probes.latency import LENGTHS, LatencyProbe
from halbert.compare.probes.memory import MemoryProbe
from halbert.compare.probes.size import SizeProbe
from halbert.compare.probes.throughput import ThroughputProbe
from halbert.compare.schedule import run_probe
from halbert.errors import HalbertError
from halbert.run.predictor import load
from tests import small
from tests.compare.made import quantity, subject

SUBJECTS = [subject(name) for name in ("a", "b", "c")]


class Recorder:
    """A probe that only writes down how it was called."""

    name, title, rounds = "recorder", "Recorder", 5

    def __init__(self, refused: str = "") -> None:
        self.refused = refused
        self.calls: list[tuple] = []
        self.quantities = [quantity("one"), quantity("many"), quantity("judged", statistic="mean")]

    def refuse(self, subject):
        return "will not" if subject.name == self.refused else None

    def prepare(self, subject):
        self.calls.append(("prepare", subject.name))
        return f"ready {subject.name}"

    def sample(self, subject, prepared, round_number):
        assert prepared == f"ready {subject.name}"
        self.calls.append((round_number, subject.name))
        base = ord(subject.name) * 100.0 + round_number
        return {"one": base, "many": [base, base + 0.5], "judged": (0.5, [0.0, 1.0])}


def test_subjects_take_turns_in_rotating_order():
    probe, seen = Recorder(), []
    run_probe(probe, SUBJECTS, "command", seen.append)
    assert probe.calls[:3] == [("prepare", "a"), ("prepare", "b"), ("prepare", "c")]
    order = ["abc", "bca", "cab", "abc", "bca"]
    assert probe.calls[3:] == [(n, name) for n, names in enumerate(order) for name in names]
    assert seen == [name for names in order for name in names]


def test_every_sample_goes_to_its_subject():
    measurements = {(m.name, m.subject): m for m in run_probe(Recorder(), SUBJECTS, "the command")}
    assert len(measurements) == 9
    for s in "abc":
        base = ord(s) * 100.0
        assert measurements["one", s].samples == [base + n for n in range(5)]
        assert measurements["many", s].samples == [base + n + half for n in range(5) for half in (0, 0.5)]
        assert measurements["judged", s].samples == [0.5] * 5
        assert measurements["judged", s].items == [[0.0, 1.0]] * 5 and measurements["one", s].items is None
        assert (measurements["one", s].command, measurements["one", s].probe) == ("the command", "recorder")
        assert measurements["one", s].value == base + 2


def test_a_subject_that_is_refused():
    probe = Recorder("b")
    measurements = run_probe(probe, SUBJECTS, "command")
    assert {name for _, name in probe.calls} == {"a", "c"}
    assert [(m.value, m.why) for m in measurements if m.subject == "b"] == [(None, "will not")] * 3
    assert [m.subject for m in measurements] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert [name for n, name in probe.calls if n == 1] == ["c", "a"]


def test_nobody_can_be_measured():
    measurements = run_probe(Recorder("a"), SUBJECTS[:1], "command")
    assert [m.value for m in measurements] == [None] * 3


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


class Engine:
    """Takes ``pace`` seconds a padded piece, and every fifth call a hiccup."""

    def __init__(self, clock: Clock, pace: float) -> None:
        self.clock, self.pace, self.calls = clock, pace, itertools.count(1)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, batch, outputs):
        assert outputs == ["last"] and batch.mask.all()
        self.shapes.append(batch.ids.shape)
        self.clock.now += batch.ids.size * self.pace + (5.0 if next(self.calls) % 5 == 0 else 0.0)
        return {}

    def describe(self):
        return {"engine": "fake", "precision": "fp7", "threads": 3}


class Fake:
    def __init__(self, clock: Clock, pace: float) -> None:
        self.backend, self.clock, self.pace = Engine(clock, pace), clock, pace

    def embed(self, texts):
        self.clock.now += len(texts) * self.pace
        return np.zeros((len(texts), 1))


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    monkeypatch.setattr(throughput, "time", clock)
    return clock


def test_latency_reports_what_the_clock_says(clock):
    predictors = {"a": Fake(clock, 0.001), "b": Fake(clock, 0.003)}
    probe = LatencyProbe(predictors, rounds=8, calls=3)
    measurements = {(m.name, m.subject): m for m in run_probe(probe, SUBJECTS[:2], "command")}
    for name, pace in (("a", 0.001), ("b", 0.003)):
        for length in LENGTHS:
            m = measurements[f"latency_{length}_p50", name]
            # A hiccup in one of three calls does not move their median, and is seen where every call counts.
            assert m.value == pytest.approx(length * pace) and m.unit == "s" and len(m.samples) == 8
            for percentile in ("p95", "p99"):
                every = measurements[f"latency_{length}_{percentile}", name]
                assert len(every.samples) == 24 and every.value > 4
            assert "fake fp7" in m.how and "3 threads" in m.how and "8 rounds" in m.how and "3 calls" in m.how
        assert measurements["latency_16x32_p50", name].value == pytest.approx(16 * 32 * pace)
        assert set(predictors[name].backend.shapes) == {(1, length) for length in LENGTHS} | {(16, 32)}
        # Warm-up calls come first, and are not among the samples.
        assert len(predictors[name].backend.shapes) > 8 * 3 * len(LENGTHS)


def test_long_texts_are_measured_where_every_model_can_read_them(clock):
    assert "512" in LatencyProbe({"a": Fake(clock, 0.001)}, longest=512).shapes
    assert "512" not in LatencyProbe({"a": Fake(clock, 0.001)}, longest=511).shapes


def test_latency_of_single_calls_keeps_the_hiccups(clock):
    probe = LatencyProbe({"a": Fake(clock, 0.001)}, rounds=40, calls=1)
    m = {m.name: m for m in run_probe(probe, SUBJECTS[:1], "command")}
    assert m["latency_8_p50"].value < 5 < m["latency_8_p95"].value


def test_latency_refuses_short_models(clock):
    probe = LatencyProbe({"a": Fake(clock, 0.001)})
    assert "only 127 positions" in probe.refuse(subject("a", max_position_embeddings=127))
    assert probe.refuse(subject("a", max_position_embeddings=128)) is None


def test_throughput_reports_texts_a_second(clock):
    probe = ThroughputProbe({"a": Fake(clock, 0.01), "b": Fake(clock, 0.04)}, ["x"] * 50, "somewhere", rounds=4)
    a, b = run_probe(probe, SUBJECTS[:2], "command")
    assert a.value == pytest.approx(100) and b.value == pytest.approx(25)
    assert (a.unit, a.better, len(a.samples)) == ("texts/s", "higher", 4)
    assert "50 texts of somewhere" in a.how and "4 rounds" in a.how


def test_probes_of_real_models(tmp_path):
    made = [
        subject("a", small.bundle().save(tmp_path / "a")),
        subject("b", small.bundle(**small.ALBERT).save(tmp_path / "b"), **small.ALBERT),
    ]
    size = {(m.name, m.subject): m.value for m in run_probe(SizeProbe(), made, "command")}
    for s in made:
        assert size["parameters", s.name] == s.bundle.spec.encoder.count_encoder()
        assert size["flops_128", s.name] == s.bundle.spec.encoder.count_flops(128)
        assert size["bytes_on_disk", s.name] == (s.folder / "model.safetensors").stat().st_size
    predictors = {s.name: load(s.bundle, precision="fp32") for s in made}
    for probe in (LatencyProbe(predictors, rounds=3), ThroughputProbe(predictors, ["the cat", "a"], "here", rounds=3)):
        for m in run_probe(probe, made, "command"):
            assert 0 <= m.low <= m.value <= m.high and m.value > 0


def test_memory_is_of_another_process(tmp_path):
    probe = MemoryProbe(["fp32"])
    s = subject("a", small.bundle().save(tmp_path / "a"))
    told = probe.sample(s, None, 0)
    assert 0 <= told["memory_added"] < told["memory_peak"]
    assert 20e6 < told["memory_peak"] < 4e9 and 0 < told["first_answer"] < 60
    with pytest.raises(HalbertError, match="memory probe's process failed for gone"):
        probe.sample(subject("gone", tmp_path / "gone"), None, 0)


def test_engines_in_turn():
    made = [subject("a", max_position_embeddings=128)]
    probe = EnginesProbe(["fp32"], rounds=2)
    m = {m.name: m for m in run_probe(probe, made, "command")}
    assert set(m) == {"batch_openvino_fp32", "batch_torch_fp32", "peak_share"}
    assert all(len(x.samples) == 2 and x.value > 0 for x in m.values())
    assert m["peak_share"].value < 1.5  # no model is much faster than a product of large matrices
    assert "only 127 positions" in probe.refuse(subject("a", max_position_embeddings=127))


def test_share_of_the_pace(monkeypatch):
    spec = SUBJECTS[0].bundle.spec.encoder
    monkeypatch.setattr(engines, "_pace", lambda dtype: 16 * spec.count_flops(128) / 0.5)
    monkeypatch.setattr(engines, "_seconds", lambda backend, s: 2.0)
    prepared = {("openvino", "fp32"): None, ("torch", "fp32"): None}
    assert EnginesProbe(["fp32"]).sample(SUBJECTS[0], prepared, 0)["peak_share"] == pytest.approx(0.25)
