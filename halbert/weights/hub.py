"""Model folders by hub name, through ``huggingface_hub``: its cache, tokens, endpoint and offline mode."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
from pathlib import Path
from typing import NamedTuple

from halbert import presets
from halbert.errors import InputError, WeightsError
from halbert.files import read_json, sha256, write_json

# What a model folder may hold for us: never code, never pickles.
_FILES = [
    "config.json", "halbert.json", "provenance.json", "tokenizer_config.json", "modules.json", "README.md",
    "model.safetensors", "pooler.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors", "heads/*/head.json",
    "heads/*/model.safetensors", "vocab.txt", "spiece.model", "tokenizer.json", "1_Pooling/config.json",
    # of other architectures
    "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "sentencepiece.bpe.model", "spm.model",
]  # fmt: skip


# The hub takes no larger file than 10 MB without git-lfs.
_LARGE = 64 << 20


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
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    repository, _, revision = model.partition("@")
    try:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            raise HFValidationError
        validate_repo_id(repository)
    except HFValidationError:
        raise InputError(
            f"{model[:200]!r}: no such folder, no released model, and not a hub name of the form org/name"
        ) from None
    return repository, revision or None


def fetch(model: str) -> Fetched:
    """The local folder of a released preset or of ``org/name[@revision]``; what is not cached is downloaded.

    Raises :class:`InputError` naming the repository when it cannot be had, :class:`WeightsError` when a file is not the
    one the hub announced (it is removed from the cache then).
    """
    repository, revision = repository_of(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=_FILES))
    except GatedRepoError:
        why = "is gated: accept its terms on its page, then log in (hf auth login, or HF_TOKEN)"
    except RepositoryNotFoundError:
        why = "does not exist, or is private: check the name; for a private one log in (hf auth login, or HF_TOKEN)"
    except RevisionNotFoundError:
        why = f"has no revision {revision!r}"
    except Exception as error:  # the library raises many kinds; each means: not to be had
        why = f"is neither cached nor reachable ({type(error).__name__}); go online once, or give the path of a folder"
    else:
        _verify(folder, repository)
        return Fetched(folder, repository, folder.name)
    raise InputError(f"{model}: the hub repository {repository!r} {why}")


def _verify(folder: Path, repository: str) -> None:
    """Compare the files of a snapshot with what the hub announced; the library compares only their sizes.

    What was found right is noted beside the snapshots, so that no file is read twice for this.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        listed = get_cached_repo_tree(repository, revision=folder.name, cache_dir=folder.parents[2])
    except CachedRepoTreeNotFoundError:  # brought by a library that kept no list: there is nothing to compare with
        return
    note = folder.parent.parent / ".halbert-verified.json"
    known: dict[str, list[int]] = {}
    if note.exists():
        told = read_json(note)
        known = told if isinstance(told, dict) else {}
    right, wrong = {}, []
    for entry in listed:
        file = folder / entry.path
        if ".." in Path(entry.path).parts or Path(entry.path).is_absolute() or not file.exists():
            continue  # the list is the server's: no file elsewhere is read, or removed
        blob = file.resolve()
        stamp = [blob.stat().st_size, blob.stat().st_mtime_ns]
        if known.get(entry.blob_id) == stamp or (digest := _mismatch(blob, entry.blob_id)) is None:
            right[entry.blob_id] = stamp
            continue
        wrong.append(f"{entry.path} arrived with sha256 {digest}")
        file.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
    if not right.items() <= known.items():
        with contextlib.suppress(OSError):  # a cache that may only be read: looked at again next time
            write_json(note, {**known, **right})
    if wrong:
        raise WeightsError(
            f"{repository}: {'; '.join(wrong)}, which is not what the hub announced; removed from the cache, try again"
        )


def _mismatch(file: Path, announced: str) -> str | None:
    """The sha256 of a file whose git identity is not the announced one.

    git knows a file by the sha1 of ``blob SIZE``, a zero and the content; of a large one, the content is a pointer that
    names the sha256 (git-lfs ``docs/spec.md``).
    """

    def identity(content: bytes) -> str:
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    digest, size = sha256(file), file.stat().st_size
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
    if identity(pointer.encode()) == announced or (size < _LARGE and identity(file.read_bytes()) == announced):
        return None
    return digest


def is_cached(repository: str) -> bool:
    """Whether a repository's configuration is in the local cache (nothing is downloaded)."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, "config.json"), str)
