"""Hugging Face folders: ``config.json`` and its tensors, read and written.

What is written loads in ``transformers.AutoModel*.from_pretrained`` with nothing missing and nothing unexpected. Where
the format cannot share parameters as the spec does, tensors are written once per use, and reading them back with the
spec checks that the copies are still equal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np

from halbert.errors import InputError, SpecError, WeightsError
from halbert.files import read_json, write_json
from halbert.heads import HEADS, HeadKind, HeadSpec
from halbert.spec import EncoderSpec, in_words
from halbert.weights.accounting import settle
from halbert.weights.names import BUFFERS, HEAD_ROWS, TIED, Layout, Row, expected, file_groups, layout_of
from halbert.weights.relatives import is_relative, lost, renamed, translate_tensors, translated
from halbert.weights.tensors import Dtype, read_file, read_tensors, save_tensors, tensor_names

POOLER_FILE = "pooler.safetensors"
CLASS = {"bert": "Bert", "albert": "Albert"}
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "relu": "relu"}


class Folder(NamedTuple):
    """What a Hugging Face folder holds."""

    encoder: EncoderSpec
    heads: dict[str, HeadSpec]
    arrays: dict[str, np.ndarray]


def architecture(layout: Layout, heads: Mapping[str, HeadSpec]) -> str:
    """The transformers class that holds exactly these heads.

    Raises :class:`WeightsError` when there is none.
    """
    kinds = sorted(head.kind for head in heads.values())
    if not kinds:
        return f"{CLASS[layout]}Model"
    if kinds == ["mlm", "pair"]:
        return f"{CLASS[layout]}ForPreTraining"
    if len(kinds) == 1 and not (kinds == ["pair"] and layout == "albert"):
        return CLASS[layout] + HEADS[kinds[0]].hf_class
    raise WeightsError(
        f"transformers has no {layout.upper()} class with the heads {', '.join(kinds)}; store further heads beside the model"
    )


def keeps_pooler(heads: Mapping[str, HeadSpec]) -> bool:
    """Whether transformers' class for these heads has a pooler."""
    return not heads or any(head.row.states == "pooled" for head in heads.values())


def config_of(spec: EncoderSpec, heads: Mapping[str, HeadSpec], tokens: Mapping[str, int]) -> dict[str, Any]:
    """The ``config.json`` of an encoder with these heads. ``tokens``: ids of pad, cls and sep."""
    layout = layout_of(spec)
    config: dict[str, Any] = {
        "architectures": [architecture(layout, heads)],
        "model_type": layout,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "num_attention_heads": spec.num_attention_heads,
        "intermediate_size": spec.intermediate_size,
        "hidden_act": spec.hidden_act,
        "hidden_dropout_prob": spec.hidden_dropout_prob,
        "attention_probs_dropout_prob": spec.attention_probs_dropout_prob,
        "max_position_embeddings": spec.max_position_embeddings,
        "type_vocab_size": spec.type_vocab_size,
        "initializer_range": spec.initializer_range,
        "layer_norm_eps": spec.layer_norm_eps,
        "pad_token_id": tokens.get("pad", 0),
    }
    if layout == "albert":
        config |= {
            "embedding_size": spec.embedding_size,
            "num_hidden_groups": file_groups(spec),
            "inner_group_num": spec.inner_group_num,
            "classifier_dropout_prob": spec.classifier_dropout_prob,
            "bos_token_id": tokens.get("cls", 2),
            "eos_token_id": tokens.get("sep", 3),
        }
    else:
        config["classifier_dropout"] = spec.classifier_dropout_prob
    for head in heads.values():
        if head.labels:
            config["id2label"] = {str(i): label for i, label in enumerate(head.labels)}
            config["label2id"] = {label: i for i, label in enumerate(head.labels)}
            if head.several:
                config["problem_type"] = "multi_label_classification"
        elif head.kind == "score":
            config |= {"id2label": {"0": "score"}, "label2id": {"score": 0}, "problem_type": "regression"}
    return config


def layout_in(config: Mapping[str, Any]) -> Any:
    """The ``model_type`` of a configuration; those of 2018 have none, but can be told apart."""
    layout = config.get("model_type")
    if layout is None and "num_attention_heads" in config:
        layout = "albert" if "embedding_size" in config else "bert"
    return layout


