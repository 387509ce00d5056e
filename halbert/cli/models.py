"""``halbert models``."""

from __future__ import annotations

from halbert import presets
from halbert.cli.options import Json
from halbert.cli.output import print_json, table

HELP = "List every released BERT and ALBERT by name, with exact parameter counts."
EXAMPLE = "Example: halbert models --json"


def run(json: Json = False) -> None:
    """See HELP."""
    found = list(presets.all_presets().values())
    if json:
        print_json(
            [
                {"name": p.name, "encoder": p.spec.encoder.count_encoder(), "published": p.published, "hub": p.hub,
                 "release": p.release, "source": p.source, "verified": p.verified, "notes": list(p.notes)}
                for p in found
            ]
        )  # fmt: skip
        return
    rows = [
        [
            p.name,
            f"{p.spec.encoder.count_encoder():,}" + ("" if p.verified else " (not verified)"),
            p.published,
            p.hub or "none",
        ]
        for p in found
    ]
    table(["name", "encoder parameters", "published", "hub repository"], rows, right=(1,))
    print("\nAlso known as: " + ", ".join(f"{short} = {name}" for short, name in presets.ALIASES.items()))
