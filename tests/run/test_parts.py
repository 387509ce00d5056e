"""Output in parts: whatever stopped a run, the next one goes on, and the file is the one of a single run."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest

from halbert.errors import InputError
from halbert.run.identity import fingerprint
from halbert.run.parts import Parts
from halbert.source import load_bundle
from tests import small

TEXTS = [f"text {i}" for i in range(23)]


def vectors(texts, start):
    return np.array([[start + i, len(text)] for i, text in enumerate(texts)], np.float32)


def rows(texts, start):
    return [{"index": start + i, "text": text} for i, text in enumerate(texts)]


def read(path):
    if path.suffix == ".npy":
        return np.load(path).tolist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    table = parquet.read_table(path)
    return table.column("vector").to_pylist() if "vector" in table.column_names else table.to_pylist()


@pytest.mark.parametrize(
    ("name", "answer", "width"),
    [("v.npy", vectors, 2), ("v.parquet", vectors, 2), ("r.jsonl", rows, 0), ("r.parquet", rows, 0)],
)
@pytest.mark.parametrize("stop", [0, 1, 3])
@pytest.mark.parametrize("count", [23, 20, 1])
def test_stopped_and_gone_on(tmp_path, name, answer, width, stop, count):
    texts = TEXTS[:count]
    whole, expected = tmp_path / name, answer(texts, 0)
    calls = []

    def stopped(chunk, start):
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(start)
        return answer(chunk, start)

    output = tmp_path / name
    parts = Parts(output, output.suffix, {"a": 1}, size=5)
    if stop < -(-count // 5):
        with pytest.raises(KeyboardInterrupt):
            parts.fill(iter(texts), stopped, lambda n: None)
        assert not output.exists() and parts.folder.exists() == (stop > 0)
    parts.close()
    again, skipped = [], []
    parts = Parts(output, output.suffix, {"a": 1}, size=5)
    total = parts.fill(iter(texts), lambda c, s: again.append(s) or answer(c, s), skipped.append)
    parts.join(total, width)
    parts.remove()
    parts.close()
    assert total == count and sum(skipped) == min(5 * len(calls), count) and not set(again) & set(calls)
    assert read(output) == (expected.tolist() if isinstance(expected, np.ndarray) else expected)
    assert [p.name for p in tmp_path.iterdir()] == [whole.name]


def test_other_options_begin_again(tmp_path):
    output = tmp_path / "v.npy"
    parts = Parts(output, ".npy", {"model": "a"}, size=5)
    parts.fill(iter(TEXTS), vectors, lambda n: None)
    parts.close()
    again = Parts(output, ".npy", {"model": "a"}, size=5)
    assert again.done() == 5
    with pytest.raises(InputError, match="another process is writing it"):
        Parts(output, ".npy", {"model": "a"}, size=5)
    again.close()
    with pytest.raises(InputError, match="another command has finished \\(5 parts of 5 texts"):
        Parts(output, ".npy", {"model": "b"}, size=5)
    with contextlib.closing(Parts(output, ".npy", {"model": "b", "unique": 1}, size=5, overwrite=True)) as other:
        assert other.done() == 0
        other.write(0, [[1.0]])
    with contextlib.closing(Parts(output, ".npy", {"model": "c"}, size=5)) as other:
        assert other.done() == 0  # what nothing could go on with


def test_no_texts(tmp_path):
    parts = Parts(tmp_path / "v.npy", ".npy", {}, size=5)
    parts.join(parts.fill(iter([]), lambda c, s: np.zeros((0, 7)), lambda n: None), 7)
    parts.remove()
    parts.close()
    assert np.load(tmp_path / "v.npy").shape == (0, 7)


def test_a_model_is_known_by_its_files(tmp_path):
    folder = small.bundle().save(tmp_path / "model")
    bundle = load_bundle(folder)
    before = fingerprint(bundle)
    assert before == fingerprint(load_bundle(folder)) and fingerprint(bundle.replace(folder=None)) is None
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint(bundle) != before


NOTHING, ONE = {"entities": [], "answer": None}, {"entities": [{"start": 1, "label": "X"}], "answer": {"text": "a"}}


@pytest.mark.parametrize("order", [(NOTHING, ONE), (ONE, NOTHING), (NOTHING, NOTHING)])
def test_a_part_without_any_entity_does_not_know_what_one_is(tmp_path, order):
    """Parquet needs one form for all parts: of a first part without entities it was "a list of nothing"."""
    output = tmp_path / "r.parquet"
    with contextlib.closing(Parts(output, ".parquet", {}, size=1)) as parts:
        parts.join(parts.fill(iter("ab"), lambda some, start: [{"index": start, **order[start]}], lambda n: None))
    assert read(output) == [{"index": i, **row} for i, row in enumerate(order)]
