"""Real text every machine has: the documentation inside the installed Python packages.

Docstrings are read out of the source files (parsed, never executed): those of the standard library and of Halbert's own
dependencies. They serve as raw text, and as a labelled task: which library does a paragraph document?
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from halbert.data.readers import Example
from halbert.errors import InputError

STANDARD_LIBRARY = "python"
# Import names of the standard library's company; those that are not installed are left out.
LIBRARIES = (
    STANDARD_LIBRARY, "numpy", "scipy", "sklearn", "torch", "sympy", "networkx", "pyarrow", "altair", "nncf",
    "huggingface_hub", "mpmath", "babel", "fsspec", "jinja2", "rich", "pygments", "openvino", "werkzeug", "joblib",
)  # fmt: skip
# Names under which a library speaks of itself, beside its import name.
_ALIASES = {
    "sklearn": ("scikit-learn", "scikit"),
    "torch": ("pytorch",),
    "pyarrow": ("arrow",),
    "altair": ("vega", "vegalite"),
    "numpy": ("np",),
    "huggingface_hub": ("huggingface", "hugging face"),
    STANDARD_LIBRARY: ("cpython",),
}
MASKED_NAME = "the library"
_SKIP = re.compile(r"(^|/)(tests?|testing|_?vendor(ed)?|site-packages|idlelib|lib2to3|externals)(/|$)|/test_|conftest")
_CHARACTERS_PER_LIBRARY = 600_000  # enough for training, and a bound on how long reading takes
_BYTES_PER_FILE = 400_000


class Paragraph(NamedTuple):
    """A paragraph of documentation, the library it documents and the module it stands in."""

    library: str
    module: str
    text: str


def _root(library: str) -> Path | None:
    if library == STANDARD_LIBRARY:
        return Path(sysconfig.get_paths()["stdlib"])
    spec = importlib.util.find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _is_prose(text: str) -> bool:
    letters = sum(c.isalpha() or c.isspace() for c in text)
    words = text.split()
    return (
        8 <= len(words) <= 200
        and letters / len(text) >= 0.85
        and text[0].isupper()
        and ">>>" not in text
        and sum(word.isalpha() for word in words) / len(words) >= 0.6
    )


def _paragraphs_of(source: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escape sequences in other people's strings
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for block in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                text = re.sub(r":\w+:`([^`]*)`", r"\1", " ".join(block.split())).replace("`", "")
                if text and _is_prose(text):
                    yield text


def read_library(library: str) -> list[Paragraph]:
    """Prose paragraphs of one library's docstrings, up to a bound; empty if it is not installed.

    Files are taken in the order of a hash of their names, so that the bound does not favour the letter A.
    """
    root = _root(library)
    if root is None:
        return []
    found: list[Paragraph] = []
    characters = 0
    files = [f for f in root.rglob("*.py") if not _SKIP.search(f.relative_to(root).as_posix())]
    for file in sorted(files, key=lambda f: hashlib.sha256(f.relative_to(root).as_posix().encode()).digest()):
        if characters >= _CHARACTERS_PER_LIBRARY:
            break
        try:
            if file.stat().st_size > _BYTES_PER_FILE:
                continue
            module = ".".join(file.relative_to(root).with_suffix("").parts)
            texts = list(_paragraphs_of(file.read_text("utf-8")))
            found += [Paragraph(library, module, text) for text in texts]
            characters += sum(map(len, texts))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue  # a file this Python cannot parse documents nothing for us
    return found


def read_documentation(
    libraries: tuple[str, ...] = LIBRARIES, workers: int = 2, progress: Callable[[str], None] = lambda name: None
) -> list[Paragraph]:
    """Paragraphs of all libraries, duplicates (anywhere) removed, in the order of ``libraries``.

    Raises :class:`InputError` when nothing is found.
    """
    found: list[Paragraph] = []
    seen: set[str] = set()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for library, paragraphs in zip(libraries, pool.map(read_library, libraries), strict=True):
            for paragraph in paragraphs:
                key = mask_library(paragraph).casefold()  # two that differ in the library's name only are one
                if key not in seen:
                    seen.add(key)
                    found.append(paragraph)
            progress(library)
    if not found:
        raise InputError("no documentation was found in the installed packages")
    return found


def versions(libraries: tuple[str, ...]) -> dict[str, str]:
    """The version of each library whose text was read."""
    distributions = importlib.metadata.packages_distributions()
    told = {}
    for library in libraries:
        if library == STANDARD_LIBRARY:
            told[library] = sys.version.split()[0]
        elif library in distributions:
            told[library] = importlib.metadata.version(distributions[library][0])
    return told


def split_of(paragraph: Paragraph) -> str:
    """``train``, ``dev`` or ``test`` (80 / 10 / 10), by module: no module is in two splits."""
    digest = hashlib.sha256(f"{paragraph.library}.{paragraph.module}".encode()).digest()
    return "train" if digest[0] < 205 else "dev" if digest[0] < 230 else "test"


def mask_library(paragraph: Paragraph) -> str:
    """The paragraph with its library's own names masked, so that the question is not answered in the text."""
    names = (paragraph.library, *_ALIASES.get(paragraph.library, ()))
    return re.sub(rf"\b({'|'.join(map(re.escape, names))})\w*", MASKED_NAME, paragraph.text, flags=re.IGNORECASE)


def which_library(
    paragraphs: list[Paragraph], *, classes: int = 8, train: int = 2000, test: int = 800, seed: int = 0
) -> dict[str, list[Example]]:
    """The labelled task: the ``classes`` libraries with most text, balanced, split by module.

    Raises :class:`InputError` when fewer than two libraries have enough text.
    """
    pools: dict[str, dict[str, list[Example]]] = {}
    for paragraph in paragraphs:
        example = Example(text=mask_library(paragraph), label=paragraph.library)
        pools.setdefault(paragraph.library, {"train": [], "dev": [], "test": []})[split_of(paragraph)].append(example)
    per = {"train": train // classes, "dev": test // classes // 2, "test": test // classes}
    full = [name for name, pool in pools.items() if all(len(pool[split]) >= 20 for split in per)]
    full = sorted(full, key=lambda name: (-min(len(pools[name][s]) / per[s] for s in per), name))[:classes]
    if len(full) < 2:
        raise InputError(f"only {len(full)} of the installed libraries hold enough documentation for the task")
    rng = np.random.default_rng(seed)
    splits: dict[str, list[Example]] = {}
    for split, count in per.items():
        share = min(count, *(len(pools[name][split]) for name in full))
        rows = [
            pools[name][split][i] for name in sorted(full) for i in rng.permutation(len(pools[name][split]))[:share]
        ]
        splits[split] = [rows[i] for i in rng.permutation(len(rows))]
    return splits
