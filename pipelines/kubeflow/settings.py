"""What a cluster gives the pipeline, fixed when it is compiled, and what a run is asked for."""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

import deblur
from deblur.data.layout import Averaging
from deblur.data.validation import make_validation_config
from deblur.errors import ConfigError
from deblur.settings import build
from deblur.training.config import TrainConfig, make_config

#: Without a registry's host: as it is called on the machine that builds it.
IMAGE = f"deblur-train:{deblur.__version__}"
#: Names of Kubernetes objects, RFC 1123.
_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_QUANTITY = r"^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"

ObjectName = Annotated[str, Field(pattern=_NAME)]
Quantity = Annotated[str, Field(pattern=_QUANTITY)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Toleration(_Frozen):
    """Of a taint, as Kubernetes writes it."""

    key: Text
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


class Cluster(_Frozen):
    """What the pods of the pipeline are given. Each field is compiled into the pipeline.

    Attributes:
        image: of all stages: this package with its extra ``kfp``.
        image_pull_policy: when nodes ask the registry.
        image_pull_secret: Secret with the registry's password, if it wants one.
        claim: PersistentVolumeClaim of data and runs.
        mount: where the volume is in the pods.
        mlflow_secret: Secret with ``MLFLOW_TRACKING_URI``, and what else lets in.
        s3_secret: Secret with the keys of an S3 store; there may be none.
        cpu: requested for each stage but training.
        memory: the same, and its limit.
        training_cpu: requested for training.
        training_memory: the same, and its limit.
        accelerator: name of the nodes' resource.
        accelerators: how many of it training and evaluation get; 0 for none.
        gpu_nodes: labels that nodes with accelerators have.
        gpu_tolerations: of their taints.
        retries: of a stage that failed.
        training_retries: of training, which goes on where it was.
        retry_seconds: before the first retry, twice as long before the next, up to an hour.
    """

    image: Text = IMAGE
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secret: str = ""
    claim: ObjectName = "deblur-data"
    mount: Annotated[str, Field(pattern=r"^(/[-_.A-Za-z0-9]+)+$")] = "/data"
    mlflow_secret: ObjectName = "deblur-mlflow"
    s3_secret: ObjectName = "deblur-s3"
    cpu: Quantity = "2"
    memory: Quantity = "8Gi"
    training_cpu: Quantity = "8"
    training_memory: Quantity = "32Gi"
    accelerator: Text = "nvidia.com/gpu"
    accelerators: Count = 1
    gpu_nodes: dict[str, str] = {}
    gpu_tolerations: tuple[Toleration, ...] = (Toleration(key="nvidia.com/gpu"),)
    retries: Count = 2
    training_retries: Count = 5
    retry_seconds: Count = 30


class Parameters(_Frozen):
    """What a run is asked for: the pipeline's own parameters, which are those of the Prefect flow.

    Attributes:
        data_root: address of the data set.
        recipe: a key of ``deblur.training.config.RECIPES``.
        overrides: training settings that differ from the recipe.
        subset: which blurred folder.
        promote: whether the new version becomes champion if the gate finds it better.
        runs_dir: folder of runs, prepared data and reports.
        run_name: of an earlier run to go on with; empty for a name of this run's own.
        checks: rules of validation that differ.
        reference: validation report of an earlier version, to see drift; empty for none.
    """

    data_root: Text = "/data/pairs"
    recipe: str = "seed"
    overrides: dict[str, Any] = {}
    subset: Averaging = "blur"
    promote: bool = True
    runs_dir: Text = "/data/runs"
    run_name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][-_.A-Za-z0-9]*)?$")] = ""
    checks: dict[str, Any] = {}
    reference: str = ""

    @field_validator("overrides", "checks", mode="before")
    @classmethod
    def _from_json(cls, given: Any) -> Any:
        """On a command line they are JSON."""
        if not isinstance(given, str):
            return given
        try:
            return json.loads(given)
        except ValueError:
            raise ValueError('expected a JSON object, as {"num_epochs": 20}') from None

    def train_config(self) -> TrainConfig:
        """What is trained.

        Raises:
            ConfigError: an unknown recipe or field, or a bad value.
        """
        return make_config(self.recipe, {"subset": self.subset, **self.overrides})


#: Of the volume.
_FOLDERS = {"data_root": "pairs", "runs_dir": "runs"}


def make_cluster(given: Mapping[str, Any]) -> Cluster:
    """A cluster's settings, of those that differ from the defaults.

    Raises:
        ConfigError: an unknown setting (with the nearest one named), or a bad value.
    """
    return build(Cluster, given, "cluster settings")


def make_parameters(given: Mapping[str, Any], cluster: Cluster | None = None) -> Parameters:
    """The parameters of a run.

    Args:
        given: those that differ from the defaults; strings are read as the field's type.
        cluster: that it is meant for; the local folders must then be on its volume.

    Raises:
        ConfigError: an unknown parameter (with the nearest one named), a bad value, or one that
            training or validation would refuse.
    """
    named = dict(given)
    if cluster is not None:
        on_volume = {key: f"{cluster.mount}/{folder}" for key, folder in _FOLDERS.items()}
        named = {**on_volume, **named}
    parameters = build(Parameters, named, "parameters of the run")
    parameters.train_config()
    make_validation_config(parameters.checks)
    if cluster is not None:
        for key in ("data_root", "runs_dir", "reference"):
            _require_on_volume(key, getattr(parameters, key), cluster)
    return parameters


def _require_on_volume(key: str, place: str, cluster: Cluster) -> None:
    if not place or (key == "data_root" and "://" in place):
        return
    path = PurePosixPath(place)
    if ".." in path.parts or not path.is_relative_to(cluster.mount):
        raise ConfigError(
            f"{key} = '{place}' is not on the volume, which is at {cluster.mount} in the pods: "
            f"name a folder below it, as {cluster.mount}/{_FOLDERS.get(key, 'reports')}"
        )
