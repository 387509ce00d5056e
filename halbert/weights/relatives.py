"""Encoders that are a BERT or an ALBERT by another name: DistilBERT and ELECTRA, their configuration and tensors translated.

DistilBERT is a BERT without segments and without a pooler (Sanh et al. 2019, section 3; transformers
``modeling_distilbert.py``): its segment table is written as zeros. ELECTRA is a BERT without a pooler, its small model
with embeddings that are narrower and projected, as ALBERT's (Clark et al. 2020, section 3; ``modeling_electra.py``).
Heads that read the last states as BERT's do are kept; a classifier of another form and ELECTRA's discriminator are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from halbert.weights.names import ATTENTION, FFN

_DISTILBERT = (
    (r"distilbert\.embeddings\.(.*)", r"bert.embeddings.\1"),
    (r"distilbert\.transformer\.layer\.(\d+)\.attention\.q_lin\.(.*)", r"bert.encoder.layer.\1.attention.self.query.\2"),
    (r"distilbert\.transformer\.layer\.(\d+)\.attention\.k_lin\.(.*)", r"bert.encoder.layer.\1.attention.self.key.\2"),
    (r"distilbert\.transformer\.layer\.(\d+)\.attention\.v_lin\.(.*)", r"bert.encoder.layer.\1.attention.self.value.\2"),
    (r"distilbert\.transformer\.layer\.(\d+)\.attention\.out_lin\.(.*)", r"bert.encoder.layer.\1.attention.output.dense.\2"),
    (r"distilbert\.transformer\.layer\.(\d+)\.sa_layer_norm\.(.*)", r"bert.encoder.layer.\1.attention.output.LayerNorm.\2"),
    (r"distilbert\.transformer\.layer\.(\d+)\.ffn\.lin1\.(.*)", r"bert.encoder.layer.\1.intermediate.dense.\2"),
    (r"distilbert\.transformer\.layer\.(\d+)\.ffn\.lin2\.(.*)", r"bert.encoder.layer.\1.output.dense.\2"),
    (r"distilbert\.transformer\.layer\.(\d+)\.output_layer_norm\.(.*)", r"bert.encoder.layer.\1.output.LayerNorm.\2"),
    (r"vocab_transform\.(.*)", r"cls.predictions.transform.dense.\1"),
    (r"vocab_layer_norm\.(.*)", r"cls.predictions.transform.LayerNorm.\1"),
    (r"vocab_projector\.weight", "cls.predictions.decoder.weight"),
    (r"vocab_projector\.bias", "cls.predictions.bias"),
)  # fmt: skip
_ELECTRA = (
    (r"electra\.embeddings_project\.(.*)", r"albert.encoder.embedding_hidden_mapping_in.\1"),
    (r"electra\.(.*)", r"bert.\1"),
    (r"generator_predictions\.dense\.(.*)", r"cls.predictions.transform.dense.\1"),
    (r"generator_predictions\.LayerNorm\.(.*)", r"cls.predictions.transform.LayerNorm.\1"),
    (r"generator_lm_head\.weight", "cls.predictions.decoder.weight"),
    (r"generator_lm_head\.bias", "cls.predictions.bias"),
)
_BARE = {"distilbert": ("embeddings.", "transformer."), "electra": ("embeddings.", "embeddings_project.", "encoder.")}
_RENAMES = {"distilbert": _DISTILBERT, "electra": _ELECTRA}
_PREFIX = {"distilbert": "DistilBert", "electra": "Electra"}
# Heads of the same form as BERT's; the class name's end.
_SAME = ("ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering", "Model")
_DROPPED = ("pre_classifier.", "discriminator_predictions.")


def is_relative(config: Any) -> bool:
    """Whether a configuration is one that can be translated."""
    return isinstance(config, Mapping) and config.get("model_type") in tuple(_RENAMES)


def translated(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the BERT, or ALBERT without sharing, that the model is; one of another model as it is."""
    if not is_relative(config):
        return config
    kind = config["model_type"]
    if kind == "distilbert":
        names = {
            "hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim", "hidden_act": "activation", "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        }  # fmt: skip
        told = {ours: config[theirs] for ours, theirs in names.items() if theirs in config}
        told |= {
            "hidden_dropout_prob": config.get("dropout", 0.1),
            "classifier_dropout": config.get("seq_classif_dropout", config.get("dropout", 0.1)),
            "type_vocab_size": 2,
        }
        layout = "bert"
    else:
        layout = (
            "albert" if config.get("embedding_size", config.get("hidden_size")) != config.get("hidden_size") else "bert"
        )
        told = {
            name: config[name]
            for name in (
                "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
                "type_vocab_size", "classifier_dropout",
            ) if config.get(name) is not None
        }  # fmt: skip
        told |= {
            "hidden_dropout_prob": config.get("hidden_dropout_prob", 0.1),
            "attention_probs_dropout_prob": config.get("attention_probs_dropout_prob", 0.1),
        }
        told.setdefault("hidden_act", "gelu")  # ELECTRA's default, also in ALBERT's layout, whose own is another
        if layout == "albert":
            dropout = config.get("classifier_dropout")
            told |= {
                "embedding_size": config["embedding_size"], "num_hidden_groups": config.get("num_hidden_layers"),
                "inner_group_num": 1, "classifier_dropout_prob": told["hidden_dropout_prob"] if dropout is None else dropout,
            }  # fmt: skip
    for name in (
        "vocab_size", "max_position_embeddings", "initializer_range", "layer_norm_eps", "id2label", "label2id",
        "problem_type", "position_embedding_type", "is_decoder", "add_cross_attention", "pad_token_id",
    ):  # fmt: skip
        if config.get(name) is not None:
            told[name] = config[name]
    asked = (config.get("architectures") or [f"{_PREFIX[kind]}Model"])[0]
    suffix = str(asked).removeprefix(_PREFIX[kind])
    ours = {"bert": "Bert", "albert": "Albert"}[layout]
    return {"model_type": layout, "architectures": [ours + (suffix if suffix in _SAME else "Model")], **told}


def lost(config: Mapping[str, Any]) -> list[str]:
    """What is said of a head that is not kept."""
    if not is_relative(config):
        return []
    asked = str((config.get("architectures") or ["Model"])[0])
    if asked.endswith(_SAME):
        return []
    return [f"{asked}: its head is of another form than BERT's and was left out; what is here is the encoder"]


def renamed(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Their name: the name in the layout of :func:`translated`; heads that are not kept are left out."""
    kind = config["model_type"]
    names = list(names)
    bare = not any(name.startswith(f"{kind}.") for name in names)
    layout = translated(dict(config))["model_type"]
    keeps = not lost(config)
    found = {}
    for name in names:
        if name.startswith(_DROPPED) or (not keeps and name.startswith(("classifier.", "qa_outputs."))):
            continue
        full = f"{kind}.{name}" if bare and name.startswith(_BARE[kind]) else name
        for pattern, replacement in _RENAMES[kind]:
            if match := re.fullmatch(pattern, full):
                full = match.expand(replacement)
                break
        found[name] = _as_albert(full) if layout == "albert" else full
    return found


def _patterns() -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
    """BERT's names of what stands in a layer, and how ALBERT's layout calls it."""

    def build(theirs: str) -> Callable[[re.Match[str]], str]:
        return lambda match: theirs.format(group=match[1], inner=0)

    return [
        (re.compile(re.escape(row.bert).replace(r"\{group\}", r"(\d+)")), build(row.albert))
        for row in [*ATTENTION, *FFN] if row.bert and row.albert
    ]  # fmt: skip


_TO_ALBERT = _patterns()
_HEAD_TO_ALBERT = {
    "cls.predictions.transform.dense.": "predictions.dense.",
    "cls.predictions.transform.LayerNorm.": "predictions.LayerNorm.",
    "cls.predictions.decoder.": "predictions.decoder.",
    "cls.predictions.bias": "predictions.bias",
}


def _as_albert(name: str) -> str:
    for pattern, build in _TO_ALBERT:
        if match := pattern.fullmatch(name):
            return build(match)
    for theirs, ours in _HEAD_TO_ALBERT.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return re.sub(r"^bert\.", "albert.", name)


def translate_tensors(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors under the names of :func:`translated`'s layout; DistilBERT's missing segments as zeros."""
    names = renamed(config, tensors)
    found = {new: tensors[old] for old, new in names.items()}
    if config["model_type"] == "distilbert":
        width = found["bert.embeddings.word_embeddings.weight"].shape[1] if found else 0
        found["bert.embeddings.token_type_embeddings.weight"] = np.zeros((2, width), np.float32)
    return found
