"""``halbert models``."""

from __future__ import annotations

from typing import Any

from halbert.cli.options import Json
from halbert.cli.output import print_json, table

HELP = (
    "List the models in the box, and every released BERT and ALBERT by name, with exact parameter counts, and which are in "
    "the local cache."
)
EXAMPLE = "Example: halbert models --json"


def run(json: Json = False) -> None:
    """See HELP."""
    from halbert import presets
    from halbert.models import bundled
    from halbert.source import resolve_spec
    from halbert.weights.hub import is_cached

    boxed: list[dict[str, Any]] = [
        {
            "name": name, "encoder": (spec := resolve_spec(folder).spec).encoder.count_encoder(), "in_the_box": True,
            "bytes": sum(file.stat().st_size for file in folder.rglob("*.safetensors")), "pieces": spec.encoder.vocab_size,
        }
        for name, folder in bundled().items()
    ]  # fmt: skip
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
        print_json([*boxed, *found])
        return
    if boxed:
        print("In the box, pretrained:")
        table(
            ["name", "encoder parameters", "MB", "pieces"],
            [[str(m["name"]), f"{m['encoder']:,}", f"{m['bytes'] / 1e6:.1f}", f"{m['pieces']:,}"] for m in boxed],
            right=(1, 2, 3),
        )
        print("\nReleased:")
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
