"""Bundle: a model as one object and one folder. Spec, tokenizer, weights, heads and provenance; no prediction."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from halbert import presets
from halbert.errors import InputError, SpecError, nearest
from halbert.files import read_json, sha256, whole_folder, write_bytes, write_json
from halbert.heads import HeadSpec
from halbert.spec import ModelSpec, TextSpec, encoder_total, from_dict
from halbert.text import Tokenizer, load_tokenizer
from halbert.version import __version__
from halbert.weights import huggingface, names
from halbert.weights.accounting import settle

FORMAT = 1
Pooling = Literal["mean", "cls", "pooler"]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``halbert.json``: what transformers has no key for. ``format`` only ever grows."""

    format: int
    spec: ModelSpec
    heads: dict[str, HeadSpec]
    pooling: Pooling = "mean"
    normalize: bool = False


class Bundle:
    """One encoder with everything it needs.

    ``arrays`` maps our tensor names (``encoder.…``, ``heads.NAME.…``) to numpy arrays; ``heads`` says what each head is.
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
        folder: Path | None = None,
    ) -> None:
        self.spec = spec
        self.tokenizer = tokenizer
        self.arrays = dict(arrays)
        self.heads = dict(heads or {})
        self.name = name
        self.provenance = dict(provenance or {})
        self.pooling = pooling
        self.normalize = normalize
        self.folder = folder
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
            raise InputError(f"{self.name}: has no fine-tuned head to predict with; run: halbert finetune")
        raise InputError(f"{self.name}: has several heads ({', '.join(answering)}); choose one with --head")

    def without_pooler(self) -> Bundle:
        """The same bundle without the pooler, for heads that do not read it."""
        encoder = msgspec.structs.replace(self.spec.encoder, pooler="none")
        kept = {k: v for k, v in self.arrays.items() if not k.startswith("encoder.pooler.")}
        return self.replace(spec=msgspec.structs.replace(self.spec, encoder=encoder), arrays=kept)

    def replace(self, **changes: Any) -> Bundle:
        """A copy with some of the constructor's arguments changed."""
        values = {
            "spec": self.spec, "tokenizer": self.tokenizer, "arrays": self.arrays, "heads": self.heads,
            "name": self.name, "provenance": self.provenance, "pooling": self.pooling,
            "normalize": self.normalize, "folder": self.folder,
        }  # fmt: skip
        return Bundle(**{**values, **changes})

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False, dtype: str = "float32") -> Path:
        """Write the bundle; the folder appears whole or not at all, and equal bundles give equal bytes.

        Raises :class:`InputError` when something else is in the folder, :class:`WeightsError` when tensors are missing.
        """
        main, further = divide_heads(self.heads)
        tokens = self.tokenizer.special_ids
        with whole_folder(folder, overwrite) as target:
            huggingface.write(target, self.spec.encoder, main, self.arrays, tokens, dtype)
            self.tokenizer.save(target)
            for name, head in further.items():
                place = target / "heads" / name
                place.mkdir(parents=True)
                # A further head is a tiny model of its own beside the encoder: only its tensors, its own config.
                entries = [
                    e for e in names.expected(self.spec.encoder, {name: head}, "bert") if e.ours.startswith("heads.")
                ]
                huggingface.save_tensors(
                    place / "model.safetensors", {e.theirs[0]: self.arrays[e.ours] for e in entries}, dtype
                )
                write_json(place / "head.json", msgspec.to_builtins(head))
            manifest = Manifest(
                format=FORMAT, spec=self.spec, heads=self.heads, pooling=self.pooling, normalize=self.normalize
            )
            write_json(target / "halbert.json", msgspec.to_builtins(manifest))
            write_json(target / "provenance.json", {"halbert": __version__, **self.provenance})
            write_bytes(target / "README.md", self._card().encode())
        return Path(folder)

    def _card(self) -> str:
        parts = self.spec.encoder.count_parameters()
        e = self.spec.encoder
        lines = [
            "---",
            "library_name: halbert",
            f"license: {self.provenance.get('licence', 'unknown')}",
            "---",
            "",
            f"# {self.name}",
            "",
            f"{e.num_hidden_layers} layers of width {e.hidden_size} in {e.num_hidden_groups} parameter group(s), "
            f"embedding width {e.embedding_size}, {e.vocab_size:,} pieces ({self.spec.text.kind}); "
            f"{encoder_total(parts):,} encoder parameters.",
        ]
        if self.random:
            lines += ["", "**The weights are random.** They were drawn, not trained."]
        for head, kind in self.heads.items():
            lines += [
                "",
                f"- head `{head}`: {kind.kind}" + (f", labels {', '.join(kind.labels)}" if kind.labels else ""),
            ]
        return "\n".join(lines) + "\n"


def divide_heads(heads: Mapping[str, HeadSpec]) -> tuple[dict[str, HeadSpec], dict[str, HeadSpec]]:
    """The heads of the main file (the pre-training ones, else the first), and those that go beside it."""
    main = {n: h for n, h in heads.items() if h.kind in ("mlm", "pair")} or dict(list(heads.items())[:1])
    return main, {n: h for n, h in heads.items() if n not in main}


