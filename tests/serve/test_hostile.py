"""What clients should not send, over real sockets: the server answers in words, and goes on serving."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import resource
import signal
import time
import urllib.error
import urllib.request

import pytest

from tests import small
from tests.serve.serving import running


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return small.bundle(("mlm", "label")).save(tmp_path_factory.mktemp("hostile") / "model")


@pytest.fixture(scope="module")
def server(place):
    with running(str(place), "--precision", "fp32", "--max-bytes", "65536") as running_server:
        yield running_server
        assert running_server.post("/embed", {"inputs": "the cat"}).status == 200
        assert running_server.get("/metrics").body.decode().count("halbert_worker_restarts_total 0.0") == 1
        assert not any("Traceback" in line for line in running_server.lines)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 422), (b"{", 422), (b"[]", 422), (b"null", 422), (b'"text"', 422), (b'{"inputs": 7}', 422),
        (b'{"inputs": "a"', 422), (b'{"inputs": "\xff\xfe"}', 422), (b"\xff" * 100, 422), (b'{"inputs": "\\ud800"}', 422),
        (b'{"inputs": NaN}', 422), (b'{"inputs": 1e999}', 422), (b'{"inputs": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 422),
        (b'{"inputs": ' + b'{"a":' * 8_000 + b"1" + b"}" * 8_000 + b"}", 422), (b"x" * 65_537, 413),
        (json.dumps({"inputs": ["a"] * 3_000}).encode(), 422), (b'{"inputs": "a", "inputs": "b"}', 200),
    ],
    ids=range(17),
)  # fmt: skip
def test_bodies_that_are_none(server, raw, status):
    told = server.post("/embed", raw=raw)
    assert told.status in ((status, 400) if status == 422 else (status,)), told.body[:300]
    if status != 200:
        assert told.message and "Traceback" not in told.body.decode()


@pytest.mark.parametrize(
    ("given", "said"),
    [([], "inputs: List should have at least 1 item"), (["a", 3], "inputs.1: Input should be a valid string")],
)
def test_what_is_wrong_with_a_list_is_said_of_the_list(server, given, said):
    """A field that may be a text or a list of them has errors for each; of a list only those of the list are meant."""
    told = server.post("/embed", {"inputs": given})
    assert told.status == 422 and told.message.startswith(said)


def test_what_a_text_says_is_not_in_an_error(server):
    told = server.post("/v1/fill", {"inputs": 7, "secret": "swordfish"})
    assert told.status == 422 and "swordfish" not in told.body.decode()


def test_a_page_of_another_host_cannot_post(server):
    # A browser sends such a body without asking first; a request that is not JSON is not read as JSON.
    told = server.post("/embed", {"inputs": "a"}, Content_Type="text/plain")
    assert told.status == 422 and "application/json" in told.message
    assert "access-control-allow-origin" not in server.get("/health", Origin="http://elsewhere").headers


def test_packed_bodies_are_not_unpacked(server):
    bomb = gzip.compress(b'{"inputs": "' + b"a" * 50_000_000 + b'"}')
    assert len(bomb) < 65_536
    told = server.post("/embed", raw=bomb, Content_Encoding="gzip")
    assert told.status == 415 and "Content-Encoding" in told.message


def test_a_body_that_is_larger_than_it_says(server):
    with server.connect() as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(40):
                connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert b" 413 " in connection.recv(4096)


def test_clients_that_send_all_before_they_read_are_told_that_it_is_too_large(server):
    """urllib, which "Copy as Python" uses, does; and what curl asks before it sends is answered before."""
    for size in (70_000, 600_000):
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/embed", b"x" * size, {"Content-Type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(request, timeout=20)
        assert told.value.code == 413 and b"65,536 bytes" in told.value.read()
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n"
    for length, more in ((70_000, b"Expect: 100-continue\r\n"), (20 * 65_536, b"")):
        with server.connect() as connection:
            connection.sendall(head % (length, more))
            assert connection.recv(4096).split(b" ")[1] == b"413"
    assert server.post("/embed", {"inputs": "a cat"}).status == 200


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999", "abc"])
def test_lengths_that_are_none(server, length):
    with server.connect() as connection:
        connection.sendall(f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        assert connection.recv(4096).split(b" ")[1] in (b"400", b"413")


def test_headers_without_end(server):
    with server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        try:
            for i in range(2_000):
                connection.sendall(f"X-{i}: {'y' * 100}\r\n".encode())
        except (BrokenPipeError, ConnectionResetError):
            return
        assert connection.recv(4096).split(b" ")[1] in (b"400", b"431")


@pytest.mark.parametrize("before", [
    # A request that is answered before its body is read; its body; another request.
    b"POST /admin/models HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n", b"",
], ids=["after an early answer", "trailers"])  # fmt: skip
def test_other_lines_without_end(server, before):
    with server.connect() as connection:
        connection.settimeout(20)
        if before:
            connection.sendall(before)
            assert b" 401 " in connection.recv(4096)
            connection.sendall(b"{}GET /health HTTP/1.1\r\nHost: x\r\n")
        else:
            connection.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for i in range(20_000):
                connection.sendall(f"X-{i}: {'y' * 1000}\r\n".encode())
            pytest.fail("20 MB of lines were read")


def test_what_is_no_http(server):
    for raw in (b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"\x00" * 1000):
        with server.connect() as connection:
            connection.sendall(raw)
            connection.settimeout(15)
            assert connection.recv(4096)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 505")


def test_headers_cannot_be_made_up(server):
    told = server.post("/embed", {"inputs": "a"}, x_request_id="abc%0d%0aset-cookie:x=1")
    assert "set-cookie" not in told.headers and told.headers["x-request-id"] != "abc%0d%0aset-cookie:x=1"


@pytest.mark.parametrize("path", [
    "/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd", "/page/page.html%00", "/admin/models/../..",
    "/nothing", "/%00", "//etc/passwd", "/embed/", "/page/page.css/..",
])  # fmt: skip
def test_paths_lead_nowhere(server, path):
    told = server.get(path)
    assert told.status in (401, 404, 405, 307) and b"import" not in told.body and b"root:" not in told.body


def test_made_up_routes_do_not_become_metrics(server):
    for i in range(20):
        server.get(f"/made-up-{i}")
    assert "made-up" not in server.get("/metrics").body.decode()


def test_no_key_no_change(server):
    assert server.post("/admin/models", {"name": "x", "model": "/etc"}).status == 401


def test_a_thousand_idle_connections(server):
    idle = [server.connect() for _ in range(1_000)]
    try:
        began = time.perf_counter()
        assert server.post("/embed", {"inputs": "the cat"}).status == 200
        assert time.perf_counter() - began < 5
    finally:
        for connection in idle:
            connection.close()


def test_slow_clients_are_left(place):
    """One that dribbles its headers, and one that dribbles its body."""
    with running(str(place), "--precision", "fp32", "--patience", "1") as server:
        head, body, second = server.connect(), server.connect(), server.connect()
        try:
            second.settimeout(20)
            second.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while b"alive" not in answer:  # its head and its body may come by themselves
                answer += (part := second.recv(4096))
                assert part, answer
            assert b" 200 " in answer
            second.sendall(b"GET /health HT")
            head.sendall(b"GET /health HT")
            body.sendall(b'POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n{"inputs"')
            head.settimeout(20)
            body.settimeout(20)
            assert head.recv(100) == b""
            assert b" 408 " in body.recv(4096)
            assert second.recv(100) == b""
        finally:
            for connection in (head, body, second):
                connection.close()


def test_clients_that_go_away(server):
    def told(name):
        return float(re.search(rf"^{re.escape(name)} (.*)$", server.get("/metrics").body.decode(), re.MULTILINE)[1])

    def until(wanted):
        ends = time.monotonic() + 20
        while not wanted():
            assert time.monotonic() < ends
            time.sleep(0.05)

    body = json.dumps({"inputs": [f"the cat on a mat {i}" for i in range(1500)]}).encode()
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    assert server.post("/embed", {"inputs": "the cat"}).status == 200
    computed, left = told('halbert_texts_total{model="model"}'), sum('"status": 499' in line for line in server.lines)
    os.kill(server.worker(), signal.SIGSTOP)  # nothing is computed while they wait
    try:
        clients = [server.connect() for _ in range(12)]
        for connection in clients:
            connection.sendall(head.encode() + body)
        until(lambda: told("halbert_queue_tokens") > 50_000)
        for connection in clients:
            connection.close()
        until(lambda: told("halbert_queue_tokens") == 0)
        until(lambda: sum('"status": 499' in line for line in server.lines) == left + 12)
    finally:
        os.kill(server.worker(), signal.SIGCONT)
    assert server.post("/embed", {"inputs": "the cat"}).status == 200
    # What the worker had before they went is computed, the rest of these 18,000 never.
    assert told('halbert_texts_total{model="model"}') - computed < 4_000


def test_script_in_a_text_stays_text(server):
    script = "<script>alert(1)</script>"
    told = server.post("/tokenize", {"inputs": script})
    assert told.headers["content-type"] == "application/json" and told.headers["x-content-type-options"] == "nosniff"
    policy = server.get("/").headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy and "default-src 'none'" in policy


def closed_within(connection, seconds):
    """Whether the other side closes, whatever it says before."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.fixture(scope="module")
