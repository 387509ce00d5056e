from __future__ import annotations

import itertools
import re
import textwrap
from collections import Counter

import pytest

from halbert.data import documentation
from halbert.data.documentation import (
    MASKED_NAME,
    Paragraph,
    mask_library,
    read_documentation,
    read_library,
    split_of,
    versions,
    which_library,
)
from halbert.errors import InputError

FEW = ("networkx", "jinja2", "huggingface_hub", "no_such_library_anywhere")


@pytest.fixture(scope="module")
def paragraphs():
    found = read_documentation(FEW, workers=1)
    assert {p.library for p in found} == set(FEW[:3])
    return found


def test_paragraphs_are_prose_and_none_comes_twice(paragraphs):
    assert len(paragraphs) > 500
    assert max(Counter(p.text.casefold() for p in paragraphs).values()) == 1
    # Nor do two differ in the masked name only.
    assert max(Counter(mask_library(p).casefold() for p in paragraphs).values()) == 1
    for p in paragraphs:
        assert 8 <= len(p.text.split()) <= 200 and ">>>" not in p.text and "`" not in p.text
        assert "\n" not in p.text


def test_tests_and_other_peoples_code_are_not_read(paragraphs):
    for p in paragraphs:
        assert not re.search(r"(^|\.)(tests?|externals|_vendor)\.|conftest", p.module)


def test_libraries_come_in_order(paragraphs):
    order = list(dict.fromkeys(p.library for p in paragraphs))
    assert order == list(FEW[:3])


def test_the_split_is_by_module(paragraphs):
    places: dict[tuple[str, str], set[str]] = {}
    for p in paragraphs:
        places.setdefault((p.library, p.module), set()).add(split_of(p))
    assert all(len(splits) == 1 for splits in places.values())
    shares = Counter(split_of(Paragraph("x", str(i), "")) for i in range(4000))
    assert [shares[s] / 4000 for s in ("train", "dev", "test")] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


@pytest.fixture(scope="module")
def task(paragraphs):
    return which_library(paragraphs, classes=3, train=300, test=120)


def test_the_task_is_balanced_and_no_module_is_in_two_splits(paragraphs, task):
    by_text = {mask_library(p): p for p in paragraphs}
    assert set(task) == {"train", "dev", "test"}
    modules = {}
    for split, rows in task.items():
        counts = Counter(e.label for e in rows)
        assert len(counts) >= 2 and len(set(counts.values())) == 1
        assert len(rows) <= {"train": 300, "dev": 60, "test": 120}[split]
        assert {split_of(by_text[e.text]) for e in rows} == {split}
        assert {by_text[e.text].library for e in rows} == set(counts)
        modules[split] = {(by_text[e.text].library, by_text[e.text].module) for e in rows}
        # Shuffled: the classes do not come one after the other.
        assert sum(a.label != b.label for a, b in itertools.pairwise(rows)) > len(rows) / 3
    assert not modules["train"] & modules["dev"] | modules["train"] & modules["test"] | modules["dev"] & modules["test"]
    assert max(Counter(e.text.casefold() for rows in task.values() for e in rows).values()) == 1


def test_the_smallest_library_sets_the_size_of_each_class():
    made = [Paragraph("a", str(i), f"many {i}") for i in range(3000)]
    made += [Paragraph("b", str(i), f"some {i}") for i in range(400)]
    made += [Paragraph("c", str(i), f"few {i}") for i in range(60)]  # less than 20 to a split: left out
    own = Counter(split_of(p) for p in made if p.library == "b")
    found = {split: Counter(e.label for e in rows) for split, rows in which_library(made, classes=3, train=900).items()}
    assert found == {
        "train": {"a": 300, "b": 300},
        "dev": {"a": own["dev"], "b": own["dev"]},
        "test": {"a": own["test"], "b": own["test"]},
    }
    assert 20 <= own["dev"] < 133 and 20 <= own["test"] < 266


def test_the_task_depends_on_the_seed_alone(paragraphs, task):
    again = which_library(paragraphs, classes=3, train=300, test=120)
    other = which_library(paragraphs, classes=3, train=300, test=120, seed=1)
    assert again == task != other


def test_no_row_says_its_own_name(task):
    told = 0
    for rows in task.values():
        for e in rows:
            assert not re.search(rf"\b{e.label}", e.text, re.IGNORECASE), e.text
            told += MASKED_NAME in e.text
    assert told > 5


@pytest.mark.parametrize(
    ("library", "text", "masked"),
    [
        ("jinja2", "Jinja2 and jinja2.Environment", "the library and the library.Environment"),
        ("numpy", "Use np.array of NumPy, not input", "Use the library.array of the library, not input"),
        ("sklearn", "scikit-learn, scikit and sklearn's", "the library, the library and the library's"),
        ("torch", "PyTorch and torch.nn", "the library and the library.nn"),
        ("python", "CPython or Python3", "the library or the library"),
        (
            "huggingface_hub",
            "Hugging Face, HuggingFace and huggingface_hub",
            "the library, the library and the library",
        ),
        ("rich", "enriched", "enriched"),
        ("joblib", "numpy arrays", "numpy arrays"),
    ],
)
def test_names_are_masked(library, text, masked):
    assert mask_library(Paragraph(library, "m", text)) == masked


def test_too_little_documentation():
    with pytest.raises(InputError, match="no documentation was found"):
        read_documentation(("no_such_library_anywhere",), workers=1)
    one = [Paragraph("jinja2", str(i), f"text {i}") for i in range(900)]
    with pytest.raises(InputError, match="only 1 of the installed libraries"):
        which_library(one)


def test_versions():
    told = versions(("python", "jinja2", "no_such_library_anywhere"))
    assert set(told) == {"python", "jinja2"}
    assert told["python"].count(".") == 2 and told["jinja2"][0].isdigit()


def test_reading_a_library(tmp_path, monkeypatch):
    """Docstrings are parsed, never executed; what cannot be parsed is left out."""
    package = tmp_path / "made_up"
    (package / "tests").mkdir(parents=True)
    prose = "{} words of plain prose that say what this {} is good for and when."
    (package / "__init__.py").write_text(
        f'"""{prose.format("Seven", "package")}\n\nToo short.\n"""\nraise SystemExit\n'
    )
    (package / "a.py").write_text(
        textwrap.dedent(
            f'''
            class A:
                """{prose.format("Nine", "class")}

                >>> {prose.format("Code", "line")}

                lower case begins {prose.format("this", "paragraph")}
                """

                async def b(self):
                    """{prose.format("Ten", ":class:`thing`")}"""
            '''
        )
    )
    (package / "broken.py").write_text('"""' + prose.format("Broken", "file") + '"""\nthis is no Python')
    (package / "latin.py").write_bytes(b'"""' + prose.format("Caf\xe9", "file").encode("latin-1") + b'"""')
    (package / "tests" / "t.py").write_text('"""' + prose.format("Test", "file") + '"""')
    monkeypatch.syspath_prepend(tmp_path)
    found = read_library("made_up")
    assert {(p.module, p.text) for p in found} == {
        ("__init__", prose.format("Seven", "package")),
        ("a", prose.format("Nine", "class")),
        ("a", prose.format("Ten", "thing")),
    }
    monkeypatch.setattr(documentation, "_CHARACTERS_PER_LIBRARY", 1)
    assert len({p.module for p in read_library("made_up")}) == 1
