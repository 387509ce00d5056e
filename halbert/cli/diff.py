"""``halbert diff``."""

from __future__ import annotations

import msgspec

from halbert.cli.options import Json, Model
from halbert.cli.output import print_json, table
from halbert.spec import difference

HELP = "Show in which knobs two models differ, and the parameters each knob costs or saves. Needs no weights."
EXAMPLE = "Example: halbert diff bert-base-uncased albert-base-v2"


def run(a: Model, b: Model, json: Json = False) -> None:
    """See HELP."""
    from halbert.source import resolve_spec

    name_a, spec_a = resolve_spec(a)[:2]
    name_b, spec_b = resolve_spec(b)[:2]
    knobs = difference(spec_a, spec_b)
    total = spec_b.encoder.count_encoder() - spec_a.encoder.count_encoder()
    if json:
        print_json({"a": name_a, "b": name_b, "knobs": msgspec.to_builtins(knobs), "parameters_difference": total})
        return
    rows = [[k.field, str(k.a), str(k.b), f"{k.parameters:+,}" if k.parameters else "0"] for k in knobs]
    rows.append(["together", "", "", f"{total:+,}"])
    table(["knob", name_a, name_b, "parameters"], rows, right=(3,))
    print(
        f"\n{name_a} has {spec_a.encoder.count_encoder():,} encoder parameters, {name_b} {spec_b.encoder.count_encoder():,}."
    )
    print("Values are substituted one after the other, from left to right, so the column adds up.")
