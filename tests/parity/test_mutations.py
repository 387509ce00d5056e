"""Every deliberate mistake breaks a parity check, and exactly the checks that the committed table names.

``python -m tests.parity.test_mutations --write`` makes the table again.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from halbert.errors import HalbertError
from tests.parity.checks import CHECKS
from tests.parity.mutations import MUTATIONS

TABLE = Path(__file__).parent.parent / "golden" / "mutations.txt"
HEADER = "# mutation: the parity checks it breaks; made by: python -m tests.parity.test_mutations --write\n"


def failing() -> list[str]:
    """Names of the checks that find a difference or refuse the files. Another exception is a fault of the mutation."""
    found = []
    for name, check in CHECKS.items():
        try:
            check()
        except (AssertionError, HalbertError):
            found.append(name)
    return found


@functools.cache
def broken_by(mutation: str | None) -> list[str]:
    if mutation is None:
        return failing()  # also fills the cache of transformers' outputs, before anything is changed
    assert broken_by(None) == []
    with pytest.MonkeyPatch.context() as patch:
        MUTATIONS[mutation](patch)
        return failing()


def row(mutation: str) -> str:
    return "".join([f"{mutation}\n", *(f"    {name}\n" for name in broken_by(mutation))])


def table() -> dict[str, str]:
    text = TABLE.read_text().removeprefix(HEADER)
    rows: dict[str, str] = {}
    for line in text.splitlines(keepends=True):
        if not line.startswith(" "):
            title = line.strip()
            rows[title] = ""
        rows[title] += line
    return rows


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutation_is_seen(mutation):
    assert broken_by(mutation), "no parity check notices"
    assert row(mutation) == table().get(mutation)


def test_table_is_complete():
    assert TABLE.read_text().startswith(HEADER)
    assert list(table()) == list(MUTATIONS)
    assert broken_by(None) == []


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.parity.test_mutations --write")
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(HEADER + "".join(map(row, MUTATIONS)))
