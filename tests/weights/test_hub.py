"""Models by hub name, from a hub on this machine: what is asked for, what is kept, and what is said when it fails."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load, save

from halbert import presets
from halbert.errors import InputError, WeightsError
from halbert.source import load_bundle, resolve_bundle
from halbert.weights import hub as library
from tests import tiny
from tests.weights.folders import files
from tests.weights.hub_server import Answer, Hub, serving

WEIGHTS = "model.safetensors"
CHUNK = 10 << 20  # the library keeps what it got in pieces of this size
OURS = ("halbert.json", "provenance.json", "README.md")


class Done(NamedTuple):
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as server:
        yield server


@pytest.fixture
def environment(hub, tmp_path) -> dict[str, str]:
    ours = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    ours |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "NO_PROXY": "*"}
    return ours | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


@pytest.fixture
def halbert(environment) -> Callable[..., Done]:
    """Runs a command as a process of its own, since the hub's library reads its environment once."""

    def command(*args: object, **changes: str) -> Done:
        words = [sys.executable, "-m", "halbert", *map(str, args)]
        done = subprocess.run(words, env=environment | changes, capture_output=True, text=True, timeout=60)
        return Done(done.returncode, done.stdout, done.stderr)

    return command


def bundle(seed: int = 0, **changes: int):
    heads = {name: tiny.HEADS[name] for name in ("label", "score")}
    return tiny.bundle(tiny.encoder(**changes), heads, seed=seed)


def bundle_files(place: Path, seed: int = 0, **changes: int) -> dict[str, bytes]:
    """The files of a Halbert bundle, heads in folders of their own."""
    return files(bundle(seed, **changes).save(place))


def plain_files(place: Path, seed: int = 0, **changes: int) -> dict[str, bytes]:
    """The files of a Hugging Face folder."""
    saved = files(tiny.bundle(tiny.encoder(**changes), {"label": tiny.HEADS["label"]}, seed=seed).save(place))
    return {name: data for name, data in saved.items() if name not in OURS}


def sharded(saved: dict[str, bytes], count: int = 3) -> dict[str, bytes]:
    """The same folder with its weights in ``count`` files."""
    tensors = load(saved[WEIGHTS])
    told = {name: f"model-{i % count + 1:05}-of-{count:05}.safetensors" for i, name in enumerate(sorted(tensors))}
    shards = {s: save({n: tensors[n] for n in told if told[n] == s}, {"format": "pt"}) for s in set(told.values())}
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": told}
    rest = {name: data for name, data in saved.items() if name != WEIGHTS}
    return rest | shards | {f"{WEIGHTS}.index.json": json.dumps(index).encode()}


def damaged(data: bytes) -> bytes:
    """As many bytes, the last of them another: still a readable file of tensors."""
    return data[:-1] + bytes([data[-1] ^ 1])


def right(done: Done, place: Path, seed: int = 0, **changes: int) -> None:
    """The command succeeded, and ``place`` holds the weights drawn from ``seed``."""
    assert done.status == 0, done.err
    found, expected = load_bundle(place).arrays, bundle(seed, **changes).arrays
    assert found.keys() <= expected.keys() and "heads.label.dense.weight" in found
    for name, array in found.items():
        assert np.array_equal(array, expected[name]), name


def refused(done: Done, *words: str) -> None:
    assert done.status == 1, done
    assert "Traceback" not in done.err and done.out == ""
    told = done.err.splitlines()
    assert len(told) == 1 and told[0].startswith("halbert: "), done.err
    for word in words:
        assert word in told[0], f"{word!r} is not in {told[0]!r}"


def blobs(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.glob("home/hub/models--*/blobs/*")}


