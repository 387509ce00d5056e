"""The clients people have: OpenAI's own, unchanged; and requests made up from the OpenAPI document."""

from __future__ import annotations

import collections
import contextlib

import hypothesis
import numpy as np
import openai
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from halbert.run.predictor import load
from tests import small
from tests.serve.serving import running

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,

]  # fmt: skip
TEXTS = [text for text, _ in small.rows(6)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    small.bundle(("mlm", "label", "score", "tag", "span")).save(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def server(place):
    environment = {"HALBERT_API_KEYS": "some-key-1,admin:chief-key-1"}
    with running(str(place), "--precision", "fp32", environment=environment) as running_server:
        yield running_server


def test_the_openai_client(server, place):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="some-key-1", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["model"]
        assert client.models.retrieve("model").id == "model"
        with pytest.raises(openai.NotFoundError, match="no model 'other' is served"):
            client.models.retrieve("other")
        found = client.embeddings.create(model="model", input=TEXTS)  # in base64, as it asks by itself
        expected = load(str(place), precision="fp32").embed(TEXTS, normalize=True)
        np.testing.assert_allclose([row.embedding for row in found.data], expected, atol=2e-5)
        plain = client.embeddings.create(model="model", input=TEXTS[0], encoding_format="float")
        np.testing.assert_allclose(plain.data[0].embedding, expected[0], atol=2e-5)
        assert found.usage.total_tokens > 0
        with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
            client.embeddings.create(model="gpt", input="a")
        with pytest.raises(openai.UnprocessableEntityError, match="dimensions"):
            client.embeddings.create(model="model", input="a", dimensions=5)
        stranger = client.with_options(api_key="none")
        with pytest.raises(openai.AuthenticationError):
            stranger.embeddings.create(model="model", input="a")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_requests_made_up_from_the_document(server, mode):
    """Right ones and wrong ones, also to the route that wants an admin's key: every answer is one the document names."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    seen = collections.Counter()
    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None,
                             suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            case.headers = {**dict(case.headers or {}), "Authorization": "Bearer chief-key-1"}
            if mode is GenerationMode.POSITIVE:
                case.headers.pop("halbert-timeout", None)  # of which most are too short
            response = case.call()
            seen[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing of a GET without parameters is wrong
            ask()
    assert seen.total() > 100 and max(seen) < 500
    assert seen[422 if mode is GenerationMode.NEGATIVE else 200] > 20, seen
