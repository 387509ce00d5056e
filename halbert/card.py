"""The model card of a bundle: what a stranger wants to know first, with the metadata the hub reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from halbert.heads import HEADS
from halbert.spec import encoder_total
from halbert.weights.names import layout_of

if TYPE_CHECKING:
    from halbert.bundle import Bundle


def card(bundle: Bundle) -> str:
    """Markdown with YAML metadata; equal bundles give equal text."""
    encoder, told = bundle.spec.encoder, bundle.provenance
    metadata: dict[str, Any] = {
        "library_name": "halbert",
        "license": str(told.get("licence", "unknown")),
        "tags": ["halbert", layout_of(encoder)],
    }
    kinds = [HEADS[head.kind].pipeline for head in bundle.heads.values() if HEADS[head.kind].pipeline]
    metadata["pipeline_tag"] = kinds[0] if kinds else "feature-extraction"
    if hub := told.get("hub") or (told.get("base") or {}).get("hub"):
        metadata["base_model"] = hub
    # JSON strings and lists are YAML, whatever a model is called.
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in metadata.items()),
        "---",
        "",
        f"# {bundle.name}",
        "",
    ]
    lines.append(
        f"{encoder.num_hidden_layers} layers of width {encoder.hidden_size} in {encoder.num_hidden_groups} parameter "
        f"group(s), {encoder.num_attention_heads} heads, embedding width {encoder.embedding_size}, "
        f"{encoder.vocab_size:,} pieces ({bundle.spec.text.kind}); "
        f"{encoder_total(encoder.count_parameters()):,} encoder parameters."
    )
    if bundle.random:
        lines += ["", "**The weights are random.** They were drawn, not trained."]
    if bundle.heads:
        lines.append("")
    for name, head in bundle.heads.items():
        lines.append(f"- head `{name}`: {head.kind}" + (f", labels {', '.join(head.labels)}" if head.labels else ""))
    if "about" in told:  # what its makers say of it, Markdown
        lines += ["", str(told["about"])]
    if base := (told.get("base") or {}).get("name"):
        lines += ["", f"It began with the weights of {base}."]
    if "source" in told:
        lines += ["", f"Source: {told['source']}" + (f", revision {told['revision']}" if "revision" in told else "")]
    assumed = {field: why for field, why in bundle.origins.items() if why.startswith("assumed")}
    if assumed or bundle.warnings:
        lines += ["", "## Doubtful values", ""]
        lines += [f"- **{line}**" for line in bundle.warnings]
        flat = bundle.spec.flat()
        lines += [f"- `{field}` = {flat[field]}: {why}" for field, why in assumed.items()]
    return "\n".join(lines) + "\n"
