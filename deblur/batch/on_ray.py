"""A batch on a Ray cluster: each shard is a task, and a task that is lost is run again.

The tasks do what ``deblur batch --shard I/N`` does, so a node that is lost costs the pictures that
it had in flight. Source and target have to be reachable from every node: a store, or a file system
that all of them mount. So does the model.
"""

import os
from typing import TYPE_CHECKING, Any

from deblur.batch.config import BatchConfig, Shard
from deblur.batch.manifest import list_source
from deblur.batch.report import BatchReport, merge_reports
from deblur.errors import DeblurError, SetupError, StoppedError
from deblur.progress import SILENT, Progress
from deblur.stopping import stop_signals

if TYPE_CHECKING:
    from types import ModuleType

#: Shards a node, where their number is not given: what a lost node had begun is spread over the
#: others in parts of this size.
_SHARDS_PER_NODE = 4
#: Seconds between looks whether a signal has come.
_HEARD_WITHIN = 0.5


def run_on_ray(
    config: BatchConfig, address: str, shards: int | None = None, progress: Progress = SILENT
) -> BatchReport:
    """Deblur the source on a cluster.

    A task takes as many CPUs as the smallest node has, since one network uses all cores of a node.

    Args:
        config: the batch.
        address: of the cluster, as ``auto`` or ``head:6379``.
        shards: tasks; by default four a node.
        progress: shows shards.

    Returns:
        The merged report, which is also written.

    Raises:
        SetupError: Ray is not installed, or there is no cluster at the address.
        StoppedError: a signal asked for the end; the same call goes on.
        DeblurError: as ``run_shard`` does.
    """
    ray = _ray()
    list_source(config)  # its faults are told here, before a task begins
    begun_here = not ray.is_initialized()
    if begun_here:
        _connect(ray, address)
    try:
        return _run(ray, config, shards, progress)
    finally:
        if begun_here:
            ray.shutdown()


def _run(
    ray: "ModuleType", config: BatchConfig, shards: int | None, progress: Progress
) -> BatchReport:
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not nodes:
        raise SetupError("the Ray cluster has no node with a CPU: start one with  ray start")
    count = shards or _SHARDS_PER_NODE * len(nodes)
    cpus = min(node["Resources"]["CPU"] for node in nodes)
    # Retried without end where a node or a worker is lost; an error of the task itself is told.
    retried = ray.remote(num_cpus=cpus, max_retries=-1, retry_exceptions=[_WorkerStoppedError])
    task = retried(_shard_on_node)
    waiting = [task.remote(config.model_dump(), index, count) for index in range(count)]
    computed = 0
    try:
        with stop_signals() as stop, progress.task("deblur on Ray", count, "shards") as advance:
            while waiting:
                ready, waiting = ray.wait(waiting, num_returns=1, timeout=_HEARD_WITHIN)
                if stop.signum:
                    raise StoppedError(stop.signum, "stopped: the same command goes on")
                for reference in ready:
                    computed += ray.get(reference)
                    advance()
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DeblurError):
            raise error.cause from None
        raise
    finally:
        for reference in waiting:
            ray.cancel(reference)
    return merge_reports(config, computed)


def _shard_on_node(values: dict[str, Any], index: int, count: int) -> int:
    """Pictures computed, which Ray's own process for tasks runs."""
    from deblur.batch.run import run_shard

    try:
        return run_shard(BatchConfig(**values), Shard(index, count)).computed
    except StoppedError as stopped:
        raise _WorkerStoppedError(str(stopped)) from None


class _WorkerStoppedError(Exception):
    """The node is being taken away, and has asked its processes to end."""


def _ray() -> Any:
    # Read when it is loaded: otherwise it tells its makers that it is used.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise SetupError(
            "Ray is not installed: pip install 'deblur[ray]', or leave --ray out"
        ) from None
    return ray


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SetupError(
            f"there is no Ray cluster at {address} ({said}): start one with  ray start --head"
        ) from None
