"""``python -m halbert``: the same as ``halbert``."""

from halbert.cli.main import main

main()
