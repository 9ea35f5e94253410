"""Schedules fire, and runs whose process or machine is lost go on by themselves."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch

from deblur.training.checkpoint import load_checkpoint
from deblur.training.folder import CheckpointFolder
from tests.conftest import TINY
from tests.pipelines.live import ROOT, Platform, eventually, running_platform, wait_for
from tests.postgres import postgres_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
]

#: Long enough to be killed three times in the middle.
LONG = {**TINY, "crops_per_image": 40, "num_epochs": 20}
STEPS = 40 * 20  # four pictures, four crops a step


@dataclass
class Site:
    """A platform, and the worker that a test may kill."""

    platform: Platform
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self) -> None:
        log = (self.platform.folder / "logs" / f"worker-{len(self.workers)}.log").open("wb")
        self.workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local"],
                cwd=ROOT, env={**os.environ, **self.platform.env},
                stdout=log, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """Those that run flows for the worker of now."""
        started = psutil.Process(self.workers[-1].pid).children(recursive=True)
        return [p for p in started if "resource_tracker" not in " ".join(p.cmdline())]

    def run(self, **query: object) -> dict[str, Any]:
        """The only flow run of the deployment that is asked for."""
        (found,) = self.platform.api("/flow_runs/filter", **query)
        assert isinstance(found, dict)
        return found

    def state(self, run: str) -> str:
        return str(self.run(flow_runs={"id": {"any_": [run]}})["state_name"])

    def states(self, run: str) -> list[str]:
        """All that the run has been in, the oldest first."""
        url = f"{self.platform.env['PREFECT_API_URL']}/flow_run_states/"
        found = httpx.get(url, params={"flow_run_id": run}).json()
        return [state["name"] for state in sorted(found, key=lambda s: s["timestamp"])]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with (
        database(request.param) as env,
        running_platform(tmp_path_factory.mktemp(request.param), env) as platform,
    ):
        platform.deploy()
        site = Site(platform)
        site.start_worker()
        yield site
        for worker in site.workers:
            if worker.poll() is None:
                for process in psutil.Process(worker.pid).children(recursive=True):
                    process.kill()
                worker.kill()


@contextmanager
def database(kind: str) -> Iterator[dict[str, str]]:
    """The settings of a Prefect server with a database of this kind."""
    if kind == "sqlite":
        yield {}
        return
    with postgres_server(needs="pg_trgm") as address:
        url = address.replace("psycopg2", "asyncpg")
        yield {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}


@pytest.fixture(scope="module")
def undisturbed(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same training in a process that nobody kills."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    sets = [part for k, v in LONG.items() for part in ("--set", f"{k}={v}")]
    train = [sys.executable, "-m", "deblur", "train", str(tiny_data), "--out", str(out)]
    done = subprocess.run(
        [*train, "--recipe", "seed", *sets], cwd=out.parent, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def steps(folder: Path) -> int:
    """That the newest checkpoint has seen."""
    newest = CheckpointFolder(folder).newest() if folder.is_dir() else None
    return newest.step if newest else 0


def kill(*processes: psutil.Process) -> None:
    """SIGKILL."""
    for process in processes:
        process.kill()


def test_a_schedule_fires(site: Site, tiny_root: Path) -> None:
    url = site.platform.env["PREFECT_API_URL"]
    deployment = httpx.get(f"{url}/deployments/name/validate-data/validate-data").json()["id"]
    values = {
        "data_root": str(tiny_root), "crop": 64, "expect_new": False,
        "runs_dir": str(site.platform.folder / "runs"),
    }  # fmt: skip
    schedule = {"active": True, "schedule": {"interval": 5}, "parameters": values}
    made = httpx.post(f"{url}/deployments/{deployment}/schedules", json=[schedule])
    made.raise_for_status()

    def fired() -> list[dict[str, Any]]:
        found = site.platform.api(
            "/flow_runs/filter",
            deployments={"id": {"any_": [deployment]}},
            flow_runs={"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
        )
        assert isinstance(found, list)
        return found

    try:
        done = eventually(fired, seconds=240)
    finally:
        httpx.delete(f"{url}/deployments/{deployment}/schedules/{made.json()[0]['id']}")
    assert done and done[0]["state_type"] == "COMPLETED", done
    assert done[0]["auto_scheduled"]


def test_a_training_that_is_killed_ends_with_the_weights_of_one_left_alone(
    site: Site, tiny_root: Path, undisturbed: Path
) -> None:
    values = site.platform.parameters(tiny_root, run_name="killed", overrides=LONG)
    folder = Path(str(values["runs_dir"])) / "killed"
    params = [part for k, v in values.items() for part in ("--param", f"{k}={json.dumps(v)}")]
    started = site.platform.prefect("deployment", "run", "train-deblur", *params)
    assert started.returncode == 0, started.stdout + started.stderr
    run = site.run(
        deployments={"name": {"any_": ["train-deblur"]}},
        flow_runs={"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}},
    )["id"]

    def some_training() -> None:
        reached = steps(folder)
        wait_for("some training", lambda: steps(folder) > reached + 80)

    def crash_is_noticed() -> None:
        noticed = ("Crashed", "AwaitingRetry")
        wait_for("that the crash is noticed", lambda: site.state(run) in noticed)

    some_training()
    kill(*site.processes())
    crash_is_noticed()

    some_training()
    site.workers[-1].kill()
    crash_is_noticed()
    site.workers[-1].wait()
    site.start_worker()

    some_training()
    kill(psutil.Process(site.workers[-1].pid), *site.processes())  # as if the machine were lost
    crash_is_noticed()
    site.workers[-1].wait()
    assert steps(folder) < STEPS, "it was to be killed in the middle"
    site.start_worker()

    wait_for("its end", lambda: site.state(run) in ("Completed", "Failed"))
    assert site.state(run) == "Completed", site.states(run)
    assert site.states(run).count("Running") == 4
    assert site.platform.versions() == 1, "one training, one version"

    expected, found = (load_checkpoint(each / "best.pt") for each in (undisturbed, folder))
    assert found.step == expected.step
    assert found.model.keys() == expected.model.keys()
    for name, weights in expected.model.items():
        assert torch.equal(found.model[name], weights), name
