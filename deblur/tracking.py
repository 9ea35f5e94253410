"""Experiment tracking, on MLflow.

Without a ``MLFLOW_TRACKING_URI`` everything goes to ``sqlite:///mlflow.db`` and ``mlruns/`` below
the current folder. Beside this module only ``registry.py`` and ``system_metrics.py`` touch MLflow;
all import it only when used.

What a run reports is sent by threads, so that a store that hiccups neither stops nor ends a
training of days. MLflow's own asynchronous logging does not do: it sends from ten threads at a
time, tries a batch once, and drops it.
"""

import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image

from deblur.digests import code_revision
from deblur.errors import SetupError, StoppedError
from deblur.outbox import THREAD, Outbox
from deblur.system_metrics import monitors, watching

log = logging.getLogger(__name__)

EXPERIMENT = "deblur"
_PACKAGES = ("torch", "numpy", "pillow", "onnx", "onnxruntime", "mlflow", "prefect")

#: Seconds that the end of a run waits for what is not sent yet, and then for its status.
FLUSH_SECONDS = 60.0
GRACE_SECONDS = 10.0  # who sends SIGTERM sends SIGKILL after 30 s, as Kubernetes does
STATUS_SECONDS = 10.0
#: Pictures that wait for the store, at most.
PICTURES = 20
_POINTS_A_CALL = 1000  # MLflow's limit

#: The codes with which a store says that it works and that the question was wrong.
_ANSWERS = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS"}


