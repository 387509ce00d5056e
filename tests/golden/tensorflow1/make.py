"""Writes the checkpoints of this folder, and what their models compute, with TensorFlow itself.

    pip install tensorflow-cpu==2.21.0 && python tests/golden/tensorflow1/make.py

Nothing of Halbert is used. Variable names and formulas follow google-research/bert ``modeling.py`` at eedf571 and
google-research/albert ``modeling.py`` at b772393: layers as functions of variables, the mask as -10,000 added to the
scores, LayerNorm with an epsilon of 1e-12. Files are written by TensorFlow's own ``SaveV2`` and ``MergeV2Checkpoints``.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import sys
import tarfile
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
WORDS = "the cat sat on a mat ##s ##ed un ##want want ##ing runn wa , . ' ! ? 1 2 dog eat 世 界"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
BERT = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 15,
    "initializer_range": 0.02,
    "intermediate_size": 19,
    "max_position_embeddings": 23,
    "num_attention_heads": 3,
    "num_hidden_layers": 3,
    "type_vocab_size": 2,
    "vocab_size": 37,
}
ALBERT = {
    **BERT,
    "attention_probs_dropout_prob": 0,
    "embedding_size": 7,
    "hidden_dropout_prob": 0,
    "num_hidden_groups": 2,
    "inner_group_num": 2,
    "net_structure_type": 0,
    "gap_size": 0,
    "num_memory_blocks": 0,
    "down_scale_factor": 1,
}
IDS = [[2, 5, 6, 7, 3, 10, 11, 3], [2, 12, 19, 3, 0, 0, 0, 0]]
MASK = [[1] * 8, [1, 1, 1, 1, 0, 0, 0, 0]]
SEGMENTS = [[0, 0, 0, 0, 0, 1, 1, 1], [0] * 8]


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, shape in shapes.items():
        mean = 1.0 if name.endswith("gamma") else 0.0
        drawn[name] = (mean + 0.2 * rng.standard_normal(shape)).astype(np.float32)
    return drawn


def shapes_of(config: dict, albert: bool) -> dict[str, tuple[int, ...]]:
    v, h, f = config["vocab_size"], config["hidden_size"], config["intermediate_size"]
    e = config["embedding_size"] if albert else h
    shapes = {
        "bert/embeddings/word_embeddings": (v, e),
        "bert/embeddings/token_type_embeddings": (config["type_vocab_size"], e),
        "bert/embeddings/position_embeddings": (config["max_position_embeddings"], e),
    }

    def dense(name: str, a: int, b: int) -> None:
        shapes.update({f"{name}/kernel": (a, b), f"{name}/bias": (b,)})

    def norm(name: str, n: int) -> None:
        shapes.update({f"{name}/gamma": (n,), f"{name}/beta": (n,)})

    norm("bert/embeddings/LayerNorm", e)
    if albert:
        dense("bert/encoder/embedding_hidden_mapping_in", e, h)
        for group in range(config["num_hidden_groups"]):
            for inner in range(config["inner_group_num"]):
                block = f"bert/encoder/transformer/group_{group}/inner_group_{inner}"
                for name in ("query", "key", "value"):
                    dense(f"{block}/attention_1/self/{name}", h, h)
                dense(f"{block}/attention_1/output/dense", h, h)
                norm(f"{block}/LayerNorm", h)
                dense(f"{block}/ffn_1/intermediate/dense", h, f)
                dense(f"{block}/ffn_1/intermediate/output/dense", f, h)
                norm(f"{block}/LayerNorm_1", h)
    else:
        for layer in range(config["num_hidden_layers"]):
            block = f"bert/encoder/layer_{layer}"
            for name in ("query", "key", "value"):
                dense(f"{block}/attention/self/{name}", h, h)
            dense(f"{block}/attention/output/dense", h, h)
            norm(f"{block}/attention/output/LayerNorm", h)
            dense(f"{block}/intermediate/dense", h, f)
            dense(f"{block}/output/dense", f, h)
            norm(f"{block}/output/LayerNorm", h)
    dense("bert/pooler/dense", h, h)
    dense("cls/predictions/transform/dense", h, e)
    norm("cls/predictions/transform/LayerNorm", e)
    shapes["cls/predictions/output_bias"] = (v,)
    shapes["cls/seq_relationship/output_weights"] = (2, h)
    shapes["cls/seq_relationship/output_bias"] = (2,)
    return shapes


def outputs(values: dict[str, np.ndarray], config: dict, albert: bool, erf: bool) -> dict[str, list]:
    w = {name: tf.constant(array) for name, array in values.items()}

    def dense(x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.tensordot(x, w[f"{name}/kernel"], 1) + w[f"{name}/bias"]

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, w[f"{name}/beta"], w[f"{name}/gamma"], 1e-12)

    def gelu(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.gelu(x, approximate=not erf)

    heads, size = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]

    def attention(x: tf.Tensor, name: str) -> tf.Tensor:
        def split(part: str) -> tf.Tensor:
            return tf.transpose(tf.reshape(dense(x, f"{name}/{part}"), [2, -1, heads, size]), [0, 2, 1, 3])

        scores = tf.matmul(split("query"), split("key"), transpose_b=True) / math.sqrt(size)
        scores += (1.0 - tf.constant(MASK, tf.float32)[:, None, None, :]) * -10000.0
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), split("value")), [0, 2, 1, 3])
        return tf.reshape(mixed, [2, -1, heads * size])

    x = tf.gather(w["bert/embeddings/word_embeddings"], IDS)
    x += tf.gather(w["bert/embeddings/token_type_embeddings"], SEGMENTS)
    x += w["bert/embeddings/position_embeddings"][: len(IDS[0])]
    x = norm(x, "bert/embeddings/LayerNorm")
    layers = config["num_hidden_layers"]
    if albert:
        x = dense(x, "bert/encoder/embedding_hidden_mapping_in")
        for layer in range(layers):
            group = math.floor(layer / layers * config["num_hidden_groups"])
            for inner in range(config["inner_group_num"]):
                block = f"bert/encoder/transformer/group_{group}/inner_group_{inner}"
                a = dense(attention(x, f"{block}/attention_1/self"), f"{block}/attention_1/output/dense")
                a = norm(x + a, f"{block}/LayerNorm")
                i = gelu(dense(a, f"{block}/ffn_1/intermediate/dense"))
                x = norm(a + dense(i, f"{block}/ffn_1/intermediate/output/dense"), f"{block}/LayerNorm_1")
    else:
        for layer in range(layers):
            block = f"bert/encoder/layer_{layer}"
            a = dense(attention(x, f"{block}/attention/self"), f"{block}/attention/output/dense")
            a = norm(x + a, f"{block}/attention/output/LayerNorm")
            i = gelu(dense(a, f"{block}/intermediate/dense"))
            x = norm(a + dense(i, f"{block}/output/dense"), f"{block}/output/LayerNorm")
    pooled = tf.tanh(dense(x[:, 0], "bert/pooler/dense"))
    m = norm(gelu(dense(x, "cls/predictions/transform/dense")), "cls/predictions/transform/LayerNorm")
    mlm = tf.matmul(m, w["bert/embeddings/word_embeddings"][None], transpose_b=True) + w["cls/predictions/output_bias"]
    pair = tf.matmul(pooled, w["cls/seq_relationship/output_weights"], transpose_b=True)
    pair += w["cls/seq_relationship/output_bias"]
    found = {"last": x, "pooled": pooled, "mlm": mlm, "pair": pair}
    return {name: np.round(value.numpy().astype(float), 7).tolist() for name, value in found.items()}


def save(prefix: Path, values: dict[str, np.ndarray], shards: int = 1) -> None:
    """What ``tf.train.Saver`` does: each shard sorted by name, then merged into one index."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(values)
    with tempfile.TemporaryDirectory(dir=prefix.parent) as scratch:
        parts = []
        for shard in range(shards):
            mine = names[shard::shards]
            part = f"{scratch}/part-{shard:05}-of-{shards:05}"
            tf.raw_ops.SaveV2(
                prefix=part, tensor_names=mine, shape_and_slices=[""] * len(mine),
                tensors=[tf.constant(values[name]) for name in mine],
            )  # fmt: skip
            parts.append(part)
        tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix), delete_old_dirs=False)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def make_bert() -> None:
    """With the optimiser's slots and the step counter, as a training run leaves it."""
    place = HERE / "bert"
    values = draw(shapes_of(BERT, albert=False), seed=1)
    slots = {f"{name}/{slot}": np.zeros_like(array) for name, array in values.items() for slot in ("adam_m", "adam_v")}
    save(place / "bert_model.ckpt", {**values, **slots, "global_step": np.int64(7)})
    write_json(place / "bert_config.json", BERT)
    (place / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    answers = {
        f"{kind}_{name}": v
        for kind in ("erf", "tanh")
        for name, v in outputs(values, BERT, False, kind == "erf").items()
    }
    write_json(place / "outputs.json", {"ids": IDS, "mask": MASK, "segments": SEGMENTS, **answers})


def make_albert() -> None:
    """Two groups of two inner blocks, in two shards."""
    place = HERE / "albert"
    values = draw(shapes_of(ALBERT, albert=True), seed=2)
    save(place / "model.ckpt-best", values, shards=2)
    write_json(place / "albert_config.json", ALBERT)
    (place / "vocab_chinese.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    answers = {f"tanh_{name}": v for name, v in outputs(values, ALBERT, True, False).items()}
    write_json(place / "outputs.json", {"ids": IDS, "mask": MASK, "segments": SEGMENTS, **answers})


def make_hub() -> None:
    """The same ALBERT as the variables of a TF-Hub module, under ``module/``, without its heads' variables."""
    values = draw(shapes_of(ALBERT, albert=True), seed=2)
    kept = {f"module/{name}": array for name, array in values.items() if name.startswith("bert/")}
    save(HERE / "hub" / "variables" / "variables", kept)
    write_json(HERE / "hub" / "assets" / "albert_config.json", ALBERT)
    (HERE / "hub" / "assets" / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")


def make_blocks() -> None:
    """So many variables that the index needs several blocks: 180 narrow layers with their slots, as a ``.tar.gz``."""
    config = {**BERT, "hidden_size": 2, "num_attention_heads": 1, "intermediate_size": 3, "num_hidden_layers": 180}
    values = draw(shapes_of(config, albert=False), seed=3)
    slots = {f"{name}/{slot}": np.zeros_like(array) for name, array in values.items() for slot in ("adam_m", "adam_v")}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "blocks"
        save(place / "bert_model.ckpt", {**values, **slots})
        write_json(place / "bert_config.json", config)
        (place / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
        # No time stamps: the same bytes on every run.
        with (
            (HERE / "blocks.tar.gz").open("wb") as target,
            gzip.GzipFile("", "wb", fileobj=target, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for file in sorted(place.iterdir()):
                if file.is_file():
                    member = archive.gettarinfo(file, f"blocks/{file.name}")
                    member.uid = member.gid = member.mtime = 0
                    member.uname = member.gname = ""
                    with file.open("rb") as stream:
                        archive.addfile(member, stream)


def main() -> None:
    for make in (make_bert, make_albert, make_hub, make_blocks):
        make()
    (HERE / "PROVENANCE.md").write_text(
        "# Checkpoints written by TensorFlow\n\n"
        f"`make.py` wrote every file here with TensorFlow {tf.__version__}, numpy {np.__version__} and Python "
        f"{sys.version.split()[0]}. `bert/`: optimiser slots and a step counter. `albert/`: two shards, two groups of two "
        "inner blocks. `hub/`: variables of a TF-Hub module under `module/`. `blocks.tar.gz`: an index of several blocks. "
        "The weights are random.\n",
        encoding="utf-8",
    )


main()
