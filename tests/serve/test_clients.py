"""The clients people have: OpenAI's own, unchanged; and requests made up from the OpenAPI document."""

from __future__ import annotations

import hypothesis
import numpy as np
import openai
import pytest
import schemathesis

from halbert.run.predictor import load
from tests import small
from tests.serve.serving import running

TEXTS = [text for text, _ in small.rows(6)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    small.bundle(("mlm", "label", "score", "tag", "span")).save(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def server(place):
    environment = {"HALBERT_API_KEYS": "some-key-1"}
    with running(str(place), "--precision", "fp32", environment=environment) as running_server:
        yield running_server


def test_the_openai_client(server, place):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="some-key-1", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["model"]
        found = client.embeddings.create(model="model", input=TEXTS)  # in base64, as it asks by itself
        expected = load(str(place), precision="fp32").embed(TEXTS)
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


def test_requests_made_up_from_the_document(server):
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None,
                             suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
        @hypothesis.given(case=operation.as_strategy())
        def ask(case):
            nonlocal asked
            case.headers = {**dict(case.headers or {}), "Authorization": "Bearer some-key-1"}
            response = case.call()
            asked += 1
            assert response.status_code < 500, (case.operation.label, response.text)

        ask()
    assert asked > 100
