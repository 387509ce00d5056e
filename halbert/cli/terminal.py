"""Progress on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

BESIDE = 58  # columns for what stands beside the bar


class TwoLines(Progress):
    """A bar with its step and what is left, and below it what was done last, for which there is no room beside it."""

    def __init__(self, console: Console) -> None:
        bar = BarColumn(max(3, min(40, console.width - BESIDE)))
        columns = (TextColumn("{task.description}"), bar, MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"))
        super().__init__(*columns, TimeRemainingColumn(), console=console)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars, and what they say."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if detail := task.fields.get("detail"):
                yield Padding(Text(detail, style="dim"), (0, 0, 0, 2))
