"""What Ray says, in lines."""

from __future__ import annotations

import warnings

import pytest

from halbert.cluster.telling import in_a_line, out_of_memory, told_in_lines, without_halbert

PAGE = """\
Task _map_task failed due to oom. There are infinite oom retries remaining, so the task will be retried. Error: 1 worker(s) \
were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.7, ID: 855e) was 3.12GB used
OOM kill reason: …
Object store memory usage: [- objects spillable: 2"""


def test_whose_memory_ended():
    assert out_of_memory(PAGE) == "a worker ran out of memory on 192.0.2.7"
    assert out_of_memory("ray.exceptions.OutOfMemoryError: …") == "a worker ran out of memory"
    # A GPU's is PyTorch's to tell, which says how much of what.
    assert out_of_memory("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB") == ""
    assert out_of_memory("ValueError: x") == ""


def test_an_error_in_a_line():
    """Ray's own holds the worker's traceback, and ends with what was wrong."""

    class Fault(Exception):
        cause = ValueError("no such thing\nat all")

    assert str(in_a_line(Fault())) == "the cluster gave up (ValueError): at all; the same command goes on"
    assert str(in_a_line(RuntimeError(PAGE))) == (
        "a worker ran out of memory on 192.0.2.7 again and again; give its machine more, or use fewer workers on it; "
        "the same command goes on"
    )


def test_pages_become_lines_and_leave_standard_output_alone(capsys):
    worker = pytest.importorskip("ray._private.worker")
    theirs = worker.print_to_stdstream
    with told_in_lines(), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for text in (
            PAGE,
            "Task x failed. There are infinite retries remaining, so the task will be retried.",
            "No room.\nMore.",
        ):
            worker.print_to_stdstream({"lines": [text], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    assert [str(w.message) for w in heard] == [
        "a worker ran out of memory on 192.0.2.7; what it was at is done again", "Ray: No room.",
    ]  # fmt: skip
    assert worker.print_to_stdstream is theirs and capsys.readouterr() == ("", "")


def test_a_worker_without_halbert_is_named_and_what_to_do():
    """As Ray says it; trying again would not help, and is not advised."""
    said = (
        "The actor died because of an error raised in its creation task, ray::_MapWorker.__init__() (pid=7, ip=192.0.2.7, "
        "actor_id=1)\n  At least one of the input arguments could not be computed:\nModuleNotFoundError: No module named 'halbert'"
    )
    told = str(in_a_line(RuntimeError(said)))
    assert told.startswith("a worker on 192.0.2.7 has no Halbert") and "install this version on every machine" in told
    assert "again" not in told
    assert without_halbert("ImportError: No module named 'numpy'") is None
