"""A folder with an encoder of another architecture, read by transformers: safetensors only, no code of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from halbert.errors import InputError, WeightsError, missing_extra
from halbert.files import read_json
from halbert.spec import ATTENTION_DROPOUTS, DROPOUTS, ForeignSpec
from halbert.weights.huggingface import CLASS, layout_in
from halbert.weights.relatives import is_relative

if TYPE_CHECKING:
    from halbert.text.foreign import ForeignTokenizer


class ForeignFolder(NamedTuple):
    """What such a folder holds."""

    encoder: ForeignSpec
    arrays: dict[str, np.ndarray]
    tokenizer: ForeignTokenizer


def is_foreign(config: Any) -> bool:
    """Whether a ``config.json`` is of an architecture that is not ours by any name."""
    return (
        isinstance(config, Mapping)
        and "model_type" in config
        and layout_in(config) not in tuple(CLASS)
        and not is_relative(config)
    )


def read_foreign(folder: Path) -> ForeignFolder:
    """The encoder without any head, and its tokenizer.

    Raises :class:`InputError` for what is no encoder or has no tokenizer, :class:`WeightsError` where tensors are missing,
    and :class:`halbert.errors.MissingExtra` without torch or transformers.
    """
    try:
        from halbert.model import foreign
    except ImportError:
        raise missing_extra("torch", "others", "an encoder of another architecture") from None
    from halbert.text.foreign import ForeignTokenizer

    config = read_json(folder / "config.json")
    transformers = foreign.transformers_of()
    told = foreign.configuration(config, str(folder / "config.json"))
    tokenizer = ForeignTokenizer.read(folder, int(getattr(told, "type_vocab_size", 0) or 0) > 1)
    if not next(folder.glob("model*.safetensors"), None):
        raise InputError(
            f"{folder}: has no model.safetensors; encoders of other architectures are read from nothing else"
        )
    try:
        model, report = transformers.AutoModel.from_pretrained(
            folder, config=told, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            dtype="float32", output_loading_info=True,
        )  # fmt: skip
    except Exception as fault:  # damaged files fail in every way there is
        raise WeightsError(f"{folder}: transformers cannot read it: {str(fault).splitlines()[0][:300]}") from None
    lacking = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if lacking:
        raise WeightsError(f"{folder}: the tensor {lacking[0]!r} is missing ({len(lacking)} in all)")
    try:
        return _described(foreign, foreign.without_pooler(model.eval()), told, config, tokenizer)
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as fault:
        raise InputError(
            f"{folder}: Halbert cannot ask a {told.model_type} as it asks encoders: {str(fault)[:200]}"
        ) from None


def _described(
    foreign: Any, model: Any, told: Any, config: Mapping[str, Any], tokenizer: ForeignTokenizer
) -> ForeignFolder:
    arrays = {f"encoder.model.{name}": p.detach().numpy() for name, p in model.named_parameters()}
    longest = min(foreign.positions_of(model, told), tokenizer.longest or 10**9)
    fields = _fields(told, config, longest)
    if len(tokenizer.vocab) > fields["vocab_size"]:
        raise ValueError(
            f"its tokenizer has {len(tokenizer.vocab):,} pieces, its embeddings {fields['vocab_size']:,} rows"
        )
    encoder = ForeignSpec(**fields, parts=foreign.parts_of(model), work=foreign.work_of(model))
    return ForeignFolder(encoder, arrays, tokenizer)


def _fields(told: Any, config: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """The fields that mean the same in every encoder."""

    def first(*names: str, default: Any) -> Any:
        return next((value for name in names if (value := getattr(told, name, None)) is not None), default)

    hidden, layers = int(told.hidden_size), int(told.num_hidden_layers)
    return {
        "model_type": told.model_type, "config": json.dumps(config, sort_keys=True), "vocab_size": int(told.vocab_size),
        "embedding_size": int(first("embedding_size", default=hidden)), "hidden_size": hidden, "num_hidden_layers": layers,
        "num_hidden_groups": layers, "num_attention_heads": int(told.num_attention_heads),
        "intermediate_size": int(first("intermediate_size", default=4 * hidden)),
        "hidden_dropout_prob": float(first(*DROPOUTS, default=0.0)),
        "attention_probs_dropout_prob": float(first(*ATTENTION_DROPOUTS, default=0.0)),
        "max_position_embeddings": longest, "type_vocab_size": max(1, int(first("type_vocab_size", default=1))),
        "initializer_range": float(first("initializer_range", default=0.02)), "pooler": "none",
    }  # fmt: skip
