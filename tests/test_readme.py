"""The README is executed: its commands in order, its Python with the output it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(README)
WEATHER = [
    "Rain is expected in the north.",
    "The sun will shine all day.",
    "A storm comes from the sea.",
    "Snow fell over night.",
]
SPORT = [
    "The goalkeeper held the ball.",
    "She won the final in two sets.",
    "The team lost at home.",
    "He ran the mile again.",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    rows = [(text, label) for texts, label in ((WEATHER, "weather"), (SPORT, "sport")) for text in texts]
    for name in ("train.csv", "dev.csv"):
        (folder / name).write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    sentences = [f"{a} {b} Paris is the capital of France." for a in WEATHER for b in SPORT]
    (folder / "languages").mkdir()
    (folder / "languages" / "en.txt").write_text("\n".join(SPORT))
    (folder / "languages" / "de.txt").write_text("Regen im Norden, Sonne im Süden.\n")
    (folder / "texts.txt").write_text("\n".join(sentences) + "\n")
    return folder


def run(arguments, place):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    done = subprocess.run(arguments, cwd=place, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_commands_and_python_do_what_the_readme_says(place):
    ran = 0
    for (kind, text), following in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if kind == "bash":
            for line in text.strip().splitlines():
                run(["bash", "-c", line], place)
                ran += 1
        elif kind == "python":
            printed = run([sys.executable, "-c", text], place)
            assert following[0] == "text", "a Python block is followed by what it prints"
            assert printed == following[1]
            ran += 1
    assert ran == 15
    assert (place / "vectors.npy").exists()


def test_the_first_screen_holds_a_sentence_a_picture_and_two_commands():
    first = README.split("## ")[0]
    assert first.count("![") == 1
    commands = [line for line in BLOCK.search(first)[2].splitlines() if line.startswith("$ ")]
    assert len(commands) == 2
    assert "make audit" in commands[1]


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("http") or (REPOSITORY / target).exists(), target


def test_named_make_targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|\$ )make ([a-z][a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
