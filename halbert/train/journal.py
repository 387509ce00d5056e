"""The record of a run: one JSON object a line, and a callback for whoever shows progress."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Report = Callable[[dict[str, Any]], None]


class Journal:
    """Appends entries to ``journal.jsonl`` (when a path is given), keeps them, and hands each to ``report``."""

    def __init__(self, path: Path | None = None, report: Report | None = None) -> None:
        self.path = path
        self.report = report
        self.entries: list[dict[str, Any]] = []

    def write(self, entry: dict[str, Any]) -> None:
        """Record one entry."""
        self.entries.append(entry)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
        if self.report is not None:
            self.report(entry)
