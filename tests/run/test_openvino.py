"""How the engine for CPUs goes about its batches; what it answers is in ``tests/contracts``."""

from __future__ import annotations

import numpy as np

from halbert.data.batches import Rows
from halbert.run.openvino_backend import OpenVINOBackend
from tests import tiny


def made(rows):
    ids = np.random.default_rng(0).integers(5, 90, (rows, 17))
    return Rows(ids, np.ones_like(ids), np.zeros_like(ids))


def test_the_first_batch_of_a_size_has_nothing_beside_it(monkeypatch):
    """And the others have, as many as there are streams."""
    told, wanted = [], OpenVINOBackend._request

    class Watched:
        def __init__(self, own):
            self.own, self.size, self.get_tensor = own, 0, own.get_tensor

        def start_async(self, batch):
            self.size = len(batch["ids"])
            told.append(("begun", id(self), self.size))
            self.own.start_async(batch)

        def wait(self):
            self.own.wait()
            told.append(("done", id(self), self.size))

    def watched(self, compiled):
        found = wanted(self, compiled)
        return found if isinstance(found, Watched) else Watched(found)

    monkeypatch.setattr(OpenVINOBackend, "_request", watched)
    backend = OpenVINOBackend(tiny.bundle(), "fp32")
    for _ in range(2):  # the second time all sizes are known
        sizes = [4] * 4 + [1] * 4
        found = list(backend.stream((made(rows) for rows in sizes), ["last"]))
        assert [len(each["last"]) for each in found] == sizes
    under, met, most = set(), set(), 0
    for number, (what, request, size) in enumerate(told):
        if what == "done":
            under.discard(request)
            continue
        if size not in met:
            assert not under and told[number + 1] == ("done", request, size)
        met.add(size)
        under.add(request)
        most = max(most, len(under))
    assert len(met) == 2
    assert most == backend.compiled(["last"], many=True).get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
