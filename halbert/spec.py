"""Specifications: what a model is, as inert values that can count themselves.

BERT and ALBERT are two values of :class:`EncoderSpec`. Field names are those of Google's ``bert_config.json`` and
``albert_config.json``; what those files cannot say (partial sharing, whether a projection exists) has a field too.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal, TypeVar, get_args

import msgspec

from halbert.errors import SpecError, nearest

T = TypeVar("T")

Activation = Literal["gelu", "gelu_new", "relu"]
PARTS = ("embeddings", "projection", "attention", "ffn", "pooler", "mlm_head", "pair_head")

# No released BERT or ALBERT comes near these; a config that does is broken or hostile, and must be refused before
# anything of its size is allocated.
_LIMITS = {
    "vocab_size": 10_000_000,
    "embedding_size": 65_536,
    "hidden_size": 65_536,
    "num_hidden_layers": 1_000,
    "num_attention_heads": 4_096,
    "intermediate_size": 1_048_576,
    "max_position_embeddings": 1_048_576,
    "type_vocab_size": 1_024,
    "num_hidden_groups": 1_000,
    "inner_group_num": 100,
    "attention_groups": 1_000,
    "ffn_groups": 1_000,
}


class EncoderSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The encoder's architecture.

    A stack of ``num_hidden_layers`` steps; step ``l`` uses the parameters of group ``floor(l * groups / layers)``
    (Google's ``albert/modeling.py``, ``transformer_model``) and applies that group's ``inner_group_num`` blocks in
    order. ``attention_groups`` and ``ffn_groups`` share the two halves of a block separately (ALBERT Table 4);
    ``None`` means ``num_hidden_groups``. BERT is ``num_hidden_groups == num_hidden_layers``, ALBERT is 1.
    """

    vocab_size: int
    embedding_size: int
    embedding_projection: Literal["auto", "always"] = "auto"
    hidden_size: int
    num_hidden_layers: int
    num_hidden_groups: int
    inner_group_num: int = 1
    attention_groups: int | None = None
    ffn_groups: int | None = None
    num_attention_heads: int
    intermediate_size: int
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pooler: Literal["tanh", "none"] = "tanh"

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= limit:
                raise SpecError(f"{name} is {value}; expected a whole number from 1 to {limit:,}")
        if self.hidden_size % self.num_attention_heads:
            raise SpecError(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}; "
                "every head needs the same whole width"
            )
        for name in ("num_hidden_groups", "attention_groups", "ffn_groups"):
            groups = getattr(self, name)
            if groups is not None and groups > self.num_hidden_layers:
                raise SpecError(
                    f"{name} {groups} is larger than num_hidden_layers {self.num_hidden_layers}; "
                    "a group without a layer would never be used"
                )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise SpecError(f"{name} is {getattr(self, name)}; expected at least 0 and less than 1")
        if not self.layer_norm_eps > 0 or not self.initializer_range > 0:
            raise SpecError("layer_norm_eps and initializer_range must be greater than 0")

    @property
    def has_projection(self) -> bool:
        """Whether a linear map leads from the embedding width to the hidden width (Google: only when they differ)."""
        return self.embedding_projection == "always" or self.embedding_size != self.hidden_size

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    def group_of(self, part: Literal["attention", "ffn"], layer: int) -> int:
        """The parameter group that ``layer`` (from 0) uses for its attention or feed-forward half."""
        return layer * self.groups(part) // self.num_hidden_layers

    def groups(self, part: Literal["attention", "ffn"]) -> int:
        """How many different parameter groups the attention or feed-forward halves have."""
        own = self.attention_groups if part == "attention" else self.ffn_groups
        return self.num_hidden_groups if own is None else own

    def knobs(self) -> dict[str, Any]:
        """All fields, in order."""
        return msgspec.structs.asdict(self)

    def count_parameters(self) -> dict[str, int]:
        """Exact number of parameters by part (the keys of :data:`PARTS`), the pre-training heads included."""
        return _count_parts(msgspec.structs.asdict(self))

    def count_encoder(self) -> int:
        """Parameters of embeddings, layers and pooler."""
        return encoder_total(self.count_parameters())

    def count_flops(self, length: int) -> int:
        """Floating-point operations of one forward pass over one sequence of ``length`` pieces.

        2 per multiply-add, matrix products only (projections, attention scores, attention values, feed-forward and the
        embedding projection); look-ups, normalisation, softmax, pooler and heads are not counted.
        """
        if length < 1:
            raise SpecError(f"length is {length}; expected at least 1")
        s, h, i = length, self.hidden_size, self.intermediate_size
        block = 2 * s * (4 * h * h + 2 * h * i) + 4 * s * s * h
        projection = 2 * s * self.embedding_size * h if self.has_projection else 0
        return self.num_hidden_layers * self.inner_group_num * block + projection


