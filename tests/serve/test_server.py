"""Real servers, asked over real connections."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from halbert.run.predictor import Predictor, load
from tests import small
from tests.serve.serving import running

TEXTS = [text for text, _ in small.rows(12)]
WIDE = {"hidden_size": 32, "embedding_size": 32, "intermediate_size": 48}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    small.bundle(("mlm", "pair", "label", "tag"), **WIDE).save(folder / "first")
    small.bundle(("mlm", "score", "span"), seed=1, **small.ALBERT).save(folder / "second")
    return folder


@pytest.fixture(scope="module")
def server(place):
    with running(str(place / "first"), str(place / "second"), "--precision", "fp32") as running_server:
        yield running_server


@pytest.fixture(scope="module")
def offline(place):
    return {name: load(str(place / name), precision="fp32") for name in ("first", "second")}


def near(a, b):
    np.testing.assert_allclose(np.asarray(a, np.float32), b, atol=2e-5)


def units_of(predictor, texts):
    return predictor.embed(texts, normalize=True)


def test_vectors_are_the_offline_ones(server, offline):
    told = server.post("/v1/embeddings", {"input": TEXTS, "model": "second"})
    assert told.status == 200 and told.json["model"] == "second" and told.json["object"] == "list"
    near([row["embedding"] for row in told.json["data"]], units_of(offline["second"], TEXTS))
    assert [row["index"] for row in told.json["data"]] == list(range(len(TEXTS)))
    tokens = sum(len(offline["second"].bundle.tokenizer.encode(text).ids) for text in TEXTS)
    assert told.json["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert {"wait", "tokenize", "compute", "total"} == {
        part.split(";")[0] for part in told.headers["server-timing"].split(", ")
    }
    one = server.post("/v1/embeddings", {"input": TEXTS[0], "encoding_format": "base64"})
    near(
        np.frombuffer(base64.b64decode(one.json["data"][0]["embedding"]), "<f4"),
        units_of(offline["first"], TEXTS[:1])[0],
    )
    units = np.array(server.post("/embed", {"inputs": TEXTS}).json)
    near(np.linalg.norm(units, axis=1), np.ones(len(TEXTS)))
    near(
        server.post("/embed", {"inputs": TEXTS, "normalize": False, "pooling": "cls"}).json,
        offline["first"].embed(TEXTS, pooling="cls"),
    )


def test_every_head_answers_as_it_does_offline(server, offline):
    first, second = offline["first"], offline["second"]

    def by(predictor, head):
        return Predictor(predictor.bundle, predictor.backend, head)

    labels = by(first, "label").predict(TEXTS)
    told = server.post("/v1/classify", {"inputs": TEXTS}).json
    assert told["model"] == "first" and [r["label"] for r in told["results"]] == [r["label"] for r in labels]
    ranked = server.post("/predict", {"inputs": TEXTS[0]}).json
    assert ranked[0]["label"] == labels[0]["label"] and [r["score"] for r in ranked] == sorted(
        (r["score"] for r in ranked), reverse=True
    )
    pair = server.post(
        "/predict", {"inputs": ["the cat", "a mat"], "raw_scores": False}
    ).json  # as its original takes it
    assert pair[0]["label"] == by(first, "label").predict(["the cat"], ["a mat"])[0]["label"]
    pairs = server.post("/predict", {"inputs": [["the cat", "a mat"], ["on", "sat"]]}).json
    assert [rows[0]["label"] for rows in pairs] == [
        r["label"] for r in by(first, "label").predict(["the cat", "on"], ["a mat", "sat"])
    ]
    scores = [r["score"] for r in by(second, "score").predict(["the cat"] * 3, TEXTS[:3])]
    reranked = server.post("/rerank", {"query": "the cat", "texts": TEXTS[:3], "return_text": True}).json
    assert [r["index"] for r in reranked] == sorted(range(3), key=lambda i: -scores[i])
    assert all(r["text"] == TEXTS[r["index"]] for r in reranked)
    assert server.post("/v1/tag", {"inputs": TEXTS}).json["results"] == by(first, "tag").predict(TEXTS)
    answer = server.post("/v1/answer", {"question": "the cat", "context": " ".join(TEXTS)}).json
    expected = by(second, "span").predict(["the cat"], [" ".join(TEXTS)], long="window")[0]
    assert answer["model"] == "second" and answer["results"][0]["answer"] == expected["answer"]
    filled = server.post("/v1/fill", {"inputs": "the [MASK] on a [MASK]", "top": 3}).json["results"][0]
    assert [[p["id"] for p in row] for row in filled] == [
        [p["id"] for p in row] for row in first.fill("the [MASK] on a [MASK]", top=3)
    ]


def test_forms_that_clients_of_text_embeddings_inference_send(server, offline):
    """``null`` for what is usual, and every field of theirs that has a meaning here."""
    usual = {"truncate": None, "truncation_direction": "Right"}
    near(server.post("/embed", {"inputs": "a cat", "normalize": None, "prompt_name": None, "dimensions": 32, **usual}).json,
         offline["first"].embed(["a cat"], normalize=True))  # fmt: skip
    first = offline["first"]
    (raw,) = Predictor(first.bundle, first.backend, "label").logits(["a cat"])
    told = server.post("/predict", {"inputs": "a cat", "raw_scores": True, **usual}).json
    labels = first.bundle.heads["label"].labels
    assert {row["label"]: row["score"] for row in told} == pytest.approx(
        dict(zip(labels, raw.tolist(), strict=True)), abs=1e-4
    )
    assert [row["score"] for row in told] == sorted((row["score"] for row in told), reverse=True)
    body = {"query": "a cat", "texts": ["a mat", "the dog"], **usual}
    assert server.post("/rerank", {**body, "raw_scores": False}).json == server.post("/rerank", body).json
    assert server.post("/tokenize", {"inputs": "a", "prompt_name": None}).status == 200


def test_pieces(server, offline):
    told = offline["first"].bundle.tokenizer.encode("the wanted cat")
    (pieces,) = server.post("/tokenize", {"inputs": "the wanted cat"}).json
    assert [p["id"] for p in pieces] == told.ids and [p["text"] for p in pieces] == told.tokens
    assert [(p["start"], p["stop"]) for p in pieces if not p["special"]] == [s for s in told.spans if s]
    (bare,) = server.post("/tokenize", {"inputs": "the wanted cat", "add_special_tokens": False}).json
    assert bare == [p for p in pieces if not p["special"]] and len(bare) == len(pieces) - 2


def test_side_by_side(server, offline):
    told = server.post("/v1/compare", {"text": "the [MASK] sat"}).json["models"]
    assert list(told) == ["first", "second"]
    for name, one in told.items():
        spec = offline[name].bundle.spec.encoder
        assert len(one["layers"]) == spec.num_hidden_layers and len(one["fills"]) == 1
        n = len(one["pieces"])
        attention = np.array(one["attention"])
        assert attention.shape == (spec.num_attention_heads, n, n) and np.allclose(attention.sum(-1), 1, atol=0.01)
        assert {"tokenize", "fill", "states"} <= set(one["seconds"]) and one["waited"] >= 0
    first = offline["first"]
    (label,) = Predictor(first.bundle, first.backend, "label").predict(["the [MASK] sat"])
    assert told["first"]["heads"]["label"]["label"] == label["label"]
    paired = server.post("/v1/compare", {"text": "the cat", "pair": "a mat", "models": ["second"], "layer": 0}).json[
        "models"
    ]
    a, b = offline["second"].embed(["the cat", "a mat"], normalize=True)
    assert paired["second"]["likeness"] == pytest.approx(float(a @ b), abs=1e-4) and paired["second"]["layer"] == 0
    assert "span" in paired["second"]["heads"]
    (scored,) = server.post("/v1/classify", {"inputs": "the cat", "pairs": "a mat", "model": "second"}).json["results"]
    assert paired["second"]["heads"]["score"] == scored  # of both texts, not of the first


def test_masks_of_both_texts_are_filled_in(server, offline):
    body = {"text": "The [MASK] sat.", "pair": "A [MASK] ran.", "models": ["first"]}
    told = server.post("/v1/compare", body).json["models"]["first"]
    encoding = offline["first"].bundle.tokenizer.encode(body["text"], body["pair"], masks=True)
    right = offline["first"].filled(encoding.ids, encoding.segments, 5)
    assert len(told["fills"]) == 2
    assert [[p["piece"] for p in each] for each in told["fills"]] == [[p["piece"] for p in each] for each in right]


def test_of_a_text_that_is_too_long_it_is_told_what_was_cut(server, offline):
    first = offline["first"]
    text = "the [MASK] " * first.longest + "[MASK]"
    pieces = len(first.bundle.tokenizer.encode(text, masks=True).ids)
    told = server.post("/v1/compare", {"text": text, "models": ["first"]}).json["models"]["first"]
    assert len(told["pieces"]) == first.longest and told["cut"] == pieces - first.longest
    assert len(told["fills"]) == sum(piece["text"] == "[MASK]" for piece in told["pieces"])
    assert server.post("/v1/compare", {"text": "the cat", "models": ["first"]}).json["models"]["first"]["cut"] == 0


def test_one_models_failure_does_not_hide_the_others(place, tmp_path):
    small.bundle(("mlm",), num_hidden_layers=4).save(tmp_path / "deep")
    folders = [str(place / "first"), str(tmp_path / "deep"), f"spoilt={not_finite(tmp_path)}"]
    with running(*folders, "--precision", "fp32") as server:
        told = server.post("/v1/compare", {"text": "a cat sat", "layer": 3}).json["models"]
        assert told["spoilt"]["error"]["code"] == 500 and "not finite" in told["spoilt"]["error"]["message"]
        assert told["first"]["attention"] is None and told["first"]["pieces"]  # it has two layers
        assert told["deep"]["layer"] == 3 and np.array(told["deep"]["attention"]).ndim == 3
        assert server.post("/v1/compare", {"text": "a", "layer": 2, "models": ["first"]}).status == 422
        assert server.post("/v1/compare", {"text": "a cat sat", "models": ["spoilt"]}).status == 500


def test_what_is_served(server):
    assert [m["id"] for m in server.get("/v1/models").json["data"]] == ["first", "second"]
    info = server.get("/info").json
    assert info["model_id"] == "first" and info["max_input_length"] == 130
    assert info["models"][1]["heads"] == {"mlm": "mlm", "score": "score", "span": "span"}
    assert server.get("/health").json == {"status": "ready"}
    assert server.get("/live").status == server.get("/ready").status == 200
    routes = {
        "/v1/embeddings",
        "/embed",
        "/predict",
        "/rerank",
        "/tokenize",
        "/v1/fill",
        "/v1/compare",
        "/admin/models",
    }
    assert routes <= set(server.get("/openapi.json").json["paths"])


def test_metrics(server):
    server.post("/embed", {"inputs": ["a", "the cat"]})
    told = server.get("/metrics").body.decode()
    rows = dict(line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#"))
    assert float(rows['halbert_requests_total{route="/embed",status="200"}']) >= 1
    assert float(rows['halbert_tokens_total{model="first"}']) > 0 and float(rows["halbert_queue_tokens"]) == 0
    assert float(rows['halbert_padding_total{model="first"}']) >= 1  # beside "the cat" "a" leaves room
    assert float(rows['halbert_batch_texts_sum{model="first"}']) >= 2
    assert float(rows['halbert_stage_seconds_count{stage="compute"}']) >= 1


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/embed", {"inputs": "the " * 200}, 413, "text 0 has 202 tokens; this model reads at most 130"),
        ("/v1/embeddings", {"input": ["a", "the " * 200]}, 413, "text 1 has"),
        ("/v1/embeddings", {"input": [*["the cat " * 60] * 19, "the " * 200]}, 413, "text 19 has"),
        ("/v1/embeddings", {"input": "a", "model": "third"}, 404, "no model 'third' is served; served: first, second"),
        ("/v1/embeddings", {"input": "a", "dimensions": 7}, 422, "dimensions is 7; first has 32"),
        ("/v1/embeddings", {"input": [1, 2]}, 422, "input: token ids are another tokenizer's; send texts"),
        ("/v1/embeddings", {"input": [[1, 2], [3]]}, 422, "input: token ids are another tokenizer's; send texts"),
        ("/embed", {"inputs": "a", "dimensions": 7}, 422, "dimensions is 7; first has 32"),
        ("/embed", {"inputs": "a", "truncation_direction": "Left"}, 422, "truncation_direction"),
        ("/v1/embeddings", {"input": []}, 422, "input"),
        ("/v1/embeddings", {"inputs": "a"}, 422, "input"),
        ("/v1/embeddings", {"input": "a", "inptu": 1}, 422, "inptu"),
        ("/v1/fill", {"inputs": "no mask"}, 422, "MASK"),
        ("/v1/tag", {"inputs": "a", "model": "second"}, 422, "has no head of kind tag"),
        ("/predict", {"inputs": ["a", ["b", "c"]]}, 422, "do not go together"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, "a list of two texts is a pair"),
        ("/v1/classify", {"inputs": ["a", "b"], "pairs": ["c"]}, 422, "1 for 2 inputs"),
        ("/v1/compare", {"text": "a", "layer": 9}, 422, "layer"),
        ("/v1/compare", {"text": "a", "layer": 150}, 422, "layer"),
        ("/v1/compare", {"text": "a", "precision": "int8"}, 422, "first: cannot be computed in int8 here, only in fp32"),
        ("/v1/compare", {"text": "a", "precision": "fp64"}, 422, "precision"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered(server, path, body, status, message):
    told = server.post(path, body)
    assert told.status == status and message in told.message, told.body
    assert "Traceback" not in told.body.decode() and set(told.json) == {"error"}


def test_one_bad_text_does_not_spoil_what_was_computed_with_it(server, offline):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        bodies = [{"inputs": "the " * 200 if i % 4 == 0 else TEXTS[i % 12], "normalize": False} for i in range(48)]
        replies = list(pool.map(lambda body: server.post("/embed", body), bodies))
    for i, reply in enumerate(replies):
        if i % 4 == 0:
            assert reply.status == 413 and "text 0" in reply.message
        else:
            near(reply.json[0], offline["first"].embed([TEXTS[i % 12]])[0])


def test_answers_do_not_wait_to_be_acknowledged(server):
    """On a kept connection, whose client has nothing to say meanwhile: 40 ms each, were the socket not told."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    times = []
    for _ in range(30):
        began = time.perf_counter()
        connection.request("POST", "/embed", b'{"inputs": "the cat"}', {"Content-Type": "application/json"})
        assert len(connection.getresponse().read()) > 100
        times.append(time.perf_counter() - began)
    connection.close()
    assert sorted(times)[5] < 0.03


