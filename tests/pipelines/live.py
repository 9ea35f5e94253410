"""A Prefect server and an MLflow store of the tests' own, and flows run against them.

Flows run in processes of their own: one that used Prefect hangs at its end if the server is gone.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from mlflow import MlflowClient

from deblur.local.processes import HOST, free_port
from deblur.local.services import Services
from deblur.registry import MODEL_NAME
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Platform:
    """A Prefect server, and an MLflow store, in folders of their own."""

    folder: Path
    env: dict[str, str]

    def prefect(self, *args: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "prefect", *args], cwd=ROOT, env={**os.environ, **self.env},
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def deploy(self) -> None:
        """The deployments and the automations, for a pool of processes on this machine."""
        pool = self.prefect("work-pool", "create", "local", "--type", "process")
        assert pool.returncode == 0, pool.stderr
        deployed = subprocess.run(
            [sys.executable, "-m", "pipelines.deploy"], cwd=ROOT, env={**os.environ, **self.env},
            capture_output=True, text=True,
        )  # fmt: skip
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Python with these arguments, against the server."""
        # Artifacts of a store in SQLite go below the current folder.
        return subprocess.run(
            [sys.executable, *args], cwd=self.folder, env={**os.environ, **self.env},
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip

    def train(self, values: dict[str, object]) -> subprocess.CompletedProcess[str]:
        """The flow called directly, as the demo does."""
        return self.run("-m", "pipelines.train_deblur", json.dumps(values))

    def api(self, path: str, **query: object) -> Any:
        """What the server's own interface answers."""
        answer = httpx.post(f"{self.env['PREFECT_API_URL']}{path}", json=query, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def artifacts(self, key: str, run: dict[str, Any]) -> list[Any]:
        """The content of the artifacts with this key of a flow run."""
        wanted = {"key": {"any_": [key]}, "flow_run_id": {"any_": [run["id"]]}}
        return [artifact["data"] for artifact in self.api("/artifacts/filter", artifacts=wanted)]

    def newest_run(self) -> dict[str, Any]:
        (newest,) = self.api("/flow_runs/filter", sort="START_TIME_DESC", limit=1)
        assert isinstance(newest, dict)
        return newest

    def tasks_of(self, run: dict[str, Any]) -> dict[str, str]:
        """The state of the last run of each task of a flow run, by the task's name."""
        named = {"id": {"any_": [run["id"]]}}
        found = self.api("/task_runs/filter", flow_runs=named, sort="EXPECTED_START_TIME_ASC")
        return {task["name"].rpartition("-")[0]: task["state_name"] for task in found}

    def versions_of_data(self) -> list[dict[str, str]]:
        """The payloads of all events that told of a new version of the data, the oldest first."""
        named = {"event": {"name": ["deblur.data.new-version"]}}
        found = self.api("/events/filter", filter=named)["events"]
        return [event["payload"] for event in sorted(found, key=lambda e: e["occurred"])]

    @property
    def mlflow(self) -> MlflowClient:
        return MlflowClient(self.env["MLFLOW_TRACKING_URI"])

    def versions(self) -> int:
        return len(self.mlflow.search_model_versions(f"name = '{MODEL_NAME}'"))

    def parameters(self, data_root: Path, **more: object) -> dict[str, object]:
        """Of ``train-deblur``, without the gate if nothing else is said."""
        return {
            "data_root": str(data_root), "recipe": "seed", "overrides": TINY,
            "runs_dir": str(self.folder / "runs"), "promote": False, **more,
        }  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """The flow run of a training, and where it ran."""

    platform: Platform
    run: dict[str, Any]

    def artifact(self, key: str) -> Any:
        (content,) = self.platform.artifacts(key, self.run)
        return content


@contextmanager
def running_platform(folder: Path, more: Mapping[str, str] = {}) -> Iterator[Platform]:
    port = free_port(0)
    env = {
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').as_posix()}",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",  # or the state would be cut to "COMP…" in the list
        **more,
    }
    with Services(folder / "logs", env) as services:
        services.start(
            "prefect", ["prefect", "server", "start", "--host", HOST, "--port", str(port)],
            port, "/api/health",
        )  # fmt: skip
        yield Platform(folder, env)


def wait_for(what: str, ready: Callable[[], Any], seconds: float = 400) -> Any:
    """What ``ready`` answers once that is true."""
    until = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.3)
    return found


def eventually(ask: Callable[[], list], seconds: float = 30) -> list:
    """What is answered once it is anything: the server stores events a moment later."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return answer
