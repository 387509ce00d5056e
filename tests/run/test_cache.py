"""Compiled int8 graphs on disk: read back to the same bits, passed over when they are not whole, and never in the way."""

from __future__ import annotations

import os

import numpy as np
import pytest

from halbert.run import cache
from halbert.run.openvino_backend import openvino
from halbert.run.predictor import load
from halbert.run.quantize import quantize_without_text
from halbert.weights.int8 import ENGINE, save_int8
from tests import small

TEXTS = ["the cat sat", "a dog", "on the mat ."]


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("HALBERT_CACHE", str(tmp_path / "cache"))
    bundle = small.bundle(("label",))
    bundle.save(tmp_path / "model")
    save_int8(tmp_path / "model" / ENGINE, quantize_without_text(bundle))
    return tmp_path / "model"


def files(model):
    return sorted((model.parent / "cache/compiled").glob("*"))


def answers(model, **how):
    predictor = load(str(model), precision="int8", threads=1, **how)
    return predictor.embed(TEXTS), predictor.logits(TEXTS)


def count_compilations(monkeypatch) -> list[int]:
    made: list[int] = []
    real = openvino.Core.compile_model

    def counted(*given, **named):
        made.append(1)
        return real(*given, **named)

    monkeypatch.setattr(openvino.Core, "compile_model", counted)
    return made


def test_read_back_to_the_same_bits(model, monkeypatch):
    made = count_compilations(monkeypatch)
    first = answers(model)
    assert len(made) == 2 and len(files(model)) == 2  # one for each output that was asked for
    again = answers(model)
    assert len(made) == 2
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setenv("HALBERT_CACHE", "")
    for a, b in zip(first, answers(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(made) == 4 and cache.folder() is None


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "magic"])
def test_a_damaged_file_is_compiled_again(model, monkeypatch, harm):
    first = answers(model)
    for file in files(model):
        data = bytearray(file.read_bytes())
        if harm == "flip":
            data[len(data) // 2] ^= 1
        elif harm == "magic":
            data[0] ^= 1
        file.write_bytes(b"" if harm == "empty" else bytes(data[:-1] if harm == "cut" else data))
    made = count_compilations(monkeypatch)
    for a, b in zip(first, answers(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(made) == 2
    answers(model)
    assert len(made) == 2, "and kept again"


def test_another_model_is_another_file(model):
    answers(model)
    before = files(model)
    changed = small.bundle(("label",), seed=3)
    changed.save(model, overwrite=True)
    save_int8(model / ENGINE, quantize_without_text(changed))
    answers(model)
    assert len(files(model)) == 2 * len(before)


def test_only_int8_is_kept(model):
    load(str(model), precision="fp32").embed(TEXTS)
    assert files(model) == []


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_a_file_of_somebody_else_is_passed_over(model, monkeypatch):
    answers(model)
    made = count_compilations(monkeypatch)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    answers(model)
    assert len(made) == 2


def test_a_place_that_cannot_be_written(model, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HALBERT_CACHE", str(tmp_path / "file"))
    assert np.isfinite(answers(model)[0]).all()


def test_what_was_not_used_for_longest_goes_first(model, monkeypatch):
    answers(model)
    old, new = files(model)
    os.utime(old, ns=(0, 0))
    monkeypatch.setattr(cache, "LIMIT", new.stat().st_size + old.stat().st_size)
    cache._make_room(old.parent)
    assert files(model) == [old, new]
    monkeypatch.setattr(cache, "LIMIT", new.stat().st_size)
    cache._make_room(old.parent)
    assert files(model) == [new]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x"}, "/x/halbert/compiled"),
        ({"HOME": "/h"}, "/h/.cache/halbert/compiled"),
        ({"HALBERT_CACHE": "/y", "XDG_CACHE_HOME": "/x"}, "/y/compiled"),
    ],
)
def test_where(monkeypatch, settings, expected):
    for name in ("HALBERT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", "linux")
    assert str(cache.folder()) == expected


def test_an_engine_that_is_tried_is_not_taken_from_what_was_kept(model, monkeypatch):
    """Of one folder several engines are made and compared: each is the one that it is."""
    from halbert.run import build
    from halbert.source import load_bundle

    source = model.parent / "source"
    small.bundle(("label",), seed=5).save(source)
    bundle = load_bundle(source)
    check = build.read_examples(small.write_csv(model.parent / "texts.csv", [[t, "red"] for t in TEXTS]))
    good = quantize_without_text(bundle)
    found = [
        build._int8(bundle, engine, check, lambda *_: None)
        for engine in (good, quantize_without_text(small.bundle(("label",), seed=6)))
    ]
    assert not np.allclose(found[0].vectors, found[1].vectors)
