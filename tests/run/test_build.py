"""``halbert quantize``: what it writes runs alone, its certificate is measured, and the gate can refuse."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

import halbert
from halbert.errors import HalbertError, InputError, WeightsError
from halbert.run import build
from halbert.run.certificate import Agreement, Answers, compare, judge
from halbert.source import load_bundle, verify_files
from tests import small, tiny

TEXTS = [text for text, _ in small.rows(60)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantize")
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    for name, heads, changes in (
        ("bert", ("label", "tag"), {}), ("albert", ("label", "mlm", "score"), small.ALBERT), ("plain", (), {}), ("tags", ("tag",), {}),
        ("spans", ("span",), {}), ("scores", ("score",), {}),
    ):  # fmt: skip
        small.bundle(heads, seed=3, **changes).save(folder / name)
    bundle = halbert.load(str(folder / "bert"), "label", precision="fp32")
    rows = [(text, answer["label"]) for text, answer in zip(TEXTS, bundle.predict(TEXTS), strict=True)]
    small.write_csv(folder / "labelled.csv", rows)
    pairs = [(a, b, str(i % 6)) for i, (a, b) in enumerate(itertools.pairwise(TEXTS))]
    small.write_csv(folder / "scored.csv", pairs, ("text_a", "text_b", "score"))
    return folder


@pytest.mark.parametrize("name", ["bert", "albert", "plain", "tags", "spans", "scores"])
@pytest.mark.parametrize("only", [False, True])
def test_built_and_loaded(place, tmp_path, name, only):
    out = tmp_path / "out"
    certificate = halbert.quantize(str(place / name), out, place / "texts.txt", only=only, force=True)
    told = json.loads((out / "engines/int8/certificate.json").read_text())
    assert told["gate"]["found"] == certificate.gate.found and told["reference"].startswith("torch")
    precisions = [row["precision"] for row in told["engines"]]
    assert precisions[0] == "fp32" and precisions[-1] == "int8"
    by_name = {row["precision"]: row for row in told["engines"]}
    assert by_name["fp32"]["max_error"] <= 1e-4 and by_name["int8"]["max_error"] > 1e-4
    assert by_name["int8"]["cosine_mean"] > 0.99
    fast = halbert.load(str(out), "label" if name == "bert" else None, precision="int8")
    assert fast.backend.describe()["precision"] == "int8"
    full = halbert.load(str(place / name), precision="fp32")
    a, b = (p.embed(TEXTS, normalize=True) for p in (full, fast))
    assert 0.99 < (a * b).sum(1).mean() < 1 - 1e-7
    assert (out / "model.safetensors").exists() != only
    assert verify_files(out)
    if only:
        with pytest.raises(WeightsError, match="holds an int8 engine and no full weights"):
            load_bundle(out)
        assert halbert.load(str(out)).backend.describe()["precision"] == "int8"
        with pytest.raises(InputError, match="int8 weights only"):
            fast.bundle.save(tmp_path / "again")
    else:
        assert halbert.load(str(out)).backend.describe()["precision"] in ("fp32", "bf16")


def test_the_task_decides(place, tmp_path):
    found = halbert.quantize(
        str(place / "plain"), tmp_path / "a", place / "texts.txt", place / "scored.csv", force=True
    )
    assert found.metric == "spearman" and found.gate.rule == "score within 0.5 points"
    one = small.bundle(("label",), seed=3).save(tmp_path / "one")
    expected = [a["label"] for a in halbert.load(str(one), precision="fp32").predict(TEXTS)]
    small.write_csv(tmp_path / "labelled.csv", list(zip(TEXTS, expected, strict=True)))
    found = halbert.quantize(str(one), tmp_path / "b", place / "texts.txt", tmp_path / "labelled.csv", force=True)
    assert found.metric == "accuracy" and found.reference_score == 1.0
    fast = halbert.load(str(tmp_path / "b"), precision="int8")
    same = np.mean([a["label"] == e for a, e in zip(fast.predict(TEXTS), expected, strict=True)])
    assert found.engines[-1].score == found.engines[-1].labels == same


def test_below_the_gate_nothing_is_written(place, tmp_path, monkeypatch):
    """The twin: factors that are wrong must be refused, and then the second way is tried."""
    real, other = build.fixed_ranges, build.quantize_without_text
    spoilt = lambda found: found._replace(scales={n: s[::-1] * 3 for n, s in found.scales.items()})  # noqa: E731
    monkeypatch.setattr(build, "fixed_ranges", lambda *a: spoilt(real(*a)))
    out = tmp_path / "out"
    found = halbert.quantize(str(place / "plain"), out, place / "texts.txt")
    assert found.ranges == "by token" and found.gate.passed
    monkeypatch.setattr(build, "quantize_without_text", lambda *a: spoilt(other(*a)))
    with pytest.raises(
        HalbertError, match=r"below the gate, .*: at least 0.9900, found fixed ranges .*; by token ranges"
    ):
        halbert.quantize(str(place / "plain"), tmp_path / "refused", place / "texts.txt")
    assert not (tmp_path / "refused").exists()
    forced = halbert.quantize(str(place / "plain"), tmp_path / "forced", place / "texts.txt", force=True)
    assert forced.forced and not forced.gate.passed and (tmp_path / "forced/engines/int8").exists()


def agreement(**values) -> Agreement:
    common = {"engine": "e", "version": "1", "device": "d", "precision": "int8", "max_error": 0.0}
    return Agreement(**common, cosine_mean=1.0, cosine_min=1.0, **values)


@pytest.mark.parametrize(
    ("score", "values", "passed"),
    [
        (0.9, {"score": 0.8951, "labels": 0.5}, True),
        (0.9, {"score": 0.8949, "labels": 0.5}, False),
        (0.9, {"score": 0.8, "labels": 0.991}, True),
        (None, {"labels": 0.99}, True),
        (None, {"labels": 0.9899}, False),
        (None, {"order": 0.99}, True),
        (None, {"order": 0.98}, False),
    ],
)
def test_the_gate(score, values, passed):
    nothing = np.zeros((2, 3))
    reference = Answers(None, nothing, nothing, None, score)  # type: ignore[arg-type]
    assert judge(reference, agreement(**values)).passed is passed


@pytest.mark.parametrize(
    ("name", "calibrate", "data", "message"),
    [
        ("plain", "few.txt", None, "holds 3 texts; at least 16"),
        ("plain", "lost.txt", None, "lost.txt"),
        ("plain", "texts.txt", "labelled.csv", "has no column 'score'"),
        ("plain", "texts.txt", "bad.csv", "no number in column 'score'"),
        ("tags", "texts.txt", "labelled.csv", "models with a tag head"),
        ("bert", "texts.txt", "other.csv", "not among the 3 labels"),
    ],
)
def test_bad_input(place, tmp_path, name, calibrate, data, message):
    (place / "few.txt").write_text("a\nb\nc\n")
    small.write_csv(place / "bad.csv", [("a", "b", "1"), ("a", "b", "much")], ("text_a", "text_b", "score"))
    small.write_csv(place / "other.csv", [("a", "violet")])
    with pytest.raises(InputError, match=message):
        halbert.quantize(str(place / name), tmp_path / "out", place / calibrate, data and place / data)
    assert not (tmp_path / "out").exists()


def test_no_engine(place):
    with pytest.raises(InputError, match="has no int8 engine; build one with: halbert quantize"):
        halbert.load(str(place / "bert"), precision="int8")
    with pytest.raises(InputError, match="torch backend does not run int8"):
        halbert.load(tiny.bundle(), precision="int8", backend="torch")


BACKEND = SimpleNamespace(describe=lambda: dict.fromkeys(("engine", "version", "device", "precision"), "x"))


def constant(reference: Answers) -> Answers:
    """An engine that says one thing to every text: what most texts have."""
    said = np.bincount(np.asarray(reference.labels, int)).argmax()
    values = np.zeros_like(reference.values)
    values[:, said] = 1
    return reference._replace(values=values, labels=values.argmax(1), score=reference.score)


@pytest.mark.parametrize("scored", [False, True])
def test_an_engine_that_says_one_thing_is_refused_however_rare_the_others_are(scored):
    """Of 200 texts one is of another class: a constant has 99.5 % of the labels, and nearly all of the score."""
    rng, backend = (
        np.random.default_rng(0),
        SimpleNamespace(describe=lambda: dict.fromkeys(("engine", "version", "device", "precision"), "x")),
    )
    values = rng.standard_normal((200, 3)) + np.array([9.0, 0, 0])
    values[7] = [0, 9, 0]
    vectors = rng.standard_normal((200, 8))
    reference = Answers(backend, vectors, values, values.argmax(1), 0.99 if scored else None)  # type: ignore[arg-type]
    near = reference._replace(values=values + 0.01 * rng.standard_normal(values.shape))
    assert judge(reference, compare(reference, near)).passed
    found = judge(reference, compare(reference, constant(reference)))
    assert not found.passed and found.rule == "correlation with the answers" and found.found < 0.5
    assert judge(reference, compare(reference, reference)).passed


def test_a_tagger_that_says_one_thing_is_refused():
    """Tags are compared label by label: with one mean for all of them a constant seemed to follow the reference."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2000, 9)) + np.array([9.0] + [0.0] * 8)
    values[:16, 0] = -9
    reference = Answers(BACKEND, values[:, :4], values, values.argmax(1), None)  # type: ignore[arg-type]
    same = np.tile(values.mean(0), (2000, 1))
    one = reference._replace(values=same, labels=same.argmax(1))
    assert compare(reference, one).labels > 0.99 and not judge(reference, compare(reference, one)).passed


