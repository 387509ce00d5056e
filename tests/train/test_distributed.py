"""Two processes on one global batch: the loss curve of one process, whichever engine shares the model out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from halbert.data.corpus import build_corpus
from tests import tiny
from tests.train import made

if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

SETS = {
    "steps": 50, "warmup_steps": 5, "length": 16, "batch_tokens": 128, "accumulate": 2, "log_every": 1, "workers": 0,
    "precision": "fp32", "encoder.num_hidden_layers": 2, "encoder.num_hidden_groups": 1, "encoder.hidden_size": 32,
    "encoder.embedding_size": 16, "encoder.num_attention_heads": 2, "encoder.hidden_dropout_prob": 0.1,
    "encoder.max_position_embeddings": 32, "checkpoint_every": 20, "learning_rate": 3e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("processes")
    made.corpus(place / "corpus", shard_tokens=150)
    build_corpus([[text, text] for text in tiny.SPEECH], tiny.tokenizer(), place / "parallel", whole=True)
    tiny.bundle().save(place / "tokenizer")
    return place


def pretrain(place: Path, out: str, processes: int, *more: str, **changes: object) -> list[dict[str, float]]:
    before = [sys.executable, "-W", "ignore", "-m"]
    if processes > 1:
        before += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    taught = {
        "start": "pmi-svd",
        "start_parallel": str(place / "parallel"),
        "translation_weight": 0.5,
        "encoder.hidden_size": 16,
    }
    sets = [f"--set={key}={json.dumps(value)}" for key, value in {**SETS, **taught, **changes}.items()]
    done = subprocess.run(
        [*before, "halbert", "pretrain", "albert-mini", "--tokenizer", str(place / "tokenizer"), "--out", str(place / out),
         "--set", f"corpus={place / 'corpus'}", *["--quiet"][: processes == 1], *sets, *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (place / out / "training/journal.jsonl").read_text().splitlines()]


def curve(entries: list[dict[str, float]], name: str = "masked_loss") -> np.ndarray:
    return np.array([entry[name] for entry in entries])


@pytest.fixture(scope="module")
def alone(place) -> list[dict[str, float]]:
    return pretrain(place, "alone", 1)


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_have_the_curve_of_one(place, alone, strategy):
    shared = pretrain(place, f"shared-{strategy}", 2, strategy=strategy)
    assert len(alone) == len(shared) == 50
    assert [e["tokens"] for e in alone] == [e["tokens"] for e in shared]
    for name in ("masked_loss", "pair_loss", "translation_loss"):
        assert np.abs(curve(alone, name) - curve(shared, name)).max() <= 1e-4
    assert curve(alone)[-1] < curve(alone)[0] - 0.3  # something was learnt, so that there is something to compare
    told = json.loads((place / f"shared-{strategy}" / "provenance.json").read_text())["training"]
    assert told["processes"] == 2


def test_the_twin_that_must_differ(place, alone):
    """Each process on half a batch and nothing shared out: another curve."""
    half = pretrain(place, "half", 1, accumulate=1)
    assert np.abs(curve(alone) - curve(half)).max() > 1e-2


def test_processes_must_divide_the_batches(place):
    with pytest.raises(AssertionError, match="accumulate is 1 and there are 2 processes"):
        pretrain(place, "uneven", 2, accumulate=1, steps=2, warmup_steps=0)


def test_a_table_that_the_first_cannot_make_ends_all_of_them(place):
    with pytest.raises(AssertionError, match="too few pieces, for a pmi-svd start of width 256") as told:
        pretrain(place, "wide", 2, steps=2, warmup_steps=0, **{"encoder.embedding_size": 256})
    assert "halbert/train" not in str(told.value)  # torchrun's own traceback is all there is
