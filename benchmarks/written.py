"""Tables that benchmarks write into pages of ``docs``, between two marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halbert.files import write_bytes

DOCS = Path(__file__).parent.parent / "docs"


def put(page: str, name: str, lines: list[str]) -> None:
    """Put ``lines`` into a page between ``<!-- NAME: … -->`` and ``<!-- end of NAME -->``."""
    path = DOCS / page
    before, _, rest = path.read_text("utf-8").partition(f"<!-- {name}: ")
    mark, _, rest = rest.partition("-->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not end:
        raise SystemExit(f"docs/{page} has no place for {name}")
    text = "\n".join(lines)
    write_bytes(path, f"{before}<!-- {name}: {mark}-->\n\n{text}\n\n{end}{after}".encode())


def told(machine: dict[str, Any], created: str, command: str, file: str) -> str:
    """Where figures are from, in one sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor'].replace('(R)', '')}, {machine['cores']} cores, {created}, `{command}`, Python {machine['python']}, "
        f"{versions}, load {machine['load_before']} before it began; all samples: `benchmarks/results/{file}`."
    )
