"""Clusters of several machines: raylets, each a process of its own, that are killed in the middle of the work."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import msgspec
import numpy as np
import psutil
import pytest

from halbert.cluster import Cluster
from halbert.data.corpus import Corpus
from halbert.data.encoding import encode_files
from halbert.errors import HalbertError
from halbert.train.recipe import read_recipe
from tests import tiny
from tests.cluster.test_spread import same, small_blocks, write_texts
from tests.train import made
from tests.train.test_distributed import SETS, curve

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore")]
__all__ = ["small_blocks"]


@pytest.fixture
def machines():
    """A head without cores to give and two machines with two each, as processes of their own."""
    from ray.cluster_utils import Cluster as Several

    made = Several(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [made.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=made.address, logging_level="ERROR", log_to_driver=False)
    yield made, nodes
    ray.shutdown()
    with contextlib.suppress(Exception):
        made.shutdown()


def test_a_machine_dies_in_the_middle(machines, small_blocks, tmp_path):
    """SIGKILL of a raylet: nothing lost, nothing twice, the same bytes."""
    _, nodes = machines
    files, tokenizer = write_texts(tmp_path, 3000), tiny.tokenizer()
    alone = encode_files(files, tokenizer, tmp_path / "alone", workers=1)
    killed = threading.Event()

    def progress(done, total):
        if done > total / 10 and not killed.is_set():
            killed.set()
            os.kill(nodes[0].all_processes["raylet"][0].process.pid, signal.SIGKILL)

    began = time.monotonic()
    encode_files(files, tokenizer, tmp_path / "spread", cluster=Cluster, progress=progress)
    assert killed.is_set() and time.monotonic() - began < 200
    same(alone.folder, tmp_path / "spread")
    assert Corpus(tmp_path / "spread").manifest.documents == alone.manifest.documents


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("kill", [False, True], ids=["whole", "killed"])
def test_a_training_has_the_curve_of_one_process(machines, tmp_path, kill, strategy):
    """Two processes on two machines; with one of them killed, from the last checkpoint on."""
    from halbert.train.pretraining import pretrain

    _, nodes = machines
    made.corpus(tmp_path / "corpus", shard_tokens=150)
    steps = 400 if kill else SETS["steps"]  # long enough to be caught in the middle
    changes = [f"{key}={json.dumps(value)}" for key, value in {**SETS, "steps": steps}.items()]
    changes.append(f"corpus='{tmp_path / 'corpus'}'")
    recipe, tokenizer = read_recipe("albert-mini", changes), tiny.tokenizer()
    pretrain(recipe, tokenizer, tmp_path / "alone")
    killed = threading.Event()

    def report(entry):
        if kill and entry["step"] >= 25 and not killed.is_set():
            killed.set()
            os.kill(nodes[1].all_processes["raylet"][0].process.pid, signal.SIGKILL)

    told = []
    recipe = msgspec.structs.replace(recipe, strategy=strategy)
    pretrain(recipe, tokenizer, tmp_path / "shared", cluster=Cluster, workers=2, report=report, tell=told.append)
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "training/journal.jsonl").read_text().splitlines()]
        for name in ("alone", "shared")
    )
    assert [entry["step"] for entry in one] == [entry["step"] for entry in two] == list(range(1, steps + 1))
    for name in ("masked_loss", "pair_loss"):
        assert np.abs(curve(one, name) - curve(two, name))[:50].max() <= 1e-4
        assert np.abs(curve(one, name) - curve(two, name)).max() <= 1e-2  # rounding adds up
    assert killed.is_set() == kill and any(line.startswith("Going on after step") for line in told) == kill
    assert not list(tmp_path.glob(".shared.*"))


def test_another_cluster_goes_on_with_a_run_that_was_stopped(small_blocks, tmp_path):
    """What was finished is not made again, whoever made it: by another cluster, and at last without any."""
    from ray.cluster_utils import Cluster as Several

    files, tokenizer = write_texts(tmp_path, 3000), tiny.tokenizer()
    alone = encode_files(files, tokenizer, tmp_path / "alone", workers=1)
    for _ in range(2):
        made_here = Several(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        ray.init(address=made_here.address, logging_level="ERROR", log_to_driver=False)
        before = (
            {f.name for f in (tmp_path / ".spread.part").glob("ids-*")}
            if (tmp_path / ".spread.part").exists()
            else set()
        )
        with pytest.raises(HalbertError, match="stopped here"):
            encode_files(
                files, tokenizer, tmp_path / "spread", cluster=Cluster, progress=_until(0.3 if not before else 0.6)
            )
        assert {f.name for f in (tmp_path / ".spread.part").glob("ids-*")} > before
        ray.shutdown()
        for kind in ("raylet", "gcs_server"):  # the head, without a word
            for process in made_here.head_node.all_processes.get(kind, []):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.process.pid, signal.SIGKILL)
        with contextlib.suppress(Exception):
            made_here.shutdown()
    there = {f.name: f.stat().st_mtime_ns for f in (tmp_path / ".spread.part").glob("ids-*")}
    encode_files(files, tokenizer, tmp_path / "spread", workers=1)
    same(alone.folder, tmp_path / "spread")
    kept = {(tmp_path / "spread" / name).stat().st_mtime_ns for name in there}
    assert kept == set(there.values())


WITHOUT_HEAD = """
import sys
from halbert.cluster import Cluster
from halbert.data import blocks
from halbert.data.encoding import encode_files
from tests import tiny
if __name__ == "__main__":
    blocks.SHARD_BYTES, blocks.SLACK = 2000, 500
    out, address, *files = sys.argv[1:]
    encode_files(files, tiny.tokenizer(), out, cluster=lambda: Cluster(address))
