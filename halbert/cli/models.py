"""``halbert models``."""

from __future__ import annotations

from halbert.cli.options import Json
from halbert.cli.output import print_json, table

HELP = "List every released BERT and ALBERT by name, with exact parameter counts, and which are in the local cache."
EXAMPLE = "Example: halbert models --json"


def run(json: Json = False) -> None:
    """See HELP."""
    from halbert import presets
    from halbert.weights.hub import is_cached

    found = [
        {
            "name": p.name,
            "encoder": p.spec.encoder.count_encoder(),
            "verified": p.verified,
            "published": p.published,
            "hub": p.hub,
            "cached": p.hub is not None and is_cached(p.hub),
            "release": p.release,
            "source": p.source,
            "notes": list(p.notes),
        }
        for p in presets.all_presets().values()
    ]
    if json:
        print_json(found)
        return
    rows = [
        [
            str(m["name"]),
            f"{m['encoder']:,}" + ("" if m["verified"] else " (not verified)"),
            str(m["published"]),
            str(m["hub"] or "none"),
            "yes" if m["cached"] else "no",
        ]
        for m in found
    ]
    table(["name", "encoder parameters", "published", "hub repository", "cached"], rows, right=(1,))
    print("\nAlso known as: " + ", ".join(f"{short} = {name}" for short, name in presets.ALIASES.items()))
