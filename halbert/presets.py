"""Every released BERT and ALBERT by name: its knobs, the totals published for it, and where it came from.

Numbers and traps: the papers (arXiv 1810.04805, 1909.11942v6), the two repositories' READMEs and configuration files.
Head count, activation and dropout leave no trace in tensor shapes, so they are written out here, with a note wherever
the sources contradict each other.
"""

from __future__ import annotations

import functools
import re

import msgspec

from halbert.errors import InputError, nearest
from halbert.spec import EncoderSpec, ModelSpec, PretrainSpec, TextSpec


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A released model: specification, published size, origin."""

    name: str
    spec: ModelSpec
    published: str
    source: str
    release: str
    hub: str | None
    verified: bool = True
    notes: tuple[str, ...] = ()

    @property
    def release_files(self) -> tuple[str, ...]:
        """Names of the files in the release that matter: configuration, vocabulary, index and data of the checkpoint.

        Sources: the READMEs' command lines (``bert_model.ckpt``, ``vocab.txt``); albert_pytorch#38 and the repository's
        ``run_glue.sh`` (``model.ckpt-best``, ``30k-clean.model``).
        """
        albert = self.spec.encoder.num_hidden_groups < self.spec.encoder.num_hidden_layers
        config = "albert_config.json" if albert else "bert_config.json"
        vocabulary = "vocab_chinese.txt" if albert else "vocab.txt"
        if self.spec.text.kind == "unigram":
            vocabulary = "30k-clean.model"
        checkpoint = "model.ckpt-best" if albert else "bert_model.ckpt"
        return config, vocabulary, f"{checkpoint}.index", f"{checkpoint}.data-00000-of-00001"


def encoder(
    vocab_size: int, layers: int, hidden: int, heads: int, *, groups: int | None = None, **others: object
) -> EncoderSpec:
    """An encoder in the released proportions: feed-forward 4H, width E = H unless ``embedding_size`` says otherwise."""
    fields: dict[str, object] = {
        "vocab_size": vocab_size,
        "embedding_size": hidden,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_hidden_groups": layers if groups is None else groups,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
    }
    return EncoderSpec(**{**fields, **others})  # type: ignore[arg-type]


# What each architecture learnt from raw text, where nothing else is known of a model.
PRETRAINED = {
    "bert": PretrainSpec(sentence_objective="nsp", masking="piece"),
    "albert": PretrainSpec(sentence_objective="sop", masking="ngram"),
}

_BERT_SOURCE = "BERT paper section 3; google-research/bert README 'Pre-trained models'"
_ALBERT_SOURCE = "ALBERT paper Table 1; google-research/albert README"

# name: vocabulary, layers, hidden, heads, lower-cased, masking, published size, file name of the release
_BERT = {
    "bert-base-uncased": (30_522, 12, 768, 12, True, "piece", "110M", "uncased_L-12_H-768_A-12.zip"),
    "bert-base-cased": (28_996, 12, 768, 12, False, "piece", "110M", "cased_L-12_H-768_A-12.zip"),
    "bert-large-uncased": (30_522, 24, 1024, 16, True, "piece", "340M", "uncased_L-24_H-1024_A-16.zip"),
    "bert-large-cased": (28_996, 24, 1024, 16, False, "piece", "340M", "cased_L-24_H-1024_A-16.zip"),
    "bert-large-uncased-whole-word-masking": (
        30_522, 24, 1024, 16, True, "word", "340M", "wwm_uncased_L-24_H-1024_A-16.zip",
    ),
    "bert-large-cased-whole-word-masking": (
        28_996, 24, 1024, 16, False, "word", "340M", "wwm_cased_L-24_H-1024_A-16.zip",
    ),
    "bert-base-multilingual-cased": (119_547, 12, 768, 12, False, "piece", "110M", "multi_cased_L-12_H-768_A-12.zip"),
    "bert-base-multilingual-uncased": (
        105_879, 12, 768, 12, True, "piece", "110M", "multilingual_L-12_H-768_A-12.zip",
    ),
    "bert-base-chinese": (21_128, 12, 768, 12, True, "piece", "110M", "chinese_L-12_H-768_A-12.zip"),
}  # fmt: skip

_BERT_NOTES = {
    "bert-base-multilingual-cased": (
        "published as 110M, which is 68M too few: the 119,547-piece vocabulary is not counted",
    ),
    "bert-base-multilingual-uncased": (
        "the vocabulary size of 105,879 is not verified, nor is any total that follows from it",
    ),
    "bert-base-chinese": ("Google's code lower-cases for this model; its hub folder says do_lower_case = false",),
}

# size: layers, hidden, heads (English), heads (Chinese), paper's size
_ALBERT = {
    "base": (12, 768, 12, 12, "12M"),
    "large": (24, 1024, 16, 16, "18M"),
    "xlarge": (24, 2048, 16, 16, "60M"),
    "xxlarge": (12, 4096, 64, 16, "235M"),
}

_ALBERT_NOTES = {
    "xlarge": (
        "heads: the hub config says 16, the albert_config.json inside the TF-Hub archive says 32 (albert#180)",
        "the paper's 60M cannot be reproduced from the released configuration",
    ),
    "xxlarge": ("the paper's 235M cannot be reproduced from the released configuration",),
}


def _bert(name: str) -> Preset:
    vocab, layers, hidden, heads, lower, masking, published, release = _BERT[name]
    hub = f"google-bert/{name}"
    return Preset(
        name=name,
        spec=ModelSpec(
            encoder=encoder(vocab, layers, hidden, heads),
            text=TextSpec(kind="wordpiece", lower_case=lower, strip_accents=lower),
            pretraining=msgspec.structs.replace(PRETRAINED["bert"], masking=masking),
        ),
        published=published,
        source=_BERT_SOURCE,
        release=release,
        hub=hub,
        verified=name != "bert-base-multilingual-uncased",
        notes=_BERT_NOTES.get(name, ()),
    )


def _small_bert(layers: int, hidden: int) -> Preset:
    name = f"bert_uncased_L-{layers}_H-{hidden}_A-{hidden // 64}"
    return Preset(
        name=name,
        spec=ModelSpec(encoder=encoder(30_522, layers, hidden, hidden // 64)),
        published="not stated",
        source="google-research/bert README, March 2020: 24 smaller models",
        release=f"uncased_L-{layers}_H-{hidden}_A-{hidden // 64}.zip",
        hub=f"google/{name}",
    )


def _albert(size: str, version: str) -> Preset:
    layers, hidden, heads, heads_zh, published = _ALBERT[size]
    chinese = version == "zh"
    notes = _ALBERT_NOTES.get(size, ())
    if chinese:
        # albert#154: ReLU for Chinese; albert#153: 16 heads for xxlarge. Dropout is not stated: the v2 value is assumed.
        act, dropout = "relu", 0.0
        notes = ("ReLU and, for xxlarge, 16 heads: albert#153, albert#154", "dropout 0 is assumed")
    elif version == "v1":
        # Google's code computes tanh-GELU for every English ALBERT; the v1 hub configs say erf and 0.1 (xxlarge: 0).
        act, dropout = "gelu", 0.0 if size == "xxlarge" else 0.1
        notes = (*notes, "hidden_act as the hub config says (erf GELU); Google's own code computes the tanh form")
    else:
        act, dropout = "gelu_new", 0.0
    return Preset(
        name=f"albert-{size}-{version}",
        spec=ModelSpec(
            encoder=encoder(
                21_128 if chinese else 30_000,
                layers,
                hidden,
                heads_zh if chinese else heads,
                groups=1,
                embedding_size=128,
                hidden_act=act,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
            ),
            text=TextSpec(kind="wordpiece" if chinese else "unigram", lower_case=True, strip_accents=True),
            pretraining=PRETRAINED["albert"],
        ),
        published=published,
        source=_ALBERT_SOURCE,
        release=f"albert_{size}_{version}.tar.gz",
        hub=None if chinese else f"albert/albert-{size}-{version}",
        notes=notes,
    )


# What tensor shapes show of an encoder. The rest (heads, activation, dropout) has to be told.
_VISIBLE = (
    "vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "num_hidden_groups", "inner_group_num",
    "intermediate_size",
)  # fmt: skip


def alike(encoder: EncoderSpec) -> list[Preset]:
    """The released models whose tensors have the same shapes."""
    return [
        preset
        for preset in all_presets().values()
        if all(getattr(preset.spec.encoder, name) == getattr(encoder, name) for name in _VISIBLE)
    ]


def contradictions(encoder: EncoderSpec) -> list[str]:
    """What an encoder of a released model's shapes says otherwise than every release of these shapes.

    Only what leaves no trace in shapes. The two forms of GELU count as one here: which of them is meant is a question
    of its own.
    """
    known = alike(encoder)
    found = []
    for field in ("num_attention_heads", "hidden_act"):
        value = getattr(encoder, field)
        values = [getattr(preset.spec.encoder, field) for preset in known]
        if known and str(value).removesuffix("_new") not in {str(v).removesuffix("_new") for v in values}:
            why = dict.fromkeys(note for preset in known for note in preset.notes if _ABOUT[field].search(note))
            found.append(
                f"{field} is {value}, but the released {' and '.join(p.name for p in known)}, of the same shapes, "
                f"{'has' if len(known) == 1 else 'have'} {' or '.join(dict.fromkeys(map(str, values)))}"
                + (f" ({'; '.join(why)})" if why else "")
            )
    return found


_ABOUT = {"num_attention_heads": re.compile("heads"), "hidden_act": re.compile("hidden_act|ReLU")}


def by_release(name: str) -> Preset | None:
    """The model whose original release has this file name, with or without ``.zip`` or ``.tar.gz``."""
    stem = name.removesuffix(".zip").removesuffix(".tar.gz")
    for preset in all_presets().values():
        if stem == preset.release.removesuffix(".zip").removesuffix(".tar.gz"):
            return preset
    return None


ALIASES = {
    "bert-tiny": "bert_uncased_L-2_H-128_A-2",
    "bert-mini": "bert_uncased_L-4_H-256_A-4",
    "bert-small": "bert_uncased_L-4_H-512_A-8",
    "bert-medium": "bert_uncased_L-8_H-512_A-8",
}


@functools.cache
def all_presets() -> dict[str, Preset]:
    """Every released model, by name, in a fixed order (aliases not repeated)."""
    found = [_bert(name) for name in _BERT]
    found += [_small_bert(layers, hidden) for layers in (2, 4, 6, 8, 10, 12) for hidden in (128, 256, 512, 768)]
    found += [_albert(size, version) for version in ("v1", "v2", "zh") for size in _ALBERT]
    return {preset.name: preset for preset in found}


def is_preset(name: str) -> bool:
    """Whether ``name`` is a released model or an alias of one."""
    return name in all_presets() or name in ALIASES


def get(name: str) -> Preset:
    """The released model called ``name``.

    Raises :class:`InputError` with the nearest known name.
    """
    table = all_presets()
    try:
        return table[ALIASES.get(name, name)]
    except KeyError:
        raise InputError(f"no released model is called {name!r}{nearest(name, [*table, *ALIASES])}") from None
