from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from halbert.tasks.calibration import bins_of, calibration_error, expected_error


def test_equal_to_torchmetrics():
    """It bins what a binary classifier says of class 1; so does this, with the confidence in that class."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        n = int(rng.integers(1, 60))
        sure, right = rng.random(n).astype(np.float64), rng.random(n) < 0.6
        wanted = binary_calibration_error(
            torch.tensor(sure, dtype=torch.float64), torch.tensor(right).long(), n_bins=10
        )
        assert expected_error(sure, right.astype(float)) == pytest.approx(float(wanted), abs=1e-6)  # it sums in float32


def test_bins_and_interval():
    sure = np.array([0.05, 0.1, 0.95, 1.0, 1.0])
    right = np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    rows = bins_of(sure, right)
    assert [(row["from"], row["n"]) for row in rows] == [(0.0, 2), (0.9, 3)]
    assert rows[0]["confidence"] == pytest.approx(0.075) and rows[1]["right"] == pytest.approx(2 / 3)
    found = calibration_error(sure, right)
    assert found.value == pytest.approx((2 * abs(0.5 - 0.075) + 3 * abs(2 / 3 - 2.95 / 3)) / 5)
    assert found.low <= found.value <= found.high and found.n == 5
    assert calibration_error(np.zeros(0), np.zeros(0)).reason == "no examples"
