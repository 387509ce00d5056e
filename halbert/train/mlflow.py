"""A run's journal in MLflow too, where a team keeps its runs there.

MLflow's own settings say where that is (``MLFLOW_TRACKING_URI`` and its kin).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from halbert.errors import InputError, missing_extra
from halbert.files import read_json, write_json
from halbert.train.journal import Report

try:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException
except ImportError:
    raise missing_extra("mlflow", "mlflow", "writing a run's journal to MLflow") from None

_LONGEST = 500  # characters of a parameter that every version of MLflow takes


def report_to(
    experiment: str,
    out: str | os.PathLike[str],
    parameters: Mapping[str, Any],
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """A report that logs every number of a journal's entries, by step, to one run of an experiment.

    ``out/training/mlflow.json`` remembers which run and how far it is, so that a training that was killed goes on in the
    same one and logs no step twice. ``parameters`` are logged once. Raises :class:`InputError` when MLflow cannot be
    reached at the beginning or refuses; what fails later is told once, and the training goes on without.
    """
    file = Path(out) / "training" / "mlflow.json"
    kept: dict[str, Any] = read_json(file) if file.exists() else {}
    failed = False
    try:
        client = MlflowClient()
        if kept.get("experiment") != experiment:
            kept = {"experiment": experiment, "run": _begin(client, experiment, Path(out).name, parameters), "step": 0}
        client.update_run(kept["run"], status="RUNNING")
    except (MlflowException, OSError) as error:
        where = (
            ""
            if os.environ.get("MLFLOW_TRACKING_URI")
            else "; MLFLOW_TRACKING_URI says which server keeps the runs (http://HOST:5000); to keep them here: pip install mlflow"
        )
        raise InputError(f"MLflow, experiment {experiment!r}: {error}{where}") from None

    def report(entry: dict[str, Any]) -> None:
        nonlocal failed
        if failed or entry["step"] <= kept["step"]:
            return
        at, kept["step"] = int(1000 * time.time()), entry["step"]
        try:
            client.log_batch(kept["run"], [Metric(name, value, at, kept["step"]) for name, value in _numbers(entry)])
            if entry["step"] == entry["steps"]:
                client.set_terminated(kept["run"])
        except (MlflowException, OSError) as error:
            failed = True
            tell(f"warning: MLflow takes no more of this run's journal: {error}")
        if file.parent.is_dir():
            write_json(file, kept)

    return report


def _begin(client: MlflowClient, experiment: str, name: str, parameters: Mapping[str, Any]) -> str:
    found = client.get_experiment_by_name(experiment)
    number = found.experiment_id if found else client.create_experiment(experiment)
    run: str = client.create_run(number, run_name=name).info.run_id
    for key, value in parameters.items():
        client.log_param(run, key, str(value)[:_LONGEST])
    return run


def _numbers(entry: Mapping[str, Any]) -> list[tuple[str, float]]:
    known = ((n, v) for n, v in entry.items() if isinstance(v, int | float) and n not in ("step", "steps"))
    return [(name, float(value)) for name, value in known if math.isfinite(value)]
