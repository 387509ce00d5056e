"""Bundle: a model as one object and, saved, one folder. Spec, tokenizer, weights, heads, provenance; no prediction."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from halbert.card import card
from halbert.errors import InputError, SpecError, nearest
from halbert.files import sha256, whole_folder, write_bytes, write_json
from halbert.heads import HeadSpec
from halbert.spec import ForeignSpec, ModelSpec
from halbert.text import Tokenizer
from halbert.version import __version__
from halbert.weights import huggingface, names
from halbert.weights.int8 import Int8
from halbert.weights.tensors import Dtype, save_tensors

FORMAT = 1
Pooling = Literal["mean", "cls", "pooler"]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``halbert.json``: what transformers has no key for. ``format`` only ever grows."""

    format: int
    spec: ModelSpec
    heads: dict[str, HeadSpec]
    pooling: Pooling = "mean"
    normalize: bool = False
    origins: dict[str, str] = {}
    warnings: tuple[str, ...] = ()


class Bundle:
    """One encoder with everything it needs.

    ``arrays`` maps our tensor names (``encoder.…``, ``heads.NAME.…``) to numpy arrays; ``heads`` says what each head is.
    ``origins`` says for a field of the spec where its value came from, ``warnings`` what did not agree. ``int8`` is there
    when the int8 engine was asked for; ``arrays`` then hold only what is not in int8.
    """

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: Tokenizer,
        arrays: Mapping[str, np.ndarray],
        heads: Mapping[str, HeadSpec] | None = None,
        *,
        name: str = "model",
        provenance: Mapping[str, Any] | None = None,
        pooling: Pooling = "mean",
        normalize: bool = False,
        origins: Mapping[str, str] | None = None,
        warnings: Sequence[str] = (),
        folder: Path | None = None,
        int8: Int8 | None = None,
    ) -> None:
        self.spec = spec
        self.tokenizer = tokenizer
        self.arrays = dict(arrays)
        self.heads = dict(heads or {})
        self.name = name
        self.provenance = dict(provenance or {})
        self.pooling = pooling
        self.normalize = normalize
        self.origins = dict(origins or {})
        self.warnings = tuple(warnings)
        self.folder = folder
        self.int8 = int8
        if tokenizer.vocab_size > spec.encoder.vocab_size:
            raise SpecError(
                f"{name}: the vocabulary holds {tokenizer.vocab_size:,} tokens, but the embedding table only "
                f"{spec.encoder.vocab_size:,} rows; they do not belong together"
            )

    @property
    def random(self) -> bool:
        """Whether the weights were drawn, not trained."""
        return "random_weights" in self.provenance

    def head(self, name: str | None = None) -> tuple[str, HeadSpec]:
        """The head called ``name``, or the only one a prediction could mean. Raises :class:`InputError`."""
        if name is not None:
            if name not in self.heads:
                raise InputError(
                    f"{self.name}: has no head {name!r}{nearest(name, self.heads)}; it has: {', '.join(self.heads) or 'none'}"
                )
            return name, self.heads[name]
        answering = {n: h for n, h in self.heads.items() if h.kind not in ("mlm", "pair")}
        if len(answering) == 1:
            return next(iter(answering.items()))
        if not answering:
            blanks = " (it fills in pieces: halbert fill, halbert evaluate --task fill)" if "mlm" in self.heads else ""
            raise InputError(f"{self.name}: has no fine-tuned head to predict with; run: halbert finetune{blanks}")
        raise InputError(f"{self.name}: has several heads ({', '.join(answering)}); choose one with --head")

    def as_base(self) -> dict[str, Any]:
        """What the provenance of a model that is made from this one says of it: all but how its training went."""
        told = {"name": self.name, **self.provenance}
        training = {key: value for key, value in told.pop("training", {}).items() if key != "journal"}
        return {**told, "training": training} if training else told

    def replace(self, **changes: Any) -> Bundle:
        """A copy with some of the constructor's arguments changed."""
        values = {
            "spec": self.spec, "tokenizer": self.tokenizer, "arrays": self.arrays, "heads": self.heads,
            "name": self.name, "provenance": self.provenance, "pooling": self.pooling,
            "normalize": self.normalize, "origins": self.origins, "warnings": self.warnings, "folder": self.folder,
            "int8": self.int8,
        }  # fmt: skip
        return Bundle(**{**values, **changes})

    def check_writable(self) -> None:
        """Raise :class:`InputError` for an encoder of another architecture."""
        if isinstance(self.spec.encoder, ForeignSpec):
            kind = self.spec.encoder.model_type
            raise InputError(
                f"{self.name}: is of another architecture ({kind}): Halbert measures and asks it, but does not write it"
            )

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False, dtype: Dtype = "float32") -> Path:
        """Write the bundle; the folder appears whole or not at all, and equal bundles give equal bytes.

        Raises :class:`InputError` when something else is in the folder, :class:`WeightsError` when tensors are missing.
        """
        if self.int8 is not None:
            raise InputError(f"{self.name}: holds int8 weights only; they cannot be written as a full model")
        self.check_writable()
        main, further = divide_heads(self.heads)
        tokens = self.tokenizer.special_ids
        with whole_folder(folder, overwrite) as target:
            huggingface.write(target, self.spec.encoder, main, self.arrays, tokens, dtype)
            self.tokenizer.save(target, self.spec.encoder.max_position_embeddings)
            for name, head in further.items():
                place = target / "heads" / name
                place.mkdir(parents=True)
                # A further head is a tiny model of its own beside the encoder: only its tensors, its own config.
                entries = names.head_entries(self.spec.encoder, {name: head}, "bert")
                save_tensors(place / "model.safetensors", {e.theirs[0]: self.arrays[e.ours] for e in entries}, dtype)
                write_json(place / "head.json", msgspec.to_builtins(head))
            manifest = Manifest(
                format=FORMAT, spec=self.spec, heads=self.heads, pooling=self.pooling, normalize=self.normalize,
                origins=self.origins, warnings=self.warnings,
            )  # fmt: skip
            write_json(target / "halbert.json", msgspec.to_builtins(manifest))
            written = {"files": weight_hashes(target)}
            write_json(target / "provenance.json", {"halbert": __version__, **self.provenance, **written})
            write_bytes(target / "README.md", card(self).encode())
        return Path(folder)