def test_an_engine_of_texts_that_are_all_alike_is_not_refused():
    """Logits that hardly change follow nothing, however faithful the engine is."""
    rng = np.random.default_rng(0)
    values = np.array([4.5, -4.5]) + 0.05 * rng.standard_normal((4, 2))
    reference = Answers(BACKEND, values, values, values.argmax(1), None)  # type: ignore[arg-type]
    near = reference._replace(values=values + 0.03 * rng.standard_normal((4, 2)))
    assert judge(reference, compare(reference, near)).passed
    wild = reference._replace(values=values + 5 * rng.standard_normal((4, 2)))
    assert not judge(reference, compare(reference, wild._replace(labels=reference.labels))).passed


def test_heads_that_choose_and_that_give_several(place, tmp_path):
    several = msgspec.structs.replace(tiny.HEADS["label"], several=True)
    for name, head in (("choice", tiny.HEADS["choice"]), ("several", several)):
        tiny.bundle(small.encoder(), {"it": head}, seed=3).save(tmp_path / name)
        found = halbert.quantize(str(tmp_path / name), tmp_path / f"{name}-8", place / "texts.txt", force=True)
        assert found.gate.rule == (
            "order of similarities (Spearman)" if name == "choice" else "labels that are the same"
        )
        assert halbert.load(str(tmp_path / f"{name}-8"), precision="int8").backend.describe()["precision"] == "int8"
    with pytest.raises(InputError, match="several classes are checked on the calibration texts"):
        halbert.quantize(str(tmp_path / "several"), tmp_path / "no", place / "texts.txt", place / "labelled.csv")


def test_an_int8_engine_is_not_run_under_another_name(place, tmp_path):
    halbert.quantize(str(place / "plain"), tmp_path / "out", place / "texts.txt", force=True)
    bundle = halbert.load(str(tmp_path / "out"), precision="int8").bundle
    for precision in ("fp32", "bf16"):
        with pytest.raises(InputError, match=r"int8 engine, without full weights|cannot multiply bfloat16"):
            halbert.load(bundle, precision=precision)
