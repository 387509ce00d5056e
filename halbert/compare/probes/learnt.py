"""What probes of a model's learning have in common: drawn weights have nothing to show."""

from __future__ import annotations

from typing import Any

from halbert.compare.subject import Subject


class Learnt:
    """Looked at once, without preparation; models with drawn weights are refused."""

    rounds = 1
    drawn = "the weights are random"  # why those say nothing

    def refuse(self, subject: Subject) -> str | None:
        """Why a subject cannot be measured, or ``None``."""
        return self.drawn if subject.random else None

    def prepare(self, subject: Subject) -> Any:
        """Nothing."""
