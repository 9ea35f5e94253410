"""What the platform consists of: the commands, their environment, and when each is ready."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from deblur.errors import SetupError
from deblur.local.http import answers, ask
from deblur.local.processes import HOST

PREFECT, MLFLOW, WORKER = "prefect", "mlflow", "worker"
DEPLOYMENTS, PICTURES = "deployments", "pictures"

#: What a person calls them.
TITLES = {
    PREFECT: "Prefect", MLFLOW: "MLflow", WORKER: "worker", DEPLOYMENTS: "deployments",
    PICTURES: "picture server",
}  # fmt: skip

POOL = "local"
#: Seconds that the picture server waits for pictures under way, and then has to end.
_DRAIN, _END = 60, 10


@dataclass(frozen=True)
class Part:
    """A process of the platform.

    Attributes:
        name: also of its log file.
        arguments: of ``python -m``.
        port: where it listens, if it does.
        health: path of the page that says that it is ready.
        env: beside what all parts have.
        ready: says whether it is, by the Unix time of its start; by default ``health`` is asked.
        patience: seconds that it has to end.
        children_first: what it started is ended before it.
        once: it ends by itself when its work is done.
    """

    name: str
    arguments: tuple[str, ...]
    port: int | None = None
    health: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[float], bool] | None = None
    patience: float = 20.0
    children_first: bool = False
    once: bool = False

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", *self.arguments]

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}" if self.port else ""

    def is_ready(self, started: float) -> bool:
        if self.ready is not None:
            return self.ready(started)
        return answers(self.url + self.health)


def local_environment(folder: Path) -> dict[str, str]:
    """Everything that the parts write stays in ``folder``, and nothing phones home."""
    direct = [*filter(None, os.environ.get("NO_PROXY", "").split(",")), HOST, "localhost"]
    return {
        "DO_NOT_TRACK": "true",
        "NO_PROXY": ",".join(dict.fromkeys(direct)),
        "PREFECT_HOME": str(folder / ".prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "deblur",
    }


def prefect_server(port: int) -> Part:
    return Part(
        PREFECT,
        ("prefect", "server", "start", "--host", HOST, "--port", str(port)),
        port,
        "/api/health",
        # The page in the browser asks this address, so it has to name the port that was free.
        {"PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api"},
    )


def mlflow_server(port: int, store: str, folder: Path) -> Part:
    """Tracking and registry on a database; artifacts in ``mlruns/``, which its clients write to by
    themselves, so that the same store is also used without the server, as ``sqlite:///mlflow.db``.
    """
    return Part(
        MLFLOW,
        (
            "mlflow", "server", "--backend-store-uri", store, "--host", HOST, "--port", str(port),
            "--workers", "1", "--no-serve-artifacts",
            "--default-artifact-root", (folder / "mlruns").as_uri(),
        ),
        port,
        "/health",
        # Its workers for background jobs take 2 GB and do nothing here.
        {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip


def picture_server(port: int, model: str) -> Part:
    return Part(
        PICTURES,
        (
            "deblur", "serve", "--model", model, "--host", HOST, "--port", str(port),
            "--set", f"drain_seconds={_DRAIN}",
        ),
        port,
        "/readyz",
        patience=_DRAIN + _END,
    )  # fmt: skip


def flow_worker(prefect: str) -> Part:
    """A worker of the pool ``local``, which it makes if there is none."""
    name = "deblur"

    def ready(started: float) -> bool:
        try:
            workers = ask(f"{prefect}/api/work_pools/{POOL}/workers/filter", {}) or []
        except SetupError:
            return False
        seen = [w["last_heartbeat_time"] for w in workers if w["name"] == name]
        return any(datetime.fromisoformat(at).timestamp() >= started for at in seen if at)

    return Part(
        WORKER,
        ("prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name),
        ready=ready,
        patience=60.0,  # a training writes a checkpoint
        children_first=True,  # the worker kills them, and Prefect is not told how they ended
    )


def deployments() -> Part:
    """Makes known to Prefect what ``prefect.yaml`` lists, and what it shall do unasked."""
    return Part(DEPLOYMENTS, ("pipelines.deploy",), once=True)