def weight_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every weight file of a bundle, by its path in the folder."""
    return {str(f.relative_to(folder)): sha256(f) for f in sorted(folder.rglob("*.safetensors"))}


def divide_heads(heads: Mapping[str, HeadSpec]) -> tuple[dict[str, HeadSpec], dict[str, HeadSpec]]:
    """The heads of the main file (the pre-training ones, else the first), and those that go beside it."""
    main = {n: h for n, h in heads.items() if h.kind in ("mlm", "pair")} or dict(list(heads.items())[:1])
    return main, {n: h for n, h in heads.items() if n not in main}


def random_bundle(spec: ModelSpec, tokenizer: Tokenizer, seed: int, heads: Mapping[str, HeadSpec], name: str) -> Bundle:
    """A bundle with weights drawn from ``seed`` (truncated normal as Google's), and a provenance that says so."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    std = spec.encoder.initializer_range
    for entry in names.expected(spec.encoder, dict(heads), names.layout_of(spec.encoder)):
        if entry.ours.endswith("norm.weight"):
            arrays[entry.ours] = np.ones(entry.shape, np.float32)
        elif len(entry.shape) == 1:
            arrays[entry.ours] = np.zeros(entry.shape, np.float32)
        else:
            drawn = rng.standard_normal(entry.shape, np.float32)
            while (far := np.abs(drawn) > 2).any():
                drawn[far] = rng.standard_normal(int(far.sum()), np.float32)
            arrays[entry.ours] = drawn * np.float32(std)
    return Bundle(spec, tokenizer, arrays, heads, name=name, provenance={"random_weights": seed})
