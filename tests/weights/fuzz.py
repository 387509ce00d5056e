"""Readers against damaged input: every end but a result or a :class:`HalbertError` is a fault.

    python -m tests.weights.fuzz --minutes 10          (or: make fuzz)

An input that breaks a reader is kept in ``tests/golden/fuzz``, and from then on replayed by every test run.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import hashlib
import io
import json
import random
import resource
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c

from halbert.errors import HalbertError
from halbert.source import resolve_bundle, resolve_spec
from halbert.spec import TextSpec
from halbert.text.learn import learn_vocabulary
from halbert.text.wordpiece import fast_wordpiece
from halbert.weights import leveldb
from halbert.weights.tensorflow1 import Checkpoint
from tests import tiny
from tests.weights import tensorflow1
from tests.weights.tensorflow1 import GOLDEN

KEPT = Path(__file__).parent.parent / "golden" / "fuzz"
SLOWEST = 10.0  # seconds for one input
SPECIAL = [0, 1, 7, 8, 127, 128, 255]
NUMBERS: list[Any] = [0, -1, 1, 2, 3, 10**9, 2**31, 2**63, 2**64, 0.5, -0.0, 1e308, float("nan"), float("inf")]
VALUES: list[Any] = [
    *NUMBERS,
    None,
    True,
    False,
    "",
    "gelu",
    "../../etc/passwd",
    "\0",
    [],
    [1],
    {},
    {"a": 1},
    "x" * 5000,
]

Input = bytes
Reader = Callable[[Path, Input], object]


@functools.cache
def hugging() -> Path:
    """A good folder to put damaged files into."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    tiny.bundle(heads={n: tiny.HEADS[n] for n in ("label", "score")}).save(place / "model")
    return place / "model"


@functools.cache
def packed(kind: str) -> bytes:
    out = io.BytesIO()
    files = [f for f in sorted((GOLDEN / "hub").rglob("*")) if f.is_file()]
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
            for file in files:
                target.write(file, str(file.relative_to(GOLDEN)))
    else:
        with tarfile.open(fileobj=out, mode=kind) as target:  # type: ignore[call-overload]
            for file in files:
                target.add(file, str(file.relative_to(GOLDEN)))
    return out.getvalue()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, removed, repeated or put in."""
    bad = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(bad) + 1)
        how = rng.randrange(5)
        if how == 0 and at < len(bad):
            bad[at] ^= 1 << rng.randrange(8)
        elif how == 1 and at < len(bad):
            bad[at] = rng.choice(SPECIAL)
        elif how == 2:
            del bad[at : at + rng.choice([1, 4, 100, len(bad)])]
        elif how == 3:
            bad[at:at] = bad[at : at + rng.choice([1, 8, 64])]
        else:
            bad[at:at] = rng.randbytes(rng.choice([1, 4, 32]))
    return bytes(bad)


def damaged_json(data: bytes, rng: random.Random) -> bytes:
    """A few values of a JSON object changed, removed or put in; now and then the bytes."""
    if rng.randrange(4) == 0:
        return damaged(data, rng)
    value = json.loads(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        table = value
        while isinstance(table, dict | list) and table:
            key = rng.choice(list(table)) if isinstance(table, dict) else rng.randrange(len(table))
            if isinstance(table[key], dict | list) and table[key] and rng.randrange(3):
                table = table[key]
                continue
            if isinstance(table, dict) and rng.randrange(5) == 0:
                del table[key]
            else:
                table[key] = copy.deepcopy(rng.choice(VALUES))
            break
    return json.dumps(value).encode()


def rewritten_index(data: bytes, rng: random.Random) -> bytes:
    """An index with damaged entries and correct checksums, so that the damage is reached."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "x.index"
        file.write_bytes(data)
        table = leveldb.read_table(file)
    for _ in range(rng.choice([1, 2, 5])):
        key = rng.choice(list(table))
        if rng.randrange(4) == 0:
            table[damaged(key or b"a", rng)] = table[key]
        else:
            table[key] = damaged(table[key] or b"a", rng)
    return tensorflow1.table(table, rng.choice([64, 1000, tensorflow1.BLOCK_SIZE]))


def rewritten_table(data: bytes, rng: random.Random) -> bytes:
    """Damage inside blocks, with their checksums made right again."""
    bad = bytearray(damaged(data[:-48], rng) + data[-48:])
    footer = bytes(bad[-48:])
    at = 0
    for _ in range(2):
        offset, at = leveldb.varint(footer, at)
        size, at = leveldb.varint(footer, at)
        end = offset + size
        if end + 5 <= len(bad):
            bad[end] = 0
            checksum = tensorflow1.masked(google_crc32c.value(bytes(bad[offset : end + 1])))
            bad[end + 1 : end + 5] = checksum.to_bytes(4, "little")
    return bytes(bad)


def read_index(place: Path, data: bytes) -> object:
    (place / "bert_model.ckpt.index").write_bytes(data)
    shutil.copy(GOLDEN / "bert" / "bert_model.ckpt.data-00000-of-00001", place)
    checkpoint = Checkpoint(place / "bert_model.ckpt")
    return [checkpoint.read(name) for name in checkpoint.variables]


