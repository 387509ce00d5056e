from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

from halbert import processes
from halbert.processes import cores, gains_by_bf16, in_order, open_pool, processor


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_come_in_order(count):
    asked: list[int] = []

    def items():
        for number in range(count):
            asked.append(number)
            yield number

    with open_pool(2) as pool:
        found = in_order(pool, square, items())
        if count == 50:
            assert next(found) == 0 and len(asked) < 50  # no more than a few are taken before they are needed
            assert list(found) == [number * number for number in range(1, 50)]
        else:
            assert list(found) == [number * number for number in range(count)]


def test_one_process_or_none_is_enough():
    assert list(in_order(None, square, range(5))) == [0, 1, 4, 9, 16]
    assert cores() >= 1


def prepared(number: int) -> int:
    return number + PREPARED[0]


PREPARED: list[int] = []


def prepare(number: int) -> None:
    PREPARED.append(number)


def test_what_workers_prepare_and_who_works_alone():
    with open_pool(2, prepare, (100,)) as pool:
        assert list(in_order(pool, prepared, range(9), 2)) == list(range(100, 109))
        assert PREPARED == []
        assert list(in_order(pool, prepared, [1], here=square)) == [1]  # not worth a process, and prepared in none
        with pytest.raises(IndexError):
            list(in_order(None, prepared, range(3)))
    assert list(in_order(None, prepared, range(4), here=square)) == [0, 1, 4, 9]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_process_raises_is_raised_here(workers):
    with open_pool(workers) as pool, pytest.raises(ValueError, match="-3 is negative"):
        list(in_order(pool, square, [1, 2, -3, 4]))


LONG_WORK = """
import time
from halbert.processes import in_order, open_pool

with open_pool(2) as pool:
    for _ in in_order(pool, time.sleep, [0.1] * 600):
        print("done", flush=True)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_no_process_outlives_the_one_that_started_it(name):
    """However it ends; and of Ctrl-C, which every process of a terminal gets, only the first one speaks."""
    parent = subprocess.Popen(
        [sys.executable, "-c", LONG_WORK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    parent.stdout.readline()
    workers = psutil.Process(parent.pid).children(recursive=True)
    assert len(workers) >= 2
    for process in (*workers, parent) if name == "SIGINT" else (parent,):
        process.send_signal(getattr(signal, name))
    err = parent.communicate(timeout=20)[1]
    assert parent.returncode != 0
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert "SpawnProcess" not in err, err


WITHOUT_A_GUARD = """
import math
from halbert.processes import in_order, open_pool

with open_pool(2, len, (bytes(1 << 20),)) as pool:
    print(list(in_order(pool, math.sqrt, range(9))))
"""


def test_a_script_that_each_worker_runs_again_is_told_and_does_not_hang(tmp_path):
    """Whatever workers are given: what fills the pipe to one that has ended already was waited for without an end."""
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_A_GUARD)
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert told.returncode != 0 and 'put what it does under if __name__ == "__main__":' in told.stderr
    guarded = WITHOUT_A_GUARD.replace("\nwith", '\nif __name__ == "__main__":\n  with').replace(
        "\n    print", "\n      print"
    )
    script.write_text(guarded)
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert told.stdout.startswith("[0.0, 1.0,"), told.stderr


@pytest.mark.parametrize(
    ("vendor", "flags", "gains"),
    [
        ("GenuineIntel", "avx512_bf16 avx512_vnni", False),
        ("GenuineIntel", "avx512_bf16 amx_tile amx_bf16", True),
        ("AuthenticAMD", "avx512_bf16", True),
    ],
)
def test_bf16_is_not_taken_of_itself_where_it_is_the_slower(monkeypatch, vendor, flags, gains):
    told = (
        f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: A: Processor\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n"
    )
    monkeypatch.setattr(processes.Path, "read_text", lambda *_, **__: told)
    assert gains_by_bf16() is gains
    assert processor() == "A: Processor"


def test_a_system_that_tells_nothing_of_its_processor(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(processes.Path, "read_text", missing)
    assert gains_by_bf16()
    assert processor()
