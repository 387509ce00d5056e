"""Where a MODEL comes from: a folder, a checkpoint, an archive, a released name or a hub name; read into a bundle.

The order in which a name is looked up is that of the documentation: an existing path, a model in the box, a released
preset, a hub name.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halbert import presets
from halbert.bundle import FORMAT, Bundle, Manifest, Pooling, divide_heads
from halbert.errors import InputError, WeightsError, nearest
from halbert.files import confined, exists, read_json, require_file, sha256
from halbert.models import bundled
from halbert.spec import EncoderSpec, ModelSpec, PretrainSpec, TextSpec, from_dict
from halbert.text import Tokenizer, load_tokenizer
from halbert.text.tokenizer import CASED, open_tokenizer, told_text, upper_case, vocabulary_file
from halbert.weights import archive, google, huggingface, names, tensorflow1
from halbert.weights.accounting import settle
from halbert.weights.foreign import is_foreign, read_foreign
from halbert.weights.int8 import ENGINE, load_int8
from halbert.weights.relatives import is_relative
from halbert.weights.tensors import read_tensors


class Place(NamedTuple):
    """A MODEL on disk: its path, what to call it, and how it got there."""

    path: Path
    name: str
    provenance: dict[str, Any]
    archive: str | None = None


class Description(NamedTuple):
    """What can be said of a model without reading its weights."""

    name: str
    spec: ModelSpec
    provenance: dict[str, Any]
    origins: dict[str, str]
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def located(model: str | os.PathLike[str]) -> Iterator[Place]:
    """The place of a MODEL; an archive is unpacked for as long as the block lasts, a hub name is fetched.

    Raises :class:`InputError` naming what was looked for.
    """
    path = Path(model)
    if not exists(path) and (boxed := bundled().get(str(model))):
        yield Place(boxed, str(model), {})
    elif not exists(path) and not tensorflow1.is_checkpoint(path):
        from halbert.weights import hub

        fetched = hub.fetch(str(model))
        yield Place(fetched.folder, str(model), {"hub": fetched.repository, "revision": fetched.revision})
    elif path.is_dir():
        yield Place(path, path.resolve().name, {})
    elif archive.is_archive(path):
        with archive.unpacked(path) as (root, folder):
            stem = path.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".zip")
            try:
                yield Place(folder, stem, {"archive": path.name}, path.name)
            except InputError as fault:  # a user knows the archive, not where it was unpacked
                told = str(fault).replace(str(root), str(path))
                raise type(fault)(told if told.startswith(str(path)) else f"{path}: {told}") from None
    elif tensorflow1.is_checkpoint(path):
        yield Place(path, path.resolve().parent.name, {})
    else:
        raise InputError(
            f"{path}: is a file, expected a model folder, a .zip, .tar or .tar.gz, or a checkpoint's .index"
        )


def resolve_bundle(
    model: str | os.PathLike[str], *, allow_pickle: bool = False, hashed: bool = False, int8: bool = False
) -> Bundle:
    """The bundle of a MODEL that needs weights.

    ``allow_pickle`` reads a ``pytorch_model.bin`` where there is nothing else (by torch, tensors only); ``hashed`` adds
    the sha256 of every source file to the provenance; ``int8`` reads the int8 engine in its place, and no full weights.
    Raises :class:`InputError` or :class:`WeightsError` naming file
    and fault.
    """
    with located(model) as place:
        bundle = _read_int8(place) if int8 else _read(place, allow_pickle)
        provenance = {**bundle.provenance, **place.provenance}
        if before := {k: v for k, v in bundle.provenance.items() if k in place.provenance and v != provenance[k]}:
            provenance["before"] = before  # a bundle that was itself made from another
        if hashed and "weights" not in provenance:
            provenance["weights"] = {f.name: sha256(f) for f in _weight_files(place.path)}
            if place.archive:
                provenance["archive"] = {"name": place.archive, "sha256": sha256(Path(model))}
        kept = None if place.archive else bundle.folder
        rows, tokens = bundle.spec.encoder.vocab_size, bundle.tokenizer.vocab_size
        if tokens < rows and not bundle.random and "halbert" not in bundle.provenance:
            said = f"the vocabulary holds {tokens:,} tokens, the embedding table {rows:,} rows: {rows - tokens:,} are never used"
            bundle = bundle.replace(warnings=[*bundle.warnings, said])
        return bundle.replace(name=place.name, provenance=provenance, folder=kept)


def load_bundle(folder: str | os.PathLike[str], *, allow_pickle: bool = False) -> Bundle:
    """Read a Halbert bundle, a Hugging Face folder or one of Google's; never a hub name.

    Raises :class:`InputError` for a folder that is no model, :class:`WeightsError` for tensors that do not fit.
    """
    if not exists(folder) or not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder")
    return resolve_bundle(folder, allow_pickle=allow_pickle)


def resolve_spec(model: str | os.PathLike[str]) -> Description:
    """What a MODEL is, from its configuration alone; released names need no weights and no network.

    Raises :class:`InputError` when there is no such model.
    """
    if not exists(model) and presets.is_preset(str(model)):
        preset = presets.get(str(model))
        provenance = {
            "source": preset.source, "release": preset.release, "release_files": list(preset.release_files),
            "hub": preset.hub, "published": preset.published,
        }  # fmt: skip
        notes = (*preset.notes, *(() if preset.verified else ("totals not verified",)))
        return Description(preset.name, preset.spec, provenance, {}, (), notes)
    if not exists(model) and str(model) not in bundled() and not tensorflow1.is_checkpoint(Path(model)):
        known = [*bundled(), *presets.all_presets(), *presets.ALIASES]
        raise InputError(
            f"{str(model)!r}: no such folder, and no released model has that name{nearest(str(model), known)}"
        )
    with located(model) as place:
        if not _is_huggingface(place.path):
            release = google.open_release(place.path, place.archive)
            return Description(
                place.name, release.spec, {"source": _GOOGLE, **place.provenance}, release.origins, release.warnings
            )
        manifest = _manifest(place.path)
        if manifest is not None:
            return Description(place.name, manifest.spec, _provenance(place.path), manifest.origins, manifest.warnings)
        encoder, _, looked = huggingface.describe(place.path)
        config = read_json(place.path / "config.json")
        text, told = told_text(place.path)
        tokenizer = load_tokenizer(place.path, text) if vocabulary_file(place.path) else None
        spec, origins, warnings = _told_spec(encoder, config, tokenizer, told, looked)
        return Description(place.name, spec, {"source": _FOLDER, **place.provenance}, origins, warnings)


def resolve_tokenizer(model: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a MODEL (of a folder, weights need not be there)."""
    with located(model) as place:
        if tensorflow1.is_checkpoint(place.path) and not _is_huggingface(place.path):
            return _google_tokenizer(google.open_release(place.path, place.archive))
        manifest = _manifest(place.path)
        return load_tokenizer(place.path, manifest.spec.text if manifest else None)


