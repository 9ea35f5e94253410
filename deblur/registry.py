"""The model registry, on MLflow."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from deblur.atomic import whole_file
from deblur.digests import file_sha256
from deblur.errors import ModelFileError
from deblur.tracking import MlflowRun, load_mlflow, reachable

MODEL_NAME = "deblur-unet"
CANDIDATE = "candidate"


@dataclass(frozen=True)
class Version:
    """A registered model version."""

    name: str
    version: int
    run_id: str


def register_model(run: MlflowRun, path: Path, tags: Mapping[str, str]) -> Version:
    """Log an ONNX file to an open run and register it, with the alias ``candidate``.

    Registering the same file of the same run again returns the version that is there.
    """
    mlflow = load_mlflow()
    import onnx

    digest = file_sha256(path)
    client = mlflow.MlflowClient()
    for known in client.search_model_versions(f"name = '{MODEL_NAME}'"):
        if known.run_id == run.run_id and known.tags.get("sha256") == digest:
            return Version(MODEL_NAME, int(known.version), run.run_id)
    logged = mlflow.onnx.log_model(
        onnx.load(path),
        name="model",
        run_id=run.run_id,
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
        SetupError: MLflow is not installed, or its store cannot be reached.
    """
    mlflow = load_mlflow()
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            with reachable(mlflow):
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