def origins_of(config: Mapping[str, Any], spec: EncoderSpec, looked: bool = True) -> dict[str, str]:
    """Where each field of an encoder read by :func:`spec_of` came from; ``looked``: whether tensors were seen."""
    config = translated(dict(config))
    albert = layout_in(config) == "albert"
    origins = {}
    for name in msgspec.structs.asdict(spec):
        told = {
            "classifier_dropout_prob": "classifier_dropout_prob" if albert else "classifier_dropout",
            "embedding_size": "embedding_size" if albert else "hidden_size",
            "num_hidden_groups": "num_hidden_groups" if albert else "num_hidden_layers",
        }.get(name, name)
        if config.get(told) is not None:
            origins[name] = "config.json"
        elif name in ("attention_groups", "ffn_groups", "embedding_projection"):
            origins[name] = "transformers' architecture"
        else:
            origins[name] = "tensors" if name == "pooler" and looked else "assumed: transformers' default"
    return origins


def losses(config: Mapping[str, Any]) -> list[str]:
    """What a configuration says of its head that Halbert does not keep."""
    found = lost(config)
    config = translated(dict(config))
    labels = config.get("id2label")
    if isinstance(labels, Mapping) and len(labels) == 1 and config.get("problem_type") != "regression":
        found.append(
            f"a classifier with the one label {next(iter(labels.values()))!r} is read as a score without bounds"
        )
    return found


def spec_of(config: Mapping[str, Any], where: str) -> tuple[EncoderSpec, dict[str, HeadSpec]]:
    """Encoder and heads out of a transformers configuration.

    Raises :class:`InputError` when it is not a BERT or ALBERT one, :class:`SpecError` when a value is impossible.
    """
    if not isinstance(config, Mapping):
        raise InputError(f"{where}: expected a JSON object")
    layout = layout_in(config)
    if layout not in tuple(CLASS):  # a tuple: the value may be of any JSON type
        raise InputError(
            f"{where}: model_type is {layout!r}; Halbert reads 'bert' and 'albert', and 'distilbert' and 'electra', which are "
            "such encoders by other names; others can be measured (halbert audit, with the extra others)"
        )
    if (positions := config.get("position_embedding_type", "absolute")) != "absolute":
        raise InputError(f"{where}: position_embedding_type is {positions!r}; expected 'absolute'")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise InputError(f"{where}: this is a decoder; Halbert reads encoders")
    activation = config.get("hidden_act", "gelu_new" if layout == "albert" else "gelu")  # transformers' defaults
    if activation not in tuple(_ACTIVATIONS):
        raise InputError(f"{where}: hidden_act is {activation!r}; expected one of {', '.join(_ACTIVATIONS)}")
    try:
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        for field in ("hidden_size", "num_hidden_layers"):  # which others are derived from, and would be named instead
            if type(config[field]) is not int:
                raise InputError(f"{where}: {field}: expected int, got {type(config[field]).__name__}")
        fields: dict[str, Any] = {
            "vocab_size": config["vocab_size"],
            "embedding_size": config.get("embedding_size", hidden) if layout == "albert" else hidden,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_hidden_groups": config.get("num_hidden_groups", 1) if layout == "albert" else layers,
            "num_attention_heads": config["num_attention_heads"],
            "intermediate_size": config["intermediate_size"],
            "hidden_act": _ACTIVATIONS[activation],
        }
    except KeyError as error:
        raise InputError(f"{where}: the field {error} is missing; every BERT or ALBERT configuration has it") from None
    dropout = config.get("classifier_dropout_prob" if layout == "albert" else "classifier_dropout")
    if dropout is None and layout == "bert":
        dropout = config.get("hidden_dropout_prob")
    if dropout is None:
        dropout = 0.1
    fields |= {"classifier_dropout_prob": dropout, "inner_group_num": config.get("inner_group_num", 1)}
    if layout == "albert" and fields["embedding_size"] == hidden:
        fields["embedding_projection"] = "always"
    if layout == "albert":
        fields |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # transformers' defaults
    for name in (
        "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings",
        "type_vocab_size", "initializer_range", "layer_norm_eps",
    ):  # fmt: skip
        if config.get(name) is not None:
            fields[name] = config[name]
    try:
        return msgspec.convert(fields, EncoderSpec), _heads_of(config, where)
    except (msgspec.ValidationError, SpecError) as error:
        raise SpecError(f"{where}: {in_words(error)}") from None


