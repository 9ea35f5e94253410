"""The Kubeflow pipeline ``train-deblur``: the graph, and what each of its pods is given."""

import tempfile
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

from deblur.atomic import whole_file
from pipelines.kubeflow import stages
from pipelines.kubeflow.settings import Cluster, Parameters

NAME = "train-deblur"
#: As it is in the repository, of the default cluster.
COMPILED = Path(__file__).with_name("train-deblur.yaml")

_MLFLOW = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_S3 = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
    "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL",
)  # fmt: skip


def make_pipeline(cluster: Cluster, parameters: Parameters = Parameters()) -> Any:
    """The pipeline as KFP's compiler takes it.

    Args:
        cluster: what the pods are given.
        parameters: the defaults of the pipeline's parameters.
    """
    default = parameters

    @dsl.pipeline(
        name=NAME,
        description="From pairs of pictures to a registered model, and to the champion if it is "
        "better.",
    )
    def train_deblur(
        data_root: str = default.data_root,
        recipe: str = default.recipe,
        overrides: dict = default.overrides,
        subset: str = default.subset,
        promote: bool = default.promote,
        runs_dir: str = default.runs_dir,
        run_name: str = default.run_name,
        checks: dict = default.checks,
        reference: str = default.reference,
    ) -> None:
        pods = Pods(cluster)
        run: dict[str, Any] = {
            "runs_dir": runs_dir, "run_name": run_name,
            "job": dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        }  # fmt: skip
        end = pods.give(stages.conclude(**run), mlflow=True)
        with dsl.ExitHandler(end, name="stages"):
            identity = pods.give(
                stages.identify(
                    data_root=data_root, subset=subset, recipe=recipe, overrides=overrides,
                    reference=reference,
                )
            )  # fmt: skip
            validation = pods.give(
                stages.validate(
                    identity=identity.output, data_root=data_root, runs_dir=runs_dir,
                    checks=checks, reference=reference,
                ),
                cached=True,
            )  # fmt: skip
            validated = validation.outputs
            data = pods.give(
                stages.prepare(
                    identity=identity.output, validation=validated["Output"], runs_dir=runs_dir
                )
            )
            training = pods.give(
                stages.train(
                    data=data.outputs["Output"], recipe=recipe, overrides=overrides, subset=subset,
                    dataset=data.outputs["dataset"], report=validated["report"],
                    findings=validated["findings"], **run,
                ),
                mlflow=True, training=True,
            )  # fmt: skip
            trained = {"training": training.outputs["Output"], "data": data.outputs["Output"]}
            evaluation = pods.give(
                stages.evaluate(**trained), mlflow=True, gpu=True, cached=True
            ).outputs["Output"]
            exported = pods.give(stages.export(evaluation=evaluation, **trained), cached=True)
            registration = pods.give(
                stages.register(
                    evaluation=evaluation, exported=exported.outputs["Output"],
                    model=exported.outputs["model"], **trained,
                ),
                mlflow=True,
            )  # fmt: skip
            with dsl.If(promote == True, name="promotion"):  # noqa: E712
                pods.give(
                    stages.promote(registration=registration.output, data=trained["data"]),
                    mlflow=True,
                )

    return train_deblur


class Pods:
    """What the tasks of a pipeline are given on a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def give(
        self,
        task: Any,
        *,
        cached: bool = False,
        mlflow: bool = False,
        gpu: bool = False,
        training: bool = False,
    ) -> Any:
        """Image, volume, secrets, requests and retries of one task.

        Args:
            task: as KFP has it.
            cached: whether equal inputs may be answered with an earlier run's result.
            mlflow: whether it speaks to MLflow.
            gpu: whether it is of use to it.
            training: whether it is the long one.
        """
        cluster = self.cluster
        task.set_container_image(cluster.image)
        task.set_caching_options(cached)
        task.set_env_variable("DO_NOT_TRACK", "true")
        retries = cluster.training_retries if training else cluster.retries
        if retries:
            task.set_retry(
                retries, backoff_duration=f"{cluster.retry_seconds}s", backoff_factor=2.0,
                backoff_max_duration="3600s",
            )  # fmt: skip
        # Processors may be used as far as they are free; memory cannot be given back.
        memory = cluster.training_memory if training else cluster.memory
        task.set_cpu_request(cluster.training_cpu if training else cluster.cpu)
        task.set_memory_request(memory).set_memory_limit(memory)
        kubernetes.set_image_pull_policy(task, cluster.image_pull_policy)
        if cluster.image_pull_secret:
            kubernetes.set_image_pull_secrets(task, [cluster.image_pull_secret])
        kubernetes.mount_pvc(task, pvc_name=cluster.claim, mount_path=cluster.mount)
        _secret(task, cluster.s3_secret, _S3, optional=True)
        if mlflow:
            _secret(task, cluster.mlflow_secret, ("MLFLOW_TRACKING_URI",), optional=False)
            _secret(task, cluster.mlflow_secret, _MLFLOW, optional=True)
        if training:
            # Processes that read data hand tensors on in shared memory, of which pods have 64 MB.
            kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory")
        if (gpu or training) and cluster.accelerators:
            self._give_gpu(task)
        return task

    def _give_gpu(self, task: Any) -> None:
        cluster = self.cluster
        task.set_accelerator_type(cluster.accelerator).set_accelerator_limit(cluster.accelerators)
        for label, value in sorted(cluster.gpu_nodes.items()):
            kubernetes.add_node_selector(task, label, value)
        for taint in cluster.gpu_tolerations:
            kubernetes.add_toleration(
                task, key=taint.key, operator=taint.operator, value=taint.value or None,
                effect=taint.effect,
            )  # fmt: skip


def _secret(task: Any, name: str, keys: tuple[str, ...], optional: bool) -> None:
    kubernetes.use_secret_as_env(task, name, {key: key for key in keys}, optional=optional)


def compile_pipeline(out: Path, cluster: Cluster, parameters: Parameters = Parameters()) -> None:
    """Write the pipeline as YAML; the same settings give the same bytes."""
    with tempfile.TemporaryDirectory(prefix="deblur-") as folder:
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(make_pipeline(cluster, parameters), str(compiled))
        with whole_file(out) as partial:
            partial.write_bytes(compiled.read_bytes().replace(b"\r\n", b"\n"))