_GOOGLE, _FOLDER = "Google TensorFlow 1 checkpoint", "Hugging Face folder"


def _is_huggingface(path: Path) -> bool:
    """Whether it is a folder with a ``config.json``; otherwise it is Google's. Raises :class:`InputError` for neither."""
    checkpoint = tensorflow1.is_checkpoint(path)
    if path.is_dir() and (path / "config.json").exists():
        # Google's files with a config.json beside them are still Google's.
        return not checkpoint or any(
            next(path.glob(f"{stem}*"), None) for stem in ("model.safetensors", "pytorch_model")
        )
    if not checkpoint:
        raise InputError(f"{path}: is no model: it holds neither a config.json nor the .index of a checkpoint")
    return False


def _weight_files(path: Path) -> list[Path]:
    if _is_huggingface(path):
        return sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))
    return tensorflow1.Checkpoint(tensorflow1.find(path)).files


def _manifest(folder: Path) -> Manifest | None:
    file = folder / "halbert.json"
    if not file.exists():
        return None
    manifest = from_dict(Manifest, read_json(file), str(file))
    if manifest.format > FORMAT:
        raise InputError(f"{file}: format {manifest.format} is newer than this Halbert; upgrade halbert")
    unknown = sorted(manifest.origins.keys() - manifest.spec.flat().keys())
    if unknown:
        raise InputError(f"{file}: origins names {unknown[0]!r}, which is no field of the specification")
    return manifest