def _heads_of(config: Mapping[str, Any], where: str) -> dict[str, HeadSpec]:
    names = config.get("architectures") or ["Model"]
    if not isinstance(names, list) or not isinstance(names[0], str):
        raise InputError(f"{where}: architectures is {names!r}; expected a list with one class name")
    suffix = names[0].removeprefix("Albert").removeprefix("Bert")
    labels = config.get("id2label") or {}
    try:
        ordered = tuple(str(labels[key]) for key in sorted(labels, key=int))
    except (TypeError, ValueError, IndexError):
        raise InputError(f"{where}: id2label must map whole numbers to names") from None
    if suffix == "Model":
        return {}
    if suffix == "ForPreTraining":
        return {"mlm": HeadSpec(kind="mlm"), "pair": HeadSpec(kind="pair")}
    count = len(ordered) or config.get("num_labels", 2)
    if not isinstance(count, int) or not 1 <= count <= 1_000_000:
        raise InputError(f"{where}: num_labels is {count!r}; expected a whole number from 1 to 1,000,000")
    ordered = ordered or tuple(f"LABEL_{i}" for i in range(count))
    if suffix == "ForSequenceClassification":
        if count == 1 or config.get("problem_type") == "regression":
            return {"score": HeadSpec(kind="score")}
        several = config.get("problem_type") == "multi_label_classification"
        return {"label": HeadSpec(kind="label", labels=ordered, several=several)}
    for kind, row in HEADS.items():
        if row.hf_class == suffix:
            return {kind: HeadSpec(kind=kind, labels=ordered if kind == "tag" else ())}  # type: ignore[arg-type]
    raise InputError(f"{where}: Halbert does not know the architecture {names[0]!r}")


def read(
    folder: Path,
    spec: EncoderSpec | None = None,
    heads: dict[str, HeadSpec] | None = None,
    *,
    allow_pickle: bool = False,
) -> Folder:
    """Read a folder; ``spec`` and ``heads``, where known from ``halbert.json``, say what ``config.json`` cannot.

    Raises :class:`InputError` or :class:`WeightsError` naming the file and the fault.
    """
    config_file = folder / "config.json"
    written = read_json(config_file)
    config = translated(written)
    told, told_heads = spec_of(config, str(config_file))
    layout: Layout = layout_in(config)
    tensors = read_tensors(folder, allow_pickle)
    if is_relative(written):
        tensors = translate_tensors(written, tensors)
    if spec is not None and heads is not None and spec.pooler == "tanh" and not keeps_pooler(heads):
        tensors |= read_file(folder / POOLER_FILE)
    tensors = _canonical(_modern(tensors, str(folder)), layout, str(folder))
    if spec is None or heads is None:
        spec, heads = seen(told, told_heads, set(tensors), layout, str(folder))
    else:
        _agree(told, spec, config_file)
    if layout == "albert" and not spec.has_projection:
        _drop_identity(tensors, spec, str(folder))
    arrays = settle(expected(spec, heads, layout), tensors, str(folder))
    return Folder(spec, heads, arrays)


def describe(folder: Path) -> tuple[EncoderSpec, dict[str, HeadSpec], bool]:
    """(encoder, heads, whether tensors were looked at) of a folder, without reading a weight.

    Raises :class:`InputError` or :class:`WeightsError` naming the file and the fault.
    """
    config_file = folder / "config.json"
    written = read_json(config_file)
    config = translated(written)
    told, heads = spec_of(config, str(config_file))
    names = tensor_names(folder)
    if names is None:
        return told, heads, False
    if is_relative(written):
        names = set(renamed(written, names).values())
    layout: Layout = layout_in(config)
    return *seen(told, heads, {_prefixed(name, names, layout) for name in names}, layout, str(folder)), True


_PRETRAINING: tuple[HeadKind, ...] = ("mlm", "pair")


def seen(
    encoder: EncoderSpec, heads: dict[str, HeadSpec], names: set[str], layout: Layout, where: str
) -> tuple[EncoderSpec, dict[str, HeadSpec]]:
    """Encoder and heads as the tensors show them, where the configuration cannot: pooler, further pre-training heads.

    (The hub's bert-base-uncased calls itself BertForMaskedLM and holds a pooler and a pair head too.) Raises
    :class:`WeightsError` when a head reads a pooler that is not there.
    """
    column = Row._fields.index(layout)
    kinds = {head.kind for head in heads.values()}
    found = dict(heads)
    for kind in _PRETRAINING:
        if kind not in kinds and HEAD_ROWS[kind][0][column] in names:
            found[kind] = HeadSpec(kind=kind)
    if any(name.startswith(f"{layout}.pooler") for name in names):
        return encoder, found
    check_pooler(found, where)
    return msgspec.structs.replace(encoder, pooler="none"), found


