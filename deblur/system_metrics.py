"""What the machine does while a run goes on, measured by MLflow's monitors.

MLflow's own thread for this ends for good when the store is away for a moment, and holds up the
end of the run when it stays away.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from deblur.errors import SetupError

log = logging.getLogger(__name__)

#: Between two measurements.
SECONDS = 10.0


def monitors() -> list[Any]:
    """MLflow's monitors of what this machine has: processor, memory, disk, network, NVIDIA GPUs.

    Raises:
        SetupError: psutil is not installed.
    """
    try:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    except ImportError:
        raise SetupError(
            "system metrics need psutil, which is not installed: pip install -e '.[train]'"
        ) from None
    found: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(Exception):  # no GPU, no driver, or no nvidia-ml-py: nothing to watch
        found.append(GPUMonitor())
    return found


@contextmanager
def watching(
    watched: list[Any], report: Callable[[Mapping[str, float], int], None], started: float
) -> Iterator[None]:
    """Measure every 10 s until the block ends.

    Args:
        watched: the monitors.
        report: takes values by name, as ``system/cpu_utilization_percentage``, and their step.
        started: Unix time in seconds at which the run began. Steps are counted from there by the
            clock, so a run that is continued does not come upon a step that it has.
    """
    stop = threading.Event()

    def watch() -> None:
        try:
            while not stop.wait(SECONDS):
                values: dict[str, float] = {}
                for monitor in watched:
                    monitor.collect_metrics()
                    values |= monitor.aggregate_metrics()
                    monitor.clear_metrics()
                step = int((time.time() - started) / SECONDS)
                report({f"system/{key}": value for key, value in values.items()}, step)
        except Exception as error:
            log.warning("this machine is no longer measured: %s", error)

    thread = threading.Thread(target=watch, name="system metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5.0)  # a driver may hang
