from __future__ import annotations

import numpy as np
import pytest

from halbert.data.instances import IGNORED, Places, Shape, assemble
from halbert.data.pairs import Pairs
from halbert.spec import PretrainSpec
from tests.data import made

# Two instances: one pair, one text; places 10.. and 20.. of the source.
PAIRS = Pairs(*np.array([[10, 13, 20, 22, 1], [30, 34, 34, 34, -1]]).T)
SOURCE = np.arange(100, dtype=np.uint16) + 10


def batch(shape, places=None, spec=PretrainSpec(), source=SOURCE):  # noqa: B008
    return assemble(source, PAIRS, places, shape, made.words(), spec, np.random.default_rng(0))


def revealed(found) -> np.ndarray:
    whole = found.ids.reshape(-1).copy()
    real = found.labels != IGNORED
    whole[found.positions[real]] = found.labels[real]
    return whole.reshape(found.ids.shape)


def test_rows_written_out():
    special = made.words().special_ids
    c, s, p = (special[name] for name in ("cls", "sep", "pad"))
    found = batch(Shape(3, 10, 2))
    assert revealed(found).tolist() == [
        [c, 20, 21, 22, s, 30, 31, s, p, p], [c, 40, 41, 42, 43, s, p, p, p, p], [p] * 10,
    ]  # fmt: skip
    assert found.mask.tolist() == [[1] * 8 + [0] * 2, [1] * 6 + [0] * 4, [0] * 10]
    assert found.segments.tolist() == [[0] * 5 + [1] * 3 + [0] * 2, [0] * 10, [0] * 10]
    assert found.pair_labels.tolist() == [1, -1, -1]
    assert found.masked == 2 and found.labels.tolist()[2:] == [IGNORED] * 4 and found.positions.tolist()[2:] == [0] * 4
    assert found.position_ids is None and found.sequence is None and found.starts is None
    assert all(field.dtype == np.int64 for field in found[:6])


def test_packed_rows_written_out():
    places = Places(np.array([1, 1]), np.array([0, 8]), np.array([1, 2]))
    found = batch(Shape(2, 15, 3, 4), places)
    special = made.words().special_ids
    c, s, p = (special[name] for name in ("cls", "sep", "pad"))
    assert revealed(found).tolist() == [[p] * 15, [c, 20, 21, 22, s, 30, 31, s, c, 40, 41, 42, 43, s, p]]
    assert found.sequence.tolist() == [[0] * 15, [1] * 8 + [2] * 6 + [0]]
    assert found.position_ids.tolist() == [[0] * 15, [*range(8), *range(6), 0]]
    assert found.segments.tolist() == [[0] * 15, [0] * 5 + [1] * 3 + [0] * 7]
    assert found.starts.tolist() == [15, 23, 0, 0, 0, 0, 0, 0]
    assert found.pair_labels.tolist() == [1, -1, -1, -1, -1, -1, -1, -1]


def test_without_a_fixed_shape_there_is_nothing_to_fill():
    found = batch(Shape(2, 8, 2, fixed=False))
    assert len(found.positions) == found.masked == 2 and len(found.pair_labels) == 2
    packed = batch(Shape(1, 14, 2, 2, fixed=False), Places(np.array([0, 0]), np.array([0, 8]), np.array([1, 2])))
    assert packed.starts.tolist() == [0, 8] and packed.pair_labels.tolist() == [1, -1]


@pytest.mark.parametrize("masking", ["piece", "word", "ngram"])
def test_special_ids_in_the_text_are_never_hidden(masking):
    special = made.words().special_ids
    source = SOURCE.copy()
    source[[10, 12, 21, 31, 32, 33]] = [special[name] for name in ("cls", "sep", "pad", "sep", "cls", "pad")]
    spec = PretrainSpec(masking=masking, masking_prob=0.9)
    found = batch(Shape(2, 8, 8), spec=spec, source=source)
    hidden = found.positions[found.labels != IGNORED]
    assert set(hidden.tolist()) <= {2, 5, 9} and len(hidden) >= 2
