"""The arithmetic of docs/scale.md."""

from __future__ import annotations

import pytest

from benchmarks.scale import MODELS, days, exchange, predict, sent, simulate, work
from halbert import presets


def test_one_worker_is_a_sum_and_many_are_bounded():
    one = simulate([0.1] * 10, [1.0] * 10, [0.01] * 10, 1, 2)
    assert one == pytest.approx(0.1 + 10 + 0.01)
    assert simulate([0.1] * 10, [1.0] * 10, [0.01] * 10, 10, 2) == pytest.approx(
        1.0 + 1.0 + 0.01
    )  # the last is read at 1.0
    assert simulate([1.0] * 10, [0.1] * 10, [0.01] * 10, 4, 2) == pytest.approx(10 + 0.1 + 0.01)  # reading is the limit
    assert simulate([0.1] * 10, [0.1] * 10, [1.0] * 10, 4, 2) == pytest.approx(0.2 + 10)  # writing is
    two = simulate([0.01] * 100, [1.0] * 100, [0.01] * 100, 2, 2)
    assert 50 < two < 51.1


def test_back_pressure():
    """What is read and not written is bounded: while one block takes long, reading stops, and is missed afterwards."""
    working = [5.0] + [0.1] * 19
    free = simulate([0.5] * 20, working, [0.0] * 20, 2, 100)
    held = simulate([0.5] * 20, working, [0.0] * 20, 2, 0)
    assert free == pytest.approx(20 * 0.5 + 0.1)
    assert held > free + 3  # of five seconds it could have used all but what two blocks take


def test_gradients_are_sent_once_however_many_layers_use_them():
    sizes = {name: sent(presets.get(name).spec.encoder) for name in MODELS}
    assert 9 < sizes["bert-base-uncased"] / sizes["albert-base-v2"] < 10
    assert 18 < sizes["bert-large-uncased"] / sizes["albert-large-v2"] < 20
    spec = presets.get("bert-base-uncased").spec.encoder
    assert exchange(spec, 1) == 0 and exchange(spec, 8) > exchange(spec, 2) > 0
    assert work(spec, 512) > 4 * work(spec, 128)
    assert days("bert-base-uncased", 2)[0] < days("bert-base-uncased", 1)[0]


def test_nodes_of_one_machine_share_its_cores():
    times = {"blocks": 10, "read": 0.01, "work": 1.0, "write": 0.01, "start": 3.0, "ahead": 2, "machine": {"cores": 2}}
    one, two, three = (predict(times, n) for n in (1, 2, 3))
    assert one == pytest.approx(3 + 10.02) and two == pytest.approx(3 + 5.1, abs=0.1)
    assert three == pytest.approx(3 + 10 * 1.02 / 2)
    assert predict({**times, "machine": {"cores": 4}}, 3) < three - 1
