"""What a pre-training's weights begin as: drawn, the corpus' own statistics, or those of a model that is there."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import torch

from halbert import presets
from halbert.bundle import Bundle
from halbert.data.corpus import Corpus
from halbert.errors import InputError, SpecError
from halbert.files import write_bytes
from halbert.heads import HeadSpec
from halbert.model import Model
from halbert.source import resolve_bundle
from halbert.spec import EncoderSpec, ForeignSpec, ModelSpec, PretrainSpec, from_dict
from halbert.text import Tokenizer
from halbert.train.distributed import World, from_first
from halbert.train.folder import RunFolder
from halbert.train.loop import LossOf
from halbert.train.objectives import Meaning, pretraining_loss
from halbert.train.recipe import PretrainRecipe
from halbert.train.translations import bring_together
from halbert.train.warmstart import piece_embeddings

# What a recipe may have otherwise than the model it starts from: no tensor that is there depends on it.
_FREE = {
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob", "initializer_range", "pooler",
    "vocab_size",
}  # fmt: skip


def base_of(recipe: PretrainRecipe, tokenizer: Tokenizer | None) -> Bundle | None:
    """The model that ``start`` names, or ``None`` where it names none.

    Raises :class:`InputError` when there is no such model, or its tokenizer is not the one the corpus is read with.
    """
    if recipe.start_model is None:
        return None
    try:
        base = resolve_bundle(recipe.start_model)
    except InputError as error:
        raise type(error)(f"start: {error} (a start is random, pmi-svd, or a model)") from None
    base.check_writable()
    if tokenizer is not None and base.tokenizer.fingerprint != tokenizer.fingerprint:
        raise InputError(
            f"start: {base.name} has another tokenizer than this run; leave out --tokenizer, and make the corpus with "
            f"halbert corpus … --tokenizer {base.name}"
        )
    return base


def weights_hash(base: Bundle) -> str:
    """What tells the weights of a start from others, whatever the model is called."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(base.arrays):
        found.update(name.encode())
        found.update(np.ascontiguousarray(base.arrays[name], np.float32).data)
    return found.hexdigest()


def tokenizer_of(base: Bundle | None) -> Tokenizer:
    """The tokenizer of a run that was given none. Raises :class:`InputError` where it starts from no model either."""
    if base is None:
        raise InputError(
            "a tokenizer is missing: add --tokenizer MODEL, or begin with a model that is there: --set start=MODEL"
        )
    return base.tokenizer


def spec_of_recipe(recipe: PretrainRecipe, tokenizer: Tokenizer, base: Bundle | None = None) -> ModelSpec:
    """The model a recipe describes: its preset, or the model it starts from, or nothing, with the fields of its tables over it.

    The vocabulary is the tokenizer's, and the text rules too. Raises :class:`SpecError` when fields are missing, or are
    not those of the model it starts from.
    """
    under = presets.get(recipe.preset).spec if recipe.preset else base.spec if base else None
    own = dict(recipe.encoder)
    if not recipe.preset:
        if "hidden_size" in own:
            own.setdefault("embedding_size", own["hidden_size"])
            own.setdefault("intermediate_size", 4 * own["hidden_size"])
        if "num_hidden_layers" in own:
            own.setdefault("num_hidden_groups", own["num_hidden_layers"])
    if under is None and not own:
        raise SpecError(
            "recipe [encoder]: has no embedding_size, and no shape at all; add a preset or [encoder], or begin with a model "
            "that is there: --set start=MODEL"
        )
    fields: dict[str, Any] = ({} if under is None else msgspec.structs.asdict(under.encoder)) | own
    pretraining = ({} if under is None else msgspec.structs.asdict(under.pretraining)) | recipe.pretraining
    if pretraining.get("sentence_objective") == "none":
        fields["pooler"] = "none"
    elif base and under is base.spec:
        fields["pooler"] = own.get("pooler", "tanh")
    if recipe.encoder.get("vocab_size", tokenizer.vocab_size) != tokenizer.vocab_size:
        raise SpecError(
            f"recipe [encoder]: vocab_size is {recipe.encoder['vocab_size']}, the tokenizer has {tokenizer.vocab_size:,} pieces; "
            "leave it out"
        )
    fields["vocab_size"] = base.spec.encoder.vocab_size if base else tokenizer.vocab_size
    encoder = from_dict(EncoderSpec, fields, "recipe [encoder]")
    if base:
        _check_same(encoder, base)
    if fields.get("pooler") != "none" and encoder.type_vocab_size < 2:
        raise SpecError("type_vocab_size is 1, and pairs of texts (sentence_objective) need 2 segments")
    if recipe.longest > encoder.max_position_embeddings:
        raise SpecError(f"length {recipe.longest} exceeds max_position_embeddings {encoder.max_position_embeddings}")
    return ModelSpec(
        encoder=encoder, text=tokenizer.spec, pretraining=from_dict(PretrainSpec, pretraining, "recipe [pretraining]")
    )