def load_bundle(folder: str | os.PathLike[str]) -> Bundle:
    """Read a Halbert bundle or a Hugging Face folder of a BERT or ALBERT.

    Raises :class:`InputError` for a folder that is no model, :class:`WeightsError` for tensors that do not fit.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"{place}: no such folder")
    if not (place / "config.json").exists():
        raise InputError(f"{place}: is no model: it holds no config.json")
    manifest_file = place / "halbert.json"
    if manifest_file.exists():
        manifest = from_dict(Manifest, read_json(manifest_file), str(manifest_file))
        if manifest.format > FORMAT:
            raise InputError(f"{manifest_file}: format {manifest.format} is newer than this Halbert; upgrade halbert")
        main, further = divide_heads(manifest.heads)
        found = huggingface.read(place, manifest.spec.encoder, main)
        arrays = found.arrays
        for name, head in further.items():
            if Path(name).name != name:
                raise InputError(f"{manifest_file}: the head name {name!r} leads outside the folder; refused")
            tensors = huggingface.read_tensors(place / "heads" / name)
            entries = [e for e in names.expected(found.encoder, {name: head}, "bert") if e.ours.startswith("heads.")]
            arrays |= settle(entries, tensors, str(place / "heads" / name))
        provenance_file = place / "provenance.json"
        provenance = read_json(provenance_file) if provenance_file.exists() else {}
        tokenizer = load_tokenizer(place, manifest.spec.text)
        return Bundle(
            manifest.spec, tokenizer, arrays, manifest.heads, name=place.name, provenance=provenance,
            pooling=manifest.pooling, normalize=manifest.normalize, folder=place,
        )  # fmt: skip
    tokenizer = load_tokenizer(place)
    found = huggingface.read(place)
    spec = ModelSpec(encoder=found.encoder, text=tokenizer.spec)
    pooling, normalize = _sentence_transformers(place)
    weight_files = sorted(place.glob("*.safetensors"))
    return Bundle(
        spec, tokenizer, found.arrays, found.heads, name=place.resolve().name, pooling=pooling, normalize=normalize,
        folder=place,
        provenance={"source": "Hugging Face folder", "weights": {f.name: sha256(f) for f in weight_files}},
    )  # fmt: skip


def _sentence_transformers(place: Path) -> tuple[Pooling, bool]:
    """Pooling and normalisation of a sentence-transformers folder (``modules.json``), else the defaults."""
    modules_file = place / "modules.json"
    if not modules_file.exists():
        return "mean", False
    modules = read_json(modules_file)
    pooling: Pooling = "mean"
    normalize = False
    for module in modules if isinstance(modules, list) else []:
        kind, path = str(module.get("type", "")), str(module.get("path", ""))
        if kind.endswith("Normalize"):
            normalize = True
        elif kind.endswith("Pooling"):
            file = (place / path / "config.json").resolve()
            if not file.is_relative_to(place.resolve()):
                raise InputError(f"{modules_file}: points to {path!r}, outside the folder; refused")
            told = read_json(file)
            if told.get("pooling_mode_cls_token"):
                pooling = "cls"
            elif not told.get("pooling_mode_mean_tokens", told.get("pooling_mode") == "mean"):
                raise InputError(f"{file}: names a pooling Halbert does not know; expected mean or cls")
    return pooling, normalize


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


def resolve_spec(model: str) -> tuple[str, ModelSpec, dict[str, Any], list[str]]:
    """(name, spec, provenance, notes) of a MODEL that needs no weights: an existing folder, else a released preset.

    Raises :class:`InputError` when it is neither.
    """
    place = Path(model)
    if place.is_dir():
        manifest_file = place / "halbert.json"
        if manifest_file.exists():
            manifest = from_dict(Manifest, read_json(manifest_file), str(manifest_file))
            provenance_file = place / "provenance.json"
            provenance = read_json(provenance_file) if provenance_file.exists() else {}
            return place.name, manifest.spec, provenance, []
        if not (place / "config.json").exists():
            raise InputError(f"{place}: is no model: it holds no config.json")
        encoder, _ = huggingface.spec_of(read_json(place / "config.json"), str(place / "config.json"))
        text = (
            load_tokenizer(place).spec
            if any((place / f).exists() for f in ("vocab.txt", "spiece.model"))
            else TextSpec()
        )
        return place.resolve().name, ModelSpec(encoder=encoder, text=text), {"source": "Hugging Face folder"}, []
    if presets.is_preset(model):
        preset = presets.get(model)
        provenance = {
            "source": preset.source,
            "release": preset.release,
            "hub": preset.hub,
            "published": preset.published,
        }
        notes = [*preset.notes, *([] if preset.verified else ["totals not verified"])]
        return preset.name, preset.spec, provenance, notes
    raise InputError(
        f"{model!r}: no such folder, and no released model has that name{nearest(model, [*presets.all_presets(), *presets.ALIASES])}"
    )


def resolve_tokenizer(model: str) -> Tokenizer:
    """The tokenizer of a MODEL: a folder with a vocabulary (weights need not be there), else a hub repository's."""
    if Path(model).is_dir():
        place = Path(model)
        manifest_file = place / "halbert.json"
        if manifest_file.exists():
            return load_tokenizer(place, from_dict(Manifest, read_json(manifest_file), str(manifest_file)).spec.text)
        return load_tokenizer(place)
    from halbert.weights import hub

    return load_tokenizer(hub.fetch(model))


def resolve_bundle(model: str) -> Bundle:
    """The bundle of a MODEL that needs weights: an existing folder, else a hub repository (see :mod:`halbert.weights.hub`).

    Raises :class:`InputError` or :class:`WeightsError` naming what was looked for.
    """
    if Path(model).is_dir():
        return load_bundle(model)
    from halbert.weights import hub

    return load_bundle(hub.fetch(model)).replace(name=model)
