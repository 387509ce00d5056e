"""Converts fabricated checkpoints of full size: time, peak memory, and whether every bit arrives.

    make bench-convert        (or: python -m benchmarks.convert --out benchmarks/results/convert.json)

The weights are random and written in TensorFlow's format by ``tests/weights/tensorflow1.py``, which reproduces
TensorFlow's own files byte for byte. The same arrays, saved without the detour, must give the same file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from halbert import presets
from halbert.bundle import random_bundle
from halbert.compare.machine import describe_machine
from halbert.files import sha256, write_json
from halbert.heads import HeadSpec
from halbert.run.predictor import load
from halbert.spec import TextSpec
from halbert.text.wordpiece import WordPiece
from halbert.weights import names
from tests.weights.tensorflow1 import GOLDEN, write

HEADS = {"mlm": HeadSpec(kind="mlm"), "pair": HeadSpec(kind="pair")}
TEXTS = ["w7 w8 w9", "w100 w2000 w9999 w12"]


# The peak of the process itself: getrusage would also count the parent, up to the moment of exec.
_PEAK = """
import atexit, re
atexit.register(lambda: print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]))
"""


def measured(source: Path, target: Path) -> tuple[float, int]:
    """(seconds, peak resident bytes) of a process that converts; Linux only."""
    code = f"import sys; sys.argv[1:] = ['convert', {str(source)!r}, {str(target)!r}]\n"
    code += "from halbert.cli.main import run; run()"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _PEAK + code], stdout=subprocess.PIPE, check=True, text=True)
    return time.perf_counter() - start, 1024 * int(done.stdout.split()[-1])


def convert(preset: presets.Preset, column: names.Column, folder: Path) -> dict[str, Any]:
    """Fabricate one release, convert it, compare."""
    encoder = preset.spec.encoder
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = specials + [f"w{i}" for i in range(encoder.vocab_size - len(specials))]
    spec = msgspec.structs.replace(preset.spec, text=TextSpec(compat="google"))
    bundle = random_bundle(spec, WordPiece(vocabulary, spec.text), 0, HEADS, preset.name)
    for name, array in bundle.arrays.items():  # biases of zero would hide mistakes
        if array.ndim == 1:
            array += np.random.default_rng(len(name)).standard_normal(array.shape, np.float32) * 0.1
    config, _, index, data = preset.release_files
    release = folder / "release"
    stored = {
        e.theirs[0]: bundle.arrays[e.ours].T if e.transposed else bundle.arrays[e.ours]
        for e in names.expected(encoder, HEADS, column)
    }
    write(release / index.removesuffix(".index"), stored)
    told = {field: getattr(encoder, field) for field in (
        "attention_probs_dropout_prob", "hidden_dropout_prob", "hidden_size", "initializer_range", "intermediate_size",
        "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "type_vocab_size", "vocab_size",
    )}  # fmt: skip
    if column == "albert_tf1":
        told |= {"embedding_size": encoder.embedding_size, "num_hidden_groups": 1, "inner_group_num": 1}
    write_json(release / config, {**told, "hidden_act": "gelu"})
    (release / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    bundle.save(folder / "direct")
    size = (release / data).stat().st_size

    seconds, peak = measured(release, folder / "converted")
    _, tiny = measured(GOLDEN / "albert", folder / "tiny")
    same = sha256(folder / "direct" / "model.safetensors") == sha256(folder / "converted" / "model.safetensors")
    ours, theirs = (load(str(folder / name), precision="fp32").embed(TEXTS) for name in ("direct", "converted"))
    return {
        "name": preset.name,
        "checkpoint_bytes": size,
        "seconds": round(seconds, 2),
        "peak_bytes": peak,
        "peak_to_checkpoint": round(peak / size, 3),
        "peak_with_a_tiny_checkpoint_bytes": tiny,
        "peak_above_that_to_checkpoint": round((peak - tiny) / size, 3),
        "same_file_as_saved_directly": same,
        "largest_difference_of_outputs": float(np.abs(ours - theirs).max()),
    }


def main() -> None:
    """Run both and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/convert.json"))
    out = parser.parse_args().out
    found = []
    columns: dict[str, names.Column] = {"bert-base-uncased": "bert_tf1", "albert-base-v2": "albert_tf1"}
    for name, column in columns.items():
        with tempfile.TemporaryDirectory() as place:
            found.append(convert(presets.get(name), column, Path(place)))
        print(found[-1], file=sys.stderr)
    write_json(
        out,
        {
            "created": time.strftime("%Y-%m-%d", time.gmtime()),
            "command": "make bench-convert",
            "machine": describe_machine(),
            "conversions": found,
        },
    )


if __name__ == "__main__":
    main()
