"""The texts that the models in the box learn from, and those they are judged by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from halbert.data.corpus import read_documents
from halbert.data.documentation import LIBRARIES, read_documentation, split_of

ENGLISH = "english_text"


def english(data: Path, held_out: bool) -> Iterator[list[str]]:
    """Novels, textbooks and speeches; every 20th document (of the last volume of novels every 4th) is held out."""
    for file in sorted((data / ENGLISH).glob("*.txt.gz")):
        last = file.name == "eltec_eng_novels.4.txt.gz"
        for number, document in enumerate(read_documents(file)):
            novel_to_learn = file.name.startswith("eltec") and not last
            if (not novel_to_learn and number % (4 if last else 20) == 0) == held_out:
                yield document


def documentation(held_out: bool) -> Iterator[list[str]]:
    """The documentation inside the installed packages, a module a document; its test part is held out."""
    modules: dict[tuple[str, str], list[str]] = {}
    for p in read_documentation(LIBRARIES):
        if (split_of(p) == "test") == held_out:
            modules.setdefault((p.library, p.module), []).append(p.text)
    yield from modules.values()
