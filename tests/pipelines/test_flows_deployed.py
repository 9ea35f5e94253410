"""The deployments: their names, their forms, and their jobs in a cluster. Nothing is started."""

import asyncio
import importlib
import json
import typing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import yaml

from deblur.errors import DeblurError
from deblur.training.config import RECIPES
from pipelines.automations import HEALED
from pipelines.bare_names import DEPLOYMENTS
from pipelines.choices import Recipe, Split
from pipelines.healing import STARTS

ROOT = Path(__file__).parents[2]
FILES = ("prefect.yaml", "prefect.kubernetes.yaml")


def deployments(file: str) -> dict[str, dict[str, Any]]:
    listed = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["deployments"]
    return {deployment["name"]: deployment for deployment in listed}


def flow_of(deployment: dict[str, Any]) -> Any:
    path, function = deployment["entrypoint"].split(":")
    return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)


@pytest.mark.parametrize("file", FILES)
def test_every_deployment_can_be_named_without_its_flow(file: str) -> None:
    assert deployments(file).keys() == DEPLOYMENTS
    for name, deployment in deployments(file).items():
        assert flow_of(deployment).name == name


@pytest.mark.parametrize("file", FILES)
def test_parameters_are_those_of_the_flow(file: str) -> None:
    for deployment in deployments(file).values():
        known = flow_of(deployment).parameters.properties
        assert deployment.get("parameters", {}).keys() <= known.keys()


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_the_form_describes_every_parameter(name: str) -> None:
    fields = flow_of(deployments("prefect.yaml")[name]).parameters.properties
    assert [field for field, schema in fields.items() if not schema.get("description")] == []
    if "subset" in fields:
        assert fields["subset"]["enum"] == ["blur", "blur_gamma"]


@pytest.mark.parametrize("name", HEALED)
def test_a_run_that_crashes_again_and_again_is_given_up(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.healing.flow_run", SimpleNamespace(run_count=STARTS + 1))
    required = {"source": "in", "target": "out"} if name == "batch-deblur" else {}
    with pytest.raises(DeblurError, match=f"has been started {STARTS} times and never ended"):
        flow_of(deployments("prefect.yaml")[name]).fn(**required)


def test_choices_are_those_of_the_library() -> None:
    assert set(typing.get_args(Recipe)) == RECIPES.keys()
    assert typing.get_args(Split) == ("train", "val", "test")


@pytest.mark.parametrize("file", FILES)
def test_one_training_at_a_time_and_no_schedule_that_nobody_asked_for(file: str) -> None:
    training = deployments(file)["train-deblur"]["concurrency_limit"]
    assert (training["limit"], training["collision_strategy"]) == (1, "ENQUEUE")
    schedules = [s for d in deployments(file).values() for s in d.get("schedules", [])]
    assert {schedule["slug"] for schedule in schedules} == {"weekly", "hourly"}
    assert not any(schedule["active"] for schedule in schedules)


def job_of(deployment: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The job that a worker would create for a run, rendered by prefect-kubernetes itself."""
    from prefect.client.schemas.objects import FlowRun
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    template = json.loads((ROOT / "prefect.kubernetes-pool.json").read_text(encoding="utf-8"))
    values = {**deployment["work_pool"]["job_variables"], **more}
    rendered = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(template, values, client=object())
    )
    rendered.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="brave-otter"))
    return dict(rendered.job_manifest)


def test_a_training_in_the_cluster_gets_its_gpu_its_data_and_its_secrets() -> None:
    job = job_of(deployments("prefect.kubernetes.yaml")["train-deblur"], claim="pictures")
    assert job["kind"] == "Job"
    assert "{{" not in json.dumps(job)
    # Evicted, it is scheduled again by Prefect, and goes on from its checkpoint.
    assert job["spec"]["backoffLimit"] == 0
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "deblur:latest"
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert container["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": "1"}
    assert container["envFrom"] == [{"secretRef": {"name": "deblur-environment", "optional": True}}]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["PREFECT_LOCAL_STORAGE_PATH"] == "/data/runs/results"
    assert environment["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "pictures"}
    assert container["volumeMounts"][0] == {"name": "data", "mountPath": "/data"}
    assert pod["terminationGracePeriodSeconds"] == 120
    assert "serviceAccountName" not in pod


def test_what_needs_no_gpu_asks_for_none() -> None:
    job = job_of(deployments("prefect.kubernetes.yaml")["evaluate-deblur"])
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
