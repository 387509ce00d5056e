"""``manifest.json`` of a corpus: what it is made of, with which tokenizer, and the hash of every file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from halbert.errors import InputError
from halbert.files import check_target, read_json, write_json
from halbert.spec import from_dict
from halbert.version import __version__

FORMAT = 2
NAME = "manifest.json"
# A hundred bytes for each of some million inputs.
_MOST_BYTES = 1 << 30


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and hashes of one shard's files. A shard holds one language; ``bytes`` are those of its sentences in UTF-8."""

    documents: int
    sentences: int
    tokens: int
    sha256: dict[str, str]
    language: str = ""
    characters: int = 0
    bytes: int = 0
    unknown: int = 0


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was read: its name (never where it lay on the machine), its hash and its size as it was."""

    name: str
    sha256: str
    bytes: int = 0
    language: str = ""


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was left out on request, and why; or so many ``rows`` of it, and what the first of them have."""

    name: str
    reason: str
    rows: int = 0


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of one language."""

    documents: int = 0
    sentences: int = 0
    tokens: int = 0
    bytes: int = 0


class Cuts(msgspec.Struct, frozen=True, kw_only=True):
    """Places where a line, or a document between two lines, was too long and was cut."""

    lines: int = 0
    documents: int = 0


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """What was left out because it had been there before."""

    paragraphs: int = 0
    bytes: int = 0


class CorpusManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``manifest.json``: what the corpus is made of, and with which tokenizer."""

    format: int
    halbert: str
    tokenizer: str
    vocab_size: int
    documents: int
    sentences: int
    tokens: int
    characters: int
    note: str
    shards: list[Shard]
    inputs: list[Source]
    unknown: int = 0  # pieces; not counted by releases that had no such field
    bytes: int = 0
    languages: dict[str, Share] = {}
    licence: str = ""
    command: str = ""
    cut: Cuts = Cuts()
    duplicates: Dropped = Dropped()
    skipped: list[Skipped] = []


def read_manifest(folder: Path) -> CorpusManifest:
    """The manifest of a corpus folder, of this format or the first one.

    Raises :class:`InputError` when there is none, it is damaged, or a later release wrote it.
    """
    path = folder / NAME
    if not path.exists():
        raise InputError(f"{folder}: is no corpus: it holds no {NAME}; make one with: halbert corpus")
    told = read_json(path, _MOST_BYTES)
    version = told.get("format") if isinstance(told, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise InputError(f"{path}: has format {version}; this release reads formats 1 to {FORMAT}: install a newer one")
    if version == 1 and isinstance(told.get("inputs"), dict):
        told["inputs"] = [{"name": name, "sha256": digest} for name, digest in told["inputs"].items()]
    return from_dict(CorpusManifest, told, str(path))


def check_corpus(out: str | os.PathLike[str], overwrite: bool) -> Path:
    """The real path of a folder where a corpus may be written; ``overwrite`` replaces one, and nothing else.

    Raises :class:`InputError` when something of the user's is there.
    """
    target = check_target(out, overwrite)
    if overwrite and target.exists() and any(target.iterdir()):
        read_manifest(target)
    return target


def write_manifest(folder: Path, manifest: CorpusManifest) -> None:
    """Write ``manifest.json``."""
    write_json(folder / NAME, msgspec.to_builtins(manifest))


def manifest_of(shards: list[Shard], tokenizer: str, vocab_size: int, **told: Any) -> CorpusManifest:
    """A manifest with the totals of its shards; ``told`` are its other fields."""
    totals = {name: sum(getattr(shard, name) for shard in shards) for name in _COUNTED}
    totals.update({name: told.pop(name) for name in _COUNTED if name in told})
    return CorpusManifest(
        format=FORMAT, halbert=__version__, tokenizer=tokenizer, vocab_size=vocab_size, shards=shards,
        languages=_languages(shards), **{"note": "", "inputs": [], **totals, **told},
    )  # fmt: skip


_COUNTED = ("documents", "sentences", "tokens", "characters", "bytes", "unknown")


def _languages(shards: Iterable[Shard]) -> dict[str, Share]:
    names = Share.__struct_fields__
    found: dict[str, dict[str, int]] = {}
    for shard in shards:
        counts = found.setdefault(shard.language, dict.fromkeys(names, 0))
        for name in names:
            counts[name] += getattr(shard, name)
    return {language: Share(**counts) for language, counts in sorted(found.items())}


def input_names(paths: Iterable[str]) -> list[str]:
    """Names under which inputs are listed: their paths from the folder they have in common, addresses without secrets."""
    here = Path.cwd()
    whole = [
        path if "://" in path else os.path.normpath(f"{here}{os.sep}{path}" if not _absolute(path) else path)
        for path in paths
    ]
    local = [path for path in whole if "://" not in path]
    # What all have in common the first and the last by name have in common; for many files nothing larger than a text each.
    shared = os.path.commonprefix([min(local), max(local)]) if local else ""  # noqa: RUF071 - cut at a folder below
    root = shared.rfind(os.sep) + 1
    return [_public(path) if "://" in path else path[root:].replace(os.sep, "/") for path in whole]


def _absolute(path: str) -> bool:
    return path.startswith(os.sep) or Path(path).is_absolute()


def _public(address: str) -> str:
    """An address without user, password and query."""
    scheme, rest = address.split("://", 1)
    host, slash, tail = rest.split("?")[0].split("#")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{tail}"
