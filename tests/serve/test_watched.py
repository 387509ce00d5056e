"""What a server tells those who watch it; and that it answers where it can tell nobody."""

from __future__ import annotations

import http.server
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from tests import small
from tests.serve.serving import running


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    small.bundle(("mlm",)).save(folder / "first")
    return folder


@pytest.fixture
def collector():
    """An OpenTelemetry collector: keeps the spans that are sent to it."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            found.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *told):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", found
    server.shutdown()
    server.server_close()


def test_spans(place, collector):
    address, found = collector
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": address}
    with running(str(place / "first"), "--precision", "fp32", "--traces", environment=environment) as server:
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        told = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "X_Request_Id": "mine"}
        assert server.post("/embed", {"inputs": "a secret text"}, **told).status == 200
        assert server.get("/nothing/here").status == 404
        assert server.stop() == 0  # sends what is left
    spans = [s for request in found for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
    names = {a.value.string_value for request in found for r in request.resource_spans for a in r.resource.attributes}
    assert "halbert" in names
    assert b"secret" not in b"".join(request.SerializeToString() for request in found)
    (own,) = [span for span in spans if span.name == "POST /embed"]
    assert own.trace_id.hex() == trace and own.parent_span_id.hex() == "00f067aa0ba902b7"
    attributes = {a.key: a.value.string_value or a.value.int_value for a in own.attributes}
    assert attributes["http.response.status_code"] == 200 and attributes["halbert.request_id"] == "mine"
    parts = [span for span in spans if span.parent_span_id == own.span_id]
    assert [span.name for span in parts] == ["wait", "tokenize", "compute"]
    for span in parts:
        assert (
            own.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano <= own.end_time_unix_nano
        )
    assert "GET other" in {span.name for span in spans}  # a path that is made up is no route


def test_a_full_disk_does_not_stop_answers(place, tmp_path):
    """No byte can be written to any file, and the log goes nowhere."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "halbert",
        "serve",
        str(place / "first"),
        "--port",
        str(port),
        "--precision",
        "fp32",
    ]
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(
            command, stdout=full, stderr=full, cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )  # fmt: skip
    try:
        address, ends = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while time.monotonic() < ends:
            try:
                urllib.request.urlopen(f"{address}/ready", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        for _ in range(20):
            asked = urllib.request.Request(
                f"{address}/embed", b'{"inputs": "the cat"}', {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(asked, timeout=10) as reply:
                assert reply.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