@pytest.mark.parametrize("make", [plain_files, bundle_files])
def test_the_same_model_as_from_the_folder(hub, halbert, tmp_path, make):
    saved = make(tmp_path / "source")
    for name in set(files(tmp_path / "source")) - set(saved):
        (tmp_path / "source" / name).unlink()
    commit = hub.add("org/name", saved)
    resolve_bundle(tmp_path / "source", hashed=True).save(tmp_path / "straight")
    done = halbert("convert", "org/name", tmp_path / "fetched")
    assert done == (0, "", done.err) and f"wrote {tmp_path / 'fetched'}" in done.err
    straight, fetched = files(tmp_path / "straight"), files(tmp_path / "fetched")
    differ = {name for name in straight | fetched if straight.get(name) != fetched.get(name)}
    assert differ <= {"provenance.json", "README.md"}, differ
    told = json.loads(fetched["provenance.json"])
    assert (told["hub"], told["revision"]) == ("org/name", commit)
    assert "hub" not in json.loads(straight["provenance.json"])


def test_a_bundle_names_the_repository_it_was_fetched_from(hub, halbert, tmp_path):
    """Not the one that a bundle in it was once made from."""
    tiny.bundle(provenance={"hub": "org/first", "revision": "0" * 40}).save(tmp_path / "first")
    commit = hub.add("org/second", files(tmp_path / "first"))
    assert halbert("convert", "org/second", tmp_path / "second").status == 0
    told = json.loads((tmp_path / "second" / "provenance.json").read_text())
    assert (told["hub"], told["revision"]) == ("org/second", commit)


def test_only_what_is_needed_is_asked_for(hub, halbert, tmp_path):
    saved = bundle_files(tmp_path / "source")
    others = ["pytorch_model.bin", "modeling.py", "tf_model.h5", "onnx/model.onnx", "flax_model.msgpack"]
    others += ["onnx/model.safetensors", "heads/score/modeling.py", ".gitattributes", "training_args.bin"]
    hub.add("org/name", saved | dict.fromkeys(others, b"not for us"))
    right(halbert("convert", "org/name", tmp_path / "out"), tmp_path / "out")
    assert set(hub.asked("HEAD")) == set(saved)
    assert sorted(hub.asked("GET")) == sorted(saved)
    assert not [request.path for request in hub.requests if any(name in request.path for name in others)]


def test_a_branch(hub, halbert, tmp_path):
    branch = "refs/pr/1"
    hub.add("org/name", plain_files(tmp_path / "a"))
    commit = hub.add("org/name", plain_files(tmp_path / "b", seed=1), branch)
    right(halbert("convert", f"org/name@{branch}", tmp_path / "out"), tmp_path / "out", seed=1)
    asked = [request.path for request in hub.requests if "/revision/" in request.path]
    assert asked == ["/api/models/org/name/revision/refs%2Fpr%2F1"]
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["revision"] == commit


