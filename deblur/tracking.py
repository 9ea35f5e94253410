"""Experiment tracking and the model registry, on MLflow.

The only module of ``deblur`` that touches MLflow, and it imports it only when used. Without a
``MLFLOW_TRACKING_URI`` everything goes to ``sqlite:///mlflow.db`` and ``mlruns/`` below the current
folder.
"""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from deblur.atomic import whole_file
from deblur.digests import code_revision, file_sha256
from deblur.errors import ModelFileError, SetupError

EXPERIMENT = "deblur"
MODEL_NAME = "deblur-unet"
CANDIDATE = "candidate"
_PACKAGES = ("torch", "numpy", "pillow", "onnx", "onnxruntime", "mlflow", "prefect")


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


@dataclass(frozen=True)
class Version:
    """A registered model version."""

    name: str
    version: int
    run_id: str


class MlflowRun:
    """An open MLflow run."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters once; a resumed run keeps those it has."""
        mlflow = _mlflow()
        known = mlflow.get_run(self.run_id).data.params
        new = {key: value for key, value in values.items() if key not in known}
        if new:
            mlflow.log_params(new)

    def tags(self, values: Mapping[str, str]) -> None:
        _mlflow().set_tags(dict(values))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        _mlflow().log_metrics(dict(values), step=step)

    def picture(self, image: Image.Image, name: str, step: int | None = None) -> None:
        file = f"{name}/{step:06d}.jpg" if step is not None else f"{name}.png"
        _mlflow().log_image(np.asarray(image), artifact_file=file)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        _mlflow().log_artifact(str(path), folder)


@contextmanager
def tracked_run(name: str, run_id: str | None = None) -> Iterator[MlflowRun]:
    """A new run of the experiment ``deblur``, or the one with ``run_id`` continued.

    The run is marked FINISHED, FAILED or KILLED by how the block ends.

    Raises:
        SetupError: MLflow is not installed, or its store cannot be reached.
    """
    mlflow = _mlflow()
    with _reachable(mlflow):
        mlflow.set_experiment(EXPERIMENT)
        started = mlflow.start_run(run_id=run_id, run_name=None if run_id else name)
    try:
        yield MlflowRun(started.info.run_id)
    except KeyboardInterrupt:
        mlflow.end_run("KILLED")
        raise
    except BaseException:
        mlflow.end_run("FAILED")
        raise
    mlflow.end_run("FINISHED")


def run_exists(run_id: str) -> bool:
    """Whether the current store knows the run."""
    mlflow = _mlflow()
    from mlflow.exceptions import MlflowException

    with _reachable(mlflow):
        try:
            return mlflow.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException:
            return False


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


def register_model(run: MlflowRun, path: Path, tags: Mapping[str, str]) -> Version:
    """Log an ONNX file to an open run and register it, with the alias ``candidate``.

    Registering the same file of the same run again returns the version that is there.
    """
    mlflow = _mlflow()
    import onnx

    digest = file_sha256(path)
    client = mlflow.MlflowClient()
    for known in client.search_model_versions(f"name = '{MODEL_NAME}'"):
        if known.run_id == run.run_id and known.tags.get("sha256") == digest:
            return Version(MODEL_NAME, int(known.version), run.run_id)
    logged = mlflow.onnx.log_model(
        onnx.load(path),
        name="model",
        registered_model_name=MODEL_NAME,
        save_as_external_data=False,
        onnx_execution_providers=["CPUExecutionProvider"],
        # Named, because inferring them loads the model in a fresh process for 20 s.
        pip_requirements=[f"onnxruntime=={metadata.version('onnxruntime')}"],
    )
    version = str(logged.registered_model_version)
    for key, value in {**tags, "sha256": digest}.items():
        client.set_model_version_tag(MODEL_NAME, version, key, value)
    client.set_registered_model_alias(MODEL_NAME, CANDIDATE, version)
    return Version(MODEL_NAME, int(version), run.run_id)


def fetch_model(address: str, out: Path) -> Path:
    """Download a registered model's ONNX file.

    Args:
        address: ``models:/deblur-unet@candidate`` or ``models:/deblur-unet/3``.
        out: the file to write.

    Raises:
        ModelFileError: there is no such model, or it holds no ONNX file.
    """
    mlflow = _mlflow()
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            with _reachable(mlflow):
                got = mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=folder)
        except (MlflowException, OSError) as error:
            raise ModelFileError(
                f"cannot fetch {address} from {mlflow.get_tracking_uri()}: {error}. Register a "
                "model with the train-deblur flow first, or name an .onnx file"
            ) from None
        files = sorted(Path(got).rglob("*.onnx"))
        if len(files) != 1:
            raise ModelFileError(
                f"{address} holds {len(files)} ONNX files, expected one: register the model with "
                "the train-deblur flow"
            )
        with whole_file(out) as partial:
            shutil.copyfile(files[0], partial)
    return out


@contextmanager
def _reachable(mlflow: Any) -> Iterator[None]:
    """Turn the several ways in which a store can be out of reach into one message."""
    import requests
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (requests.RequestException, SQLAlchemyError, ConnectionError) as error:
        raise SetupError(
            f"the MLflow store {mlflow.get_tracking_uri()} cannot be reached ({error}): start it, "
            "or set MLFLOW_TRACKING_URI to one that runs"
        ) from None


def _mlflow() -> Any:
    os.environ.setdefault("DO_NOT_TRACK", "true")
    try:
        import mlflow
    except ImportError:
        raise SetupError(
            "tracking needs MLflow, which is not installed: pip install -e '.[train]'"
        ) from None
    return mlflow
