"""The task every machine has: which library does a paragraph of documentation belong to?"""

from __future__ import annotations

from halbert.compare.plan import Progress, TaskData
from halbert.data.documentation import Paragraph, read_documentation, which_library

NAME = "which-library"
WHERE = "package documentation"
ROWS = 1000  # to learn from


def read_task(libraries: tuple[str, ...], progress: Progress) -> tuple[list[Paragraph], TaskData]:
    """All paragraphs, and the task made of them."""
    with progress.task("Reading documentation", len(libraries)) as step:
        paragraphs = read_documentation(libraries, progress=step)
    made = which_library(paragraphs, train=ROWS)
    return paragraphs, TaskData(name=NAME, where=WHERE, train=made["train"], test=made["test"])
