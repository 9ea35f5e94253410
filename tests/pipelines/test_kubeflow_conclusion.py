"""What is left when a pipeline has ended."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from deblur.training.folder import CheckpointFolder
from deblur.training.tracked import RUN_FILE
from pipelines.kubeflow.conclusion import conclude


def test_an_end_before_training_has_nothing_to_mark(tmp_path: Path) -> None:
    ended = conclude(tmp_path / "none", "FAILED")
    assert (ended.run_id, ended.marked) == ("", False)
    assert "no run was begun" in ended.markdown("none")


@pytest.mark.slow
def test_an_mlflow_run_that_its_pod_left_open_is_marked_and_others_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{(tmp_path / 'm.db').as_posix()}")
    client = MlflowClient()
    experiment = client.create_experiment("deblur")

    def begun(name: str) -> Path:
        run = client.create_run(experiment)
        folder = tmp_path / name
        folder.mkdir()
        (folder / RUN_FILE).write_text(json.dumps({"run_id": run.info.run_id}))
        return folder

    failed = conclude(begun("failed"), "FAILED")
    assert (failed.status, failed.marked) == ("FAILED", True)
    assert client.get_run(failed.run_id).info.status == "FAILED"
    stopped = conclude(begun("stopped"), "CANCELLED")
    assert client.get_run(stopped.run_id).info.status == "KILLED"
    folder = begun("trained elsewhere")
    with CheckpointFolder(folder).writing():
        running = conclude(folder, "FAILED")
    assert (running.status, running.marked) == ("RUNNING", False)
    assert client.get_run(running.run_id).info.status == "RUNNING"
    folder = begun("finished")
    client.set_terminated(json.loads((folder / RUN_FILE).read_text())["run_id"], "FINISHED")
    finished = conclude(folder, "FAILED")
    assert (finished.status, finished.marked) == ("FINISHED", False)
