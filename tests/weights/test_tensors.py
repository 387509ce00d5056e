"""Tensor files: number formats on disk, and pickles only where the user says so."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

from halbert.errors import InputError, WeightsError
from halbert.source import load_bundle, resolve_bundle
from halbert.weights.tensors import bfloat16, drop_pages, read_tensors, save_tensors, writable
from tests import tiny


@given(arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32)))
def test_bfloat16_is_torchs(values):
    ours = bfloat16(values)
    theirs = torch.from_numpy(values).to(torch.bfloat16)
    nan = np.isnan(values)
    assert np.array_equal(ours[~nan], theirs.view(torch.uint16).numpy()[~nan])
    assert np.isnan((ours[nan].astype(np.uint32) << 16).view(np.float32)).all()


def test_the_file_is_that_of_the_library(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal((3, 5)).astype(np.float32) for name in "cab"}
    save_tensors(tmp_path / "ours", {**tensors, "t": tensors["a"].T})
    save_file({**tensors, "t": np.ascontiguousarray(tensors["a"].T)}, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_formats_on_disk(tmp_path, dtype):
    bundle = tiny.bundle(heads={"label": tiny.HEADS["label"]})
    place = bundle.save(tmp_path / "m", dtype=dtype)
    stored = load_torch(place / "model.safetensors")
    assert {str(t.dtype) for t in stored.values()} == {f"torch.{dtype}"}
    assert json.loads((place / "config.json").read_text())["dtype"] == dtype
    expected = {
        name: torch.from_numpy(a).to(getattr(torch, dtype)).float().numpy() for name, a in bundle.arrays.items()
    }
    for name, array in load_bundle(place).arrays.items():
        assert np.array_equal(array.astype(np.float32), expected[name])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(place)
    assert model.dtype == getattr(torch, dtype)


def test_an_unknown_format(tmp_path):
    with pytest.raises(InputError, match="dtype 'int4': expected one of float32, float16, bfloat16"):
        tiny.bundle().save(tmp_path / "m", dtype="int4")  # type: ignore[arg-type]


@pytest.fixture
def pickled(tmp_path):
    """A folder of the time before safetensors."""
    place = tiny.bundle(heads={"label": tiny.HEADS["label"]}).save(tmp_path / "model")
    (place / "halbert.json").unlink()
    return place


def to_pickle(place: Path, change=lambda tensors: tensors, **how) -> None:
    tensors = {name: torch.from_numpy(array) for name, array in load_file(place / "model.safetensors").items()}
    torch.save(change(tensors), place / "pytorch_model.bin", **how)
    (place / "model.safetensors").unlink()


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_pickle_with_permission(pickled, how):
    before = load_bundle(pickled).arrays
    to_pickle(pickled, **how)
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin: is a pickle.*--allow-pickle"):
        load_bundle(pickled)
    found = resolve_bundle(pickled, allow_pickle=True, hashed=True)
    assert all(np.array_equal(array, before[name]) for name, array in found.arrays.items())
    assert list(found.provenance["weights"]) == ["pytorch_model.bin"]


def test_a_pickle_of_half_precision_and_buffers(pickled):
    before = load_bundle(pickled).arrays

    def change(tensors):
        halves = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
        return {**halves, "bert.embeddings.position_ids": torch.arange(37)[None]}

    to_pickle(pickled, change)
    for name, array in load_bundle(pickled, allow_pickle=True).arrays.items():
        assert np.allclose(array, before[name], rtol=1e-2)


def test_sharded_pickles(pickled):
    before = load_bundle(pickled).arrays
    tensors = {name: torch.from_numpy(array) for name, array in load_file(pickled / "model.safetensors").items()}
    (pickled / "model.safetensors").unlink()
    places = {name: f"pytorch_model-0000{i % 2 + 1}-of-00002.bin" for i, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        torch.save({name: tensors[name] for name in tensors if places[name] == file}, pickled / file)
    (pickled / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    found = load_bundle(pickled, allow_pickle=True).arrays
    assert all(np.array_equal(array, before[name]) for name, array in found.items())


def test_even_with_permission_nothing_is_executed(pickled, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    (pickled / "model.safetensors").unlink()
    for data in (pickle.dumps(Bomb()), b"", b"junk", pickle.dumps({"a": 1})):
        (pickled / "pytorch_model.bin").write_bytes(data)
        with pytest.raises(InputError, match=r"pytorch_model\.bin"):
            load_bundle(pickled, allow_pickle=True)
    torch.save(Bomb(), pickled / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="holds more than tensors, or is damaged; refused"):
        load_bundle(pickled, allow_pickle=True)
    torch.save([torch.zeros(2)], pickled / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="is no table of tensors by name"):
        load_bundle(pickled, allow_pickle=True)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("tensors", "word"),
    [
        ({"a": torch.zeros(1).expand(10**12)}, "bytes, the file"),
        ({str(n): torch.ones(10_000) for n in range(9)}, None),
        (dict.fromkeys(map(str, range(9)), torch.ones(10_000)), "bytes, the file"),
        ({"a": torch.ones(10_000), "b": torch.ones(10_000).to_sparse()}, "no table of tensors"),
    ],
    ids=["repeated", "of their own", "shared by many", "sparse"],
)
@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_pickles_tensors_are_no_larger_than_it_is(tmp_path, tensors, word, how):
    torch.save(tensors, tmp_path / "pytorch_model.bin", **how)
    if word is None:
        assert len(read_tensors(tmp_path, allow_pickle=True)) == 9
        return
    with pytest.raises(WeightsError, match=word):
        read_tensors(tmp_path, allow_pickle=True)


def test_a_packed_pickle_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({"a": torch.zeros(5_000_000)}, tmp_path / "plain.bin")
    with (
        zipfile.ZipFile(tmp_path / "plain.bin") as plain,
        zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))
    with pytest.raises(WeightsError, match="unpacks to more than its"):
        read_tensors(tmp_path, allow_pickle=True)


def test_safetensors_come_first(pickled):
    shutil.copy(pickled / "model.safetensors", pickled / "kept")
    to_pickle(pickled, lambda tensors: {})
    (pickled / "kept").rename(pickled / "model.safetensors")
    assert read_tensors(pickled, allow_pickle=True)


def test_arrays_are_views_of_the_file_and_cannot_be_written(tmp_path):
    rng = np.random.default_rng(0)
    written = {"a": rng.standard_normal((300, 200)).astype(np.float32), "b": rng.standard_normal(5).astype(np.float16)}
    save_file(written, tmp_path / "model.safetensors")
    read = read_tensors(tmp_path)
    for name, array in read.items():
        assert array.flags.aligned and not array.flags.writeable and not array.flags.owndata
        np.testing.assert_array_equal(array, written[name])
        alias = writable(array)
        assert alias.flags.writeable and np.shares_memory(alias, array)
    drop_pages(read.values())
    np.testing.assert_array_equal(read["a"], written["a"])
    frozen = np.frombuffer(bytes(8), np.float32)  # nothing of ours: a copy
    assert writable(frozen).flags.writeable and not np.shares_memory(writable(frozen), frozen)
    drop_pages([frozen])