def not_finite(place):
    """A model that one piece of its vocabulary spoils, "sat"."""
    bundle = small.bundle(("mlm",), **WIDE)
    spoilt = bundle.tokenizer.pieces("sat")[0].id
    bundle.arrays["encoder.embeddings.piece.weight"][spoilt] = 3e38  # whose sum is no number any more
    return bundle.save(place / "model")


def test_what_is_not_finite_is_never_an_answer(tmp_path):
    """One piece of the vocabulary spoils every text it is in: that is a 500 with the text's number; others are answered."""
    with running(str(not_finite(tmp_path)), "--precision", "fp32") as server:
        for path, body in (
            ("/embed", {"inputs": ["the cat", "a cat sat"]}), ("/v1/embeddings", {"input": ["the cat", "a cat sat"]}),
            ("/v1/compare", {"text": "a cat sat"}), ("/v1/fill", {"inputs": "a [MASK] sat"}),
        ):  # fmt: skip
            told = server.post(path, body)
            assert told.status == 500 and "not finite" in told.message, (path, told.body[:300])
            assert "sat" not in told.body.decode() and b"NaN" not in told.body
        assert server.post("/embed", {"inputs": ["the cat", "a mat"]}).status == 200
        assert server.post("/v1/compare", {"text": "a cat"}).status == 200


