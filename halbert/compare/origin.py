"""What a model learnt from, as far as its files or the registry of published figures say."""

from __future__ import annotations

from typing import Any

from halbert import presets
from halbert.bundle import Bundle
from halbert.compare.claims import figure_of
from halbert.compare.verdict import show


def learnt_from(bundle: Bundle, asked: str = "") -> str:
    """The text of the pre-training: from the bundle's provenance, or of a released model (the name ``asked`` for, or the hub
    repository it came from) the published amount with its source; otherwise "not known"."""
    return _learnt(bundle.provenance, asked)


def _learnt(provenance: dict[str, Any], asked: str) -> str:
    training, base = provenance.get("training", {}), provenance.get("base") or {}
    if training.get("kind") == "finetuning" and base:
        return _learnt(base, str(base.get("name", "")))
    if training.get("kind") == "pretraining" and training.get("corpus"):
        told = _told(training["corpus"])
        return f"{told}; before that, as {base['name']}: {_learnt(base, base['name'])}" if base else told
    hub = str(provenance.get("hub", ""))
    name = next(
        (p.name for p in presets.all_presets().values() if hub and p.hub == hub),
        presets.get(asked).name if presets.is_preset(asked) else None,
    )
    if name is not None:
        figure = figure_of(name, "training_gigabytes")
        return f"{figure.shown} ({figure.source})"
    return "not known: its files do not say"


def _told(corpus: dict[str, Any]) -> str:
    names = [name for name in corpus.get("languages", {}) if name]
    parts = [
        f"{show(corpus['bytes'], 'bytes')}, {corpus['tokens']:,} pieces, {corpus['documents']:,} documents"
        + (f", {len(names)} language{'s' * (len(names) > 1)}" if names else ""),
        str(corpus.get("note") or ""),
        f"licence: {corpus['licence']}" if corpus.get("licence") else "",
    ]
    return "; ".join(part for part in parts if part)