def test_a_commit(hub, halbert, tmp_path):
    commit = hub.add("org/name", plain_files(tmp_path / "a"))
    hub.add("org/name", plain_files(tmp_path / "b", seed=1))
    right(halbert("convert", f"org/name@{commit}", tmp_path / "out"), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["revision"] == commit


def test_from_the_cache(halbert, tmp_path):
    with serving() as hub:
        commit = hub.add("org/name", plain_files(tmp_path / "source"))
        place = {"HF_ENDPOINT": hub.endpoint}
        right(halbert("convert", "org/name", tmp_path / "first", **place), tmp_path / "first")
        hub.requests.clear()
        right(halbert("convert", "org/name", tmp_path / "online", **place), tmp_path / "online")
        assert hub.asked("GET") == []
        hub.requests.clear()
        right(halbert("convert", "org/name", tmp_path / "offline", HF_HUB_OFFLINE="1", **place), tmp_path / "offline")
        assert hub.requests == []
        assert json.loads((tmp_path / "offline" / "provenance.json").read_text())["revision"] == commit
    right(halbert("convert", "org/name", tmp_path / "gone", **place), tmp_path / "gone")
    refused(halbert("convert", "org/other", tmp_path / "never", **place), "org/other")


def test_offline_and_not_cached(hub, halbert, tmp_path):
    hub.add("org/name", plain_files(tmp_path / "source"))
    refused(halbert("convert", "org/name", tmp_path / "out", HF_HUB_OFFLINE="1"), "org/name")
    assert hub.requests == [] and not (tmp_path / "out").exists()


def test_offline_and_cached_in_part(hub, halbert, tmp_path):
    saved = plain_files(tmp_path / "source")
    hub.add("org/name", saved)
    hub.answers["org/name", "vocab.txt"] = Answer(404)
    refused(halbert("convert", "org/name", tmp_path / "out"), "org/name")
    refused(halbert("convert", "org/name", tmp_path / "out", HF_HUB_OFFLINE="1"), "org/name")


def test_the_token_is_sent(hub, halbert, tmp_path):
    hub.add("org/private", plain_files(tmp_path / "source"))
    hub.token = "hf_secret"
    right(halbert("convert", "org/private", tmp_path / "out", HF_TOKEN="hf_secret"), tmp_path / "out")
    needed = [request for request in hub.requests if "org/private" in request.path]
    assert needed and {request.headers.get("authorization") for request in needed} == {"Bearer hf_secret"}


@pytest.mark.parametrize("token", [{}, {"HF_TOKEN": "hf_wrong"}], ids=["none", "wrong"])
def test_a_private_repository_without_its_token(hub, halbert, tmp_path, token):
    hub.add("org/private", plain_files(tmp_path / "source"))
    hub.token = "hf_secret"
    done = halbert("convert", "org/private", tmp_path / "out", **token)
    refused(done, "org/private")
    assert "hf_" not in done.err and hub.asked("GET") == [] and not (tmp_path / "out").exists()


def test_a_broken_download_goes_on_where_it_stopped(hub, halbert, tmp_path):
    saved = plain_files(tmp_path / "source", vocab_size=70_000)
    assert len(saved[WEIGHTS]) > CHUNK + 4096
    hub.add("org/name", saved)
    hub.breaks |= {WEIGHTS: CHUNK + 4096, "config.json": 5}
    right(halbert("convert", "org/name", tmp_path / "out"), tmp_path / "out", vocab_size=70_000)
    tries = [r for r in hub.requests if r.method == "GET" and r.path.endswith(WEIGHTS)]
    assert [request.headers.get("range") for request in tries] == [None, f"bytes={CHUNK}-"]
    assert hub.asked("GET").count("config.json") == 2


def test_a_download_that_failed_succeeds_with_the_next_command(hub, halbert, tmp_path):
    saved = plain_files(tmp_path / "source")
    hub.add("org/name", saved)
    hub.answers["org/name", WEIGHTS] = Answer(503)
    refused(halbert("convert", "org/name", tmp_path / "out"), "org/name")
    arrived = blobs(tmp_path)  # files come at the same time: which of them were through is chance
    assert not (tmp_path / "out").exists() and not [name for name in arrived if "incomplete" in name]
    hub.answers.clear()
    hub.requests.clear()
    right(halbert("convert", "org/name", tmp_path / "out"), tmp_path / "out")
    assert WEIGHTS in hub.asked("GET") and len(hub.asked("GET")) == len(blobs(tmp_path) - arrived)


def test_bytes_other_than_announced(hub, halbert, tmp_path):
    saved = plain_files(tmp_path / "source")
    hub.add("org/name", saved)
    hub.swapped[WEIGHTS] = damaged(saved[WEIGHTS])
    refused(halbert("convert", "org/name", tmp_path / "out"), "org/name", WEIGHTS, "sha256")
    assert not (tmp_path / "out").exists()
    assert not [name for name in blobs(tmp_path) if len(name) == 64]
    assert not [*tmp_path.glob(f"home/hub/models--*/snapshots/*/{WEIGHTS}")]
    hub.swapped.clear()
    right(halbert("convert", "org/name", tmp_path / "out"), tmp_path / "out")


def test_two_files_with_bytes_other_than_announced(hub, halbert, tmp_path):
    saved = sharded(plain_files(tmp_path / "source"))
    hub.add("org/name", saved)
    hub.swapped |= {name: damaged(data) for name, data in saved.items() if name.endswith(".safetensors")}
    refused(halbert("convert", "org/name", tmp_path / "out"), "org/name", ".safetensors")
    hub.swapped.clear()
    right(halbert("convert", "org/name", tmp_path / "out"), tmp_path / "out")


def test_bytes_other_than_announced_and_another_file_that_fails(hub, halbert, tmp_path):
    saved = plain_files(tmp_path / "source")
    hub.add("org/name", saved)
    hub.swapped[WEIGHTS] = damaged(saved[WEIGHTS])
    hub.answers["org/name", "vocab.txt"] = Answer(503, delay=0.4)  # after the weights have arrived
    refused(halbert("convert", "org/name", tmp_path / "out"), "org/name")
    assert WEIGHTS in hub.asked("GET")
    hub.answers.clear()
    hub.swapped.clear()
    done = halbert("convert", "org/name", tmp_path / "out")
    if done.status:  # found only now, which is soon enough
        refused(done, "org/name", WEIGHTS)
        done = halbert("convert", "org/name", tmp_path / "out")
    right(done, tmp_path / "out")


def test_bytes_other_than_announced_in_a_cache_without_links(hub, halbert, tmp_path):
    saved = plain_files(tmp_path / "source")
    hub.add("org/name", saved)
    hub.swapped[WEIGHTS] = damaged(saved[WEIGHTS])
    done = halbert("convert", "org/name", tmp_path / "out", HF_HUB_DISABLE_SYMLINKS="1")
    refused(done, "org/name", WEIGHTS)


def test_shards(hub, halbert, tmp_path):
    saved = sharded(plain_files(tmp_path / "source"))
    hub.add("org/name", saved)
    right(halbert("convert", "org/name", tmp_path / "out"), tmp_path / "out")
    assert sorted(hub.asked("GET")) == sorted(saved)


def test_a_released_name(hub, halbert, tmp_path):
    """The weights are those of its official repository."""
    hub.add("google/bert_uncased_L-2_H-128_A-2", plain_files(tmp_path / "source"))
    right(halbert("convert", "bert-tiny", tmp_path / "out"), tmp_path / "out")
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert told["hub"] == "google/bert_uncased_L-2_H-128_A-2"
    assert WEIGHTS in hub.asked("GET")


def test_a_released_name_that_is_not_there(hub, halbert, tmp_path):
    refused(halbert("convert", "bert-tiny", tmp_path / "out"), "bert-tiny", "google/bert_uncased_L-2_H-128_A-2")


def test_names():
    assert library.repository_of("org/name") == library.repository_of("org/name@") == ("org/name", None)
    assert library.repository_of("org/na.me-1_b@refs/pr/1") == ("org/na.me-1_b", "refs/pr/1")
    assert library.repository_of("bert-tiny") == ("google/bert_uncased_L-2_H-128_A-2", None)
    for name in ("name", "org/name/more", "org/", "/name", "a folder/name", "@dev", "name@dev", ""):
        with pytest.raises(InputError, match="no such folder"):
            library.repository_of(name)
    unpublished = [name for name in presets.all_presets() if presets.get(name).hub is None]
    assert unpublished
    for name in unpublished:
        with pytest.raises(InputError, match="has no official hub repository"):
            library.repository_of(name)


@pytest.mark.parametrize("name", ["./missing", "../missing", "org/..", "-org/name", "org/na--me", "org/" + 99 * "x"])
def test_a_path_or_name_that_no_repository_can_have(name):
    with pytest.raises(InputError, match=re.escape(name)):
        library.fetch(name)


def test_a_folder_that_is_not_there(hub, halbert, tmp_path):
    refused(halbert("convert", "../missing", tmp_path / "out"), "../missing")
    assert hub.requests == []


JSON = {"Content-Type": "application/json"}
NO_REPOSITORY, GATED = {"X-Error-Code": "RepoNotFound"}, {"X-Error-Code": "GatedRepo"}
FAULTS = {
    "no repository": ("revision", Answer(404, b'{"error": "Repository not found"}', NO_REPOSITORY)),
    "not found": ("revision", Answer(404, b"<html>nothing here</html>")),
    "gated": ("revision", Answer(403, b'{"error": "ask for access"}', GATED)),
    "forbidden": ("revision", Answer(403)),
    "our fault": ("revision", Answer(500, b"oops")),
    "a page": ("revision", Answer(200, b"<html>please log in</html>")),
    "half JSON": ("revision", Answer(200, b'{"id": "org/na', JSON)),
    "other JSON": ("revision", Answer(200, b"[1, 2]", JSON)),
    "no commit": ("revision", Answer(200, b'{"id": "org/name"}', JSON)),
    "no list": ("tree", Answer(404)),
    "a page for a list": ("tree", Answer(200, b"<html>please log in</html>")),
    "another list": ("tree", Answer(200, b'[{"type": "file"}]', JSON)),
    "a path that leads out": ("tree", Answer(200, b'[{"type": "file", "path": "heads/../../../../../x/head.json", '
                                                  b'"size": 1, "oid": "1"}]', JSON)),
    "file not found": (WEIGHTS, Answer(404)),
    "file fails": (WEIGHTS, Answer(500)),
}  # fmt: skip


FETCH_ALL = """
import json, sys
from halbert.weights import hub
for name in sys.argv[1:]:
    try:
        print(json.dumps([name, str(hub.fetch(name).folder)]))
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.mark.parametrize("fault", ["our fault", "half JSON"])
def test_a_server_at_fault(hub, halbert, tmp_path, fault):
    hub.add("org/name", plain_files(tmp_path / "source"))
    route, answer = FAULTS[fault]
    hub.answers["org/name", route] = answer
    refused(halbert("convert", "org/name", tmp_path / "out"), "org/name")
    assert not (tmp_path / "out").exists()


def test_a_server_at_every_fault(hub, environment, tmp_path):
    saved = plain_files(tmp_path / "source")
    for i, (route, answer) in enumerate(FAULTS.values()):
        hub.add(f"org/name{i}", saved)
        hub.answers[f"org/name{i}", route] = answer
    names = [f"org/name{i}" for i in range(len(FAULTS))]
    hub.add("org/healthy", saved)
    names.append("org/healthy@missing")
    words = [sys.executable, "-c", FETCH_ALL, *names]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        kind, message = json.loads(line)
        assert kind == "InputError" and message.startswith(f"{name}: "), (name, kind, message)
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "home"}


def test_pickles_are_not_fetched(hub, halbert, tmp_path):
    saved = plain_files(tmp_path / "source")
    hub.add("org/name", {name: data for name, data in saved.items() if name != WEIGHTS} | {"pytorch_model.bin": b"no"})
    refused(halbert("convert", "org/name", tmp_path / "out", "--allow-pickle"), WEIGHTS)
    assert "pytorch_model.bin" not in hub.asked("GET")


def test_a_list_that_leads_elsewhere(tmp_path, monkeypatch):
    """The list of files is the server's: a path out of the folder is not read, and what is there not removed."""
    folder = tmp_path / "hub" / "models--org--name" / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    victim, own = tmp_path / "victim", folder / "config.json"
    for file in (victim, own):
        file.write_text("mine")
    listed = [
        SimpleNamespace(path=path, blob_id="0" * 40) for path in ("../../../../victim", str(victim), "config.json")
    ]
    monkeypatch.setattr("huggingface_hub.get_cached_repo_tree", lambda *a, **k: listed)
    with pytest.raises(WeightsError, match=r"config\.json arrived"):
        library._verify(folder, "org/name")
    assert victim.exists() and not own.exists()


def test_a_cache_without_a_list_or_that_may_only_be_read(tmp_path, monkeypatch):
    folder = tmp_path / "hub" / "models--org--name" / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    library._verify(folder, "org/name")  # brought by an older library
    content = b"mine"
    (folder / "config.json").write_bytes(content)
    name = hashlib.sha1(b"blob 4\0" + content).hexdigest()
    listed = [SimpleNamespace(path="config.json", blob_id=name)]
    monkeypatch.setattr("huggingface_hub.get_cached_repo_tree", lambda *a, **k: listed)
    monkeypatch.setattr(
        "halbert.weights.hub.write_json", lambda *a: (_ for _ in ()).throw(PermissionError("read-only"))
    )
    library._verify(folder, "org/name")