def test_of_a_large_request_the_text_is_named_that_failed(tmp_path):
    """Parts of it are computed by themselves, and their texts are counted from its beginning."""
    with running(str(not_finite(tmp_path)), "--precision", "fp32") as server:
        texts = ["the cat"] * 1900
        texts[1500] = "a cat sat"
        reply = server.post("/v1/embeddings", {"input": texts})
        assert reply.status == 500 and reply.message.startswith("text 1500: ")


def test_large_requests_are_cut_and_put_together_again(server, offline):
    texts = [f"{TEXTS[i % 12]} {TEXTS[(i * 7) % 12]}" for i in range(600)]
    near(server.post("/embed", {"inputs": texts, "normalize": False}).json, offline["first"].embed(texts))


def test_truncation_is_asked_for(server, offline):
    told = server.post("/embed", {"inputs": "the cat " * 200, "truncate": True, "normalize": False})
    near(told.json, offline["first"].embed(["the cat " * 200]))


def test_a_killed_worker_comes_back_and_nothing_is_lost(place, offline):
    with running(str(place / "first"), "--precision", "fp32") as server:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asked = [
                pool.submit(server.post, "/embed", {"inputs": [TEXTS[i % 12]] * 40, "normalize": False})
                for i in range(60)
            ]
            for _ in range(2):
                time.sleep(0.3)
                killed = server.worker()
                os.kill(killed, signal.SIGKILL)
                until = time.monotonic() + 60  # on a busy machine the next one takes a while
                while time.monotonic() < until:
                    with contextlib.suppress(IndexError, OSError):
                        if server.worker() != killed:
                            break
                    time.sleep(0.05)
                time.sleep(1.2)
            for i, future in enumerate(asked):
                reply = future.result()
                assert reply.status == 200, reply.body
                near(reply.json[39], offline["first"].embed([TEXTS[i % 12]])[0])
        assert "halbert_worker_restarts_total 2.0" in server.get("/metrics").body.decode()


