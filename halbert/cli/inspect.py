"""``halbert inspect``."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from halbert.cli.options import Json, Model
from halbert.cli.output import print_json, printable, table
from halbert.spec import PARTS, encoder_total

HELP = "Show a model's specification, exact parameters by part, FLOPs and origin. Needs no weights."
EXAMPLE = "Example: halbert inspect albert-xxlarge-v2 --json"
LENGTHS = (128, 512)

Verify = Annotated[
    bool, typer.Option("--verify", help="Compare the weight files of a bundle with the sha256 it was saved with.")
]


def run(model: Model, json: Json = False, verify: Verify = False) -> None:
    """See HELP."""
    from halbert.source import resolve_spec, verify_files

    found = resolve_spec(model)
    verified = verify_files(model) if verify else None
    spec = found.spec
    parts = spec.encoder.count_parameters()
    encoder = encoder_total(parts)
    flops = {str(n): spec.encoder.count_flops(n) for n in LENGTHS}
    if json:
        result: dict[str, Any] = {
            "name": found.name,
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
            "provenance": found.provenance,
            "origins": found.origins,
            "warnings": list(found.warnings),
            "notes": list(found.notes),
        }
        print_json(result if verified is None else {**result, "verified": verified})
        return
    e = spec.encoder
    print(f"{found.name}: {e.num_hidden_layers} layers of width {e.hidden_size}, {e.num_attention_heads} heads, "
          f"feed-forward {e.intermediate_size}, {e.hidden_act}")  # fmt: skip
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
    for key, value in found.provenance.items():
        if isinstance(value, str):
            first, _, more = value.strip().partition("\n")  # of a whole card, what it begins with
            print(f"{printable(key)}: {printable(first)}{' …' if more else ''}")
        elif key == "release_files":
            print(
                f"files of the release: {printable(', '.join(map(str, value)) if isinstance(value, list) else str(value))}"
            )
    for line in described_origins(spec.flat(), found.origins):
        print(printable(line))
    for line in found.warnings:
        print(f"warning: {printable(line)}")
    for line in found.notes:
        print(f"note: {line}")
    for name in verified or []:
        print(f"verified: {name}")


def described_origins(values: dict[str, Any], origins: dict[str, str]) -> list[str]:
    """Lines that say where values came from: those of one origin together, every assumption with its value."""
    lines = []
    sure = {name: origin for name, origin in origins.items() if not origin.startswith("assumed")}
    for origin in dict.fromkeys(sure.values()):
        names = [name for name, other in sure.items() if other == origin]
        lines.append(f"from {origin}: {', '.join(names)}")
    for name, origin in origins.items():
        if name not in sure:
            lines.append(f"assumed {name} = {values[name]}: {origin.removeprefix('assumed').removeprefix(': ')}")
    return lines
