"""The texts of ``--help`` are golden; ``HALBERT_WRITE_GOLDEN=1 pytest tests/cli/test_help.py`` makes them again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from halbert.cli import main

GOLDEN = Path(__file__).parent.parent / "golden" / "help"
VERBS = [command.name for command in main.application([]).registered_commands]


def golden(name: str, found: str) -> None:
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("HALBERT_WRITE_GOLDEN"):
        file.write_text(found)
    assert found == file.read_text()


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(halbert, verb):
    done = halbert(verb, "--help")
    assert (done.status, done.err) == (0, "")
    golden(verb, done.out)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_says_what_it_does(halbert, verb):
    lines = halbert(verb, "-h").out.splitlines()
    assert lines[0].startswith(f"Usage: halbert {verb} ")
    assert max(map(len, lines)) <= 80
    assert any(line.strip().startswith(f"Example: halbert {verb}") for line in lines)
    assert "See HELP." not in "\n".join(lines)


def test_help_of_the_program(halbert):
    done = halbert("--help")
    assert (done.status, done.err) == (0, "")
    golden("halbert", done.out)
    listed = done.out.partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "] == VERBS


def test_no_golden_help_of_a_verb_that_is_gone():
    assert {file.stem for file in GOLDEN.iterdir()} == {*VERBS, "halbert"}


def test_version(halbert):
    from halbert import __version__

    assert halbert("--version") == (0, f"halbert {__version__}\n", "")


HEAVY = ("torch", "openvino", "numpy", "transformers", "sklearn", "pyarrow")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["inspect", "bert-base-uncased"], ["diff", "bert-tiny", "bert-mini"]]
)
def test_what_is_never_imported(arguments):
    program = (
        "import json, sys\nfrom halbert.cli.main import run\n"
        "try: run()\nexcept SystemExit as end: assert end.code in (0, None)\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stderr)}
    assert "halbert" in loaded and "typer" in loaded and done.stdout
    heavy = {"torch", "openvino"} if arguments != ["--help"] else set(HEAVY)
    assert not loaded & heavy
