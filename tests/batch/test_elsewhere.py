"""Batches on a real S3 server, on a Ray cluster of two nodes, and the manifest for Kubernetes."""

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from deblur.batch.config import BATCH_FOLDER, BatchConfig
from deblur.batch.manifest import list_source
from deblur.batch.records import read_records
from deblur.batch.store import PAUSES
from deblur.data.storage import list_files, location, read_file, write_file
from deblur.errors import DataError, ModelFileError, SetupError
from deblur.images import decode_rgb
from deblur.local.processes import free_port
from tests.batch.folders import break_some, pictures_below, small_pictures
from tests.s3 import S3Server, s3_server

ROOT = Path(__file__).parents[2]
JOB = ROOT / "k8s" / "batch" / "job.yaml"


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deblur", "batch", *arguments], capture_output=True, text=True,
        env={**os.environ, "COLUMNS": "200", **variables}, timeout=240,
    )  # fmt: skip


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    import s3fs

    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # or it would still know another test's server
        yield server
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_two_pods_deblur_from_s3_to_s3(server: S3Server, tmp_path: Path, tiny_model: Path) -> None:
    names = small_pictures(tmp_path / "in", 24)
    break_some(tmp_path / "in", names[:2])
    store: Any = location("s3://photos/in")
    store.fs.mkdir("photos")
    store.fs.put(str(tmp_path / "in") + "/", "photos/in/", recursive=True)
    given = ("s3://photos/in", "s3://photos/out", "--model", str(tiny_model), "--shards", "2")
    for index in ("0", "1"):
        done = command(*given, JOB_COMPLETION_INDEX=index)
        assert done.returncode == 0, done.stderr
    config = BatchConfig(source=given[0], target=given[1], model=str(tiny_model))
    first = read_records(config.folder)
    assert sum(not record.error for record in first.values()) == 22
    merged = command(*given[:2], "--report")
    assert "22 of 24 pictures are in s3://photos/out" in merged.stdout, merged.stderr

    results = location(given[1])
    assert [n for n in list_files(results) if n.endswith(".png")] == names[2:]
    assert decode_rgb(read_file(results / names[2]), names[2]).shape == (48, 64, 3)
    again = command(*given, JOB_COMPLETION_INDEX="0")
    assert "(0 now" in again.stdout, again.stderr

    local = command("s3://photos/out", str(tmp_path / "copy"), "--model", str(tiny_model))
    assert "22 of 22 pictures" in local.stdout, local.stderr
    assert pictures_below(tmp_path / "copy") == names[2:]
    refused = command(*given, JOB_COMPLETION_INDEX="0", AWS_SECRET_ACCESS_KEY="wrong")
    assert refused.returncode == 2
    assert "check the address, and the store's credentials" in refused.stderr
    assert "next attempt" not in refused.stderr  # it would be as wrong the next time


@pytest.mark.slow
def test_killed_on_s3_it_goes_on_and_computes_what_has_changed(
    server: S3Server, tmp_path: Path, tiny_model: Path
) -> None:
    names = small_pictures(tmp_path / "in", 40)
    store: Any = location("s3://photos/in")
    store.fs.mkdir("photos")
    store.fs.put(str(tmp_path / "in") + "/", "photos/in/", recursive=True)
    given = ("s3://photos/in", "s3://photos/out", "--model", str(tiny_model))
    config = BatchConfig(source=given[0], target=given[1], model=str(tiny_model))
    process = subprocess.Popen([sys.executable, "-m", "deblur", "batch", *given])
    while len(before := read_records(config.folder)) < 5:
        assert process.poll() is None
    process.kill()
    process.wait()
    before = read_records(config.folder)
    assert len(before) < len(names)
    rest = command(*given)
    assert f"({len(names) - len(before)} now, {len(before)} before)" in rest.stdout, rest.stderr

    write_file(store / names[0], (tmp_path / "in" / names[1]).read_bytes())
    write_file(store / "new.png", (tmp_path / "in" / names[2]).read_bytes())
    assert "41 of 41 pictures are in s3://photos/out (2 now, 39 before)" in command(*given).stdout
    assert {path.rpartition("/")[2] for path in list_hidden(config)} == {
        "manifest.jsonl", "0-of-1.jsonl", "report.json", "report.md",
    }  # fmt: skip


def list_hidden(config: BatchConfig) -> list[str]:
    folder: Any = config.folder
    folder.fs.invalidate_cache()
    return list(folder.fs.find(folder.path))


