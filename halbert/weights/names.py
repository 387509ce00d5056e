"""ONE two-way table of tensor names: ours, transformers' BERT, transformers' ALBERT.

Our names are the paths inside :class:`halbert.model.Model`. ``{group}`` and ``{inner}`` number a parameter set; in the
BERT column ``{group}`` is the layer, because there every layer has its own. ``None`` means the layout has no such
tensor.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from halbert.errors import WeightsError
from halbert.heads import HeadSpec
from halbert.spec import EncoderSpec

Layout = Literal["bert", "albert"]
Part = Literal["attention", "ffn"]


class Row(NamedTuple):
    """One tensor under its three names."""

    ours: str
    bert: str | None
    albert: str | None


def _pair(ours: str, bert: str | None, albert: str | None) -> list[Row]:
    """A weight and its bias."""

    def name(stem: str | None, end: str) -> str | None:
        return None if stem is None else f"{stem}.{end}"

    return [Row(f"{ours}.{end}", name(bert, end), name(albert, end)) for end in ("weight", "bias")]


_BERT_LAYER = "bert.encoder.layer.{group}"
_ALBERT_LAYER = "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}"
_ATTENTION = "encoder.attention.{group}.{inner}"
_FFN = "encoder.ffn.{group}.{inner}"

EMBEDDINGS = [
    *(
        Row(
            f"encoder.embeddings.{ours}.weight",
            f"bert.embeddings.{theirs}.weight",
            f"albert.embeddings.{theirs}.weight",
        )
        for ours, theirs in (
            ("piece", "word_embeddings"),
            ("position", "position_embeddings"),
            ("segment", "token_type_embeddings"),
        )
    ),
    *_pair("encoder.embeddings.norm", "bert.embeddings.LayerNorm", "albert.embeddings.LayerNorm"),
]
PROJECTION = _pair("encoder.projection", None, "albert.encoder.embedding_hidden_mapping_in")
ATTENTION = [
    *_pair(f"{_ATTENTION}.query", f"{_BERT_LAYER}.attention.self.query", f"{_ALBERT_LAYER}.attention.query"),
    *_pair(f"{_ATTENTION}.key", f"{_BERT_LAYER}.attention.self.key", f"{_ALBERT_LAYER}.attention.key"),
    *_pair(f"{_ATTENTION}.value", f"{_BERT_LAYER}.attention.self.value", f"{_ALBERT_LAYER}.attention.value"),
    *_pair(f"{_ATTENTION}.output", f"{_BERT_LAYER}.attention.output.dense", f"{_ALBERT_LAYER}.attention.dense"),
    *_pair(f"{_ATTENTION}.norm", f"{_BERT_LAYER}.attention.output.LayerNorm", f"{_ALBERT_LAYER}.attention.LayerNorm"),
]
FFN = [
    *_pair(f"{_FFN}.intermediate", f"{_BERT_LAYER}.intermediate.dense", f"{_ALBERT_LAYER}.ffn"),
    *_pair(f"{_FFN}.output", f"{_BERT_LAYER}.output.dense", f"{_ALBERT_LAYER}.ffn_output"),
    *_pair(f"{_FFN}.norm", f"{_BERT_LAYER}.output.LayerNorm", f"{_ALBERT_LAYER}.full_layer_layer_norm"),
]
PARTS: dict[Part, list[Row]] = {"attention": ATTENTION, "ffn": FFN}
POOLER = _pair("encoder.pooler", "bert.pooler.dense", "albert.pooler")
HEAD_ROWS: dict[str, list[Row]] = {
    "mlm": [
        *_pair("heads.{head}.dense", "cls.predictions.transform.dense", "predictions.dense"),
        *_pair("heads.{head}.norm", "cls.predictions.transform.LayerNorm", "predictions.LayerNorm"),
        Row("heads.{head}.bias", "cls.predictions.bias", "predictions.bias"),
    ],
    "pair": _pair("heads.{head}.dense", "cls.seq_relationship", "sop_classifier.classifier"),
    "span": _pair("heads.{head}.dense", "qa_outputs", "qa_outputs"),
    **{kind: _pair("heads.{head}.dense", "classifier", "classifier") for kind in ("label", "score", "choice", "tag")},
}

# Copies of tied tensors that other programs also write: the name, and the tensor it must equal.
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
}
# Constant tables that old versions of transformers stored.
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")


class Entry(NamedTuple):
    """A tensor of ours, its shape, and every name it has in a file (several where the file cannot share)."""

    ours: str
    shape: tuple[int, ...]
    theirs: list[str]


def layout_of(spec: EncoderSpec) -> Layout:
    """``bert`` when E = H without projection and nothing is shared, else ``albert`` (DESIGN: a bundle on disk)."""
    unshared = spec.groups("attention") == spec.groups("ffn") == spec.num_hidden_layers
    return "bert" if unshared and spec.inner_group_num == 1 and not spec.has_projection else "albert"


def file_groups(spec: EncoderSpec) -> int:
    """How many groups the ``albert`` layout needs: one a layer where it cannot express the sharing."""
    layers, groups = spec.num_hidden_layers, spec.groups("attention")
    # transformers finds the group in floating point, which for some pairs (18 layers, 14 groups) rounds elsewhere.
    same = groups == spec.groups("ffn") and all(
        int(i / (layers / groups)) == i * groups // layers for i in range(layers)
    )
    return groups if same else layers


def expected(spec: EncoderSpec, heads: dict[str, HeadSpec], layout: Layout) -> list[Entry]:
    """Every tensor a file of this layout must hold, no more and no fewer. ``heads`` maps our name to its spec."""
    shapes = _shapes(spec)
    column = Row._fields.index(layout)
    entries: list[Entry] = []

    def add(row: Row, shape: tuple[int, ...], numbers: list[int], **holes: int | str) -> None:
        theirs = row[column]
        if theirs is None:
            raise WeightsError(f"{row.ours} has no name in the {layout} layout of transformers")
        names = [theirs.format(**{**holes, "group": number}) for number in numbers]
        entries.append(Entry(row.ours.format(**holes), shape, names))

    for row in EMBEDDINGS + (PROJECTION if spec.has_projection else []):
        add(row, shapes[row.ours], [0])
    for part, rows in PARTS.items():
        for group in range(spec.groups(part)):
            users = _file_numbers(spec, part, group, layout)
            for inner in range(spec.inner_group_num):
                for row in rows:
                    add(row, shapes[row.ours], users, group=group, inner=inner)
    if spec.pooler == "tanh":
        for row in POOLER:
            add(row, shapes[row.ours], [0])
    for name, head in heads.items():
        for row in HEAD_ROWS[head.kind]:
            add(row, _head_shape(spec, head, row.ours), [0], head=name)
    return entries


def _file_numbers(spec: EncoderSpec, part: Part, group: int, layout: Layout) -> list[int]:
    groups = spec.num_hidden_layers if layout == "bert" else file_groups(spec)
    if groups == spec.groups(part):
        return [group]
    return [layer for layer in range(spec.num_hidden_layers) if spec.group_of(part, layer) == group]


def _shapes(spec: EncoderSpec) -> dict[str, tuple[int, ...]]:
    e, h, f = spec.embedding_size, spec.hidden_size, spec.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.embeddings.piece.weight": (spec.vocab_size, e),
        "encoder.embeddings.position.weight": (spec.max_position_embeddings, e),
        "encoder.embeddings.segment.weight": (spec.type_vocab_size, e),
        "encoder.embeddings.norm.weight": (e,),
        "encoder.embeddings.norm.bias": (e,),
        "encoder.projection.weight": (h, e),
        "encoder.projection.bias": (h,),
        "encoder.pooler.weight": (h, h),
        "encoder.pooler.bias": (h,),
        f"{_FFN}.intermediate.weight": (f, h),
        f"{_FFN}.intermediate.bias": (f,),
        f"{_FFN}.output.weight": (h, f),
        f"{_FFN}.output.bias": (h,),
    }
    for name in ("query", "key", "value", "output"):
        shapes |= {f"{_ATTENTION}.{name}.weight": (h, h), f"{_ATTENTION}.{name}.bias": (h,)}
    for stem in (_ATTENTION, _FFN):
        shapes |= {f"{stem}.norm.weight": (h,), f"{stem}.norm.bias": (h,)}
    return shapes


def _head_shape(spec: EncoderSpec, head: HeadSpec, row: str) -> tuple[int, ...]:
    e, h = spec.embedding_size, spec.hidden_size
    if head.kind == "mlm":
        return {
            "dense.weight": (e, h),
            "dense.bias": (e,),
            "norm.weight": (e,),
            "norm.bias": (e,),
            "bias": (spec.vocab_size,),
        }[row.removeprefix("heads.{head}.")]
    return (head.width, h) if row.endswith("weight") else (head.width,)
