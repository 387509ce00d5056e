"""Folders as Google released them: ``bert_config.json`` or ``albert_config.json``, a vocabulary and a checkpoint.

Tensor shapes do not show the number of heads, the activation or how text was prepared. Every value is therefore kept
with its origin: a file, the shape of a variable, a known release, or an assumption with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from halbert import presets
from halbert.errors import InputError, SpecError, WeightsError
from halbert.files import read_json
from halbert.heads import HeadSpec
from halbert.spec import EncoderSpec, ModelSpec, TextSpec, in_words
from halbert.text.tokenizer import CASED, open_tokenizer, upper_case
from halbert.weights.accounting import check
from halbert.weights.huggingface import check_pooler
from halbert.weights.names import Column, Entry, expected
from halbert.weights.tensorflow1 import Checkpoint, find

CONFIGS = ("bert_config.json", "albert_config.json", "config.json")
VOCABULARIES = ("vocab.txt", "30k-clean.model", "vocab_chinese.txt", "spiece.model")
_ARCHITECTURE: dict[Column, str] = {"bert_tf1": "bert", "albert_tf1": "albert"}
# Fields that Google's files hold and that change nothing, or only when they are not zero.
_SILENT = {
    "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head",
    "pooler_type", "layers_to_keep", "down_scale_factor", "num_attention_groups", "ln_type",
}  # fmt: skip
_ZERO = {"net_structure_type", "gap_size", "num_memory_blocks"}
# Google's code computes what it calls gelu by the tanh formula since 2019; BERT was released in 2018.
_GELU = {
    "bert": ("gelu", "assumed: the file says gelu, which was the erf form when BERT was released in 2018"),
    "albert": ("gelu_new", "assumed: the file says gelu, which Google's ALBERT code computes by the tanh formula"),
}


class Release(NamedTuple):
    """A folder of Google's, understood but not yet read."""

    spec: ModelSpec
    heads: dict[str, HeadSpec]
    origins: dict[str, str]
    warnings: tuple[str, ...]
    vocabulary: Path | None
    checkpoint: Checkpoint
    entries: list[Entry]
    released: presets.Preset | None

    def arrays(self) -> dict[str, np.ndarray]:
        """Every tensor under our name, checksums verified. Raises :class:`WeightsError` when one does not match."""
        found = {}
        for entry in self.entries:
            array = self.checkpoint.read(entry.theirs[0])
            found[entry.ours] = np.ascontiguousarray(array.T) if entry.transposed else array
        return found


def open_release(place: Path, archive: str | None = None) -> Release:
    """Read configuration, vocabulary and index of a folder or checkpoint; ``archive`` is the file it came in.

    Raises :class:`InputError` naming the file and the fault, :class:`WeightsError` when the variables do not fit.
    """
    prefix = find(place)
    checkpoint = Checkpoint(prefix)
    where = str(checkpoint.index)
    column = _column(checkpoint)
    family = _ARCHITECTURE[column]
    folders = [prefix.parent, prefix.parent / "assets"]
    if prefix.parent.name == "variables":  # a TF-Hub module; above any other folder is what is not the model's
        folders.append(prefix.parent.parent / "assets")
    config_file = _one_of(folders, CONFIGS, "*bert_config*.json")
    config = read_json(config_file) if config_file else None
    if config is not None and not isinstance(config, dict):
        raise InputError(f"{config_file}: expected a JSON object")
    fields, origins = _from_shapes(checkpoint.shapes, column)
    warnings: list[str] = []
    released = presets.by_release(archive or prefix.parent.name)
    if config is None:
        _from_presets(fields, origins, where)
    else:
        warnings += _from_config(config, config_file.name if config_file else "", family, fields, origins)
    try:
        encoder = msgspec.convert(fields, EncoderSpec)
    except (msgspec.ValidationError, SpecError) as fault:
        raise SpecError(f"{config_file or where}: {in_words(fault)}") from None
    if column == "albert_tf1":
        _check_groups(encoder, where)
    heads = _heads(checkpoint.shapes)
    if encoder.pooler == "none":
        check_pooler(heads, where)
    entries = expected(encoder, heads, column)
    check(entries, checkpoint.shapes, where)
    if released is not None and released not in presets.alike(encoder):
        released = None
    warnings += presets.contradictions(encoder)
    vocabulary = _one_of(folders, VOCABULARIES, "vocab*.txt")
    text = _text(vocabulary, origins)
    pretraining = presets.PRETRAINED[family]
    origins["sentence_objective"] = origins["masking"] = f"assumed: as for every {family.upper()}"
    if released is not None:
        pretraining = released.spec.pretraining
        origins["sentence_objective"] = origins["masking"] = f"the release {released.release}"
        if text.lower_case != released.spec.text.lower_case:
            was, is_now = ("lower-cased", "cased") if released.spec.text.lower_case else ("cased", "lower-cased")
            warnings.append(f"the text of {released.release} was {was}, but this vocabulary looks {is_now}")
    spec = ModelSpec(encoder=encoder, text=text, pretraining=pretraining)
    return Release(spec, heads, origins, tuple(warnings), vocabulary, checkpoint, entries, released)


