"""ONE two-way table of tensor names: ours, transformers' BERT and ALBERT, Google's TensorFlow BERT and ALBERT.

Our names are the paths inside :class:`halbert.model.Model`. ``{group}`` and ``{inner}`` number a parameter set; in the
BERT columns ``{group}`` is the layer, because there every layer has its own. ``None`` means the layout has no such
tensor. TensorFlow stores the matrix of a dense layer, its ``kernel``, transposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from halbert.errors import WeightsError
from halbert.heads import HeadSpec
from halbert.spec import EncoderSpec

Layout = Literal["bert", "albert"]  # transformers'
Column = Literal["bert", "albert", "bert_tf1", "albert_tf1"]
Part = Literal["attention", "ffn"]


class Row(NamedTuple):
    """One tensor under all its names."""

    ours: str
    bert: str | None
    albert: str | None
    bert_tf1: str | None
    albert_tf1: str | None


# How the two tensors of a layer end, in our names and transformers' first, then in TensorFlow's.
_OURS = (".weight", ".bias")
_DENSE = ("/kernel", "/bias")
_NORM = ("/gamma", "/beta")
_OUTPUT = ("output_weights", "output_bias")


def _pair(
    ours: str, bert: str | None, albert: str | None, bert_tf1: str | None, albert_tf1: str | None, ends: tuple[str, str]
) -> list[Row]:
    """A weight and its bias; ``ends`` are TensorFlow's."""

    def name(stem: str | None, end: str) -> str | None:
        return None if stem is None else stem + end

    return [
        Row(ours + our, name(bert, our), name(albert, our), name(bert_tf1, tf1), name(albert_tf1, tf1))
        for our, tf1 in zip(_OURS, ends, strict=True)
    ]


_BERT = "bert.encoder.layer.{group}"
_ALBERT = "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}"
_BERT_TF1 = "bert/encoder/layer_{group}"
_ALBERT_TF1 = "bert/encoder/transformer/group_{group}/inner_group_{inner}"
_ATTENTION = "encoder.attention.{group}.{inner}"
_FFN = "encoder.ffn.{group}.{inner}"

EMBEDDINGS = [
    *(
        Row(
            f"encoder.embeddings.{ours}.weight",
            f"bert.embeddings.{theirs}.weight",
            f"albert.embeddings.{theirs}.weight",
            f"bert/embeddings/{theirs}",
            f"bert/embeddings/{theirs}",
        )
        for ours, theirs in (
            ("piece", "word_embeddings"),
            ("position", "position_embeddings"),
            ("segment", "token_type_embeddings"),
        )
    ),
    *_pair(
        "encoder.embeddings.norm",
        "bert.embeddings.LayerNorm",
        "albert.embeddings.LayerNorm",
        "bert/embeddings/LayerNorm",
        "bert/embeddings/LayerNorm",
        _NORM,
    ),
]
PROJECTION = _pair(
    "encoder.projection",
    None,
    "albert.encoder.embedding_hidden_mapping_in",
    None,
    "bert/encoder/embedding_hidden_mapping_in",
    _DENSE,
)
ATTENTION = [
    *(
        row
        for name in ("query", "key", "value")
        for row in _pair(
            f"{_ATTENTION}.{name}",
            f"{_BERT}.attention.self.{name}",
            f"{_ALBERT}.attention.{name}",
            f"{_BERT_TF1}/attention/self/{name}",
            f"{_ALBERT_TF1}/attention_1/self/{name}",
            _DENSE,
        )
    ),
    *_pair(
        f"{_ATTENTION}.output",
        f"{_BERT}.attention.output.dense",
        f"{_ALBERT}.attention.dense",
        f"{_BERT_TF1}/attention/output/dense",
        f"{_ALBERT_TF1}/attention_1/output/dense",
        _DENSE,
    ),
    *_pair(
        f"{_ATTENTION}.norm",
        f"{_BERT}.attention.output.LayerNorm",
        f"{_ALBERT}.attention.LayerNorm",
        f"{_BERT_TF1}/attention/output/LayerNorm",
        f"{_ALBERT_TF1}/LayerNorm",
        _NORM,
    ),
]
FFN = [
    *_pair(
        f"{_FFN}.intermediate",
        f"{_BERT}.intermediate.dense",
        f"{_ALBERT}.ffn",
        f"{_BERT_TF1}/intermediate/dense",
        f"{_ALBERT_TF1}/ffn_1/intermediate/dense",
        _DENSE,
    ),
    *_pair(
        f"{_FFN}.output",
        f"{_BERT}.output.dense",
        f"{_ALBERT}.ffn_output",
        f"{_BERT_TF1}/output/dense",
        f"{_ALBERT_TF1}/ffn_1/intermediate/output/dense",
        _DENSE,
    ),
    *_pair(
        f"{_FFN}.norm",
        f"{_BERT}.output.LayerNorm",
        f"{_ALBERT}.full_layer_layer_norm",
        f"{_BERT_TF1}/output/LayerNorm",
        f"{_ALBERT_TF1}/LayerNorm_1",
        _NORM,
    ),
]
PARTS: dict[Part, list[Row]] = {"attention": ATTENTION, "ffn": FFN}
POOLER = _pair("encoder.pooler", "bert.pooler.dense", "albert.pooler", "bert/pooler/dense", "bert/pooler/dense", _DENSE)


