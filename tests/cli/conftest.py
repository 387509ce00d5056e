from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from halbert.cli.main import run
from tests import small, tiny


class Done(NamedTuple):
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def halbert(monkeypatch, capsys) -> Callable[..., Done]:
    """Runs a command in this process: ``halbert("inspect", folder, stdin=b"…")``."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("OMP_WAIT_POLICY", os.environ.get("OMP_WAIT_POLICY", "PASSIVE"))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")

    # click names the program after how Python was started.
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None, raising=False)

    def command(*args: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["halbert", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        try:
            run()
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        return Done(status, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder with models and files; nothing may be written into it."""
    place = tmp_path_factory.mktemp("world")
    small.bundle().save(place / "model")
    small.bundle(**small.ALBERT, seed=1).save(place / "albert")
    small.bundle(("label",), seed=2).save(place / "tuned")
    small.bundle(("score",), seed=3).save(place / "scored")
    small.write_csv(place / "rows.csv", small.rows(30))
    small.write_csv(place / "dev.csv", small.rows(12))
    small.write_csv(place / "pairs.csv", [("the cat", "a dog"), ("a mat .", "")], ("text_a", "text_b"))
    (place / "lines.txt").write_text("the cat sat\n\nthe want , wa\n")
    (place / "docs.txt").write_text("\n".join(tiny.SPEECH[:6]) + "\n\n" + "\n".join(tiny.SPEECH[6:]) + "\n")
    (place / "recipe.toml").write_text(RECIPE)
    return place


RECIPE = """\
steps = 3
length = 16
batch_tokens = 64
warmup_steps = 1

[encoder]
hidden_size = 8
num_hidden_layers = 2
num_attention_heads = 2
max_position_embeddings = 24

[pretraining]
sentence_objective = "sop"
masking = "ngram"
"""