def read_archive(place: Path, data: bytes) -> object:
    (place / "model.zip").write_bytes(data)
    return resolve_bundle(place / "model.zip")


def read_google(name: str) -> Reader:
    def read(place: Path, data: bytes) -> object:
        shutil.copytree(GOLDEN / "albert", place / "m")
        (place / "m" / name).write_bytes(data)
        resolve_spec(place / "m")
        return resolve_bundle(place / "m")

    return read


def read_hugging(name: str, *without: str) -> Reader:
    def read(place: Path, data: bytes) -> object:
        shutil.copytree(hugging(), place / "m", ignore=shutil.ignore_patterns(*without))
        (place / "m" / name).write_bytes(data)
        with_spec(place / "m")
        return resolve_bundle(place / "m")

    return read


def with_spec(place: Path) -> None:
    with contextlib.suppress(HalbertError):  # the bundle's reader must end well too
        resolve_spec(place)


def bert_index() -> bytes:
    return (GOLDEN / "bert" / "bert_model.ckpt.index").read_bytes()


def tokenizer_json() -> bytes:
    fast = fast_wordpiece(tiny.tokenizer().vocab, tiny.tokenizer().spec)
    return fast.to_str().encode()


def unigram_json() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        learn_vocabulary(tiny.SPEECH, 64, TextSpec(kind="unigram")).save(Path(place))
        told = json.loads((Path(place) / "tokenizer.json").read_text())
    told["normalizer"]["normalizers"].pop()  # the table of characters, which would be nearly all of it
    return json.dumps(told).encode()


def modules() -> bytes:
    kinds = ("Transformer", "Pooling", "Normalize")
    return json.dumps([{"idx": i, "path": f"{i}_{k}", "type": f"x.models.{k}"} for i, k in enumerate(kinds)]).encode()


def of(name: str) -> Callable[[], bytes]:
    return lambda: (hugging() / name).read_bytes()


Damage = Callable[[bytes, random.Random], bytes]
TARGETS: dict[str, tuple[Callable[[], bytes], Damage, Reader]] = {
    "index": (bert_index, damaged, read_index),
    "index-entries": (bert_index, rewritten_index, read_index),
    "index-blocks": (bert_index, rewritten_table, read_index),
    "zip": (lambda: packed("zip"), damaged, read_archive),
    "tar": (lambda: packed("w"), damaged, read_archive),
    "targz": (lambda: packed("w:gz"), damaged, read_archive),
    "google-config": ((GOLDEN / "albert" / "albert_config.json").read_bytes, damaged_json, read_google("albert_config.json")),
    "google-vocabulary": ((GOLDEN / "bert" / "vocab.txt").read_bytes, damaged, read_google("vocab_chinese.txt")),
    "config": (of("config.json"), damaged_json, read_hugging("config.json", "halbert.json")),
    "manifest": (of("halbert.json"), damaged_json, read_hugging("halbert.json")),
    "provenance": (of("provenance.json"), damaged_json, read_hugging("provenance.json")),
    "tokenizer-config": (of("tokenizer_config.json"), damaged_json, read_hugging("tokenizer_config.json", "halbert.json")),
    "tokenizer-json": (tokenizer_json, damaged_json, read_hugging("tokenizer.json", "halbert.json", "vocab.txt")),
    "unigram-json": (unigram_json, damaged_json, read_hugging("tokenizer.json", "halbert.json", "vocab.txt")),
    "modules": (modules, damaged_json, read_hugging("modules.json", "halbert.json")),
    "safetensors": (of("model.safetensors"), damaged, read_hugging("model.safetensors", "halbert.json")),
}  # fmt: skip


def fault(target: str, data: bytes) -> str | None:
    """What went wrong with one input, if anything: a foreign exception, a slow end, something left behind."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        try:
            TARGETS[target][2](Path(place), data)
        except HalbertError:
            pass
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    return f"{seconds:.1f} seconds" if seconds > SLOWEST else None


def example(target: str, seed: int) -> bytes:
    """The damaged input number ``seed``: always the same."""
    make, damage, _ = TARGETS[target]
    return damage(make(), random.Random(f"{target} {seed}"))


def main() -> None:
    """Run until the time is up; exit 1 when anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--first-seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    # A reader that believes a size it was told fails here instead of filling the machine.
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    end, seed, found, count = time.monotonic() + 60 * options.minutes, options.first_seed, 0, 0
    known: set[tuple[str, str]] = set()
    while time.monotonic() < end:
        for target in TARGETS:
            data = example(target, seed)
            problem = fault(target, data)
            count += 1
            if problem and (target, problem) not in known:
                known.add((target, problem))
                found += 1
                KEPT.mkdir(parents=True, exist_ok=True)
                file = KEPT / f"{target}.{hashlib.sha256(data).hexdigest()[:12]}"
                file.write_bytes(data)
                print(f"{file.name}: {problem}", flush=True)
        seed += 1
    shutil.rmtree(hugging().parent)
    print(f"{count:,} inputs, seeds {options.first_seed} to {seed - 1}, {found} faults", flush=True)
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
