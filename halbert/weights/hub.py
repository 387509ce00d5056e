"""Model folders by hub name, through ``huggingface_hub``: its cache, tokens, endpoint and offline mode."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from halbert import presets
from halbert.errors import InputError, WeightsError

# What a model folder may hold for us: never code, never pickles.
_FILES = [
    "config.json", "halbert.json", "provenance.json", "tokenizer_config.json", "modules.json", "README.md",
    "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors", "heads/*/head.json",
    "heads/*/model.safetensors", "vocab.txt", "spiece.model", "1_Pooling/config.json",
]  # fmt: skip


class Fetched(NamedTuple):
    """A hub repository on this machine: its folder in the cache, its name, and the commit."""

    folder: Path
    repository: str
    revision: str


def repository_of(model: str) -> tuple[str, str | None]:
    """(repository, revision) of a released preset or of ``org/name[@revision]``.

    Raises :class:`InputError` for anything else, and for presets without an official repository.
    """
    if presets.is_preset(model):
        preset = presets.get(model)
        if preset.hub is None:
            raise InputError(f"{model}: has no official hub repository; convert its release {preset.release}")
        return preset.hub, None
    repository, _, revision = model.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(f"{model!r}: no such folder, no released model, and not a hub name of the form org/name")
    return repository, revision or None


def fetch(model: str) -> Fetched:
    """The local folder of a released preset or of ``org/name[@revision]``; what is not cached is downloaded.

    Raises :class:`InputError` naming the repository when it cannot be had, :class:`WeightsError` when a file that was
    downloaded is not the one the hub announced (it is removed from the cache then).
    """
    repository, revision = repository_of(model)
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.file_download import repo_folder_name

    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model") / "blobs"
    before = set(blobs.iterdir()) if blobs.is_dir() else set()
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=_FILES))
    except Exception as error:  # the library raises many kinds; each means: not to be had
        raise InputError(
            f"{model}: the weights of hub repository {repository!r} are neither cached nor reachable "
            f"({type(error).__name__}); go online once, or give the path of a folder"
        ) from None
    for blob in sorted(set(blobs.iterdir()) - before) if blobs.is_dir() else []:
        _verify(blob, folder, repository)
    return Fetched(folder, repository, folder.name)


def _verify(blob: Path, folder: Path, repository: str) -> None:
    """Large files are named by their sha256 in the cache; the library compares only their size."""
    if not re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return
    with blob.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found == blob.name:
        return
    links = [link for link in folder.rglob("*") if link.is_symlink() and link.resolve() == blob.resolve()]
    for file in (*links, blob):
        file.unlink()
    names = ", ".join(link.name for link in links) or "a file"
    raise WeightsError(
        f"{repository}: {names} arrived with sha256 {found}, but the hub announced {blob.name}; it was removed, try again"
    )


def is_cached(repository: str) -> bool:
    """Whether a repository's configuration is in the local cache (nothing is downloaded)."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, "config.json"), str)