def _column(checkpoint: Checkpoint) -> Column:
    names = checkpoint.variables
    if any(name.startswith("bert/encoder/layer_0/") for name in names):
        return "bert_tf1"
    if any(name.startswith("bert/encoder/transformer/group_0/") for name in names):
        return "albert_tf1"
    if any("layer_shared" in name for name in names):
        raise WeightsError(
            f"{checkpoint.index}: is an ALBERT of brightmart/albert_zh's first code, which projects and normalises "
            "elsewhere than Google's; convert one of its '_google' releases"
        )
    shown = ", ".join(sorted(names)[:3]) or "none"
    raise WeightsError(f"{checkpoint.index}: holds no BERT or ALBERT of Google's code; its first variables: {shown}")


def _one_of(folders: list[Path], names: tuple[str, ...], pattern: str) -> Path | None:
    """The first file of these names, else the only one that fits the pattern."""
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    for folder in folders:
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
    return None


def _from_shapes(shapes: Mapping[str, tuple[int, ...]], column: Column) -> tuple[dict[str, Any], dict[str, str]]:
    """What the variables tell about themselves."""
    layer = {"bert_tf1": "bert/encoder/layer_0/", "albert_tf1": "bert/encoder/transformer/group_0/inner_group_0/"}[
        column
    ]
    attention, ffn = {
        "bert_tf1": ("attention/self/query/kernel", "intermediate/dense/kernel"),
        "albert_tf1": ("attention_1/self/query/kernel", "ffn_1/intermediate/dense/kernel"),
    }[column]
    fields: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, variable, axis in (
        ("vocab_size", "bert/embeddings/word_embeddings", 0),
        ("embedding_size", "bert/embeddings/word_embeddings", 1),
        ("max_position_embeddings", "bert/embeddings/position_embeddings", 0),
        ("type_vocab_size", "bert/embeddings/token_type_embeddings", 0),
        ("hidden_size", layer + attention, 0),
        ("intermediate_size", layer + ffn, 1),
    ):
        if len(shapes.get(variable, ())) == 2:
            fields[name], origins[name] = shapes[variable][axis], f"shape of {variable}"
    pooled = "bert/pooler/dense/kernel" in shapes
    fields["pooler"], origins["pooler"] = "tanh" if pooled else "none", "variables"
    if column == "bert_tf1":
        layers = {int(m[1]) for name in shapes if (m := re.match(r"bert/encoder/layer_(\d{1,4})/", name))}
        fields["num_hidden_layers"] = fields["num_hidden_groups"] = max(layers) + 1
        origins["num_hidden_layers"] = origins["num_hidden_groups"] = "variables"
    else:
        numbers = {
            (int(m[1]), int(m[2]))
            for name in shapes
            if (m := re.match(r"bert/encoder/transformer/group_(\d{1,4})/inner_group_(\d{1,4})/", name))
        }
        fields["num_hidden_groups"] = max(group for group, _ in numbers) + 1
        fields["inner_group_num"] = max(inner for _, inner in numbers) + 1
        origins["num_hidden_groups"] = origins["inner_group_num"] = "variables"
    fields["layer_norm_eps"], origins["layer_norm_eps"] = 1e-12, "a constant of Google's code"
    fields["classifier_dropout_prob"], origins["classifier_dropout_prob"] = 0.1, "a constant of Google's code"
    return fields, origins


def _from_presets(fields: dict[str, Any], origins: dict[str, str], where: str) -> None:
    """Without a configuration: what the released models of the same shapes agree on."""
    visible = {name: value for name, value in fields.items() if name not in ("pooler", "layer_norm_eps")}
    known = [
        preset
        for preset in presets.all_presets().values()
        if all(getattr(preset.spec.encoder, name) == value for name, value in visible.items())
    ]
    hidden = {
        (p.spec.encoder.num_hidden_layers, p.spec.encoder.num_attention_heads, p.spec.encoder.hidden_act[:4])
        for p in known
    }
    if len(hidden) != 1:
        raise InputError(
            f"{where}: there is no bert_config.json or albert_config.json beside it, and its shapes are not those of one "
            "released model, so the number of heads is unknown; add the configuration"
        )
    like = known[-1].spec.encoder
    for name in msgspec.structs.asdict(like):
        if name not in fields:
            fields[name], origins[name] = getattr(like, name), f"the released {known[-1].name}, of the same shapes"


