"""Files that are written whole or not at all, and what is no file."""

from __future__ import annotations

import errno
import os

import pytest

from halbert.errors import InputError
from halbert.files import require_file, write_bytes


def test_a_write_that_fails_names_its_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    """A full disk fails where there is no name any more: at the open file."""
    file = tmp_path / "a.json"
    write_bytes(file, b"old")
    opened = os.fdopen

    class Full:
        def __init__(self, handle, mode):
            self.stream = opened(handle, mode)

        def __enter__(self):
            return self

        def __exit__(self, *told):
            self.stream.close()

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdopen", Full)
    with pytest.raises(OSError, match="No space left") as found:
        write_bytes(file, b"new")
    assert found.value.filename == str(file)
    assert file.read_bytes() == b"old" and [each.name for each in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["pipe", "-"])
def test_what_cannot_be_read_twice_is_not_called_empty(tmp_path, name):
    path = name if name == "-" else tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    with pytest.raises(InputError, match=r"cannot be read twice; write it to a file first, expected a text file"):
        require_file(path, "text file")
