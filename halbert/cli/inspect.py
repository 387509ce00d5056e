"""``halbert inspect``."""

from __future__ import annotations

import msgspec

from halbert.cli.options import Json, Model
from halbert.cli.output import print_json, table
from halbert.spec import PARTS, encoder_total

HELP = "Show a model's specification, exact parameters by part, FLOPs and origin. Needs no weights."
EXAMPLE = "Example: halbert inspect albert-xxlarge-v2 --json"
LENGTHS = (128, 512)


def run(model: Model, json: Json = False) -> None:
    """See HELP."""
    from halbert.bundle import resolve_spec

    name, spec, provenance, notes = resolve_spec(model)
    parts = spec.encoder.count_parameters()
    encoder = encoder_total(parts)
    flops = {str(n): spec.encoder.count_flops(n) for n in LENGTHS}
    result = {
        "name": name,
        "spec": {
            **msgspec.to_builtins(spec.encoder),
            "text": msgspec.to_builtins(spec.text),
            "pretraining": msgspec.to_builtins(spec.pretraining),
        },
        "parameters": {
            "encoder": encoder,
            "without_pooler": encoder - parts["pooler"],
            "pretraining": sum(parts.values()),
            "by_part": parts,
        },
        "flops": flops,
        "bytes": {"float32": 4 * encoder, "float16": 2 * encoder},
        "provenance": provenance,
        "notes": notes,
    }
    if json:
        print_json(result)
        return
    e = spec.encoder
    print(f"{name}: {e.num_hidden_layers} layers of width {e.hidden_size}, {e.num_attention_heads} heads, feed-forward "
          f"{e.intermediate_size}, {e.hidden_act}")  # fmt: skip
    shared = (
        "each layer its own" if e.num_hidden_groups == e.num_hidden_layers else f"{e.num_hidden_groups} set(s) for all"
    )
    print(
        f"parameters of the layers: {shared}; embeddings of width {e.embedding_size}, {e.vocab_size:,} pieces ({spec.text.kind})"
    )
    print(f"pre-training: {spec.pretraining.sentence_objective.upper()}, masking by {spec.pretraining.masking}\n")
    rows = [[part, f"{parts[part]:,}"] for part in PARTS if parts[part]]
    rows.append(["encoder", f"{encoder:,}"])
    rows.append(["encoder without pooler", f"{encoder - parts['pooler']:,}"])
    rows.append(["with pre-training heads", f"{sum(parts.values()):,}"])
    table(["part", "parameters"], rows, right=(1,))
    print()
    for length, count in flops.items():
        print(f"{count:,} FLOPs for {length} pieces")
    print(f"{4 * encoder / 2**20:,.1f} MiB of encoder weights in float32")
    for key, value in provenance.items():
        if isinstance(value, str):
            print(f"{key}: {value}")
    for line in notes:
        print(f"note: {line}")
