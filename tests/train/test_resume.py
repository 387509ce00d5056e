"""A run that is killed and goes on ends with the weights, the order and the journal of one that was never disturbed."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from halbert.train.pretraining import pretrain
from halbert.train.recipe import read_recipe
from tests import tiny
from tests.train import made

STEPS = 200
TIMING = ("seconds", "tokens_per_second", "waiting")
CAPABLE = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
# The shipped recipe as it is, but for its size: dropout, buckets, two loader workers.
SHIPPED = {
    "steps": STEPS, "warmup_steps": 20, "length": 16, "batch_tokens": 128, "checkpoint_every": 9, "log_every": 4,
    "window_shards": 2, "precision": "bf16" if CAPABLE else "fp32",
    "encoder.num_hidden_layers": 2, "encoder.num_hidden_groups": 1, "encoder.hidden_size": 32,
    "encoder.embedding_size": 16, "encoder.num_attention_heads": 2, "encoder.hidden_dropout_prob": 0.1,
    "encoder.attention_probs_dropout_prob": 0.1, "encoder.max_position_embeddings": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    made.corpus(place / "corpus", shard_tokens=150)
    tiny.bundle().save(place / "tokenizer")
    return place


def command(place: Path, out: str, **changes: object) -> list[str]:
    sets = [f"--set={key}={json.dumps(value)}" for key, value in {**SHIPPED, **changes}.items()]
    return [
        sys.executable, "-W", "ignore", "-m", "halbert", "pretrain", "albert-mini", "--tokenizer", str(place / "tokenizer"),
        "--out", str(place / out), "--set", f"corpus={place / 'corpus'}", "--resume", "--quiet", *sets,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    # Threads that sleep while they wait: beside another process, those that spin take many times as long.
    return {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}


def heard() -> None:
    """Programs that were started in the background ignore Ctrl-C, those by nohup a terminal that goes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(place: Path, out: str, **changes: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(place, out, **changes), env=environment(), stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=heard,
    )  # fmt: skip


def finish(place: Path, out: str, **changes: object) -> bytes:
    with start(place, out, **changes) as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    return said


def result(place: Path, out: str) -> tuple[bytes, list[dict[str, object]]]:
    lines = (place / out / "training/journal.jsonl").read_text().splitlines()
    entries = [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]
    return (place / out / "model.safetensors").read_bytes(), entries


@functools.cache
def undisturbed(place: Path, compiled: bool = False) -> tuple[bytes, list[dict[str, object]]]:
    """The run that nothing happened to."""
    finish(place, f"straight-{compiled}", compile=compiled)
    return result(place, f"straight-{compiled}")


def written(place: Path, out: str) -> int:
    checkpoints = place / out / "training/checkpoints"
    return max((int(p.name[5:]) for p in checkpoints.glob("step-*")), default=0)


def kill_when(process: subprocess.Popen[bytes], reached, later: float = 0.0) -> bool:
    """Kill a process as soon as something is so, or so many seconds later; False when it ended before."""
    end = time.monotonic() + 120
    while not reached():
        if process.poll() is not None or time.monotonic() > end:
            break
        time.sleep(0.0002)
    time.sleep(later)
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


def disturb(place: Path, out: str, **changes: object) -> tuple[int, bool]:
    """Five kills: four some time after a step that is drawn, one while a checkpoint is written, for which it may have to be
    tried again. Returns how many came in time, and whether one left a checkpoint that was not whole."""
    draw, kills, torn = random.Random(), 0, False
    writing = place / out / "training/checkpoints"

    def written_half(before: int) -> bool:
        return written(place, out) > before and any(writing.glob(".writing-*"))

    for number in range(4):
        process, target = start(place, out, **changes), written(place, out) + draw.randint(9, 30)
        kills += kill_when(process, lambda target=target: written(place, out) >= target, draw.uniform(0, 0.3))
        for _ in range(5 if number == 1 else 0):
            process, before = start(place, out, **changes), written(place, out)
            kills += kill_when(process, lambda before=before: written_half(before))
            if torn := any(writing.glob(".writing-*")):
                break
    return kills, torn


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing can be killed here")
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_killed_five_times_and_the_same_to_the_bit(place, compiled):
    killed = f"killed-{compiled}"
    weights, journal = undisturbed(place, compiled)
    kills, torn = disturb(place, killed, compile=compiled)
    assert kills >= 4 and torn, "hardly disturbed"
    finish(place, killed, compile=compiled)
    again, entries = result(place, killed)
    assert entries == journal and [e["step"] for e in entries] == list(range(4, STEPS + 1, 4))
    assert again == weights