"""


def test_a_lost_head_is_told_before_ray_ends_the_process(small_blocks, tmp_path):
    """Ray's own end, after its patience, is silent: what is finished stays, and the word says so."""
    from ray.cluster_utils import Cluster as Several

    files, tokenizer = write_texts(tmp_path, 60_000), tiny.tokenizer()
    several = Several(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    several.add_node(num_cpus=2)
    part = tmp_path / ".spread.part"
    run = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_HEAD, str(tmp_path / "spread"), several.address, *map(str, files)],
        env={**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "20"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while run.poll() is None and len(list(part.glob("ids-*"))) < 5:
        time.sleep(0.01)
    for process in several.head_node.all_processes["gcs_server"]:
        os.kill(process.process.pid, signal.SIGKILL)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 1 and not (tmp_path / "spread").exists()
    assert (
        f"halbert: the head of the cluster at {several.address} has not answered for 15 s; what is finished stays: give the command"
        in said
    )
    with contextlib.suppress(Exception):
        several.shutdown()
    there = len(list(part.glob("ids-*")))
    encode_files(files, tokenizer, tmp_path / "spread", workers=2)
    assert there >= 5 and Corpus(tmp_path / "spread").manifest.documents == 60_050


@pytest.fixture
def full(tmp_path):
    """A file system with no room for a block."""
    place = tmp_path / "full"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    (place / "much").write_bytes(b"x" * 12_000)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_machine_whose_disk_is_full_is_named(full, small_blocks, tmp_path):
    """What the others have finished stays, and the same command without it goes on."""
    from ray.cluster_utils import Cluster as Several

    (tmp_path / "in").mkdir()
    files, tokenizer = write_texts(tmp_path / "in", 3000), tiny.tokenizer()
    alone = encode_files(files, tokenizer, tmp_path / "alone", workers=1)
    several = Several(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    several.add_node(num_cpus=1)
    several.add_node(num_cpus=1, env_vars={"TMPDIR": str(full)})
    ray.init(address=several.address, logging_level="ERROR", log_to_driver=False)
    try:
        with pytest.raises(
            HalbertError,
            match=r"the worker on \S+ \(node [0-9a-f]{8}\) failed at block \d+ \(\S+ from line \d+\): OSError: \[Errno 28\] No space",
        ):
            encode_files(files, tokenizer, tmp_path / "spread", cluster=Cluster)
    finally:
        ray.shutdown()
        with contextlib.suppress(Exception):
            several.shutdown()
    encode_files(files, tokenizer, tmp_path / "spread", workers=1)
    same(alone.folder, tmp_path / "spread")


SHORT_OF_MEMORY = """
import sys
from halbert.cluster import Cluster
from halbert.data import blocks
from halbert.data.encoding import encode_files
from halbert.errors import HalbertError
from tests import tiny
if __name__ == "__main__":
    blocks.SHARD_BYTES, blocks.SLACK = 2000, 500
    try:
        encode_files(sys.argv[2:], tiny.tokenizer(), sys.argv[1], cluster=Cluster)
    except HalbertError as error:
        sys.exit(f"halbert: {error}")
"""


def test_workers_without_memory_are_named_and_given_up(tmp_path):
    """Ray ends its workers for what others take of the memory, and would try for ever; a page a time, on standard output.

    It looks once a second: ten times a second it also ends a helper of its own (AutoscalingCoordinator) again and again,
    before that has told anybody where to work, and nothing is ever begun.
    """
    (tmp_path / "in").mkdir()
    files, tokenizer = write_texts(tmp_path / "in", 3000), tiny.tokenizer()
    run = subprocess.run(
        [sys.executable, "-W", "always", "-c", SHORT_OF_MEMORY, str(tmp_path / "spread"), *map(str, files)],
        env={**os.environ, "RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "1000", "RAY_task_oom_retries": "2"},
        capture_output=True, text=True, check=False, timeout=230,
    )  # fmt: skip
    assert run.returncode == 1 and run.stdout == ""
    said = run.stderr.splitlines()
    assert re.fullmatch(
        r"halbert: a worker ran out of memory on [0-9.]+ again and again; give its machine more, .*; the same command goes on",
        said[-1],
    )
    assert any("what it was at is done again" in line for line in said) and len(said) < 40, run.stderr
    encode_files(files, tokenizer, tmp_path / "spread", workers=1)
    same(encode_files(files, tokenizer, tmp_path / "alone", workers=1).folder, tmp_path / "spread")


def _until(share):
    def progress(done, total):
        if done > share * total:
            raise HalbertError("stopped here")

    return progress


def test_a_cluster_that_asks_for_a_token(tmp_path):
    """What `ray start` does by itself where a machine has one, as it has after any cluster of its own."""
    home, other = tmp_path / "home", tmp_path / "other"
    place = tempfile.mkdtemp(prefix="ray-")  # sockets have short names
    (home / ".ray").mkdir(parents=True)
    (home / ".ray/auth_token").write_text("0123456789abcdef" * 4)
    other.mkdir()
    (tmp_path / "t.txt").write_text("the cat\n" * 50)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    clean = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_MODE"}
    program = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
    try:
        begun = subprocess.run(
            [*program, "start", "--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false", f"--temp-dir={place}"],
            env={**clean, "HOME": str(home)}, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert begun.returncode == 0, begun.stdout + begun.stderr
        command = [
            sys.executable, "-m", "halbert", "embed", "bert-mini-en", "--input", str(tmp_path / "t.txt"), "--output",
            str(tmp_path / "v.npy"), "--engine", "ray", "--address", f"127.0.0.1:{port}",
        ]  # fmt: skip
        for place_of, status in ((other, 1), (home, 0)):
            run = subprocess.run(
                command,
                env={**clean, "HOME": str(place_of)},
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
            assert run.returncode == status, run.stderr[-2000:]
            assert ("asks for a token" in run.stderr) == bool(status)
        assert np.load(tmp_path / "v.npy").shape == (50, 256)
    finally:
        for process in psutil.process_iter(["cmdline"]):
            if place in " ".join(process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        shutil.rmtree(place, ignore_errors=True)
