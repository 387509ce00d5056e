"""Keys and rates."""

from __future__ import annotations

import pytest

from halbert.errors import InputError
from halbert.serve.keys import Keys, Rate, read_keys


def test_keys_of_a_file_and_of_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\nfirst-key-1\nadmin:chief-key-1   # may change models\n\n")
    keys = read_keys(file, {"HALBERT_API_KEYS": "third-key-1, fourth-key"})
    for key in ("first-key-1", "chief-key-1", "third-key-1", "fourth-key"):
        assert keys.known(key) and key not in str(keys.known(key))
    assert keys.known("first-key-2") is None and keys.known("") is None and keys.known("admin:chief-key-1") is None
    assert keys.known("chief-key-1", admin=True) and keys.known("first-key-1", admin=True) is None
    assert keys.known("f\udcffrst") is None  # bytes that are no text
    assert not read_keys(None, {}) and not Keys([], []).known("x")


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        read_keys(tmp_path / "nowhere", {})
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(InputError, match="holds no keys"):
        read_keys(tmp_path / "empty", {})
    with pytest.raises(InputError, match="fewer than 8"):
        read_keys(None, {"HALBERT_API_KEYS": "short"})
    with pytest.raises(InputError, match="is set and holds no keys"):  # else the server would be open
        read_keys(None, {"HALBERT_API_KEYS": " , "})
    for key in ("schlüssel-1", "two words-1"):
        with pytest.raises(InputError, match="cannot carry"):
            read_keys(None, {"HALBERT_API_KEYS": key})


def test_keys_are_what_the_file_says(tmp_path):
    file = tmp_path / "keys"
    file.write_text("long#secret-part\nadmin: chief-key-1\n")
    keys = read_keys(file, {})
    assert keys.known("long#secret-part") and not keys.known("long") and keys.known("chief-key-1", admin=True)


def test_a_rate():
    now = [0.0]
    rate = Rate(2.0, burst=2, clock=lambda: now[0])
    assert [rate.wait("a") for _ in range(2)] == [0, 0]
    assert rate.wait("a") == pytest.approx(0.5) and rate.wait("b") == 0
    now[0] = 0.5
    assert rate.wait("a") == 0 and rate.wait("a") == pytest.approx(0.5)
    now[0] = 100.0
    assert [rate.wait("a") == 0 for _ in range(3)] == [True, True, False]  # nothing is saved up beyond the burst


def test_the_clients_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(Rate, "MOST", 10)
    rate = Rate(1.0)
    for i in range(50):
        rate.wait(str(i))
    assert len(rate._left) == 10
