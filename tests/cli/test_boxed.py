"""Models in the box: found by name after folders and before released ones, and listed."""

from __future__ import annotations

import json

import pytest

from halbert.errors import InputError
from halbert.models import bundled
from halbert.source import load_bundle, resolve_bundle, resolve_spec, resolve_tokenizer
from tests import small


@pytest.fixture
def box(tmp_path, monkeypatch):
    folder = small.bundle().save(tmp_path / "box" / "mini")
    for place in ("halbert.source.bundled", "halbert.models.bundled"):
        monkeypatch.setattr(place, lambda: {"mini": folder})
    return folder


def test_by_name(box):
    bundle = resolve_bundle("mini")
    assert bundle.name == "mini" and bundle.folder == box
    assert resolve_spec("mini").spec == bundle.spec
    assert resolve_tokenizer("mini").fingerprint == bundle.tokenizer.fingerprint


def test_a_folder_comes_first(box, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small.bundle(seed=5, **small.ALBERT).save(tmp_path / "mini")
    assert resolve_spec("mini").spec.encoder.num_hidden_groups == 1


def test_a_name_that_is_nearly_right(box):
    with pytest.raises(InputError, match="did you mean 'mini'"):
        resolve_spec("minni")


def test_they_are_listed(box, halbert):
    rows = json.loads(halbert("models", "--json").out)
    assert rows[0]["name"] == "mini" and rows[0]["in_the_box"] and rows[0]["encoder"] > 0
    assert any(row["name"] == "bert-base-uncased" for row in rows)
    assert halbert("models").out.startswith("In the box")


def test_what_is_in_the_box_loads():
    for name, folder in bundled().items():
        assert load_bundle(folder).name == name


def test_what_is_in_the_box_is_what_was_saved(halbert):
    assert len(bundled()) == 4
    for name in bundled():
        told = halbert("inspect", name, "--verify")
        assert told.status == 0 and told.out.splitlines()[-1] == "verified: model.safetensors"


def test_a_file_of_the_box_that_was_changed(box, halbert):
    data = bytearray((box / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (box / "model.safetensors").write_bytes(data)
    assert "has changed since" in halbert("inspect", "mini", "--verify").err
