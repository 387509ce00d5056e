"""The record of a run: one JSON object a line, TensorBoard events beside it, and a callback for whoever shows progress."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from halbert.errors import HalbertError

Report = Callable[[dict[str, Any]], None]


class Journal:
    """Keeps entries, hands each to ``report``, and appends it to ``path`` and to TensorBoard's ``events`` where given."""

    def __init__(self, path: Path | None = None, report: Report | None = None, events: Path | None = None) -> None:
        self.path, self.report, self.events = path, report, events
        self.entries: list[dict[str, Any]] = []
        self._writer: Any = None

    def write(self, entry: dict[str, Any], **timing: float) -> None:
        """Record one entry; ``timing`` is what would be another in the same run on another day."""
        entry = {name: _number(value) for name, value in {**entry, **timing}.items()}
        self.entries.append(entry)
        try:
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(entry) + "\n")
            if self.events is not None:
                self._draw(entry)
        except OSError as error:  # a full disk, mostly
            raise HalbertError(
                f"{self.path or self.events}: cannot be written: {error.strerror or error}; when that is mended, --resume goes "
                "on from the last checkpoint, if there is one"
            ) from None
        if self.report is not None:
            self.report(entry)

    def kept(self) -> int:
        """Bytes written so far, which are on the disk now: a checkpoint says how many they are."""
        if self.path is None or not self.path.exists():
            return 0
        with self.path.open("rb") as stream:
            os.fsync(stream.fileno())
            return os.fstat(stream.fileno()).st_size

    def rewind(self, size: int) -> None:
        """Forget what was written after ``size`` bytes: those steps are taken again."""
        if self.path is None or not self.path.exists():
            return
        with self.path.open("r+b") as stream:
            whole = stream.read(size)
            whole = whole[: whole.rfind(b"\n") + 1]  # without a line that a loss of power broke off
            stream.truncate(len(whole))
        self.entries = [json.loads(line, parse_constant=lambda _: None) for line in whole.decode().splitlines()]

    def _draw(self, entry: dict[str, Any]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # Events of a run that was killed after its last checkpoint are hidden from there on.
            self._writer = SummaryWriter(str(self.events), purge_step=entry["step"])
        for name, value in entry.items():
            if isinstance(value, int | float) and name not in ("step", "steps"):
                self._writer.add_scalar(name, value, entry["step"])
        self._writer.flush()

    def close(self) -> None:
        """Finish the events."""
        if self._writer is not None:
            self._writer.close()


def _number(value: Any) -> Any:
    """What JSON has a word for: of fp16 a step that overflows has a norm that is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def thinned(entries: list[dict[str, Any]], most: int = 200) -> list[dict[str, Any]]:
    """At most so many of the entries, evenly, the last among them."""
    if len(entries) <= most:
        return entries
    return [entries[(i + 1) * len(entries) // most - 1] for i in range(most)]