# What configurations of other architectures call the two dropouts.
DROPOUTS = ("hidden_dropout_prob", "hidden_dropout", "dropout", "mlp_dropout", "embedding_dropout")
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")
COUNTED = (8, 16, 24)  # pieces: the lengths at which a foreign encoder's work was counted


class ForeignSpec(EncoderSpec, frozen=True, kw_only=True):
    """An encoder of another architecture, which transformers computes (``halbert/model/foreign.py``).

    The fields it shares with :class:`EncoderSpec` mean the same; the others are those a BERT of this shape would have.
    ``config`` is its ``config.json``; ``parts`` are its parameters, counted, without pooler, and ``work`` the FLOPs counted
    at the lengths of :data:`COUNTED`.
    """

    model_type: str
    config: str
    parts: dict[str, int]
    work: tuple[int, ...]

    def knobs(self) -> dict[str, Any]:
        """See :meth:`EncoderSpec.knobs`."""
        return {k: v for k, v in super().knobs().items() if k not in ("config", "parts", "work")}

    def count_parameters(self) -> dict[str, int]:
        """See :meth:`EncoderSpec.count_parameters`; there are no pre-training heads."""
        return {**self.parts, "pooler": (self.hidden_size + 1) * self.hidden_size if self.pooler == "tanh" else 0}

    def count_flops(self, length: int) -> int:
        """Floating-point operations of one forward pass: the matrix products that PyTorch counts.

        Where every piece looks at every other their number is a square function of the length, and three counts tell all
        (Newton's formula); architectures that look less far are given too many beyond.
        """
        if length < 1:
            raise SpecError(f"length is {length}; expected at least 1")
        first, second, third = self.work
        n = Fraction(length - COUNTED[0], COUNTED[1] - COUNTED[0])
        return round(first + n * (second - first) + n * (n - 1) / 2 * (third - 2 * second + first))


class TextSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How text becomes ids. ``compat`` names the oracle where Google's and transformers' WordPiece disagree.

    ``chinese_chars``: whether WordPiece takes every Chinese character for a word. ``other`` is what an encoder of another
    architecture has (:class:`ForeignSpec`), whatever it is.
    """

    kind: Literal["wordpiece", "unigram", "other"] = "wordpiece"
    compat: Literal["google", "transformers"] = "transformers"
    lower_case: bool = True
    strip_accents: bool = True
    chinese_chars: bool = True


class PretrainSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model learns, or learnt, from raw text.

    ``short_prob`` is the share of instances that are shorter than the length on purpose. ``faithful`` brings back what
    Google's generators do where that is not what they say: pair labels that are not clean, among others
    (``halbert/data/faithful.py``).
    """

    sentence_objective: Literal["nsp", "sop", "none"] = "nsp"
    masking: Literal["piece", "word", "ngram"] = "piece"
    masking_prob: float = 0.15
    max_ngram: int = 3
    short_prob: float = 0.1
    faithful: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.masking_prob < 1.0:
            raise SpecError(f"masking_prob is {self.masking_prob}; expected more than 0 and less than 1")
        if not 1 <= self.max_ngram <= 10:
            raise SpecError(f"max_ngram is {self.max_ngram}; expected 1 to 10")
        if not 0.0 <= self.short_prob <= 1.0:
            raise SpecError(f"short_prob is {self.short_prob}; expected 0 to 1")


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that tells one encoder from another: architecture, text and pre-training."""

    encoder: EncoderSpec
    text: TextSpec = TextSpec()
    pretraining: PretrainSpec = PretrainSpec()

    def flat(self) -> dict[str, Any]:
        """All knobs in one table, in spec field order."""
        return {
            **self.encoder.knobs(),
            **msgspec.structs.asdict(self.text),
            **msgspec.structs.asdict(self.pretraining),
        }


class Knob(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between two models, and what it costs (+) or saves (-) in encoder parameters."""

    field: str
    a: Any
    b: Any
    parameters: int