class Tracker(Protocol):
    """Receives what a run reports."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None: ...

    def picture(self, image: Image.Image, name: str, step: int | None = None) -> None: ...


class _NoTracking:
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        pass

    def picture(self, image: Image.Image, name: str, step: int | None = None) -> None:
        pass


NO_TRACKING: Tracker = _NoTracking()


class _Point(NamedTuple):
    """A value of a curve; without a step, a figure of the whole run. Unix time in ms."""

    key: str
    value: float
    time: int
    step: int | None


class MlflowRun:
    """An open MLflow run.

    ``metrics``, ``picture`` and ``artifact`` return at once and in a few milliseconds at most;
    threads send what they were given, each kind in order, and again until the store takes it.

    Args:
        run: the run as MLflow has it.
        client: an ``MlflowClient``.
        continued: whether the run is from an earlier process, so that it may hold points that are
            about to be reported again.
    """

    def __init__(self, run: Any, client: Any, continued: bool) -> None:
        self.run_id: str = run.info.run_id
        self._client = client
        self._recorded = _Recorded(run, client) if continued else None
        self._refused: set[str] = set()
        store = f"the MLflow store {client.tracking_uri}"
        self._points = Outbox("metrics", store, self._send_points, batch=_POINTS_A_CALL)
        self._pictures = Outbox("pictures", store, self._send_picture, limit=PICTURES)
        self._files = Outbox("files", store, self._send_file)
        self._status = Outbox("final status", store, self._send_status)
        for name in ("urllib3.connectionpool", "mlflow.store.db.utils"):
            logging.getLogger(name).addFilter(_not_from_outbox)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters now; a continued run keeps those it has.

        Raises:
            SetupError: the store cannot be reached.
        """
        mlflow = load_mlflow()
        with reachable(mlflow):
            known = self._client.get_run(self.run_id).data.params
            new = [
                mlflow.entities.Param(key, str(value))
                for key, value in values.items()
                if key not in known
            ]
            for start in range(0, len(new), 100):  # MLflow's limit
                self._client.log_batch(
                    self.run_id, params=new[start : start + 100], synchronous=True
                )

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags now.

        Raises:
            SetupError: the store cannot be reached.
        """
        mlflow = load_mlflow()
        with reachable(mlflow):
            tags = [mlflow.entities.RunTag(key, value) for key, value in values.items()]
            self._client.log_batch(self.run_id, tags=tags, synchronous=True)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Report the points of some curves at ``step``, or figures of the whole run.

        A point that a continued run has is not recorded again, nor is a figure that it has as it
        is; another value of a figure takes the place of the old one in what MLflow shows.
        """
        now = int(time.time() * 1000)
        self._points.put([_Point(key, float(value), now, step) for key, value in values.items()])

    def picture(self, image: Image.Image, name: str, step: int | None = None) -> None:
        """Keep a picture as ``name/000012.jpg``, or ``name.png`` without a step.

        While the store is out of reach, the last 20 wait.
        """
        file = f"{name}/{step:06d}.jpg" if step is not None else f"{name}.png"
        # A copy that any format can hold: the caller may draw on, and a failure to encode would
        # look like one to send.
        self._pictures.put([(image.convert("RGB"), file)])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file, which is read when it is sent, so it has to stay until the run ends.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path} cannot be kept with the run: there is no such file")
        self._files.put([(path.absolute(), folder)])

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for what was reported so far; whether all is sent."""
        until = time.monotonic() + timeout
        outboxes = (self._points, self._pictures, self._files)
        return all(box.flush(max(0.0, until - time.monotonic())) for box in outboxes)

    def end(self, status: str, patience: float = FLUSH_SECONDS) -> None:
        """Send what is left, then set the status; whatever the store does, it takes ``patience``
        seconds and ten more at most.

        What is lost is an error in the log, and not raised: the work that was tracked is done.
        """
        until = time.monotonic() + patience
        for box in (self._points, self._pictures, self._files):
            box.close(max(0.0, until - time.monotonic()))
        self._status.put([status])
        self._status.close(STATUS_SECONDS)

    def _send_points(self, points: list[_Point]) -> None:
        from mlflow.entities import Metric

        recorded = self._recorded
        new = [point for point in points if recorded is None or not recorded.holds(point)]
        self._log([Metric(point.key, point.value, point.time, point.step or 0) for point in new])

    def _log(self, metrics: list[Any]) -> None:
        """One call, or several if the store says that some of the points are wrong."""
        from mlflow.exceptions import MlflowException

        if not metrics:
            return
        try:
            # Given twice, after an answer that did not arrive, the store keeps one: the time is
            # that of the report.
            self._client.log_batch(self.run_id, metrics=metrics, synchronous=True)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            if len(metrics) > 1:
                half = len(metrics) // 2
                self._log(metrics[:half])
                self._log(metrics[half:])
            elif metrics[0].key not in self._refused:
                self._refused.add(metrics[0].key)
                log.error("MLflow refuses the metric %s: %s", metrics[0].key, error)

    def _send_picture(self, pictures: list[tuple[Image.Image, str]]) -> None:
        for image, file in pictures:
            self._client.log_image(self.run_id, image, artifact_file=file)

    def _send_file(self, files: list[tuple[Path, str | None]]) -> None:
        for path, folder in files:
            if path.exists():
                self._client.log_artifact(self.run_id, str(path), folder)
            else:
                log.error("%s is gone, and was not kept with the run", path)

    def _send_status(self, statuses: list[str]) -> None:
        self._client.set_terminated(self.run_id, statuses[-1])


class _Recorded:
    """The points that a run held when it was continued."""

    def __init__(self, run: Any, client: Any) -> None:
        self._run_id, self._client = run.info.run_id, client
        # Of each curve the point with the highest step. Training that goes on passes it soon, so
        # whole histories, of which some are long, are fetched for what is below it only.
        self._latest = {metric.key: metric for metric in run.data.to_proto().metrics}
        self._steps: dict[str, set[int]] = {}

    def holds(self, point: _Point) -> bool:
        latest = self._latest.get(point.key)
        if latest is None:
            return False
        if point.step is None:
            return bool(latest.value == point.value)
        if point.step > latest.step:
            return False
        if point.key not in self._steps:
            history = self._client.get_metric_history(self._run_id, point.key)
            self._steps[point.key] = {metric.step for metric in history}
        return point.step in self._steps[point.key]


@contextmanager
def tracked_run(
    name: str, run_id: str | None = None, *, system_metrics: bool = False
) -> Iterator[MlflowRun]:
    """A new run of the experiment ``deblur``, or the one with ``run_id`` continued.

    The run is marked FINISHED, FAILED or KILLED by how the block ends, after what it reported is
    sent; KILLED is for Ctrl-C and ``StoppedError``.

    Args:
        name: of a new run.
        run_id: the run to continue.
        system_metrics: whether to record what the machine does, every 10 s: processor, memory,
            disk, network, and GPUs where there are any. Steps count from the start of the run.

    Raises:
        SetupError: MLflow is not installed, or its store cannot be reached.
    """
    mlflow = load_mlflow()
    watched = monitors() if system_metrics else []
    with reachable(mlflow):
        from mlflow.tracking.context.registry import resolve_tags

        client = mlflow.MlflowClient()
        experiment = mlflow.set_experiment(EXPERIMENT)
        if run_id is None:
            found = client.create_run(experiment.experiment_id, tags=resolve_tags(), run_name=name)
        else:
            client.update_run(run_id, status="RUNNING")
            found = client.get_run(run_id)
    run = MlflowRun(found, client, continued=run_id is not None)
    status, patience = "FAILED", FLUSH_SECONDS
    try:
        started = found.info.start_time / 1000
        with watching(watched, run.metrics, started) if watched else nullcontext():
            yield run
        status = "FINISHED"
    except (KeyboardInterrupt, StoppedError):
        status, patience = "KILLED", GRACE_SECONDS
        raise
    finally:
        run.end(status, patience)


def run_exists(run_id: str) -> bool:
    """Whether the current store knows the run.

    Raises:
        SetupError: MLflow is not installed, or its store cannot be reached.
    """
    mlflow = load_mlflow()
    from mlflow.exceptions import MlflowException

    with reachable(mlflow):
        try:
            return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code in _ANSWERS:
                return False
            raise


def environment() -> dict[str, str]:
    """Code revision, versions and platform, as tags of a run."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[f"env.{package}"] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[f"env.{package}"] = "not installed"
    return {
        "env.python": sys.version.split()[0],
        "env.platform": platform.platform(),
        "code.revision": code_revision(),
        **versions,
    }


@contextmanager
def reachable(mlflow: Any) -> Iterator[None]:
    """Turn the several ways in which a store can be out of reach into one ``SetupError``."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (
        MlflowException,
        requests.RequestException,
        SQLAlchemyError,
        ConnectionError,
        ModuleNotFoundError,  # the driver of a database
    ) as error:
        if isinstance(error, MlflowException) and error.error_code in _ANSWERS:
            raise
        raise SetupError(
            f"the MLflow store {mlflow.get_tracking_uri()} cannot be reached ({error}): start it, "
            "or set MLFLOW_TRACKING_URI to one that runs"
        ) from None


def load_mlflow() -> Any:
    """The module ``mlflow``.

    Raises:
        SetupError: it is not installed.
    """
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # MLflow's own seven would block for four minutes before an error, and would sleep for a minute
    # or two while the store is back.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    try:
        import mlflow
    except ImportError:
        raise SetupError(
            "tracking needs MLflow, which is not installed: pip install -e '.[train]'"
        ) from None
    return mlflow


def _not_from_outbox(record: logging.LogRecord) -> bool:
    """Of an outage, which an outbox reports once, others log every attempt, one a traceback."""
    return not (record.threadName or "").startswith(THREAD)
