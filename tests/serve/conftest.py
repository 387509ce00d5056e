from __future__ import annotations

from tests.compare.conftest import browser

__all__ = ["browser"]
