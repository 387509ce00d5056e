"""A run's journal in MLflow too, where a team keeps its runs there.

MLflow's own settings say where that is (``MLFLOW_TRACKING_URI`` and its kin).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
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


def report_to(experiment: str, out: str | os.PathLike[str], parameters: Mapping[str, Any]) -> Report:
    """A report that logs every number of a journal's entries, by step, to one run of an experiment.

    ``out/training/mlflow.json`` remembers which, so that a run that was killed goes on in the same one. ``parameters``
    are logged once. Raises :class:`InputError` when MLflow cannot be reached or refuses.
    """
    file = Path(out) / "training" / "mlflow.json"
    try:
        client = MlflowClient()
    except MlflowException as error:
        raise _refused(experiment, error) from None

    def begin() -> str:
        if file.exists():
            return str(read_json(file)["run"])
        found = client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else client.create_experiment(experiment)
        run: str = client.create_run(number, run_name=Path(out).name).info.run_id
        for name, value in parameters.items():
            client.log_param(run, name, str(value)[:_LONGEST])
        if file.parent.is_dir():
            write_json(file, {"experiment": experiment, "run": run})
        return run

    run = ""

    def report(entry: dict[str, Any]) -> None:
        nonlocal run
        try:
            run = run or begin()
            at, step = int(1000 * time.time()), entry["step"]
            client.log_batch(run, [Metric(name, value, at, step) for name, value in _numbers(entry)])
            if step == entry["steps"]:
                client.set_terminated(run)
        except MlflowException as error:
            raise _refused(experiment, error) from None

    return report


def _refused(experiment: str, error: MlflowException) -> InputError:
    return InputError(f"MLflow, experiment {experiment!r}: {error}")


def _numbers(entry: Mapping[str, Any]) -> list[tuple[str, float]]:
    known = ((n, v) for n, v in entry.items() if isinstance(v, int | float) and n not in ("step", "steps"))
    return [(name, float(value)) for name, value in known if math.isfinite(value)]