def impatient(place):
    with running(str(place), "--precision", "fp32", "--patience", "0.5") as running_server:
        yield running_server


def test_an_empty_line_after_an_answer_does_not_hold_a_connection(impatient):
    with impatient.connect() as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        said = b""
        while b"alive" not in said:  # head and body may come apart
            said += connection.recv(65536)
        connection.sendall(b"\r\n")
        assert closed_within(connection, 5)


def test_a_refused_body_that_never_comes_does_not_hold_a_connection(impatient):
    with impatient.connect() as connection:
        connection.sendall(b"POST /admin/models HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
        assert b" 401 " in connection.recv(65536)
        connection.sendall(b'"')
        assert closed_within(connection, 5)


def test_an_answer_that_nobody_reads_is_let_go(impatient):
    body = json.dumps({"inputs": ["a"] * 2_048, "normalize": False}).encode()
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with impatient.connect() as connection:
        for _ in range(12):  # more than the system keeps for both sides
            connection.sendall(head + body)
        time.sleep(8)
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                connection.sendall(b"x" * 65536)  # to a connection that is gone
                time.sleep(0.02)
            pytest.fail("the connection was kept")
    assert impatient.post("/embed", {"inputs": "a"}).status == 200


def test_a_slow_reader_gets_all_of_it(impatient):
    body = json.dumps({"inputs": ["a"] * 2_048, "normalize": False}).encode()
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with impatient.connect() as connection:
        connection.sendall(head % len(body) + body)
        found, began = bytearray(), time.perf_counter()
        while part := connection.recv(65536):
            found += part
            time.sleep(0.15 if time.perf_counter() - began < 2 else 0)
    assert len(json.loads(found.partition(b"\r\n\r\n")[2])) == 2_048


def test_answers_that_would_be_many_times_the_request(server):
    told = server.post("/v1/fill", {"inputs": ["[MASK] " * 100] * 3, "top": 100})
    assert told.status == 413 and "30,000 pieces" in told.message
    assert server.post("/v1/fill", {"inputs": ["[MASK] " * 100], "top": 2}).status == 200


def test_head_is_get_without_its_body(server):
    for path in ("/", "/health", "/v1/models"):
        told, whole = server.ask("HEAD", path), server.get(path)
        assert told.status == 200 and told.body == b"" and told.headers["content-type"] == whole.headers["content-type"]
    refused = server.post("/admin/models", {"name": "a", "model": "b"})
    assert refused.status == 401 and refused.headers["www-authenticate"] == "Bearer"


def test_a_path_with_a_slash_too_many_leads_nowhere(server):
    """Such as to the host that a request names."""
    told = server.post("/v1/compare/", {"text": "a"}, Host="evil.example")
    assert told.status == 404 and "location" not in told.headers


def test_more_connections_than_the_usual_limit_of_files(tmp_path):
    """What the shell allows at first is not all that the system does."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 1024:
        pytest.skip("this system allows few open files")
    small.bundle().save(tmp_path / "m")
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        with running(str(tmp_path / "m"), "--precision", "fp32") as limited, contextlib.ExitStack() as idle:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
            for _ in range(300):
                idle.enter_context(limited.connect())
            assert limited.post("/embed", {"inputs": "a cat"}).status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_document_says_who_needs_a_key_and_what_comes_back(server):
    document = server.get("/openapi.json").json
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    paths = document["paths"]
    assert paths["/admin/models"]["post"]["security"] == [{"key": []}]
    assert "security" not in paths["/metrics"]["get"] and {"key": []} in paths["/embed"]["post"]["security"]
    for path, methods in paths.items():
        for method, told in methods.items():
            (content,) = told["responses"]["200"]["content"].values()
            assert content["schema"] or path in ("/health",), (path, method)
            assert "400" in told["responses"]
            headers = [parameter["name"] for parameter in told.get("parameters", ()) if parameter["in"] == "header"]
            assert headers == (["halbert-timeout"] if method == "post" and "/admin/" not in path else [])
