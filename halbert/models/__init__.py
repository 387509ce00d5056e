"""Small pretrained bundles that come with the package; ``models/`` beside it is how they are made."""

from __future__ import annotations

from pathlib import Path


def bundled() -> dict[str, Path]:
    """name: folder of every model in the box."""
    here = Path(__file__).parent
    return {folder.name: folder for folder in sorted(here.iterdir()) if (folder / "halbert.json").exists()}
