"""A hub on this machine: the routes of the Hugging Face hub that a download uses, with faults on request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".h5", ".onnx", ".model")


class Request(NamedTuple):
    """A request as it arrived; the names of the headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


class Answer(NamedTuple):
    """What a route answers instead of what it has, after ``delay`` seconds."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}
    delay: float = 0


class Hub:
    """The repositories, the faults and the requests of one server.

    ``token``: what every request must bear. ``breaks``: file to the number of bytes after which its next download is
    cut, once. ``swapped``: file to the bytes sent in its place. ``answers``: (repository, ``revision`` or ``tree`` or a
    file) to what a GET answers.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.requests: list[Request] = []
        self.token: str | None = None
        self.breaks: dict[str, int] = {}
        self.swapped: dict[str, bytes] = {}
        self.answers: dict[tuple[str, str], Answer] = {}
        self._commits: dict[tuple[str, str], dict[str, bytes]] = {}
        self._branches: dict[tuple[str, str], str] = {}

    def add(self, repository: str, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Commit ``files`` to a branch; returns the commit."""
        commit = hashlib.sha1(repr((repository, branch, sorted(files.items()))).encode()).hexdigest()
        self._commits[repository, commit] = dict(files)
        self._branches[repository, branch] = commit
        return commit

    def commit(self, repository: str, revision: str) -> str | None:
        return revision if (repository, revision) in self._commits else self._branches.get((repository, revision))

    def files(self, repository: str, commit: str) -> dict[str, bytes]:
        return self._commits[repository, commit]

    def has(self, repository: str) -> bool:
        return any(name == repository for name, _ in self._commits)

    def asked(self, method: str) -> list[str]:
        """The files that were asked for by this method, in order."""
        found = [re.search(r"/resolve/[^/]+/(.+)", r.path) for r in self.requests if r.method == method]
        return [unquote(match[1]) for match in found if match]


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A hub for as long as the block lasts."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    hub: Hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may go at any time
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece; in two, the second waits for the first to be acknowledged
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.server.hub, urlsplit(self.path).path
        hub.requests.append(Request(self.command, path, {name.lower(): text for name, text in self.headers.items()}))
        listed = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if listed:
            repository, route, revision = listed[1], listed[2], unquote(listed[3])
        elif file:
            repository, route, revision = file[1], unquote(file[3]), unquote(file[2])
        else:
            return self._refuse(404, "Not Found")
        if self.command == "GET" and (told := hub.answers.get((repository, route))):
            time.sleep(told.delay)
            return self._send(told.status, told.body, dict(told.headers))
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._refuse(401, "Invalid username or password.", "RepoNotFound")
        if not hub.has(repository):
            return self._refuse(404, "Repository not found", "RepoNotFound")
        commit = hub.commit(repository, revision)
        if commit is None:
            return self._refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files = hub.files(repository, commit)
        if file:
            return self._send_file(files, commit, route)
        if route == "tree":
            return self._send_json([_entry(name, data) for name, data in files.items()])
        siblings = [{"rfilename": name} for name in files]
        return self._send_json({"_id": "0", "id": repository, "sha": commit, "siblings": siblings})

    def _send_file(self, files: Mapping[str, bytes], commit: str, name: str) -> None:
        hub = self.server.hub
        if name not in files:
            return self._refuse(404, "Entry not found", "EntryNotFound")
        entry = _entry(name, files[name])
        headers = {"ETag": f'"{entry["oid"]}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if large := entry.get("lfs"):
            headers |= {"X-Linked-Etag": f'"{large["oid"]}"', "X-Linked-Size": str(large["size"])}
        body, status = hub.swapped.get(name, files[name]), 200
        if told := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(told[1]), int(told[2] or len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body, status = body[first : last + 1], 206
        cut = hub.breaks.pop(name, None) if self.command == "GET" else None
        self._send(status, body, headers, cut)

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, message: str, code: str | None = None) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


def _entry(name: str, data: bytes) -> dict[str, Any]:
    """A file as the tree lists it: named by git's own hash, large ones also by the sha256 of their content."""
    entry = {"type": "file", "path": name, "size": len(data)}
    if not name.endswith(LARGE):
        return {**entry, "oid": _git_hash(data)}
    digest = hashlib.sha256(data).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n".encode()
    return {**entry, "oid": _git_hash(pointer), "lfs": {"oid": digest, "size": len(data), "pointerSize": len(pointer)}}


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
