"""The compiled Kubeflow pipeline, and what is checked before it is run."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from deblur.errors import ConfigError
from pipelines.kubeflow.pipeline import COMPILED, compile_pipeline
from pipelines.kubeflow.settings import Cluster, Toleration, make_cluster, make_parameters

ROOT = Path(__file__).parents[2]
STAGES = {
    "identify", "validate", "prepare", "train", "evaluate", "export", "register", "promote",
    "conclude",
}  # fmt: skip
CACHED = {"validate", "evaluate", "export"}


def compiled(folder: Path, cluster: Cluster) -> tuple[dict[str, Any], dict[str, Any]]:
    """Executors by stage as the pipeline has them, and what Kubernetes gives them."""
    compile_pipeline(folder / "pipeline.yaml", cluster)
    spec, platform = yaml.safe_load_all((folder / "pipeline.yaml").read_text())
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = spec["deploymentSpec"]["executors"]
    return (
        {name.removeprefix("exec-"): each["container"] for name, each in executors.items()},
        {name.removeprefix("exec-"): each for name, each in kubernetes.items()},
    )


def committed() -> dict[str, Any]:
    return next(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))


def tasks() -> dict[str, Any]:
    """All tasks of all levels of the committed pipeline."""
    spec = committed()
    dags = [spec["root"]["dag"]]
    dags += [c["dag"] for c in spec["components"].values() if "dag" in c]
    return {name: task for dag in dags for name, task in dag["tasks"].items()}


def test_compiling_again_gives_the_committed_bytes(tmp_path: Path) -> None:
    compile_pipeline(tmp_path / "again.yaml", Cluster())
    assert (tmp_path / "again.yaml").read_bytes() == COMPILED.read_bytes(), (
        "run  python -m pipelines.kubeflow compile  and commit the file"
    )


def test_every_stage_runs_the_same_image_and_installs_nothing(tmp_path: Path) -> None:
    containers, _ = compiled(tmp_path, Cluster(image="registry.example/deblur:7"))
    assert containers.keys() == STAGES
    for name, container in containers.items():
        assert container["image"] == "registry.example/deblur:7", name
        assert "pip install" not in " ".join(container["command"]), name


def test_the_volume_and_the_secrets_are_where_they_are_needed(tmp_path: Path) -> None:
    cluster = Cluster(claim="pictures", mount="/mnt", mlflow_secret="mlflow", s3_secret="s3")
    _, given = compiled(tmp_path, cluster)
    for name, pod in given.items():
        (volume,) = pod["pvcMount"]
        assert (volume["constant"], volume["mountPath"]) == ("pictures", "/mnt"), name
        secrets = {secret["secretName"] for secret in pod["secretAsEnv"]}
        tracks = name in STAGES - {"identify", "validate", "prepare", "export"}
        assert secrets == ({"s3", "mlflow"} if tracks else {"s3"}), name
    needed = [
        pair["secretKey"]
        for secret in given["train"]["secretAsEnv"] if not secret.get("optional")
        for pair in secret["keyToEnv"]
    ]  # fmt: skip
    assert needed == ["MLFLOW_TRACKING_URI"]
    assert given["train"]["emptyDirMounts"][0]["mountPath"] == "/dev/shm"


def test_training_and_evaluation_get_the_gpus_and_may_go_where_they_are(tmp_path: Path) -> None:
    cluster = Cluster(
        accelerator="amd.com/gpu", accelerators=2, gpu_nodes={"pool": "gpu"},
        gpu_tolerations=(Toleration(key="spot", operator="Equal", value="yes"),),
        training_cpu="500m", training_memory="4Gi",
    )  # fmt: skip
    containers, given = compiled(tmp_path, cluster)
    with_gpu = {name for name, each in containers.items() if "accelerator" in each["resources"]}
    assert with_gpu == {"train", "evaluate"}
    resources = containers["train"]["resources"]
    assert resources["accelerator"]["resourceType"] == "amd.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "2"
    assert resources["resourceCpuRequest"] == "500m"
    assert resources["resourceMemoryRequest"] == resources["resourceMemoryLimit"] == "4Gi"
    assert "resourceCpuLimit" not in resources
    assert given["train"]["nodeSelector"] == {"labels": {"pool": "gpu"}}
    taint = {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}
    assert given["train"]["tolerations"] == [taint]
    assert "tolerations" not in given["register"]


def test_without_accelerators_no_stage_asks_for_one(tmp_path: Path) -> None:
    containers, given = compiled(tmp_path, Cluster(accelerators=0))
    assert not any("accelerator" in each["resources"] for each in containers.values())
    assert not any("tolerations" in each for each in given.values())


def test_only_what_is_told_by_digests_is_cached() -> None:
    """An artifact's address is new in each run, so a cached stage may not take one."""
    found = tasks()
    caching = {
        name for name, task in found.items() if task.get("cachingOptions", {}).get("enableCache")
    }
    assert caching == CACHED
    components = committed()["components"]
    for name in CACHED:
        assert "artifacts" not in components[f"comp-{name}"]["inputDefinitions"], name
    assert "identity" in found["validate"]["inputs"]["parameters"]


