"""The pipeline run by KFP's local runner, beside the Prefect flow on a real server."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from deblur.local.processes import HOST, free_port
from deblur.local.services import Services
from deblur.registry import CANDIDATE, MODEL_NAME
from deblur.training.folder import CheckpointFolder
from tests.conftest import TINY

pytestmark = [
    pytest.mark.slow,
    # Ten processes one after the other, most of which load torch or MLflow.
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform == "win32", reason="KFP starts stages with sh"),
]


@dataclass(frozen=True)
class Place:
    """A folder with an MLflow store of its own, and what child processes get."""

    folder: Path
    env: dict[str, str]

    def start(self, *args: str) -> subprocess.CompletedProcess[str]:
        self.folder.mkdir(exist_ok=True)
        store = f"sqlite:///{(self.folder / 'mlflow.db').as_posix()}"
        env = {**os.environ, **self.env, "MLFLOW_TRACKING_URI": store}
        # Artifacts of a store in SQLite go below the current folder.
        return subprocess.run(
            [sys.executable, "-m", *args], cwd=self.folder, env=env, capture_output=True, text=True,
            timeout=1200,
        )  # fmt: skip

    def local(self, *options: str, **values: object) -> subprocess.CompletedProcess[str]:
        given = {"runs_dir": str(self.folder / "runs"), "overrides": json.dumps(TINY), **values}
        params = [part for key, value in given.items() for part in ("--param", f"{key}={value}")]
        command = ["pipelines.kubeflow", "local", "--out", "artifacts", "--cache"]
        return self.start(*command, *options, *params)

    @property
    def mlflow(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{(self.folder / 'mlflow.db').as_posix()}")

    def run(self) -> Run:
        (experiment,) = self.mlflow.search_experiments(filter_string="name = 'deblur'")
        (run,) = self.mlflow.search_runs([experiment.experiment_id])
        return run


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="module")
def kubeflow(
    tmp_path_factory: pytest.TempPathFactory, env: dict[str, str], tiny_root: Path
) -> Place:
    """Where the pipeline has run once."""
    place = Place(tmp_path_factory.mktemp("kubeflow"), env)
    done = place.local(data_root=tiny_root, run_name="first")
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture
def prefect(tmp_path: Path, env: dict[str, str], tiny_root: Path) -> Iterator[Place]:
    """Where the Prefect flow has run once."""
    port = free_port(0)
    place = Place(tmp_path / "prefect", {**env, "PREFECT_API_URL": f"http://{HOST}:{port}/api"})
    with Services(tmp_path / "logs", place.env) as services:
        services.start(
            "prefect", ["prefect", "server", "start", "--host", HOST, "--port", str(port)],
            port, "/api/health",
        )  # fmt: skip
        values = {
            "data_root": str(tiny_root), "recipe": "seed", "overrides": TINY,
            "runs_dir": str(place.folder / "runs"), "run_name": "first",
        }  # fmt: skip
        done = place.start("pipelines.train_deblur", json.dumps(values))
        assert done.returncode == 0, done.stdout + done.stderr
        yield place


def test_the_pipeline_and_the_flow_come_to_the_same_figures(
    kubeflow: Place, prefect: Place
) -> None:
    ours, theirs = kubeflow.run(), prefect.run()
    named = {"train_loss", "val_loss", "psnr", "ssim", "blurred_psnr", "test_psnr", "test_ssim",
             "test_blurred_psnr", "test_blurred_ssim"}  # fmt: skip
    assert named <= ours.data.metrics.keys()
    for name in sorted(named):
        assert ours.data.metrics[name] == theirs.data.metrics[name], name
    assert ours.data.params == theirs.data.params
    for tag in ("data.digest", "config.digest"):
        assert ours.data.tags[tag] == theirs.data.tags[tag]


def test_the_pipeline_ends_in_a_registered_version_and_a_finished_run(kubeflow: Place) -> None:
    version = kubeflow.mlflow.get_model_version_by_alias(MODEL_NAME, CANDIDATE)
    run = kubeflow.run()
    assert version.run_id == run.info.run_id
    assert run.info.status == "FINISHED"
    assert float(version.tags["test_psnr"]) == pytest.approx(
        run.data.metrics["test_psnr"], abs=1e-4
    )
    kept = [file.path for file in kubeflow.mlflow.list_artifacts(run.info.run_id, "data")]
    assert kept == ["data/manifest.json", "data/report.html", "data/report.json"]


def test_a_second_run_of_the_same_name_takes_what_it_has_read_before(
    kubeflow: Place, tiny_root: Path
) -> None:
    before = kubeflow.run()
    losses = kubeflow.mlflow.get_metric_history(before.info.run_id, "train_loss")
    # Results from the cache must not lean on files that may be gone, or others, by then.
    shutil.rmtree(kubeflow.folder / "runs" / "validation")
    (kubeflow.folder / "runs" / "first" / "model.onnx").unlink()
    done = kubeflow.local(data_root=tiny_root, run_name="first")
    assert done.returncode == 0, done.stdout + done.stderr
    hits = re.findall(r"Task ([a-z]+) cache hit", done.stdout + done.stderr)
    assert hits == ["validate", "evaluate", "export"]
    assert kubeflow.run().info.run_id == before.info.run_id
    assert kubeflow.mlflow.get_metric_history(before.info.run_id, "train_loss") == losses
    assert len(kubeflow.mlflow.search_model_versions(f"name = '{MODEL_NAME}'")) == 1


def test_a_training_that_is_killed_goes_on_where_it_was_when_it_is_tried_again(
    tmp_path: Path, env: dict[str, str], tiny_root: Path
) -> None:
    """As when a pod is lost: nothing in it has time to save or to report."""
    place = Place(tmp_path / "killed", env)
    folder = place.folder / "runs" / "killed"
    overrides = json.dumps({**TINY, "num_epochs": 4, "crops_per_image": 40, "log_every": 1})
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(
            place.local, "--retries", "1", data_root=tiny_root, run_name="killed",
            overrides=overrides, promote=False,
        )  # fmt: skip
        saved = killed_after_a_checkpoint(folder)
        done = running.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert 0 < saved < 160
    run = place.run()
    assert run.info.status == "FINISHED"
    output = done.stdout + done.stderr
    assert "failed (attempt 1/2)" in output
    first, second = (int(step) for step in re.findall(r"160 steps, (\d+) done", output))
    assert first == 0 and second >= saved
    # What was not sent yet died with the process; what came after the save is not recorded twice.
    history = place.mlflow.get_metric_history(run.info.run_id, "loss")
    steps = [point.step for point in history]
    assert steps == sorted(set(steps)) and steps[-1] == 160
    assert len(place.mlflow.search_model_versions(f"name = '{MODEL_NAME}'")) == 1


def killed_after_a_checkpoint(folder: Path) -> int:
    """Kill the process that trains there once it has saved; the step that it goes on from."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        newest = CheckpointFolder(folder).newest() if folder.is_dir() else None
        if newest is not None:
            for process in psutil.process_iter(["cmdline"]):
                command = process.info["cmdline"] or []
                trains = command[-2:] == ["--function_to_execute", "train"]
                if trains and command[0] != "sh" and str(folder.parent) in " ".join(command):
                    process.kill()
                    return newest.step
        time.sleep(0.05)
    raise AssertionError(f"nothing was saved in {folder}")


def test_bad_data_fails_the_pipeline_and_the_end_is_reported(kubeflow: Place, root: Path) -> None:
    broken = next((root / "train").rglob("sharp/*.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    done = kubeflow.local(data_root=root, run_name="bad")
    assert done.returncode == 2
    assert f"{broken} is damaged or truncated" in done.stdout
    assert "no run was begun" in done.stdout
    assert not (kubeflow.folder / "runs" / "bad").exists()
