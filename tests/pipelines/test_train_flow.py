"""The whole flow with a real Prefect server, a real worker and a real MLflow store."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deblur.data.listing import find_pairs
from deblur.data.pairs import FolderPairs
from deblur.evaluation import evaluate
from deblur.registry import CANDIDATE, CHAMPION, MODEL_NAME, alias_holder, fetch_model
from deblur.serving.engine import Engine
from deblur.training.folder import CheckpointFolder
from tests.conftest import TINY
from tests.pipelines.live import Platform, Trained, eventually

pytestmark = pytest.mark.slow


def test_the_flow_ends_in_a_registered_model_whose_figure_is_what_it_serves(
    trained: Trained, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = trained.platform
    version = platform.mlflow.get_model_version_by_alias(MODEL_NAME, CANDIDATE)
    run_id = version.run_id
    assert run_id is not None
    run = platform.mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    expected = {"batch_size": "4", "learning_rate": "0.001", "num_epochs": "2", "patience": "0"}
    assert expected.items() <= run.data.params.items()
    for metric in ("train_loss", "val_loss", "psnr", "ssim"):
        history = platform.mlflow.get_metric_history(run_id, metric)
        assert [point.step for point in history] == [1, 2], metric
    assert {"data.digest", "config.digest", "code.revision", "env.torch"} <= run.data.tags.keys()
    pictures = [a.path for a in platform.mlflow.list_artifacts(run_id, "validation")]
    assert pictures == ["validation/000001.jpg", "validation/000002.jpg"]
    documents = [a.path for a in platform.mlflow.list_artifacts(run_id, "data")]
    assert documents == ["data/manifest.json", "data/report.html", "data/report.json"]

    # What was written down as the model's figure is what the served file delivers.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", platform.env["MLFLOW_TRACKING_URI"])
    monkeypatch.chdir(platform.folder)
    file = fetch_model(f"models:/{MODEL_NAME}@{CANDIDATE}", platform.folder / "fetched.onnx")
    engine = Engine(file)
    assert engine.sha256 == version.tags["sha256"]
    scores = evaluate(engine.predict, FolderPairs(find_pairs(tiny_root, "test")))
    assert float(version.tags["test_psnr"]) == pytest.approx(scores.psnr, abs=0.005)
    assert engine.contract.metrics["test_psnr"] == pytest.approx(scores.psnr, abs=0.005)


def test_a_version_that_the_gate_refuses_is_a_result_and_not_a_failure(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One test picture has no interval, so its gain proves nothing.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained.platform.env["MLFLOW_TRACKING_URI"])
    version = trained.platform.mlflow.get_model_version(MODEL_NAME, "1")
    assert version.tags["promotion"] == "refused"
    assert alias_holder(CHAMPION) is None
    assert trained.run["state_type"] == "COMPLETED"
    decision = trained.artifact("gate-decision")
    assert "# Version 1: refused" in decision
    assert "| gain | nan dB |" in decision
    assert "Champion now: none" in decision


def test_the_flow_run_shows_what_its_stages_came_to(trained: Trained) -> None:
    assert "usable" in trained.artifact("data-validation").lower()
    for key in ("learning-curve", "before-after"):
        page = trained.artifact(key)
        assert "](data:image/jpeg;base64," in page
        assert len(page) < 300_000
    rows = json.loads(trained.artifact("evaluation"))
    assert [row["picture"] for row in rows] == ["all 1 pictures", "lettering-test/000001.png"]
    assert rows[0]["blurred dB"] == rows[1]["blurred dB"]
    run_id = trained.platform.mlflow.get_model_version(MODEL_NAME, "1").run_id
    assert f"run {run_id} is in the store `sqlite:///" in trained.artifact("mlflow-run")
    assert "deblur-unet, version 1" in trained.artifact("model-version")


def test_training_is_no_news_of_the_data(trained: Trained, tiny_root: Path) -> None:
    """Or a training that new data starts would start the next one."""
    told = [event["data_root"] for event in trained.platform.versions_of_data()]
    assert str(tiny_root) not in told


def test_the_same_data_elsewhere_trains_validates_and_registers_nothing_twice(
    trained: Trained, tiny_root: Path, tmp_path: Path
) -> None:
    platform = trained.platform
    before = platform.versions()
    elsewhere = shutil.copytree(tiny_root, tmp_path / "elsewhere")
    lost = platform.folder / "runs" / "first" / "evaluation_test" / "report.html"
    lost.unlink()
    done = platform.train(platform.parameters(elsewhere, run_name="first"))
    assert done.returncode == 0, done.stderr
    assert platform.versions() == before
    again = platform.newest_run()
    assert platform.tasks_of(again) == {
        "validate": "Cached", "prepare": "Completed", "train": "Completed",
        "evaluate": "Completed", "export": "Cached", "register": "Completed",
    }  # fmt: skip
    assert lost.is_file(), "what a result names is made again if it is gone"
    reports = platform.folder / "runs" / "validation"
    ours, theirs = (reports / f"{n}-blur" / "report.json" for n in ("elsewhere", tiny_root.name))
    assert ours.read_bytes() == theirs.read_bytes()
    assert len(platform.artifacts("data-validation", again)) == 1, "each run shows its data"


def test_bad_data_fails_the_flow_with_a_message_and_trains_nothing(
    platform: Platform, tiny_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_root, tmp_path / "bad")
    broken = next((tmp_path / "bad" / "train").rglob("sharp/*.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    done = platform.train(platform.parameters(tmp_path / "bad", run_name="bad"))
    assert done.returncode == 2
    assert f"{broken} is damaged or truncated" in done.stderr
    assert not (platform.folder / "runs" / "bad").exists()
    (report,) = platform.artifacts("data-validation", platform.newest_run())
    assert str(broken) in report
    assert "unreadable" in report


def test_the_literal_command_with_a_worker_ends_completed_with_a_new_version(
    platform: Platform, tiny_root: Path
) -> None:
    assert platform.prefect("work-pool", "create", "local", "--type", "process").returncode == 0
    deployed = platform.prefect("--no-prompt", "deploy", "--all")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    before = platform.versions()
    values = platform.parameters(tiny_root)
    params = [part for k, v in values.items() for part in ("--param", f"{k}={json.dumps(v)}")]
    started = platform.prefect("deployment", "run", "train-deblur", *params)
    assert started.returncode == 0, started.stdout + started.stderr

    work = ["worker", "start", "--pool", "local", "--run-once"]
    worked = platform.prefect(*work)
    assert worked.returncode == 0, worked.stdout + worked.stderr
    # The newest run comes first, below the table's head.
    newest = platform.prefect("flow-run", "ls", "--limit", "1").stdout
    assert "COMPLETED" in newest, newest + worked.stdout + worked.stderr
    assert platform.versions() == before + 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Windows cannot be sent like this")
def test_a_flow_that_is_preempted_saves_crashes_and_goes_on_when_started_again(
    platform: Platform, tiny_root: Path
) -> None:
    overrides = {**TINY, "crops_per_image": 100, "log_every": 1, "num_epochs": 1}
    values = platform.parameters(tiny_root, run_name="preempted", overrides=overrides)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.train_deblur", json.dumps(values)], cwd=platform.folder,
        env={**os.environ, **platform.env}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    link = platform.folder / "runs" / "preempted" / "mlflow_run.json"

    def losses() -> list[int]:
        if not link.exists():
            return []
        run_id = json.loads(link.read_text())["run_id"]
        return [point.step for point in platform.mlflow.get_metric_history(run_id, "loss")]

    assert eventually(lambda: losses()[3:], seconds=180)
    process.terminate()
    _, said = process.communicate(timeout=90)
    assert process.returncode in (143, -signal.SIGTERM), said
    stopped = CheckpointFolder(link.parent).newest()
    assert stopped is not None and losses() == list(range(1, stopped.step + 1))
    assert 3 < stopped.step < 100
    assert platform.newest_run()["state_type"] == "CRASHED"

    assert platform.train(values).returncode == 0
    assert losses() == list(range(1, 101))