def _check_same(encoder: EncoderSpec, base: Bundle) -> None:
    """Raise :class:`SpecError` naming the fields in which a recipe's encoder is not that of its start."""
    there = base.spec.encoder
    assert not isinstance(there, ForeignSpec)
    other = [
        f"{name} ({getattr(encoder, name)}, there {getattr(there, name)})"
        for name in encoder.__struct_fields__
        if name not in _FREE and getattr(encoder, name) != getattr(there, name)
    ]
    if other:
        raise SpecError(
            f"start: the recipe's encoder is not that of {base.name}: {', '.join(other)}; leave out the recipe's preset and "
            "[encoder] (--set preset= --set encoder={}), or take the recipe adapt"
        )


def pretraining_heads(spec: PretrainSpec) -> dict[str, HeadSpec]:
    """The heads an objective needs."""
    heads = {"mlm": HeadSpec(kind="mlm")}
    return heads if spec.sentence_objective == "none" else {**heads, "pair": HeadSpec(kind="pair")}


def copy_weights(model: Model, base: Bundle, objective: str) -> list[str]:
    """Give the model the weights of ``base``; what is returned names the parts that it lacks, which stay as drawn.

    A head that told other pairs apart (NSP, SOP) is one that it lacks.
    """
    told_apart = base.spec.pretraining.sentence_objective == objective
    missing = []
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in base.arrays and (told_apart or not name.startswith("heads.pair.")):
                parameter.copy_(torch.from_numpy(np.array(base.arrays[name], np.float32)))
            else:
                missing.append("heads." + name.split(".")[1] if name.startswith("heads.") else name)
    return sorted({"the pooler" if "pooler" in name else f"the head {name[6:]}" for name in missing})


def begun(
    model: Model,
    recipe: PretrainRecipe,
    objective: str,
    corpus: Corpus,
    base: Bundle | None,
    place: RunFolder | None,
    world: World,
    say: Callable[[str], None],
    fresh: bool,
) -> LossOf:
    """Give the model the start of its recipe, unless its run goes on (``fresh``), and return what is asked of it.

    Tables are made by the first process. The one that knows translations is made once for a run, and kept in its folder.
    """
    parallel = recipe.start_parallel
    widths = model.spec.embedding_size, model.spec.hidden_size
    V = model.spec.vocab_size

    def start(width: int) -> np.ndarray:
        say(f"Counting which pieces stand near each other, for {width} numbers a piece to start from")
        return piece_embeddings(corpus, width, recipe.seed, Corpus(parallel) if parallel else None)

    first: np.ndarray | None = None
    if base is not None and fresh:
        anew = copy_weights(model, base, objective)
        say(f"Begins with the weights of {base.name}" + (f"; drawn anew: {', '.join(anew)}" if anew else ""))
    if recipe.start == "pmi-svd" and fresh:
        first = from_first(lambda: start(widths[0]), (V, widths[0]), world)
        with torch.no_grad():
            model.encoder.embeddings.piece.weight.copy_(torch.from_numpy(first))
    if not recipe.translation_weight:
        return pretraining_loss
    file = place.place / "translations.npy" if place else None

    def translations() -> np.ndarray:
        if file is not None and file.exists():
            try:
                return np.load(file, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise InputError(f"{file}: cannot be read: {error}; it is made again when it is removed") from None
        began = first if first is not None and widths[0] == widths[1] else start(widths[1])
        say("Learning which texts translate each other")
        table = bring_together(began, Corpus(parallel), recipe.seed)
        if file is not None:
            written = io.BytesIO()
            np.save(written, table, allow_pickle=False)
            write_bytes(file, written.getvalue())
        return table

    table = from_first(translations, (V, widths[1]), world)
    meaning = Meaning(torch.from_numpy(table).to(world.device), recipe.translation_weight, recipe.translation_span)
    return functools.partial(pretraining_loss, meaning=meaning)
