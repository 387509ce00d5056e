"""Clusters of several machines: raylets, each a process of its own, that are killed in the middle of the work."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest

from halbert.cluster import Cluster
from halbert.data.corpus import Corpus
from halbert.data.encoding import encode_files
from tests import tiny
from tests.cluster.test_spread import same, small_blocks, write_texts

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
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
