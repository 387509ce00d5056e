"""Work spread by Ray comes to the same bytes as here, whoever did it and whoever died.

These tests run a cluster on this machine; those with several machines are in ``test_machines.py``.
"""

from __future__ import annotations

import ast
import contextlib
import filecmp
import gzip
import inspect
import itertools
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from halbert.cli import main
from halbert.cluster import Cluster, Parcel, Place, here, joining, refused
from halbert.cluster.parcel import packed, unpacked
from halbert.data import blocks
from halbert.data.encoding import encode_files
from halbert.data.inputs import find_inputs
from halbert.data.spread import cut
from halbert.errors import HalbertError, InputError
from halbert.processes import cores
from halbert.train.finetuning import finetune
from tests import small, tiny
from tests.compare.pages import check_folder
from tests.train import made

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of which there are many
]
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "the", "dog", "ran", "un", "want", "##ed", "1", "2"]


def write_texts(folder, count=300, seed=0):
    """A plain file, a packed one and JSON Lines."""
    draw = np.random.default_rng(seed)
    texts = [" ".join(draw.choice(WORDS, 40)) + "." for _ in range(count)]
    (folder / "a.txt").write_text("\n\n".join(texts[: count // 2]))
    (folder / "b.txt.gz").write_bytes(gzip.compress("\n\n".join(texts[count // 2 :]).encode(), mtime=0))
    (folder / "c.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts[:50]))
    return [folder / name for name in ("a.txt", "b.txt.gz", "c.jsonl")]


def same(a, b):
    """Two folders with equal files."""
    found = filecmp.dircmp(a, b)
    assert not found.left_only and not found.right_only and not found.diff_files, (
        found.left_only,
        found.right_only,
        found.diff_files,
    )
    match, wrong, lost = filecmp.cmpfiles(a, b, found.common_files, shallow=False)
    assert match and not wrong and not lost


@pytest.fixture(scope="module")
def cluster():
    """One machine's, with two cores to give."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield Cluster
    ray.shutdown()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "SHARD_BYTES", 2000)
    monkeypatch.setattr(blocks, "SLACK", 500)


class Slow:
    """Adds, or fails as it is told."""

    def __init__(self, more):
        self.more = more

    def __call__(self, item):
        if item == "bad":
            raise InputError("row 7 is bad")
        if item == "broken":
            raise ValueError("a bug")
        return item + self.more, os.getpid()

    def named(self, item):
        return f"item {item!r}"


@pytest.mark.parametrize("data", [b"", b"\0\xff" * 50_000, np.arange(1000, dtype=np.uint8).data])
def test_a_parcels_bytes_are_not_copied(data):
    """Not where it is packed and not where it is unpacked; what goes along is copied, and of other items all."""
    for told in (None, ("who", None)):
        table = packed(told, Parcel({"what": [1]}, data))
        about, (item, view) = unpacked(table)
        assert (about, item) == (told, {"what": [1]}) and bytes(view) == bytes(data)
        if data:
            where = np.frombuffer(data, np.uint8).ctypes.data
            assert np.frombuffer(view, np.uint8).ctypes.data == where
        assert unpacked(packed(told, data[:3].hex())) == (told, data[:3].hex())


def test_a_file_that_becomes_shorter_is_named(tmp_path, small_blocks):
    (tmp_path / "a.txt").write_text("the cat\n\n" * 5_000)
    found = cut(find_inputs([tmp_path / "a.txt"]), tmp_path, {}, (20_000, 500), here=False)
    assert isinstance(next(found), Parcel)
    os.truncate(tmp_path / "a.txt", 10)
    with pytest.raises(InputError, match=r"a\.txt"):
        list(found)


def test_what_travels_with_a_block(tmp_path, small_blocks):
    """Its bytes, but for a plain file that lies where the workers are; nothing of a block that is finished."""
    inputs, (plain, packed, rows) = find_inputs(write_texts(tmp_path)), ("a.txt", "b.txt.gz", "c.jsonl")
    for where in (False, True):
        *sent, _ = cut(inputs, tmp_path, {}, (2000, 500), where)
        with_bytes = {
            Path(part.shown).name
            for one in sent
            if isinstance(one, Parcel)
            for part in one.item.parts
            if len({Path(part.shown).name for part in one.item.parts}) == 1
        }
        assert with_bytes == ({packed} if where else {plain, packed, rows})
        assert all(one.parts for one in sent if not isinstance(one, Parcel)) and not list(tmp_path.glob("block-*"))
    keys = {block.number: block.key for block in (getattr(one, "item", one) for one in sent)}
    *known, _ = cut(inputs, tmp_path, keys, (2000, 500), True)
    assert len(known) == len(sent) and not any(one.parts for one in known)


@pytest.mark.slow
def test_every_item_once(cluster):
    with cluster() as connected:
        assert sum(connected.nodes()) == 2
        found = list(connected.stream(range(20).__iter__, Slow, (100,)))
        assert sorted(value for value, _ in found) == list(range(100, 120))
        assert os.getpid() not in {pid for _, pid in found}
        node = r"\S+ \(node [0-9a-f]{8}\)"
        with pytest.raises(InputError, match=rf"^row 7 is bad \(found by the worker on {node}\)$"):
            list(connected.stream([1, "bad"].__iter__, Slow, (1,), workers=1))
        with pytest.raises(HalbertError, match=rf"^the worker on {node} failed at item 'broken': ValueError: a bug$"):
            list(connected.stream([1, "broken"].__iter__, Slow, (1,), workers=1))
        with pytest.raises(InputError, match="no machine of the cluster has the 99 cores"):
            next(connected.stream([1].__iter__, Slow, (1,), cpus=99))


@pytest.mark.parametrize("how", ["lost", "late"])
def test_what_was_answered_and_lost_is_asked_again(cluster, monkeypatch, how):
    """As answers that lay on a machine which is gone; each item still comes once."""
    got, wait, count, taken = Cluster._got, ray.wait, itertools.count(), []
    if how == "lost":
        monkeypatch.setattr(Cluster, "_got", lambda self, ref: None if next(count) in (0, 3) else got(self, ref))
    else:  # those that never come: the others do not wait for them
        monkeypatch.setattr("halbert.cluster._PATIENCE", 1.0)

        def never(refs, **more):
            if more.keys() != {"timeout"}:  # Ray Data's own
                return wait(refs, **more)
            if len(taken) < 4:  # more than are fetched ahead
                taken.extend(ref for ref in refs if ref not in taken)
            others = [ref for ref in refs if ref not in taken]
            ready, rest = wait(others, **more) if others else ([], [])
            return ready, [ref for ref in refs if ref in taken] + rest

        monkeypatch.setattr(ray, "wait", never)
    with cluster() as connected:
        found = list(connected.stream(range(12).__iter__, Slow, (0,)))
    assert sorted(value for value, _ in found) == list(range(12))
    assert how == "late" or next(count) == 14


def test_nothing_of_a_broken_off_stream_is_left(cluster):
    """A thread that asked Ray for something after it was shut down would end the process, silently, with status 1."""
    with cluster() as connected:
        stream = connected.stream(range(200).__iter__, Slow, (0,))
        slow = threading.Thread(
            target=time.sleep, args=(3,), name="iter_threaded"
        )  # as Ray Data's are on a busy machine
        assert next(stream)[0] in range(200)
        slow.start()
    assert not slow.is_alive()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("StreamingExecutor")]


def test_an_error_in_the_middle_is_told_at_once(cluster):
    """It does not wait for Ray Data's threads, which would wait for whoever holds their answers."""
    items: list[Any] = list(range(200))
    items[20] = "bad"
    with cluster() as connected, pytest.raises(InputError, match="row 7 is bad") as told:
        for _ in connected.stream(items.__iter__, Slow, (0,)):
            found = time.monotonic()
    assert told.value.__traceback__ is not None and time.monotonic() - found < 15
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith(("StreamingExecutor", "iter_threaded"))
    ]


@pytest.mark.parametrize("only_here", [False, True])
def test_a_corpus_has_the_same_bytes(cluster, small_blocks, tmp_path, only_here):
    def connect():
        """As to a cluster that somebody else began, or as to one of this command's own."""
        connected = cluster()
        assert not connected.only_here
        connected.only_here = only_here
        return connected

    files, tokenizer = write_texts(tmp_path), tiny.tokenizer()
    alone = encode_files(files, tokenizer, tmp_path / "alone", workers=1)
    seen = []
    encode_files(
        files, tokenizer, tmp_path / "spread", cluster=connect, progress=lambda done, total: seen.append((done, total))
    )
    assert len(alone) > 5
    same(alone.folder, tmp_path / "spread")
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)
    assert not (tmp_path / ".spread.part").exists()


@pytest.mark.slow
def test_vectors_have_the_same_bytes(cluster, tmp_path, monkeypatch, capsys):
    from halbert.cli.bulk import Bulk
    from halbert.run import parts
    from halbert.run.answering import Answering, Asked

    monkeypatch.setattr(parts, "PART", 32)
    monkeypatch.setattr(parts.Parts.__init__, "__defaults__", (32, False))
    small.bundle(("label",)).save(tmp_path / "m")
    (tmp_path / "t.txt").write_text("".join(f"{text}\n" for text, _ in small.rows(150)))
    for verb, name in (("embed", "v.npy"), ("predict", "a.jsonl")):
        outputs = []
        for where, connect in (("alone", None), ("spread", cluster)):
            out = tmp_path / where / name
            out.parent.mkdir(exist_ok=True)
            asked = Asked(verb=verb, model=str(tmp_path / "m"), precision="fp32", threads=1)
            answering = Answering(asked)
            bulk = Bulk(None, str(tmp_path / "t.txt"), str(out), out.suffix, True, connect)
            assert bulk.write(answering, answering.predictor.bundle.spec.encoder.hidden_size) == 150
            outputs.append(out.read_bytes())
        assert outputs[0] == outputs[1] and len(outputs[0]) > 1000


@pytest.mark.slow
def test_scores_are_those_of_one_machine(cluster, tmp_path, monkeypatch):
    from halbert.run import spread
    from halbert.run.evaluation import evaluate
    from halbert.run.predictor import load

    monkeypatch.setattr(spread, "TOGETHER", 2)
    file = small.write_csv(tmp_path / "rows.csv", small.rows(300))
    small.bundle(("label",)).save(tmp_path / "m")
    found = {}
    for where in ("alone", "spread"):
        predictor = load(tmp_path / "m", precision="fp32", threads=1, cluster=cluster if where == "spread" else None)
        found[where] = evaluate(predictor, file, out=tmp_path / where, batch_tokens=64)
    names = ["metrics", "calibration", "confusions", "worst", "n", "cut"]
    assert [found["alone"][name] for name in names] == [found["spread"][name] for name in names]
    command = [
        "evaluate",
        str(tmp_path / "m"),
        "--data",
        str(file),
        "--out",
        str(tmp_path / "asked"),
        "--precision",
        "fp32",
    ]
    monkeypatch.setattr(sys, "argv", ["halbert", *command, "--threads", "1", "--engine", "ray", "--quiet"])
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert not ended.value.code
    answers = [(tmp_path / where / "predictions.jsonl").read_bytes() for where in (*found, "asked")]
    assert answers[0] == answers[1] == answers[2] and answers[0].count(b"\n") == 300


def test_masked_pieces_are_scored_on_one_machine(tmp_path):
    from halbert.run.evaluation import evaluate
    from halbert.run.predictor import load

    small.bundle(("mlm",)).save(tmp_path / "m")
    (tmp_path / "t.txt").write_text("the cat sat\n")
    predictor = load(tmp_path / "m", precision="fp32", cluster="nobody:1")
    with pytest.raises(InputError, match="leave --engine ray out"):
        evaluate(predictor, tmp_path / "t.txt", task="fill")


@pytest.mark.slow
def test_vectors_of_a_program_are_those_of_one_machine(cluster, tmp_path, monkeypatch):
    from halbert.run import spread
    from halbert.run.predictor import load

    monkeypatch.setattr(spread, "TOGETHER", 2)
    small.bundle(("label",)).save(tmp_path / "m")
    texts = [f"{text} {i}" for i, (text, _) in enumerate(small.rows(400))]
    plain, there = (load(tmp_path / "m", precision="fp32", threads=1, cluster=where) for where in (None, cluster))
    assert (plain.embed(texts, batch_tokens=64) == there.embed(texts, batch_tokens=64)).all()
    assert plain.predict(texts, batch_tokens=64) == there.predict(texts, batch_tokens=64)


def test_what_a_training_by_a_cluster_needs(tmp_path):
    """Said before a cluster is begun: nobody is at the address."""
    from halbert.train.pretraining import pretrain

    recipe = made.recipe(made.corpus(tmp_path / "corpus"))
    with pytest.raises(InputError, match="needs out, a folder that all of its machines see"):
        pretrain(recipe, tiny.tokenizer(), cluster="nobody:1")
    with pytest.raises(InputError, match="workers are a cluster's: add --engine ray"):
        pretrain(recipe, tiny.tokenizer(), workers=2)
    (tmp_path / "out/training").mkdir(parents=True)
    (tmp_path / "out/training/recipe.json").write_text("{}")
    with pytest.raises(InputError, match="holds a run already; go on with it by --resume"):
        pretrain(recipe, tiny.tokenizer(), tmp_path / "out", cluster="nobody:1")
    with pytest.raises(InputError, match="nobody:1"):
        pretrain(recipe, tiny.tokenizer(), tmp_path / "new", cluster="nobody:1")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))


@pytest.mark.slow
def test_storage_that_is_not_shared_is_named(cluster, tmp_path, monkeypatch):
    """All machines of these tests see the same: here the file that shows it is where none of them looks."""
    from halbert.train import spread
    from halbert.train.pretraining import pretrain

    monkeypatch.setattr(spread, "_sign", lambda out: contextlib.nullcontext(tmp_path / "elsewhere"))
    recipe = made.recipe(made.corpus(tmp_path / "corpus"))
    with pytest.raises(HalbertError, match=r"out: the worker on \S+ \(node [0-9a-f]{8}\) does not see this folder"):
        pretrain(recipe, tiny.tokenizer(), tmp_path / "out", cluster=cluster)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_seeds_are_those_of_one_machine(cluster, tmp_path):
    small.bundle(("mlm",)).save(tmp_path / "m")
    train, dev = (small.write_csv(tmp_path / f"{name}.csv", small.rows(40)) for name in ("train", "dev"))
    changes = {"epochs": 1, "batch_size": 8, "length": 16, "precision": "fp32", "on_divergence": "ignore"}
    runs = [
        finetune(
            str(tmp_path / "m"), train=train, dev=dev, out=tmp_path / name, changes=changes, seeds=2, cluster=connect
        )
        for name, connect in (("alone", None), ("spread", cluster))
    ]
    for a, b in zip(*runs, strict=True):
        assert a.scores == b.scores and a.summary["steps"] == b.summary["steps"]
        for name, array in a.bundle.arrays.items():
            np.testing.assert_allclose(array, b.bundle.arrays[name], rtol=1e-4, atol=1e-6)
    weights = [(tmp_path / name / "provenance.json").exists() for name in ("alone", "spread")]
    assert all(weights) and not (tmp_path / "spread.training").exists()


@pytest.mark.slow
def test_an_audit_has_the_samples_of_one_machine(cluster, tmp_path, monkeypatch):
    from halbert.compare.audit import compare
    from halbert.train.recipe import FinetuneRecipe

    small.bundle().save(tmp_path / "bert")
    small.bundle(seed=1, **small.ALBERT).save(tmp_path / "albert")
    small.write_csv(tmp_path / "rows.csv", small.rows(40))
    recipe = FinetuneRecipe(epochs=1, batch_size=8, length=16, learning_rate=1e-3, precision="fp32")
    found = {}
    for name, connect in (("alone", None), ("spread", cluster)):
        found[name] = compare(
            [str(tmp_path / "bert"), str(tmp_path / "albert")], out=tmp_path / name, tasks=["classify"], data=[tmp_path / "rows.csv"],
            probes=["size", "latency", "inside", "masked", "finetuning"], seeds=2, precision="fp32", threads=1, recipe=recipe,
            depth="quick", cluster=connect,
        )  # fmt: skip
    check_folder(tmp_path / "spread")
    for one, other in zip(*(found[name]["measurements"] for name in ("alone", "spread")), strict=True):
        assert (one["name"], one["subject"]) == (other["name"], other["subject"])
        if one["name"] == "rows_seconds":
            assert one["value"] > 0 and other["value"] is None and "several machines" in other["why"]
        elif not one["name"].startswith("latency"):
            np.testing.assert_allclose(one["samples"], other["samples"], rtol=1e-3, atol=1e-4)
        away = one["name"] in ("masked_accuracy", "rows_accuracy") and other["value"] is not None
        assert one["rounds_on"] is None and (other["value"] is None) == (other["machine"] == "")
        assert not away or all("(node " in place for place in other["rounds_on"])
        assert not away or other["rounds_on"][0] in other["machine"]
    (note,) = (note for note in found["spread"]["notes"] if "cluster of 1 machine(s) with 2 cores" in note)
    assert "fine-tuning: rows" in note and "translations" not in note  # what was not asked for


def test_workers_of_another_kind_are_refused():
    own = here()
    assert refused(own, own, alike=True) == "" and len(own.processor) > 10
    assert "the worker on far has Halbert 9.9" in refused(Place("9.9", own.processor, "far"), own)
    other = Place(own.version, "another", "far")
    assert refused(other, own) == "" and "another processor" in refused(other, own, alike=True)


def test_no_cluster_there(tmp_path):
    told = subprocess.run(
        [sys.executable, "-m", "halbert", "embed", "bert-mini-en", "hello", "--output", str(tmp_path / "v.npy"), "--engine", "ray",
         "--address", "127.0.0.1:1"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (
        told.returncode == 1
        and "no Ray cluster answers at 127.0.0.1:1" in told.stderr
        and "Traceback" not in told.stderr
    )
    assert not (tmp_path / "v.npy").exists()


def test_another_cluster_on_the_machine_is_left_alone(cluster):
    """Ray by itself joins the one that was started last, and then refuses to be told how many cores there are."""
    code = "from halbert.cluster import Cluster\nwith Cluster() as made: print(made.ray.get_runtime_context().gcs_address, made.nodes())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    address, nodes = told.stdout.split(maxsplit=1)
    assert address != ray.get_runtime_context().gcs_address and nodes.strip() == f"[{cores()}]"


def test_a_program_that_is_connected_elsewhere_is_told_so(cluster):
    here = ray.get_runtime_context().gcs_address
    assert Cluster(here).nodes() == [2]
    with pytest.raises(InputError, match=r"^10\.1\.2\.3:6379: this program is connected to another cluster"):
        Cluster("10.1.2.3:6379")


def test_what_the_documentation_calls_is_there():
    """Every call of docs/scale.md's Python fits the signature of what it calls, the cluster's argument included."""
    text = (Path(__file__).parents[2] / "docs/scale.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    tree, names = ast.parse(block), {}
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "docs/scale.md", "exec"), names)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        called = eval(ast.unparse(call.func), names)
        inspect.signature(called).bind(*call.args, **{word.arg: word.value for word in call.keywords})
    assert len(calls) == 6 and block.count('cluster="HEAD:6379"') == 5


def test_a_token_is_shown_to_this_machine_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert not joining._has_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("0" * 64)
    assert joining._has_token()
    assert joining._is_here("127.0.0.1:1") and joining._is_here("localhost:1")
    assert not any(map(joining._is_here, ("10.1.2.3:6379", "auto", "no.such.host.example:1", "a" * 300 + ":1", "")))


def test_the_cluster_that_ray_is_told_of(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 \(RAY_ADDRESS\)"):
        Cluster()


def test_nothing_of_ray_is_imported_without_being_asked():
    code = "import sys, halbert.cli.embed, halbert.cli.corpus, halbert.data.encoding; print('ray' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


def test_times_are_not_taken_beside_other_work(cluster):
    """Not while one of the machine's cores is held; afterwards nobody else gets one, until they are given back."""

    @ray.remote(num_cpus=1)
    class Busy:
        def here(self):
            return True

    def free(cores, seconds=20):
        until = time.monotonic() + seconds
        while ray.available_resources().get("CPU", 0) != cores and time.monotonic() < until:
            time.sleep(0.1)
        return ray.available_resources().get("CPU", 0) == cores

    with cluster() as connected:
        other = Busy.remote()
        assert ray.get(other.here.remote())
        with (
            pytest.raises(HalbertError, match="other work of the cluster holds cores of this machine"),
            connected.alone(2.0),
        ):
            raise AssertionError("beside it")
        ray.kill(other)
        with connected.alone():
            assert free(0)
        assert free(2)


def test_other_work_that_has_all_cores_is_told_once():
    """Ray waits without a word."""
    cluster = object.__new__(Cluster)
    cluster._looked = False
    cluster.ray = SimpleNamespace(available_resources=lambda: {"CPU": 0.0})
    with pytest.warns(UserWarning, match="all cores of the cluster are at other work"):
        cluster.say_if_taken(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cluster.say_if_taken(1)  # by then it may be one's own work that has them
        free = object.__new__(Cluster)
        free._looked, free.ray = False, SimpleNamespace(available_resources=lambda: {"CPU": 2.0})
        free.say_if_taken(1)