def _head(bert: str, albert: str, tf1: str | None, ends: tuple[str, str] = _OUTPUT) -> list[Row]:
    """A head's one dense layer; Google's code gives it the same name in both models."""
    return _pair("heads.{head}.dense", bert, albert, tf1, tf1, ends)


_MLM_TF1 = "cls/predictions/transform"
HEAD_ROWS: dict[str, list[Row]] = {
    "mlm": [
        *_head("cls.predictions.transform.dense", "predictions.dense", f"{_MLM_TF1}/dense", _DENSE),
        *_pair(
            "heads.{head}.norm",
            "cls.predictions.transform.LayerNorm",
            "predictions.LayerNorm",
            f"{_MLM_TF1}/LayerNorm",
            f"{_MLM_TF1}/LayerNorm",
            _NORM,
        ),
        Row(
            "heads.{head}.bias",
            "cls.predictions.bias",
            "predictions.bias",
            "cls/predictions/output_bias",
            "cls/predictions/output_bias",
        ),
    ],
    "pair": _head("cls.seq_relationship", "sop_classifier.classifier", "cls/seq_relationship/"),
    "span": _head("qa_outputs", "qa_outputs", "cls/squad/"),
    "label": _head("classifier", "classifier", ""),
    "score": _head("classifier", "classifier", ""),
    "choice": _head("classifier", "classifier", None),
    "tag": _head("classifier", "classifier", None),
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

    @property
    def transposed(self) -> bool:
        """Whether the file holds it with its two axes exchanged."""
        return self.theirs[0].endswith(_DENSE[0])

    @property
    def file_shape(self) -> tuple[int, ...]:
        """The shape it has in the file."""
        return self.shape[::-1] if self.transposed else self.shape


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


def expected(spec: EncoderSpec, heads: dict[str, HeadSpec], layout: Column) -> list[Entry]:
    """Every tensor a file of this layout must hold, no more and no fewer. ``heads`` maps our name to its spec."""
    shapes = _shapes(spec)
    column = Row._fields.index(layout)
    entries: list[Entry] = []

    def add(row: Row, shape: tuple[int, ...], numbers: list[int], **holes: int | str) -> None:
        theirs = row[column]
        if theirs is None:
            raise WeightsError(f"{row.ours} has no name in the {layout} layout")
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
    return entries + head_entries(spec, heads, layout)


def head_entries(spec: EncoderSpec, heads: Mapping[str, HeadSpec], layout: Column) -> list[Entry]:
    """The tensors of the heads alone. Raises :class:`WeightsError` for a kind that the layout has no names for."""
    column = Row._fields.index(layout)
    entries = []
    for name, head in heads.items():
        for row in HEAD_ROWS[head.kind]:
            theirs = row[column]
            if theirs is None:
                raise WeightsError(f"{row.ours} has no name in the {layout} layout")
            entries.append(
                Entry(row.ours.format(head=name), _head_shape(spec, head, row.ours), [theirs.format(head=name)])
            )
    return entries


def _file_numbers(spec: EncoderSpec, part: Part, group: int, layout: Column) -> list[int]:
    groups = {
        "bert": spec.num_hidden_layers,
        "bert_tf1": spec.num_hidden_layers,
        "albert": file_groups(spec),
        "albert_tf1": spec.num_hidden_groups,
    }[layout]
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