def _from_config(
    config: dict[str, Any], name: str, family: str, fields: dict[str, Any], origins: dict[str, str]
) -> list[str]:
    """What the configuration says; shapes are compared with it later. Returns warnings."""
    warnings = []
    known = {f.name for f in msgspec.structs.fields(EncoderSpec)} - {"pooler", "embedding_projection"}
    for field, value in config.items():
        if field in _ZERO and value:
            raise InputError(f"{name}: {field} is {value!r}; Halbert reads 0, as in every release")
        if field in known and not (family == "bert" and field in ("embedding_size", "num_hidden_groups")):
            fields[field], origins[field] = value, name
        elif field not in _SILENT | _ZERO:
            warnings.append(f"{name}: {field} = {value!r} is not used")
    for field in ("num_hidden_layers", "num_attention_heads", "hidden_act"):
        if field not in fields:
            raise InputError(f"{name}: the field {field!r} is missing; shapes do not show it")
    if family == "bert":
        fields["num_hidden_groups"] = fields["num_hidden_layers"]
        fields["embedding_size"] = fields.get("hidden_size")
        origins["num_hidden_groups"] = origins["embedding_size"] = name
    for field in ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range"):
        if field not in fields:
            fields[field] = {"initializer_range": 0.02}.get(field, 0.1 if family == "bert" else 0.0)
            origins[field] = "assumed: the default of Google's code"
    act = fields["hidden_act"]
    if act == "gelu":
        fields["hidden_act"], origins["hidden_act"] = _GELU[family]
    elif act != "relu":
        raise InputError(f"{name}: hidden_act is {act!r}; expected gelu or relu")
    return warnings


def _check_groups(encoder: EncoderSpec, where: str) -> None:
    # Google's code finds the group in floating point, which for some pairs rounds elsewhere than exact division.
    layers, groups = encoder.num_hidden_layers, encoder.num_hidden_groups
    for layer in range(layers):
        if int(layer / layers * groups) != encoder.group_of("ffn", layer):
            raise SpecError(
                f"{where}: with {layers} layers and {groups} groups, Google's code rounds layer {layer} into another group "
                "than exact division; Halbert cannot express that"
            )


def _heads(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, HeadSpec]:
    heads: dict[str, HeadSpec] = {}
    if "cls/predictions/output_bias" in shapes:
        heads["mlm"] = HeadSpec(kind="mlm")
    if "cls/seq_relationship/output_bias" in shapes:
        heads["pair"] = HeadSpec(kind="pair")
    if "cls/squad/output_bias" in shapes:
        heads["span"] = HeadSpec(kind="span")
    if "output_bias" in shapes:
        width = int(np.prod(shapes["output_bias"]))
        if width == 1:
            heads["score"] = HeadSpec(kind="score")
        elif width <= 1_000_000:
            heads["label"] = HeadSpec(kind="label", labels=tuple(f"LABEL_{i}" for i in range(width)))
    return heads


def _text(vocabulary: Path | None, origins: dict[str, str]) -> TextSpec:
    """How text is prepared: Google's files do not say, so the vocabulary has to."""
    origins["compat"] = "assumed: Google's rules, as for every TensorFlow checkpoint"
    origins["chinese_chars"] = "a constant of Google's code"
    if vocabulary is None:
        origins["kind"] = origins["lower_case"] = origins["strip_accents"] = "assumed: there is no vocabulary"
        return TextSpec(compat="google")
    text = TextSpec(kind="unigram" if vocabulary.suffix == ".model" else "wordpiece", compat="google")
    vocab = open_tokenizer(vocabulary, text).vocab
    cased = upper_case(vocab)
    origins["kind"] = vocabulary.name
    why = f"{len(cased):,} of {len(vocab):,} tokens of {vocabulary.name} hold upper-case letters"
    origins["lower_case"] = origins["strip_accents"] = f"assumed: {why}"
    lower = len(cased) <= CASED * len(vocab)
    return msgspec.structs.replace(text, lower_case=lower, strip_accents=lower)