def _provenance(folder: Path) -> dict[str, Any]:
    file = folder / "provenance.json"
    told = read_json(file) if file.exists() else {}
    if not isinstance(told, dict):
        raise InputError(f"{file}: expected a JSON object")
    return told


def _read(place: Place, allow_pickle: bool) -> Bundle:
    if not _is_huggingface(place.path):
        return _read_google(place)
    manifest = _manifest(place.path)
    if manifest is not None:
        return _read_halbert(place, manifest)
    if is_foreign(read_json(place.path / "config.json")):
        return _read_foreign(place)
    return _read_huggingface(place, allow_pickle)


def has_only_int8(folder: str | os.PathLike[str]) -> bool:
    """Whether it is a bundle that keeps its int8 engine and no full weights."""
    place = Path(folder)
    return exists(place / ENGINE) and not next(place.glob("model*.safetensors"), None)


def _read_int8(place: Place) -> Bundle:
    manifest = _manifest(place.path) if place.path.is_dir() else None
    file = place.path / ENGINE
    if manifest is None or not file.exists():
        raise InputError(f"{place.name}: has no int8 engine; build one with: halbert quantize {place.name} --out DIR")
    found = load_int8(file, manifest.spec.encoder, manifest.heads)
    return _bundle(place, manifest, found.plain).replace(int8=found)


def _read_halbert(place: Place, manifest: Manifest) -> Bundle:
    folder = place.path
    main, further = divide_heads(manifest.heads)
    if has_only_int8(folder):
        raise WeightsError(
            f"{folder}: holds an int8 engine and no full weights; it can only be run, with --precision int8"
        )
    found = huggingface.read(folder, manifest.spec.encoder, main)
    arrays = found.arrays
    for name, head in further.items():
        own = confined(folder, f"heads/{name}", folder / "halbert.json")
        tensors = read_tensors(own)
        arrays |= settle(names.head_entries(found.encoder, {name: head}, "bert"), tensors, str(own))
    return _bundle(place, manifest, arrays)


def _bundle(place: Place, manifest: Manifest, arrays: dict[str, np.ndarray]) -> Bundle:
    folder = place.path
    return Bundle(
        manifest.spec, load_tokenizer(folder, manifest.spec.text), arrays, manifest.heads, name=place.name,
        provenance=_provenance(folder), pooling=manifest.pooling, normalize=manifest.normalize,
        origins=manifest.origins, warnings=manifest.warnings, folder=folder,
    )  # fmt: skip


def _read_huggingface(place: Place, allow_pickle: bool) -> Bundle:
    folder = place.path
    text, told = told_text(folder)
    tokenizer = load_tokenizer(folder, text)
    found = huggingface.read(folder, allow_pickle=allow_pickle)
    config = read_json(folder / "config.json")
    spec, origins, warnings = _told_spec(found.encoder, config, tokenizer, told)
    pooling, normalize = _sentence_transformers(folder)
    provenance = {"source": _FOLDER}
    if licence := _licence(folder / "README.md"):
        provenance["licence"] = licence
    return Bundle(
        spec, tokenizer, found.arrays, found.heads, name=place.name, provenance=provenance, pooling=pooling,
        normalize=normalize, origins=origins, warnings=warnings, folder=folder,
    )  # fmt: skip


def _read_foreign(place: Place) -> Bundle:
    """An encoder of another architecture, without its heads."""
    encoder, arrays, tokenizer = read_foreign(place.path)
    pooling, normalize = _sentence_transformers(place.path)
    provenance = {"source": f"{_FOLDER}, read by transformers"}
    if licence := _licence(place.path / "README.md"):
        provenance["licence"] = licence
    learnt = PretrainSpec(sentence_objective="none", masking="piece")
    return Bundle(
        ModelSpec(encoder=encoder, text=tokenizer.spec, pretraining=learnt), tokenizer, arrays, name=place.name,
        provenance=provenance, pooling=pooling, normalize=normalize, folder=place.path,
    )  # fmt: skip


