"""What goes back to a client as JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response


class Json(Response):
    """A body as JSON. Vectors are most of what is sent, and msgspec writes them many times as fast as the standard library."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return msgspec.json.encode(content)
