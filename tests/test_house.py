"""Rules of the house that no other tool checks: names of rooms, public names, one model for both families, tests that run."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

import halbert

ROOT = Path(__file__).parent.parent
PACKAGE, TESTS = ROOT / "halbert", ROOT / "tests"
GOLDEN = TESTS / "golden" / "public_names.txt"
MODULES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = re.compile(r"^_?(utils?|helpers?|commons?|managers?|handlers?|misc|tools?|base)$")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_test_file_contributes_cases():
    """A file that pytest collects nothing from tests nothing: each has a test at module level or in a Test class."""
    files = sorted(TESTS.rglob("test_*.py"))
    assert len(files) > 30
    empty = []
    for file in files:
        tree = ast.parse(file.read_text("utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                functions += [inner for inner in node.body if isinstance(inner, ast.FunctionDef)]
        if not any(function.name.startswith("test_") for function in functions):
            empty.append(relative(file))
        parents = [file.parent, *file.parent.parents]
        for folder in parents[: parents.index(TESTS) + 1]:
            assert (folder / "__init__.py").exists(), (
                f"{relative(folder)} is no package: equal file names would collide"
            )
    assert empty == []


def test_what_looks_like_a_test_is_named_as_one():
    """Functions called test_… outside test_*.py files are never collected; nor are misspelt ones inside."""
    for file in sorted(TESTS.rglob("*.py")):
        names = [
            node.name for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)
        ]
        if not file.name.startswith("test_"):
            assert not [name for name in names if name.startswith("test")], relative(file)
        assert not [name for name in names if re.match(r"(tests?[A-Z]|tets|tset|etst|tes_)", name)], relative(file)
        repeated = {
            node.name for body in module_bodies(file) for node in body
            if isinstance(node, ast.FunctionDef) and sum(getattr(other, "name", None) == node.name for other in body) > 1
        }  # fmt: skip
        assert not repeated, f"{relative(file)}: the second {repeated} hides the first"


def module_bodies(file: Path) -> list[list[ast.stmt]]:
    tree = ast.parse(file.read_text("utf-8"))
    return [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]


def test_no_room_without_a_name():
    for path in sorted(p for p in PACKAGE.rglob("*") if "__pycache__" not in p.parts):
        assert not FORBIDDEN.match(path.stem.lower()), relative(path)
        assert not re.search(r"(manager|handler|helper|utils)$", path.stem.lower()), relative(path)


def test_no_folder_or_module_for_a_family():
    """Recipes may be named so: they are values."""
    rooms = [p for p in PACKAGE.rglob("*") if p.is_dir() or p.suffix == ".py"]
    assert not [relative(p) for p in rooms if p.stem.lower() in ("bert", "albert")]


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_module_is_a_warehouse(path):
    """Files of one noun, 80 to 250 lines as a rule; beyond 400 there are two nouns."""
    assert len(path.read_text("utf-8").splitlines()) <= 400


FAMILIES = {"bert", "albert"}


def family_tests(path: Path) -> list[int]:
    """Lines that compare something with a family's name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            constants = {c.value for side in sides for c in ast.walk(side) if isinstance(c, ast.Constant)}
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("startswith", "endswith")
        ):
            constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
        elif isinstance(node, ast.MatchValue):
            constants = {c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant)}
        else:
            continue
        if any(isinstance(value, str) and value.lower() in FAMILIES for value in constants):
            found.append(node.lineno if hasattr(node, "lineno") else 0)
    return found


def test_nobody_asks_which_family():
    """BERT and ALBERT are two values of one spec; only presets and the weight files know them by name."""
    for path in MODULES:
        if path.name == "presets.py" or "weights" in path.parts:
            continue
        assert family_tests(path) == [], relative(path)


def test_the_family_rule_can_fail(tmp_path):
    for line in ('if x == "bert": pass', 'y = "albert" in x', 'x.startswith("albert")', 'z = x in ("bert", "other")'):
        (tmp_path / "m.py").write_text(line)
        assert family_tests(tmp_path / "m.py"), line


def test_public_names():
    """``HALBERT_WRITE_GOLDEN=1`` makes the list again; a change of it is a change of what programs rely on."""
    found = "".join(f"{name}\n" for name in sorted(halbert.__all__))
    if os.environ.get("HALBERT_WRITE_GOLDEN"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()
    assert sorted(dir(halbert)) == sorted(halbert.__all__)


@pytest.mark.parametrize("name", halbert.__all__)
def test_every_public_name_can_be_had_and_says_what_it_is(name):
    value = getattr(halbert, name)
    if name != "__version__":
        assert (value.__doc__ or "").strip()


def test_no_other_name():
    with pytest.raises(AttributeError, match="module 'halbert' has no attribute 'nonsense'"):
        halbert.nonsense  # noqa: B018


def test_no_folder_of_this_machine():
    """Paths of the machine that something was written on say nothing elsewhere."""
    here = [str(ROOT), str(Path.home())] if len(str(Path.home())) > 5 else [str(ROOT)]
    for path in [*MODULES, *sorted(TESTS.rglob("*.py")), *sorted((TESTS / "golden").rglob("*.*"))]:
        data = path.read_bytes()
        assert not [place for place in here if place.encode() in data], relative(path)