def test_at_the_end_what_was_accepted_is_answered(place):
    with running(str(place / "first"), "--precision", "fp32") as server:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(server.post, "/embed", {"inputs": TEXTS * 100}) for _ in range(8)]
            time.sleep(0.3)
            worker = server.worker()
            assert server.stop() == 0
            statuses = [future.result().status for future in asked]
        assert set(statuses) <= {200, 503} and 200 in statuses
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_overload_is_refused_at_once_and_says_when_to_come_back(place):
    with running(
        str(place / "first"), "--precision", "fp32", "--max-queue-tokens", "1500", "--origin", "http://page.there"
    ) as server:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:

            def ask(_):
                began = time.perf_counter()
                reply = server.post("/embed", {"inputs": TEXTS * 15}, Origin="http://page.there")
                return reply, time.perf_counter() - began

            os.kill(server.worker(), signal.SIGSTOP)  # as if it were slow: the queue fills, however fast the machine
            try:
                large = pool.submit(server.post, "/embed", {"inputs": TEXTS * 170})  # what comes first always has room
                while "halbert_queue_tokens 0.0" in (told := server.get("/metrics").body.decode()):
                    time.sleep(0.05)
                assert float(re.search(r"^halbert_queue_tokens (.*)$", told, re.MULTILINE)[1]) > 1500
                asked = [pool.submit(ask, i) for i in range(96)]
                concurrent.futures.wait(asked, return_when=concurrent.futures.FIRST_COMPLETED)
                with server.connect() as early:  # is refused without its body
                    early.settimeout(20)
                    early.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
                    assert b" 429 " in early.recv(4096)
            finally:
                os.kill(server.worker(), signal.SIGCONT)
            replies = [(large.result(), 0.0), *(future.result() for future in asked)]
        refused = [(reply, seconds) for reply, seconds in replies if reply.status == 429]
        assert {reply.status for reply, _ in replies} == {200, 429} and refused
        for reply, _ in refused:
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.headers["access-control-allow-origin"] == "http://page.there"
            queue = reply.json["queue"]
            assert queue["most_tokens"] == 1500 and queue["tokens"] > 0 and reply.json["error"]["type"] == "overloaded"
        assert server.post("/embed", {"inputs": "a"}).status == 200


