"""The pipeline on this machine: the same graph and the same source of every stage, without pods."""

import sys
from pathlib import Path
from typing import Any

from deblur.errors import SetupError
from pipelines.kubeflow.settings import Cluster, Parameters


def run_locally(parameters: Parameters, out: Path, cache: bool = False, retries: int = 0) -> None:
    """Run the pipeline with KFP's local runner, each stage in a process of this environment.

    Image, volume, secrets and requests are a cluster's and have no effect; paths are those of this
    machine, and MLflow is where ``MLFLOW_TRACKING_URI`` says.

    Args:
        parameters: of the run.
        out: folder of the artifacts, which a cluster would keep in its object store.
        cache: whether stages that may be cached are taken from earlier runs with the same ``out``.
        retries: of a training that failed, at once; other stages are not tried again.

    Raises:
        SetupError: a stage failed, what it said is in the output; or there is no ``sh`` (Windows).
    """
    if sys.platform == "win32":
        raise SetupError("KFP starts each stage with sh, which Windows lacks: run this in WSL")
    from kfp import local

    from pipelines.kubeflow.pipeline import make_pipeline

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(out),
        raise_on_error=True,
        enable_caching=cache,
    )
    pipeline: Any = make_pipeline(
        Cluster(retries=0, training_retries=retries, retry_seconds=0), parameters
    )
    try:
        pipeline(**parameters.model_dump())
    except RuntimeError as error:
        raise SetupError(f"{error} What it said is above.") from error