@pytest.mark.slow
def test_the_twin_that_must_differ(place):
    """Another seed: if these were equal too, equality would prove nothing."""
    finish(place, "one", steps=30, warmup_steps=3)
    finish(place, "other", steps=30, warmup_steps=3, seed=1)
    assert result(place, "one")[0] != result(place, "other")[0]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends(place, number, status):
    name = f"stopped-{number}"
    process = start(place, name, checkpoint_every=1000)
    journal = place / f"{name}/training/journal.jsonl"
    while not (journal.exists() and journal.stat().st_size) and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, number)  # as schedulers and terminals do: the workers that make batches get it too
    _, said = process.communicate(timeout=60)
    assert process.returncode == status and b"--resume goes on" in said
    assert 0 < written(place, name) < STEPS
    finish(place, name, checkpoint_every=1000)
    assert result(place, name) == undisturbed(place)


PROGRAM = """
import json, sys
from halbert.source import resolve_tokenizer
from halbert.train.pretraining import pretrain
from halbert.train.recipe import read_recipe
if __name__ == "__main__":
    tokenizer, out, *changes = sys.argv[1:]
    pretrain(read_recipe("albert-mini", changes), resolve_tokenizer(tokenizer), out)
"""


def test_a_program_that_is_stopped_ends(place):
    """What nobody catches holds on to everything until the very end, where workers are not asked but waited for."""
    sets = [f"{key}={json.dumps(value)}" for key, value in SHIPPED.items()]
    words = [str(place / "tokenizer"), str(place / "program"), f"corpus={place / 'corpus'}", *sets]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *words], env=environment(), stderr=subprocess.PIPE)
    while not written(place, "program") and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1 and b"Stopped: stopped after step" in said


def test_of_checkpoints_that_are_all_damaged_a_run_begins_as_it_would_have(tmp_path):
    """With the start that its recipe names, a journal of its own, and in the place of what was damaged."""
    corpus = made.corpus(tmp_path / "corpus")
    recipe = made.recipe(
        corpus, start="pmi-svd", steps=6, warmup_steps=1, checkpoint_every=2, keep_checkpoints=1, log_every=1
    )
    whole = pretrain(recipe, tiny.tokenizer(), tmp_path / "whole")
    pretrain(recipe, tiny.tokenizer(), tmp_path / "run")
    (place,) = (tmp_path / "run/training/checkpoints").glob("step-*")
    (place / "weights.safetensors").write_bytes(b"broken")
    place.rename(place.with_name("step-00000099"))
    with pytest.warns(UserWarning, match="is damaged"):
        again = pretrain(recipe, tiny.tokenizer(), tmp_path / "run", resume=True)
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])
    lines = (tmp_path / "run/training/journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [p.name for p in place.parent.iterdir()] == ["step-00000006"]  # not the damaged one in the place of it


def test_a_damaged_checkpoint_is_passed_over(place):
    process = start(place, "damaged")
    assert kill_when(process, lambda: written(place, "damaged") >= 27)
    last = place / "damaged/training/checkpoints" / f"step-{written(place, 'damaged'):08d}"
    data = bytearray((last / "weights.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (last / "weights.safetensors").write_bytes(data)
    finish(place, "damaged")
    assert result(place, "damaged") == undisturbed(place)


def test_the_recipe_is_the_shipped_one():
    recipe = read_recipe("albert-mini")
    assert recipe.workers == 2 and recipe.packing == "bucket"


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
def test_nothing_of_a_killed_run_is_left(place):
    # Batches larger than a pipe holds: a worker that waits to hand one over is the one that could stay.
    process = start(place, "gone", batch_tokens=16384, checkpoint_every=1)
    try:
        while not written(place, "gone") and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None
        process.kill()
        process.wait()
        end = time.monotonic() + 20
        while (left := processes_of(process.pid)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def processes_of(group: int) -> list[Path]:
    return [stat for stat in Path("/proc").glob("[0-9]*/stat") if group_of(stat) == group]


def group_of(stat: Path) -> int:
    """A process's group, which is its session's first process; 0 when it has just ended."""
    try:
        state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return 0
    return 0 if state == "Z" else int(group)
