"""Every command that a cluster can help, with one of its machines killed in the middle, and with its head: same results.

(``corpus`` and ``pretrain`` by their functions, and the curve of a training, in ``test_machines.py``.)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from tests import small, tiny
from tests.cluster.test_spread import same, write_texts
from tests.train import made
from tests.train.test_distributed import SETS

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]
PATIENCE = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5"
}  # of what is without a head: 3.75 s, in which none of the jobs is done


@contextlib.contextmanager
def several():
    """A head without cores to give, and two machines with one each, all processes of their own."""
    from ray.cluster_utils import Cluster as Several

    made_here = Several(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield made_here, [made_here.add_node(num_cpus=1) for _ in range(2)]
    finally:
        with contextlib.suppress(Exception):
            made_here.shutdown()


def halbert(*arguments):
    """The command at work."""
    return subprocess.Popen(
        [sys.executable, "-m", "halbert", *map(str, arguments)],
        env={**os.environ, **PATIENCE, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(run, status=0, seconds=240):
    _, said = run.communicate(timeout=seconds)
    assert run.returncode == status, said[-3000:]
    return said


def worker_of(node):
    """Whether a machine's worker has begun."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return any("_Worker" in " ".join(child.cmdline()) for child in raylet.children(recursive=True))


def changed(sets):
    return [f"--set={name}={json.dumps(value)}" for name, value in sets.items()]


class Job:
    """A command's arguments, when it is in the middle, what more goes on with it, and what came of it."""

    again = ("--resume",)

    def __init__(self, place):
        self.place = place


class Corpus(Job):
    again = ()

    def arguments(self, out):
        if not (self.place / "in").exists():
            (self.place / "in").mkdir()
            first, *_ = write_texts(self.place / "in", 60_000)
            for number in range(24):  # what is of another language is of another block
                os.link(first, self.place / "in" / f"{number}.txt")
            tiny.tokenizer().save(self.place / "tokenizer")
        named = [f"l{chr(97 + n)}={self.place}/in/{n}.txt" for n in range(24)]
        return ["corpus", *named, "--tokenizer", self.place / "tokenizer", "--out", out]

    def begun(self, out, node):
        return any(out.parent.glob(f".{out.name}.part/ids-*"))

    def check(self, plain, spread):
        same(plain, spread)


class Embed(Job):
    again = ()
    verb, ending = "embed", ".npy"

    def arguments(self, out):
        texts = self.place / "t.txt"
        if not texts.exists():
            small.bundle(("label",)).save(self.place / "m")
            texts.write_text("".join(f"{text} {i % 7}\n" for i, (text, _) in enumerate(small.rows(120_000))))
        how = ["--precision", "fp32", "--threads", 1]
        return [self.verb, self.place / "m", "--input", texts, "--output", out.with_suffix(self.ending), *how]

    def begun(self, out, node):
        parts = out.parent.glob(f".{out.name}{self.ending}.parts/*")
        return any(file.suffix == self.ending for file in parts)

    def check(self, plain, spread):
        one, two = (file.with_suffix(self.ending).read_bytes() for file in (plain, spread))
        assert one == two and len(one) > 120_000


class Predict(Embed):
    verb, ending = "predict", ".jsonl"


class Evaluate(Job):
    again = ()

    def arguments(self, out):
        file = self.place / "rows.csv"
        if not file.exists():
            small.bundle(("label",)).save(self.place / "m")
            rows = small.rows(4000)
            small.write_csv(
                file, [(f"{text} {' '.join(small.NOISE * 12)} {i}", label) for i, (text, label) in enumerate(rows)]
            )
        return ["evaluate", self.place / "m", "--data", file, "--out", out, "--precision", "fp32", "--threads", 1]

    def begun(self, out, node):
        return worker_of(node)

    def check(self, plain, spread):
        one, two = ((folder / "predictions.jsonl").read_bytes() for folder in (plain, spread))
        assert one == two and one.count(b"\n") == 4000


