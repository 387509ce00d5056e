"""A journal in MLflow: every number once by step, in one run however often the training was begun."""

from __future__ import annotations

import pytest

from halbert.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the only store without a database or a server
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def test_a_run_that_goes_on_is_one_run(store, tmp_path):
    from mlflow import MlflowClient

    from halbert.train.mlflow import report_to

    out = tmp_path / "model"
    (out / "training").mkdir(parents=True)
    for steps in ((10, 20), (20, 30)):  # killed after its last checkpoint: a step is taken again
        report = report_to("trials", out, {"steps": 30, "encoder": {"hidden_size": 64}, "long": "x" * 900})
        for step in steps:
            entry = {"step": step, "steps": 30, "masked_loss": 3 - step / 100, "skipped": "no", "bad": float("nan")}
            report(entry)
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("trials").experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "model"
    assert run.data.params == {"steps": "30", "encoder": "{'hidden_size': 64}", "long": "x" * 500}
    assert set(run.data.metrics) == {"masked_loss"}
    history = client.get_metric_history(run.info.run_id, "masked_loss")
    assert [(m.step, m.value) for m in history] == [(10, 2.9), (20, 2.8), (30, 2.7)]


def test_a_store_that_refuses(store, tmp_path, monkeypatch):
    from halbert.train.mlflow import report_to

    told: list[str] = []
    report = report_to("trials", tmp_path, {}, told.append)
    monkeypatch.setattr("mlflow.MlflowClient.log_batch", refuse)
    for step in (1, 2):
        report({"step": step, "steps": 3, "masked_loss": 1.0})
    assert told == ["warning: MLflow takes no more of this run's journal: no more"]  # once, and the training goes on
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "other").as_uri())
    with pytest.raises(InputError, match="MLflow, experiment 'trials'"):
        report_to("trials", tmp_path, {})
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI says which server"):
        report_to("trials", tmp_path, {})


def refuse(*_, **__):
    raise OSError("no more")
