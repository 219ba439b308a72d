"""Runs of MLflow, read through its client."""

import pytest
from tracked_sweep import finish_with_steps, planned, sweep

mlflow = pytest.importorskip("mlflow", reason="the package mlflow is not installed (pip install 'qtablate[mlflow]')")
pytestmark = pytest.mark.filterwarnings("ignore")


def runs_of(uri, experiment="r"):
    client = mlflow.MlflowClient(tracking_uri=uri)
    return client, client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def test_a_run_per_cell_with_losses_figures_and_failures(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "r"
    plan = planned(root, ())
    finish_with_steps(plan.cells[1], root, steps=1200)  # more metrics than one request may have
    warnings = []
    sweep(root, "mlflow", accuracies={0: None, 4: 0.7}, on_event=lambda event: warnings.append(event.text))
    assert not any(warnings)
    client, runs = runs_of(f"sqlite:///{root / 'mlflow.db'}")
    found = {run.info.run_name: run for run in runs}
    good, failed = (found[f"tokens {n}, accum 1, seed 1"] for n in (4, 0))
    assert (good.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert failed.data.tags["error"] == "out of memory"
    assert good.data.tags["condition"] == "tokens 4, accum 1"
    assert good.data.params["extra_num_query_tokens"] == "4"
    losses = client.get_metric_history(good.info.run_id, "train/loss")
    assert [one.step for one in losses] == list(range(1, 1201))
    assert losses[3].value == 0.25
    assert [one.step for one in client.get_metric_history(good.info.run_id, "train_by_samples/loss")][:3] == [8, 16, 24]
    scored = plan.store.read_record(plan.cells[1].key).figures["accuracy"]["value"]
    assert good.data.metrics["accuracy"] == good.data.metrics["task/a"] == pytest.approx(scored)
    assert (good.data.metrics["blind_accuracy"], good.data.metrics["peak_memory_mb"]) == (0.25, 500)

    sweep(root, "mlflow")  # what failed is finished now, and its run replaced; nothing else is written
    _, runs = runs_of(f"sqlite:///{root / 'mlflow.db'}")
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 2
    assert good.info.run_id in {run.info.run_id for run in runs}
    (root / "trackers.json").unlink()  # as after a kill before it was written
    sweep(root, "mlflow")
    assert len(runs_of(f"sqlite:///{root / 'mlflow.db'}")[1]) == 2


def test_the_store_of_the_environment_is_used_and_its_password_not_told(tmp_path, monkeypatch):
    from qtablate.track.mlflow import MlflowTracker

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    plan = sweep(tmp_path / "r", "mlflow")
    assert len(runs_of(f"sqlite:///{tmp_path}/other.db", "mine")[1]) == 2
    assert not (tmp_path / "r" / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/x")
    assert MlflowTracker(plan.store).url == "https://host/x"


def test_a_server_that_cannot_be_reached_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    events = []
    plan = sweep(tmp_path / "r", "mlflow", on_event=events.append)
    assert not plan.to_run()
    [warning] = [event.text for event in events if event.kind == "notice"]
    assert warning.startswith("Warning: mlflow gets no more runs of this sweep (")