def test_deadlines(server):
    told = server.post("/embed", {"inputs": TEXTS * 150}, halbert_timeout="0.001")
    assert told.status == 504 and "0.001 s" in told.message
    for wrong in ("soon", "-1", "nan", "1e9"):
        assert server.post("/embed", {"inputs": "a"}, halbert_timeout=wrong).status == 422
    assert server.post("/embed", {"inputs": "a"}, halbert_timeout="30").status == 200


def test_keys_and_a_change_of_models(place, offline):
    environment = {"HALBERT_API_KEYS": "plain-key-1,admin:chief-key-1"}
    with running(f"main={place / 'first'}", "--precision", "fp32", "--rate", "500", environment=environment) as server:
        plain, chief = ({"Authorization": f"Bearer {key}"} for key in ("plain-key-1", "chief-key-1"))
        assert server.get("/health").status == 200
        for wrong in ({}, {"Authorization": "Bearer plain-key-2"}, {"Authorization": "plain-key-1"}):
            assert server.post("/embed", {"inputs": "a"}, **wrong).status == 401
        assert server.post("/embed", {"inputs": "a"}, **plain).status == 200
        swap = {"name": "main", "model": str(place / "second")}
        assert server.post("/admin/models", swap, **plain).status == 401
        bad = server.post("/admin/models", {"name": "main", "model": str(place / "nowhere")}, **chief)
        assert bad.status == 422 and "nowhere" in bad.message
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asked = [
                pool.submit(server.post, "/embed", {"inputs": TEXTS, "normalize": False}, **plain) for _ in range(60)
            ]
            assert server.post("/admin/models", swap, **chief).json == {"models": ["main"]}
            widths = [len(future.result().json[0]) for future in asked]
        assert set(widths) <= {32, 12}
        near(server.post("/embed", {"inputs": TEXTS, "normalize": False}, **plain).json, offline["second"].embed(TEXTS))
        # The new model is served by the next worker too.
        os.kill(server.worker(), signal.SIGKILL)
        time.sleep(0.2)
        near(server.post("/embed", {"inputs": TEXTS, "normalize": False}, **plain).json, offline["second"].embed(TEXTS))
        assert not any("key-1" in line for line in server.lines)


