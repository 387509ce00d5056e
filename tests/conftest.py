from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests import tiny

# The tests never reach for the network, and tiny products are slower on many threads than on few.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # whatever the process that started this one has: threads wait for each other
else:
    os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["HALBERT_CACHE"] = ""  # nothing of a test stays behind

settings.register_profile("halbert", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("halbert")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    place = ROOT.parent / "shared" / "data"
    if not place.is_dir():
        pytest.skip("the shared data folder is not here")
    return place


@pytest.fixture(scope="session")
def tiny_tokenizer():
    return tiny.tokenizer()


@pytest.fixture(scope="session")
def make_bundle():
    return tiny.bundle
