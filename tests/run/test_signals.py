"""A process that has let go of its engines still takes signals: Ctrl-C, SIGTERM, a worker that ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests import tiny

# Each OpenVINO core gives the thread a stack for signals and brings back the one before when it is destroyed. Destroyed
# in the order they were made, the last one brings back the first one's, which is unmapped: the next signal is fatal.
PROGRAM = """
import gc, os, signal, sys
import halbert
models = [halbert.load(sys.argv[1], precision="fp32", threads=1) for _ in range(2)]
for model in models:
    model.embed(["the cat sat"])
del model
while models:
    del models[0]
    gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("taken"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs a signal of its own")
def test_a_signal_after_the_last_engine_is_gone(tmp_path):
    tiny.bundle(tiny.encoder(), {}).save(tmp_path / "model")
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "taken\n"), done.stderr
