"""The whole flow with a real Prefect server, a real worker and a real MLflow store."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from mlflow import MlflowClient

from deblur.data.listing import find_pairs
from deblur.data.pairs import FolderPairs
from deblur.evaluation import evaluate
from deblur.registry import CANDIDATE, MODEL_NAME, fetch_model
from deblur.serving.engine import Engine
from deblur.training.folder import CheckpointFolder
from pipelines.bare_names import DEPLOYMENTS
from pipelines.services import HOST, Services, free_port
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Platform:
    """A Prefect server with a worker, and an MLflow store, in folders of their own."""

    folder: Path
    env: dict[str, str]

    def prefect(self, *args: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "prefect", *args], cwd=ROOT, env={**os.environ, **self.env},
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def api(self, path: str, **query: object) -> Any:
        """What the server's own interface answers."""
        answer = httpx.post(f"{self.env['PREFECT_API_URL']}{path}", json=query)
        answer.raise_for_status()
        return answer.json()

    def validations(self) -> list[str]:
        """The Markdown of all artifacts of validation, the newest first."""
        key = {"key": {"any_": ["data-validation"]}}
        return [
            a["data"] for a in self.api("/artifacts/filter", artifacts=key, sort="CREATED_DESC")
        ]

    def versions_of_data(self) -> list[dict[str, str]]:
        """The payloads of all events that told of a new version of the data."""
        named = {"event": {"name": ["deblur.data.new-version"]}}
        return [e["payload"] for e in self.api("/events/filter", filter=named)["events"]]

    @property
    def mlflow(self) -> MlflowClient:
        return MlflowClient(self.env["MLFLOW_TRACKING_URI"])


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    port = free_port(0)
    env = {
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').as_posix()}",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",  # or the state would be cut to "COMP…" in the list
    }
    with Services(folder / "logs", env) as services:
        services.start(
            "prefect", ["prefect", "server", "start", "--host", HOST, "--port", str(port)],
            port, "/api/health",
        )  # fmt: skip
        yield Platform(folder, env)


def parameters(platform: Platform, data_root: Path, **more: object) -> dict[str, object]:
    return {
        "data_root": str(data_root), "recipe": "seed", "overrides": TINY,
        "runs_dir": str(platform.folder / "runs"), **more,
    }  # fmt: skip


def run_flow(platform: Platform, values: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """The flow called directly, as the demo does, against the server."""
    # Artifacts of a store in SQLite go below the current folder.
    return subprocess.run(
        [sys.executable, "-m", "pipelines.train_deblur", json.dumps(values)], cwd=platform.folder,
        env={**os.environ, **platform.env}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_the_flow_ends_in_a_registered_model_whose_figure_is_what_it_serves(
    platform: Platform, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_flow(platform, parameters(platform, tiny_root, run_name="first"))
    assert done.returncode == 0, done.stderr

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
    (summary,) = platform.validations()
    assert "usable" in summary.lower()
    (event,) = eventually(platform.versions_of_data)
    assert event["digest"] == run.data.tags["data.digest"]
    assert event["previous"] == ""

    # What was written down as the model's figure is what the served file delivers.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", platform.env["MLFLOW_TRACKING_URI"])
    monkeypatch.chdir(platform.folder)
    file = fetch_model(f"models:/{MODEL_NAME}@{CANDIDATE}", platform.folder / "fetched.onnx")
    engine = Engine(file)
    assert engine.sha256 == version.tags["sha256"]
    scores = evaluate(engine.predict, FolderPairs(find_pairs(tiny_root, "test")))
    assert float(version.tags["test_psnr"]) == pytest.approx(scores.psnr, abs=0.005)
    assert engine.contract.metrics["test_psnr"] == pytest.approx(scores.psnr, abs=0.005)


def test_the_same_run_name_trains_and_registers_nothing_twice(
    platform: Platform, tiny_root: Path
) -> None:
    before = versions(platform)
    done = run_flow(platform, parameters(platform, tiny_root, run_name="first"))
    assert done.returncode == 0, done.stderr
    assert versions(platform) == before == 1
    assert len(platform.validations()) == 2
    assert len(platform.versions_of_data()) == 1, "the data has not changed"


def test_bad_data_fails_the_flow_with_a_message_and_trains_nothing(
    platform: Platform, tiny_root: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(tiny_root, tmp_path / "bad")
    broken = next((tmp_path / "bad" / "train").rglob("sharp/*.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    done = run_flow(platform, parameters(platform, tmp_path / "bad", run_name="bad"))
    assert done.returncode != 0
    assert f"{broken} is damaged or truncated" in done.stderr
    assert not (platform.folder / "runs" / "bad").exists()
    assert str(broken) in platform.validations()[0]
    assert "unreadable" in platform.validations()[0]


def test_the_literal_command_with_a_worker_ends_completed_with_a_new_version(
    platform: Platform, tiny_root: Path
) -> None:
    assert platform.prefect("work-pool", "create", "local", "--type", "process").returncode == 0
    deployed = platform.prefect("--no-prompt", "deploy", "--all")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    before = versions(platform)
    values = parameters(platform, tiny_root)
    params = [part for k, v in values.items() for part in ("--param", f"{k}={json.dumps(v)}")]
    started = platform.prefect("deployment", "run", "train-deblur", *params)
    assert started.returncode == 0, started.stdout + started.stderr

    work = ["worker", "start", "--pool", "local", "--run-once"]
    worked = platform.prefect(*work)
    assert worked.returncode == 0, worked.stdout + worked.stderr
    # The newest run comes first, below the table's head.
    newest = platform.prefect("flow-run", "ls", "--limit", "1").stdout
    assert "COMPLETED" in newest, newest + worked.stdout + worked.stderr
    assert versions(platform) == before + 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Windows cannot be sent like this")
def test_a_flow_that_is_preempted_saves_crashes_and_goes_on_when_started_again(
    platform: Platform, tiny_root: Path
) -> None:
    overrides = {**TINY, "crops_per_image": 100, "log_every": 1, "num_epochs": 1}
    values = parameters(platform, tiny_root, run_name="preempted", overrides=overrides)
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
    (newest,) = platform.api("/flow_runs/filter", sort="START_TIME_DESC", limit=1)
    assert newest["state_type"] == "CRASHED"

    assert run_flow(platform, values).returncode == 0
    assert losses() == list(range(1, 101))


def test_every_deployment_can_be_named_without_its_flow() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {deployment["name"] for deployment in deployments} == DEPLOYMENTS
    for deployment in deployments:
        assert deployment["entrypoint"].endswith(deployment["name"].replace("-", "_"))


def eventually(ask: Callable[[], list], seconds: float = 30) -> list:
    """What is answered once it is anything: the server stores events a moment later."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return answer


def versions(platform: Platform) -> int:
    return len(platform.mlflow.search_model_versions(f"name = '{MODEL_NAME}'"))
