"""The product: subjects and probes, interleaved, to results, a verdict and a page.

``halbert.compare`` is this package and the function of the same name at once: calling it is calling
:func:`halbert.compare.audit.compare`.
"""

from __future__ import annotations

import sys
import types
from typing import Any


class _Package(types.ModuleType):
    def __call__(self, *models: Any, **options: Any) -> dict[str, Any]:
        """See :func:`halbert.compare.audit.compare`."""
        from halbert.compare.audit import compare

        return compare(*models, **options)


sys.modules[__name__].__class__ = _Package