class Finetune(Job):
    def arguments(self, out):
        if not (self.place / "m").exists():
            small.bundle(("mlm",)).save(self.place / "m")
            for name in ("train", "dev"):
                small.write_csv(self.place / f"{name}.csv", small.rows(120))
        sets = {"epochs": 12, "batch_size": 8, "length": 16, "precision": "fp32", "on_divergence": "ignore"}
        return [
            "finetune",
            self.place / "m",
            "--task",
            "classify",
            "--train",
            self.place / "train.csv",
            "--dev",
            self.place / "dev.csv",
            "--seeds",
            5,
            "--out",
            out,
            *changed(sets),
        ]

    def begun(self, out, node):
        return any(out.parent.glob(f"{out.name}.training/**/run.json"))

    def check(self, plain, spread):
        from halbert.bundle import Bundle
        from halbert.source import load_bundle

        one, two = (load_bundle(folder) for folder in (plain, spread))
        assert isinstance(one, Bundle) and one.arrays.keys() == two.arrays.keys()
        for name, array in one.arrays.items():  # of the seed whose score is the middle one
            np.testing.assert_allclose(array, two.arrays[name], rtol=1e-3, atol=1e-5)


class Audit(Job):
    def arguments(self, out):
        if not (self.place / "bert").exists():
            small.bundle().save(self.place / "bert")
            small.bundle(seed=1, **small.ALBERT).save(self.place / "albert")
            small.write_csv(self.place / "rows.csv", small.rows(60))
        sets = {"epochs": 4, "batch_size": 8, "length": 16, "precision": "fp32", "learning_rate": 1e-3}
        return [
            "audit",
            self.place / "bert",
            self.place / "albert",
            "--task",
            "classify",
            "--data",
            self.place / "rows.csv",
            "--seeds",
            4,
            "--only",
            "size",
            "--only",
            "finetuning",
            "--quick",
            "--precision",
            "fp32",
            "--threads",
            1,
            "--out",
            out,
            *changed(sets),
        ]

    def begun(self, out, node):
        return any(file.read_text().count("\n") for file in out.parent.glob(f"{out.name}.audit/finetuning*.jsonl"))

    def check(self, plain, spread):
        one, two = (json.loads((folder / "results.json").read_text())["measurements"] for folder in (plain, spread))
        judged = 0
        for a, b in zip(one, two, strict=True):
            assert (a["name"], a["subject"]) == (b["name"], b["subject"])
            if b["value"] is not None:
                np.testing.assert_allclose(a["samples"], b["samples"], rtol=1e-3, atol=1e-4)
                assert a["machine"] and b["machine"]
                if b["rounds_on"]:
                    judged += 1
                    assert len(b["rounds_on"]) == 4 and all("(node " in place for place in b["rounds_on"])
        assert judged >= 2


class Pretrain(Job):
    def arguments(self, out):
        if not (self.place / "corpus").exists():
            made.corpus(self.place / "corpus", shard_tokens=150)
            tiny.tokenizer().save(self.place / "tokenizer")
        sets = {**SETS, "steps": 600, "corpus": str(self.place / "corpus")}
        return ["pretrain", "albert-mini", "--tokenizer", self.place / "tokenizer", "--out", out, *changed(sets)]

    def begun(self, out, node):
        return any(out.glob("training/checkpoints/step-*"))

    def check(self, plain, spread):
        one, two = (
            [json.loads(line) for line in (folder / "training/journal.jsonl").read_text().splitlines()]
            for folder in (plain, spread)
        )
        assert [entry["step"] for entry in one] == [entry["step"] for entry in two] == list(range(1, 601))
        for name in ("masked_loss", "pair_loss"):
            a, b = (np.array([entry[name] for entry in entries]) for entries in (one, two))
            assert np.abs(a - b)[:50].max() <= 1e-4 and np.abs(a - b).max() <= 1e-2  # rounding adds up


JOBS = (Corpus, Embed, Predict, Evaluate, Finetune, Audit, Pretrain)


def until_begun(run, job, out, node):
    until = time.monotonic() + 120
    while run.poll() is None and not job.begun(out, node):
        assert time.monotonic() < until, "it did not begin"
        time.sleep(0.02)
    assert run.poll() is None, run.communicate()[1][-3000:]


