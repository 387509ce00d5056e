"""docs/serving.md: its commands and its Python, against a real server."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from halbert.models import bundled
from tests import small
from tests.serve.serving import running

PAGE = (Path(__file__).parent.parent.parent / "docs/serving.md").read_text("utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documented")
    models = [
        str(bundled().get(name) or small.bundle().save(folder / name)) for name in ("bert-mini-en", "albert-mini-en")
    ]
    with running(*models) as running_server:
        yield running_server


def block(kind):
    return re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1]


def test_commands(server):
    commands = block("bash").replace("localhost:8080", f"127.0.0.1:{server.port}").strip().splitlines()
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert "error" not in json.loads(done.stdout), done.stdout


def test_python(server):
    found = {}
    exec(block("python").replace("localhost:8080", f"127.0.0.1:{server.port}"), found)
    assert len(found["vectors"].data) == 2
    found["client"].close()


def test_every_route_is_in_the_page_and_every_one_of_the_page_is_there(server):
    document = server.get("/openapi.json").json["paths"]
    named = set(re.findall(r"`(?:GET |POST )?(/[a-z0-9/{}]*)`", PAGE))
    assert set(document) <= named | {"/health"}, set(document) - named
    assert named - {"/"} <= set(document) | {"/ready", "/openapi.json"}, named


def test_metrics_that_are_named_are_there(server):
    server.post("/embed", {"inputs": "a"})
    told = server.get("/metrics").body.decode()
    for name in re.findall(r"`(halbert_[a-z_]+)", PAGE):
        assert name in told, name
