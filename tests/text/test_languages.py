"""How a tokenizer fits a language."""

from __future__ import annotations

import json

import pytest

from halbert.errors import InputError
from halbert.text.languages import characters_of, language_files, measure, name_of
from tests import tiny


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("de", "German"), ("deu_Latn", "German (Latin)"), ("zho_Hant", "Chinese (Traditional)"), ("yue", "Cantonese"),
        ("ace_Arab", "Acehnese (Arabic)"), ("zh-Hans", "Chinese (Simplified)"), ("xx_nothing", "xx_nothing"),
    ],
)  # fmt: skip
def test_names(code, name):
    assert name_of(code) == name


def test_characters():
    german, russian, thai = (characters_of(code) for code in ("de", "rus_Cyrl", "tha"))
    assert german and set("abcdefghijklmnopqrstuvwxyzäöüß") <= german
    assert russian and set("абвгдежзийклмнопрстуфхцчшщъыьэюя") <= russian and not set("abc") & russian
    assert thai and set("กขคงจ") <= thai and not set("abc") & thai
    assert characters_of("ace_Arab") is None and characters_of("") is None


def test_measure():
    fit = measure(tiny.tokenizer(), "de", ["the cat sat, unwanted!", "hund hund", ""])
    assert fit.words == 6 and fit.characters and fit.characters >= 30
    # the cat sat , un ##want ##ed ! and twice [UNK]: 10 pieces
    assert fit.pieces_per_word == 10 / 6 and fit.unknown == 2 / 10
    assert fit.pieces_per_character == 10 / 27
    assert fit.covered is not None and fit.covered < 0.2 and "b" in fit.missing
    nothing = measure(tiny.tokenizer(), "ace_Arab", [])
    assert (nothing.covered, nothing.unknown, nothing.pieces_per_word, nothing.pieces_per_character) == (None,) * 4


def test_files(tmp_path):
    for name in ("de.txt", "fr.txt", "notes.md"):
        (tmp_path / name).write_text("x\n")
    assert [code for code, _ in language_files(tmp_path)] == ["de", "fr"]
    with pytest.raises(InputError, match="is no folder"):
        list(language_files(tmp_path / "de.txt"))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"holds no file named CODE\.txt"):
        list(language_files(tmp_path / "none"))


def test_the_command(tmp_path):
    import subprocess
    import sys

    place = tiny.bundle().save(tmp_path / "m")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "en.txt").write_text("the cat\n")
    (tmp_path / "texts" / "de.txt").write_text("der Hund\n")
    command = [sys.executable, "-m", "halbert", "tokenize", str(place), "--languages", str(tmp_path / "texts")]
    people = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert people.splitlines()[0].split() == [
        "code", "language", "characters", "covered", "unknown", "pieces", "pieces", "per", "word", "per", "character",
    ]  # fmt: skip
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert [(fit["code"], fit["name"], fit["unknown"]) for fit in told] == [
        ("de", "German", 1.0),
        ("en", "English", 0.0),
    ]