def check_pooler(heads: Mapping[str, HeadSpec], where: str) -> None:
    """Raise :class:`WeightsError` when one of these heads reads a pooler; for files that have none."""
    for name, head in heads.items():
        if head.row.states == "pooled":
            raise WeightsError(f"{where}: the pooler's tensors are missing, and the head {name!r} needs them")


# What both files say, and must say alike: an edited config.json would change transformers' results, but not ours.
_SHARED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "max_position_embeddings", "type_vocab_size", "layer_norm_eps",
)  # fmt: skip


def _agree(told: EncoderSpec, spec: EncoderSpec, config_file: Path) -> None:
    for field in _SHARED:
        if getattr(told, field) != getattr(spec, field):
            raise InputError(
                f"{config_file}: {field} is {getattr(told, field)}, but halbert.json says {getattr(spec, field)}; they were "
                "written together, so one of them was changed since"
            )


def _modern(tensors: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Undo the names of TensorFlow-era files. Raises :class:`WeightsError` when a tensor has both its names."""
    found = {}
    for name, array in tensors.items():
        new = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if new in found:
            raise WeightsError(f"{where}: holds {new} twice, under its old name and its new one")
        found[new] = array
    return found


def _prefixed(name: str, names: Collection[str], layout: Layout) -> str:
    """The name with the prefix that bare encoders lack."""
    bare = name.startswith(("embeddings.", "encoder.", "pooler."))
    return f"{layout}.{name}" if bare and not any(other.startswith(f"{layout}.") for other in names) else name


def _canonical(tensors: dict[str, np.ndarray], layout: Layout, where: str) -> dict[str, np.ndarray]:
    """Add the prefix bare encoders lack, check and drop tied copies and constant buffers."""
    tensors = {_prefixed(name, tensors, layout): array for name, array in tensors.items()}
    tensors = {name: array for name, array in tensors.items() if not name.endswith(BUFFERS)}
    for copy, original in TIED.items():
        if copy in tensors and original in tensors:
            if not np.array_equal(tensors[copy], tensors[original]):
                raise WeightsError(f"{where}: {copy} differs from {original}; Halbert's masked-piece head ties the two")
            del tensors[copy]
    return tensors


def _drop_identity(tensors: dict[str, np.ndarray], spec: EncoderSpec, where: str) -> None:
    stem = "albert.encoder.embedding_hidden_mapping_in"
    weight, bias = tensors.pop(f"{stem}.weight", None), tensors.pop(f"{stem}.bias", None)
    identity = np.eye(spec.hidden_size)
    if weight is None or bias is None or not np.array_equal(weight, identity) or bias.any():
        raise WeightsError(f"{where}: halbert.json says there is no projection, but {stem} is not the identity")


def write(
    folder: Path,
    spec: EncoderSpec,
    heads: dict[str, HeadSpec],
    arrays: Mapping[str, np.ndarray],
    tokens: Mapping[str, int],
    dtype: Dtype = "float32",
) -> None:
    """Write ``config.json`` and ``model.safetensors`` into an existing folder; the same input gives the same bytes.

    Raises :class:`WeightsError` when an array is missing, or when no transformers class fits the heads.
    """
    layout = layout_of(spec)
    if dtype not in get_args(Dtype):
        raise InputError(f"dtype {dtype!r}: expected one of {', '.join(get_args(Dtype))}")
    tensors: dict[str, np.ndarray] = {}
    beside: dict[str, np.ndarray] = {}  # a pooler that transformers' class for these heads has no place for
    for entry in expected(spec, heads, layout):
        if entry.ours not in arrays:
            raise WeightsError(f"{entry.ours} is missing; every tensor of the specification must be there to be saved")
        array = arrays[entry.ours]
        if array.shape != entry.shape:
            raise WeightsError(
                f"{entry.ours} has shape {list(array.shape)}, the specification says {list(entry.shape)}"
            )
        target = beside if entry.ours.startswith("encoder.pooler.") and not keeps_pooler(heads) else tensors
        for name in entry.theirs:
            target[name] = array
    if layout == "albert" and not spec.has_projection:
        stem = "albert.encoder.embedding_hidden_mapping_in"
        tensors[f"{stem}.weight"] = np.eye(spec.hidden_size)
        tensors[f"{stem}.bias"] = np.zeros(spec.hidden_size)
    write_json(folder / "config.json", {**config_of(spec, heads, tokens), "dtype": dtype})
    save_tensors(folder / "model.safetensors", tensors, dtype)
    if beside:
        save_tensors(folder / POOLER_FILE, beside, dtype)