def test_training_is_tried_again_more_often_than_the_other_stages() -> None:
    found = {name: task for name, task in tasks().items() if name in STAGES}
    retries = {name: task["retryPolicy"]["maxRetryCount"] for name, task in found.items()}
    assert retries == {**dict.fromkeys(STAGES, 2), "train": 5}


def test_the_end_runs_whatever_came_before_it() -> None:
    end = tasks()["conclude"]
    assert end["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert end["inputs"]["parameters"]["status"] == {
        "taskFinalStatus": {"producerTask": "exit-handler-1"}
    }


def test_a_stage_has_all_it_needs_in_its_own_source() -> None:
    """KFP takes the function alone: a name from the top of the module would be missing there."""
    tree = ast.parse((ROOT / "pipelines/kubeflow/stages.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert {function.name for function in functions} == STAGES
    top = {
        alias.asname or alias.name
        for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    } | {"stage"}  # fmt: skip
    for function in functions:
        used = {
            node.id
            for statement in function.body
            for node in ast.walk(statement)
            if isinstance(node, ast.Name)
        }
        assert not used & top, function.name


def test_parameters_of_a_run_are_read_from_a_command_line() -> None:
    given = {
        "overrides": '{"batch_size": 4}', "promote": "false", "checks.misaligned.threshold": "3",
    }  # fmt: skip
    parameters = make_parameters(given, Cluster(mount="/mnt"))
    assert parameters.overrides == {"batch_size": 4}
    assert parameters.promote is False
    assert parameters.checks == {"misaligned.threshold": "3"}
    assert (parameters.data_root, parameters.runs_dir) == ("/mnt/pairs", "/mnt/runs")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"recipee": "seed"}, "did you mean 'recipe'"),
        ({"recipe": "sed"}, "did you mean 'seed'"),
        ({"overrides.num_epoch": "3"}, "did you mean 'num_epochs'"),
        ({"overrides": "num_epochs=3"}, "expected a JSON object"),
        ({"checks.misalined.threshold": "3"}, "misaligned"),
        ({"subset": "blurred"}, "blur_gamma"),
        ({"run_name": "../elsewhere"}, "run_name"),
        ({"data_root": "data/sample"}, "is not on the volume, which is at /data"),
        ({"runs_dir": "/data/../etc"}, "is not on the volume"),
        ({"runs_dir": "s3://bucket/runs"}, "is not on the volume"),
    ],
)
def test_a_parameter_that_would_fail_in_the_cluster_is_refused_before(
    given: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        make_parameters(given, Cluster())


def test_data_may_be_in_an_s3_store() -> None:
    assert make_parameters({"data_root": "s3://b/d"}, Cluster()).data_root == "s3://b/d"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"clam": "x"}, "did you mean 'claim'"),
        ({"claim": "My Claim"}, "claim"),
        ({"training_memory": "much"}, "training_memory"),
        ({"accelerators": "-1"}, "accelerators"),
        ({"mount": "work"}, "mount"),
        ({"gpu_tolerations": [{"keys": "a"}]}, "gpu_tolerations"),
    ],
)
def test_settings_of_a_cluster_are_checked(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_cluster(given)


def test_labels_of_nodes_keep_their_dots() -> None:
    label = "cloud.google.com/gke-accelerator"
    assert make_cluster({f"gpu_nodes.{label}": "nvidia-l4"}).gpu_nodes == {label: "nvidia-l4"}
