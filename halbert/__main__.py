"""``python -m halbert``: the same as ``halbert``."""

from halbert.cli.main import run

run()