@pytest.mark.parametrize("kind", JOBS, ids=lambda kind: kind.__name__.lower())
def test_with_a_machine_killed_and_with_the_head_killed(kind, tmp_path):
    """SIGKILL of a raylet: the same command ends well. Of the head: it says so, and goes on by another cluster."""
    job = kind(tmp_path)
    plain, killed, headless = (tmp_path / name for name in ("plain", "killed", "headless"))
    ended(halbert(*job.arguments(plain)))
    with several() as (cluster, nodes):
        run = halbert(*job.arguments(killed), "--engine", "ray", "--address", cluster.address)
        until_begun(run, job, killed, nodes[1])
        os.kill(nodes[1].all_processes["raylet"][0].process.pid, signal.SIGKILL)
        ended(run)
        job.check(plain, killed)
        more = [*job.arguments(headless), "--engine", "ray", "--address"]
        run = halbert(*more, cluster.address)
        until_begun(run, job, headless, nodes[0])
        for process in cluster.head_node.all_processes["gcs_server"]:
            os.kill(process.process.pid, signal.SIGKILL)
        said = ended(run, 1, 60)
        assert f"the head of the cluster at {cluster.address} has not answered for 4 s" in said
        assert not headless.exists() or kind is Pretrain
    with several() as (cluster, _):
        until = time.monotonic() + 90
        while True:  # the processes of a training hold it for up to a minute more
            run = halbert(*more, cluster.address, *job.again)
            _, said = run.communicate(timeout=240)
            if "another process is at this run" not in said or time.monotonic() > until:
                break
            time.sleep(3)
        assert run.returncode == 0, said[-3000:]
    job.check(plain, headless)


@pytest.mark.parametrize(
    ("kind", "asked", "status"),
    [(Embed, signal.SIGINT, 130), (Embed, signal.SIGTERM, 143), (Pretrain, signal.SIGINT, 130), (Pretrain, signal.SIGTERM, 75)],
)  # fmt: skip
def test_who_is_stopped_leaves_what_is_finished_and_nobody_at_work(kind, asked, status, tmp_path):
    """With a cluster of the command's own, whose processes end with it."""
    job, out = kind(tmp_path), tmp_path / "out"
    run = halbert(*job.arguments(out), "--engine", "ray")
    until_begun(run, job, out, None)
    raylets = [child for child in psutil.Process(run.pid).children(recursive=True) if "raylet" in child.name()]
    run.send_signal(asked)
    said = ended(run, status, 60)
    assert raylets and "Traceback" not in said and "***" not in said and "command" in said.splitlines()[-1]
    psutil.wait_procs(raylets, timeout=20)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in raylets)
    ended(halbert(*job.arguments(out), "--engine", "ray", *job.again))
    ended(halbert(*job.arguments(tmp_path / "plain")))
    job.check(tmp_path / "plain", out)


def test_a_training_goes_on_with_fewer_processes_where_a_machine_is_lost_for_good(tmp_path):
    """Two machines of a core each, one for each process; folders above the run are made, as without a cluster."""
    job, out = Pretrain(tmp_path), tmp_path / "new/deep/out"
    # Long enough for the loss of a machine to be noticed, at a rate that lasts so long.
    arguments = [*job.arguments(out), "--set=steps=2500", "--set=learning_rate=0.0005"]
    with several() as (cluster, nodes):
        run = halbert(*arguments, "--engine", "ray", "--address", cluster.address)
        until_begun(run, job, out, nodes[1])
        os.kill(nodes[1].all_processes["raylet"][0].process.pid, signal.SIGKILL)
        said = ended(run)
        assert "a machine is gone, and the cluster has no room for as many processes; going on with 1" in said
        assert "Going on after step" in said
        steps = [json.loads(line)["step"] for line in (out / "training/journal.jsonl").read_text().splitlines()]
        assert steps == list(range(1, 2501))
        # And where nothing is left, it says so.
        other = [each if each != out else tmp_path / "other" for each in arguments]
        run = halbert(*other, "--engine", "ray", "--address", cluster.address)
        until_begun(run, job, tmp_path / "other", nodes[0])
        os.kill(nodes[0].all_processes["raylet"][0].process.pid, signal.SIGKILL)
        assert "no machine is left of the cluster; the same command with --resume" in ended(run, 1, 120)