def _told_spec(
    encoder: EncoderSpec,
    config: dict[str, Any],
    tokenizer: Tokenizer | None,
    told: dict[str, str],
    looked: bool = True,
) -> tuple[ModelSpec, dict[str, str], tuple[str, ...]]:
    """(spec, origins, warnings) of a Hugging Face folder; ``told`` says where the switches of its tokenizer came from."""
    origins = huggingface.origins_of(config, encoder, looked)
    text = TextSpec()
    warnings = presets.contradictions(encoder) + huggingface.losses(config)
    if tokenizer is not None:
        text = tokenizer.spec
        origins |= told
        vocab = tokenizer.vocab
        cased = upper_case(vocab)
        if text.lower_case and len(cased) > CASED * len(vocab):
            warnings.append(
                f"text is lower-cased ({origins['lower_case']}), but {len(cased):,} tokens of the vocabulary hold upper-case "
                "letters and can never be found; set do_lower_case in tokenizer_config.json"
            )
    family = huggingface.layout_in(config)
    origins["sentence_objective"] = origins["masking"] = f"assumed: as for every {family.upper()}"
    # Neither DistilBERT nor ELECTRA learnt about pairs.
    learnt = (
        PretrainSpec(sentence_objective="none", masking="piece") if is_relative(config) else presets.PRETRAINED[family]
    )
    return ModelSpec(encoder=encoder, text=text, pretraining=learnt), origins, tuple(warnings)


def _read_google(place: Place) -> Bundle:
    release = google.open_release(place.path, place.archive)
    provenance: dict[str, Any] = {"source": _GOOGLE}
    if release.released:
        provenance |= {"release": release.released.release, "licence": "apache-2.0"}
    return Bundle(
        release.spec, _google_tokenizer(release), release.arrays(), release.heads, name=place.name,
        provenance=provenance, origins=release.origins, warnings=release.warnings,
    )  # fmt: skip


def _google_tokenizer(release: google.Release) -> Tokenizer:
    if release.vocabulary is None:
        raise InputError(
            f"{release.checkpoint.index.parent}: holds no vocabulary; expected one of {', '.join(google.VOCABULARIES)}"
        )
    return open_tokenizer(release.vocabulary, release.spec.text)


def _licence(readme: Path) -> str | None:
    """The ``license:`` of a model card's metadata."""
    if not readme.is_file() or readme.stat().st_size > 1 << 20:
        return None
    text = readme.read_text("utf-8", "replace")
    metadata = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    told = re.search(r"^license: *[\"']?([A-Za-z0-9.+-]{1,60})[\"']? *$", metadata, re.MULTILINE)
    return told[1] if told else None


def _sentence_transformers(place: Path) -> tuple[Pooling, bool]:
    """Pooling and normalisation of a sentence-transformers folder (``modules.json``), else the defaults."""
    modules_file = place / "modules.json"
    if not modules_file.exists():
        return "mean", False
    modules = read_json(modules_file)
    pooling: Pooling = "mean"
    normalize = False
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise InputError(f"{modules_file}: expected a JSON list of modules")
    for module in modules:
        kind, path = str(module.get("type", "")), str(module.get("path", ""))
        if kind.endswith("Normalize"):
            normalize = True
        elif kind.endswith("Pooling"):
            file = confined(place, f"{path}/config.json", modules_file)
            told = read_json(file)
            if not isinstance(told, dict):
                raise InputError(f"{file}: expected a JSON object")
            if told.get("pooling_mode_cls_token"):
                pooling = "cls"
            elif not told.get("pooling_mode_mean_tokens", told.get("pooling_mode") == "mean"):
                raise InputError(f"{file}: names a pooling Halbert does not know; expected mean or cls")
    return pooling, normalize


def verify_files(model: str | os.PathLike[str]) -> list[str]:
    """The weight files of a bundle (a folder, an archive of one, a name in the box) with the sha256 they were saved with.

    Raises :class:`WeightsError` naming the first that changed or disappeared, :class:`InputError` where none is recorded.
    """
    with located(model) if exists(model) or str(model) in bundled() else contextlib.nullcontext() as place:
        told = _provenance(place.path).get("files") if place and place.path.is_dir() else None
        if place is None or not isinstance(told, dict) or not told:
            raise InputError(f"{model}: records no sha256 of its files; only bundles that Halbert saved do")
        for name, digest in told.items():
            file = confined(place.path, name, place.path / "provenance.json")
            found = sha256(require_file(file, "weight file"))
            if found != digest:
                raise WeightsError(f"{file}: has sha256 {found}, but was saved with {digest}; it has changed since")
        return list(told)
