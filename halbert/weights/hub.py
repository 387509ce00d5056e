"""Model folders by hub name, through ``huggingface_hub``: its cache, its tokens, its offline mode."""

from __future__ import annotations

from pathlib import Path

from halbert import presets
from halbert.errors import InputError

# What a model folder may hold for us: never code, never pickles.
_FILES = ["*.json", "*.safetensors", "vocab.txt", "spiece.model", "1_Pooling/config.json"]


def fetch(model: str) -> Path:
    """The local folder of a released preset or of ``org/name[@revision]``, downloaded if it is not cached.

    Raises :class:`InputError` naming the repository when it cannot be had.
    """
    if presets.is_preset(model):
        repository, revision = presets.get(model).hub, None
        if repository is None:
            raise InputError(
                f"{model}: has no official hub repository; convert its release {presets.get(model).release}"
            )
    else:
        repository, _, revision = model.partition("@")
        if repository.count("/") != 1:
            raise InputError(f"{model!r}: no such folder, no released model, and not a hub name of the form org/name")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=_FILES))
    except Exception as error:  # the library raises many kinds; each means: not to be had
        raise InputError(
            f"{model}: the weights of hub repository {repository!r} are neither cached nor reachable "
            f"({type(error).__name__}); go online once, or give the path of a folder"
        ) from None


def is_cached(repository: str) -> bool:
    """Whether a repository's configuration is in the local cache (nothing is downloaded)."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, "config.json"), str)