def test_an_absent_store_is_asked_several_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    paused: list[float] = []
    monkeypatch.setattr("deblur.batch.store.time.sleep", paused.append)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port(0)}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    config = BatchConfig(source="s3://photos", target=str(tmp_path))
    with pytest.raises(DataError, match=r"s3://photos.* cannot be read"):
        list_source(config)
    s3fs.S3FileSystem.clear_instance_cache()
    assert paused == list(PAUSES)


def begun_shards(config: BatchConfig) -> set[str]:
    """Those with records that are not folded yet, as they are at a shard's end."""
    singles = Path(config.target, BATCH_FOLDER, "records").glob("*-of-*/*.json")
    return {file.parent.name for file in singles}


@pytest.mark.slow
def test_a_ray_cluster_that_loses_a_node_does_every_picture(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")  # a busy machine takes a minute
    ray = pytest.importorskip("ray")
    import psutil
    from ray.cluster_utils import Cluster

    from deblur.batch.on_ray import run_on_ray

    names = small_pictures(tmp_path / "in", 2000)
    break_some(tmp_path / "in", names[:20])
    config = BatchConfig(
        source=str(tmp_path / "in"), target=str(tmp_path / "out"), model=str(tiny_model)
    )
    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    second = cluster.add_node(**small)
    asked: list[int] = []
    lost: list[int] = []

    def wait_until_both_are_busy() -> None:
        # Each node has one CPU and so one shard at a time: once two are begun and not ended, the
        # second node is in the middle of one of them.
        deadline = time.monotonic() + 120
        while len(begun_shards(config)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)

    def lose_a_node() -> None:
        wait_until_both_are_busy()
        # As Ray does on a node that is drained.
        for process in psutil.Process().children(recursive=True):
            if "_shard_on_node" in " ".join(process.cmdline()):
                process.terminate()
                asked.append(process.pid)
                break
        wait_until_both_are_busy()
        lost.append(len(pictures_below(tmp_path / "out")))
        cluster.remove_node(second, allow_graceful=False)

    loser = threading.Thread(target=lose_a_node)
    try:
        with pytest.raises(ModelFileError, match="there is no model file"):
            run_on_ray(config.model_copy(update={"model": "nowhere.onnx"}), cluster.address, 1)
        loser.start()
        report = run_on_ray(config, cluster.address, 6)
        loser.join()
    finally:
        cluster.shutdown()
    assert not ray.is_initialized()
    assert len(asked) == 1
    assert 0 < lost[0] < 1980
    # What the lost node had recorded of its shard was not computed again.
    assert report.computed < 1980
    assert (report.done, report.failed, report.remaining) == (1980, 20, 0)
    assert pictures_below(tmp_path / "out") == names[20:]


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    on_ray = importlib.import_module("deblur.batch.on_ray")
    with pytest.raises(SetupError, match=r"pip install 'deblur\[ray\]'"):
        on_ray.run_on_ray(BatchConfig(source="a", target="b"), "auto")


def test_the_kubernetes_job_gives_every_shard_to_one_pod() -> None:
    from kubernetes import client

    job = next(d for d in yaml.safe_load_all(JOB.read_text()) if d["kind"] == "Job")
    reader = client.ApiClient()

    # As an answer of the cluster is read: what has to be there and is not, is an error.
    read = reader.deserialize(SimpleNamespace(data=json.dumps(job)), "V1Job")
    assert read.spec.completion_mode == "Indexed"
    assert read.spec.backoff_limit_per_index >= 1
    pod = read.spec.template.spec
    (container,) = pod.containers
    given = container.args
    assert given[0] == "batch"
    assert int(given[given.index("--shards") + 1]) == read.spec.completions
    assert pod.security_context.run_as_non_root
    assert container.security_context.read_only_root_filesystem
    mounted = {mount.name for mount in container.volume_mounts}
    assert mounted <= {volume.name for volume in pod.volumes}


def test_every_field_of_the_kubernetes_job_is_one_that_kubernetes_knows() -> None:
    from kubernetes import client

    def check(values: Any, kind: str, at: str) -> None:
        if kind.startswith("list["):
            for number, value in enumerate(values):
                check(value, kind[5:-1], f"{at}[{number}]")
        elif model := getattr(client, kind, None):
            known = {key: name for name, key in model.attribute_map.items()}
            for key, value in values.items():
                assert key in known, f"{at}.{key}"
                check(value, model.openapi_types[known[key]], f"{at}.{key}")

    kinds = {"Job": "V1Job", "Secret": "V1Secret", "ConfigMap": "V1ConfigMap"}
    for document in yaml.safe_load_all(JOB.read_text()):
        check(document, kinds[document["kind"]], document["kind"])
    with pytest.raises(AssertionError, match=r"Job\.spec\.completion"):
        check({"spec": {"completion": 3}}, "V1Job", "Job")
