"""Batches that are computed without their padding."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.data.batches import Rows
from halbert.run.backend import Favoured
from halbert.run.batching import in_batches, share_out
from tests import tiny

SIZES = (32, 64, 128, 256)
lengths_of_texts = st.lists(st.integers(1, 500), min_size=1, max_size=300).map(np.array)


@given(lengths_of_texts, st.integers(1, 8))
def test_every_text_once_longest_first_and_no_batch_too_large(lengths, together):
    favoured = Favoured(256, sizes=SIZES, together=together)
    groups = list(share_out(lengths, favoured))
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    longest = [lengths[group].max() for group in groups]
    assert longest == sorted(longest, reverse=True)
    for group in groups:
        assert len(group) == 1 or lengths[group].sum() <= 256
        assert len(group) == 1 or len(group) * lengths[group].max() <= 2 * 256  # what attention sees


def test_a_few_texts_are_shared_out_and_many_fill_their_batches():
    favoured = Favoured(1024, sizes=(64, 128, 256, 512, 1024), together=2)
    few = list(share_out(np.full(32, 16), favoured))
    assert [len(group) for group in few] == [16, 16]
    many = list(share_out(np.full(1000, 16), favoured))
    assert {len(group) for group in many[:-2]} == {64} and sum(map(len, many)) == 1000
    (one,) = share_out(np.array([5, 6]), favoured)  # too little for two
    assert one.tolist() == [1, 0]


def test_long_and_short_texts_do_not_share_attention():
    """One long text among a hundred short ones: all of them in one batch would be 101 x 500 places."""
    groups = list(share_out(np.array([500, *[5] * 100]), Favoured(1024, sizes=(256, 512, 1024), together=1)))
    assert max(len(group) * (500 if 0 in group else 5) for group in groups) <= 2 * 1024


@pytest.mark.parametrize(("pieces", "places"), [(1, 32), (32, 32), (33, 64), (256, 256), (257, 512), (700, 768)])
def test_sizes(pieces, places):
    assert Favoured(1024, sizes=SIZES).size(pieces) == places


@pytest.fixture(scope="module")
def backend():
    openvino_backend = pytest.importorskip("halbert.run.openvino_backend")
    return openvino_backend.OpenVINOBackend(tiny.bundle(tiny.encoder(num_hidden_layers=3), {}), "fp32")


class TestEngine:
    """OpenVINO's, in float32: the packed graph against the padded one."""

    @given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(0, 99))
    def test_states_are_those_of_the_padded_batch(self, backend, lengths, seed):
        draw = np.random.default_rng(seed)
        encoded = [(draw.integers(5, 101, n).tolist(), draw.integers(0, 2, n).tolist()) for n in lengths]
        for _, batch in in_batches(encoded, 0, backend.favoured, 37):
            (found,) = backend.stream([batch], ["last", "first"])
            expected = backend.forward(batch, ["last", "first"])
            real = batch.mask.astype(bool)
            np.testing.assert_allclose(found["last"][real], expected["last"][real], atol=2e-5)
            np.testing.assert_allclose(found["first"], expected["first"], atol=2e-5)

    def test_masks_with_holes(self, backend):
        draw = np.random.default_rng(3)
        ids = draw.integers(5, 101, (4, 12))
        batch = Rows(ids, (draw.random((4, 12)) < 0.7).astype(np.int64) | (np.arange(12) == 0), np.zeros_like(ids))
        (found,) = backend.stream([batch], ["last"])
        real = batch.mask.astype(bool)
        assert not real.all()
        np.testing.assert_allclose(found["last"][real], backend.forward(batch, ["last"])["last"][real], atol=2e-5)

    def test_a_text_does_not_see_its_neighbours(self, backend):
        """And would, if the places of attention were mistaken: then the check of all states above fails."""
        from halbert.run import openvino_backend

        draw = np.random.default_rng(4)
        batch = Rows(draw.integers(5, 101, (5, 9)), np.ones((5, 9), np.int64), np.zeros((5, 9), np.int64))
        expected = backend.forward(batch, ["last"])["last"]
        inputs = openvino_backend.packed(batch, backend.favoured)
        compiled = backend.compiled(["last"], many=True)
        np.testing.assert_allclose(compiled(inputs)["last"], expected, atol=2e-5)
        for name in ("grid", "back", "positions"):
            wrong = {**inputs, name: np.roll(inputs[name], 1, axis=-1)}
            assert np.abs(compiled(wrong)["last"] - expected).max() > 1e-2, name


@pytest.mark.parametrize("together", [1, 2, None])
def test_places_are_those_that_were_computed(backend, together):
    """Several texts are never padded, also where they are one batch; a text by itself is, up to the next width."""
    from halbert.run.predictor import Predictor

    predictor = Predictor(backend.bundle, backend)
    predictor.together = together
    with mock.patch.object(backend, "forward", side_effect=AssertionError):
        predictor.embed(["the cat", "the cat sat on a mat"])
    assert {batch.places for batch in predictor.batches} <= set(backend.favoured.sizes)
    assert sum(batch.rows for batch in predictor.batches) == 2
    with mock.patch.object(backend, "stream", side_effect=AssertionError):
        predictor.embed(["the cat"])
    assert [(b.rows, b.places, b.pieces) for b in predictor.batches] == [(1, 8, 4)]
