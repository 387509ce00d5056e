from __future__ import annotations

import pytest

from tests.parity.checks import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_same_as_transformers(name):
    """Each check asserts; see there for what it compares."""
    assert CHECKS[name]() is None