def test_a_request_is_answered_by_one_model_also_when_another_takes_its_place(place, offline):
    """A large request is computed in parts, between which models may change."""
    texts = [f"the cat sat on the mat {'and the dog ran ' * 5}{i % 7}" for i in range(400)]
    environment = {"HALBERT_API_KEYS": "admin:chief-key-1"}
    with running(f"main={place / 'first'}", "--precision", "fp32", environment=environment) as server:
        chief = {"Authorization": "Bearer chief-key-1"}
        body = {"model": "main", "inputs": texts, "normalize": False}
        swapped = threading.Event()

        def asking():
            found = []
            while not swapped.is_set():
                found.append(server.post("/embed", body, **chief))
            return found

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(asking) for _ in range(3)]
            try:
                for folder in ("second", "first", "second", "first", "second"):
                    swap = {"name": "main", "model": str(place / folder)}
                    assert server.post("/admin/models", swap, **chief).status == 200
            finally:
                swapped.set()
            replies = [reply for future in asked for reply in future.result()]
            asked_after = server.post("/embed", {"inputs": "a cat", "normalize": False}, **chief)
        assert {reply.status for reply in replies} == {200}
        widths = [{len(row) for row in reply.json} for reply in replies]
        assert all(len(each) == 1 for each in widths) and set().union(*widths) == {32, 12}
        for reply in replies:
            right = offline["first" if len(reply.json[0]) == 32 else "second"].embed(texts[-5:])
            near(reply.json[-5:], right)
        assert len(asked_after.json[0]) == 12


def test_the_log_has_no_text(server):
    server.post("/embed", {"inputs": "unwanted secret"}, x_request_id="my-id.7")
    line = json.loads(server.until('"my-id.7"'))
    assert line["path"] == "/embed" and line["status"] == 200 and line["ms"] > 0
    assert not any("secret" in each for each in server.lines)
    assert server.post("/embed", {"inputs": "a"}, x_request_id="a b\tc").headers["x-request-id"] != "a b\tc"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["{place}/nowhere"], "nowhere"), (["{place}/first", "--precision", "int8"], "has no int8 engine"),
     (["{place}/first", "--host", "300.1.1.1"], "300.1.1.1:0: cannot be listened at")],
)  # fmt: skip
def test_what_cannot_be_served_is_one_line(place, arguments, words):
    told = [argument.format(place=place) for argument in arguments]
    command = [sys.executable, "-m", "halbert", "serve", *told, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1].startswith("halbert: ")


def test_a_worker_whose_server_was_killed_goes_too(place):
    with running(str(place / "first"), "--precision", "fp32") as server:
        worker = server.worker()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
        ends = time.monotonic() + 10
        while Path(f"/proc/{worker}/stat").exists() and Path(f"/proc/{worker}/stat").read_text().split()[2] != "Z":
            assert time.monotonic() < ends
            time.sleep(0.05)