def encoder_total(parts: Mapping[str, int]) -> int:
    """Parameters of the encoder proper, out of a table by part."""
    return sum(parts[name] for name in ("embeddings", "projection", "attention", "ffn", "pooler"))


def _count_parts(f: Mapping[str, Any]) -> dict[str, int]:
    # Works on a plain table, not on a spec: `difference` walks through mixtures of two models that no one could build.
    e, h, i, v = f["embedding_size"], f["hidden_size"], f["intermediate_size"], f["vocab_size"]
    layers, inner = f["num_hidden_layers"], f["inner_group_num"]
    attention_groups = f["num_hidden_groups"] if f["attention_groups"] is None else f["attention_groups"]
    ffn_groups = f["num_hidden_groups"] if f["ffn_groups"] is None else f["ffn_groups"]
    projected = f["embedding_projection"] == "always" or e != h
    return {
        "embeddings": (v + f["max_position_embeddings"] + f["type_vocab_size"] + 2) * e,
        "projection": (e + 1) * h if projected else 0,
        "attention": min(attention_groups, layers) * inner * (4 * h * h + 6 * h),
        "ffn": min(ffn_groups, layers) * inner * (2 * h * i + i + 3 * h),
        "pooler": h * h + h if f["pooler"] == "tanh" else 0,
        "mlm_head": h * e + 3 * e + v,
        "pair_head": 2 * h + 2 if f["pooler"] == "tanh" else 0,  # it reads the pooled state
    }


def difference(a: ModelSpec, b: ModelSpec) -> list[Knob]:
    """Every knob in which ``b`` differs from ``a``, with its share of the difference in encoder parameters.

    The shares are found by substituting ``b``'s values into ``a`` one after the other, in field order, so they add up
    exactly to the difference of the two totals. (Another order would divide the total otherwise; the sum stays.)
    Encoders of other architectures have no knobs in common with ours: there is none to name.
    """
    if isinstance(a.encoder, ForeignSpec) or isinstance(b.encoder, ForeignSpec):
        return []
    current, target = a.flat(), b.flat()
    knobs, before = [], encoder_total(_count_parts(current))
    for field, value in target.items():
        if current[field] == value:
            continue
        old, current[field] = current[field], value
        after = encoder_total(_count_parts(current))
        knobs.append(Knob(field=field, a=old, b=value, parameters=after - before))
        before = after
    return knobs


def from_dict(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build a spec or recipe from untrusted values.

    Raises :class:`SpecError` naming ``where``, the field at fault and, for an unknown one, the nearest known.
    """
    if not isinstance(values, Mapping):
        raise SpecError(f"{where}: found {type(values).__name__}, expected a table of fields")
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise SpecError(f"{where}: unknown field {key!r}{nearest(str(key), known)}")
    try:
        return msgspec.convert(dict(values), kind)
    except msgspec.ValidationError as error:
        field = str(error).partition(" - at `$.")[2].rstrip("`")
        choices = _choices(known[field].type) if field in known and "enum value" in str(error) else []
        told = f"{nearest(str(values[field]), choices)}; expected {', '.join(choices)}" if choices else ""
        raise SpecError(f"{where}: {in_words(error)}{told}") from None


def _choices(kind: Any) -> list[str]:
    """The texts that a field's type allows, where it is one of some."""
    return [x for part in get_args(kind) for x in ([part] if isinstance(part, str) else _choices(part))]


def in_words(error: Exception) -> str:
    """What msgspec says of a value, the field first: ``hidden_size: expected int, got str``; other errors as they are."""
    words, at, field = str(error).partition(" - at `$")
    if not at:
        return str(error)
    words = words.replace("`", "")
    return f"{field.strip('.`')}: {words[:1].lower()}{words[1:]}"
