"""What is finished of a corpus that is being built: shards in ``.NAME.part`` beside it, with a record of their hashes."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import msgspec

from halbert.data.blocks import Block
from halbert.data.manifest import Cuts, Shard
from halbert.files import begin, sha256


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a finished block; no shard when it holds nothing but white space."""

    number: int
    key: str
    shard: Shard | None
    cut: Cuts


class Record:
    """What is finished, in ``.NAME.part``: a line for every block.

    Raises :class:`InputError` where another job (names of inputs, tokenizer, options, version) has finished blocks, unless ``overwrite``.
    """

    def __init__(self, target: Path, job: dict[str, Any], overwrite: bool = False) -> None:
        self.folder = target.with_name(f".{target.name}.part")
        self._file = self.folder / "finished.jsonl"
        self._lock = begin(
            self.folder, target, job, f"{target}: another process is building this corpus; wait for it, or choose another folder",
            lambda _: self._lost(), overwrite,
        )  # fmt: skip
        self.pieces: dict[int, Piece] = {}
        self._before = self._read()
        self.spool = self.folder / "spool"
        shutil.rmtree(self.spool, ignore_errors=True)
        self.spool.mkdir()

    def _lost(self) -> str:
        count = len(self._read())
        return f"{count} block(s); another input, tokenizer, option or version of halbert" if count else ""

    def _read(self) -> dict[int, Piece]:
        """The blocks that earlier runs have finished, by number."""
        found: dict[int, Piece] = {}
        if self._file.exists():
            for line in self._file.read_bytes().split(b"\n"):
                with contextlib.suppress(msgspec.DecodeError):  # the last line of a run that was killed
                    piece = msgspec.json.decode(line, type=Piece)
                    found[piece.number] = piece
        return found

    def known(self, block: Block) -> bool:
        """Whether a block was finished by an earlier run, and its shard is still what was written."""
        piece = self._before.get(block.number)
        if piece is None or piece.key != block.key or not self._is_whole(piece):
            return False
        self.pieces[piece.number] = piece
        return True

    def _is_whole(self, piece: Piece) -> bool:
        hashes = (piece.shard.sha256 if piece.shard else {}).items()
        return all((self.folder / name).is_file() and sha256(self.folder / name) == digest for name, digest in hashes)

    def verified(self) -> dict[int, str]:
        """The keys of blocks that were finished by an earlier run, whose shards are still what was written, by number."""
        return {number: piece.key for number, piece in self._before.items() if self._is_whole(piece)}

    def add(self, piece: Piece) -> None:
        """Note that a block is finished."""
        with self._file.open("ab") as stream:
            stream.write(b"\n" + msgspec.json.encode(piece) + b"\n")
        self.pieces[piece.number] = piece

    def close(self) -> None:
        """Let others have the folder."""
        self._lock.close()

    def remove(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
