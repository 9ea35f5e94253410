"""How many threads this process may keep busy, and what they do when they wait.

onnxruntime asks the host; in a container that is wrong, as the affinity mask or the cgroup's CPU
quota may allow far less, and too many threads throttle each other.
"""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def sleep_when_idle() -> None:
    """Let OpenMP threads that wait for each other sleep instead of spin. Call before torch loads.

    While they spin they burn the time that the late thread needs: beside one busy process on two
    cores, sleeping trained 2.2 to 3.1 times as fast. Alone it costs up to a sixth (docs/log.md).
    """
    for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"):  # GNU's and Intel's runtime
        os.environ.setdefault(name, "0")


def usable_cpus() -> int:
    """CPUs by affinity, capped by the cgroup's quota rounded up; at least 1."""
    # Windows and macOS have no affinity mask that Python could read.
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota()
    return max(1, cpus if quota is None else min(cpus, math.ceil(quota)))


@contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """A thread for each usable CPU, for work outside the interpreter lock, as that of Pillow and
    NumPy. An error or an interruption does not wait for what was not begun."""
    pool = ThreadPoolExecutor(usable_cpus())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _quota(v2: Path = _CGROUP_V2, v1: Path = _CGROUP_V1) -> float | None:
    """CPUs that the cgroup's quota comes to, or ``None`` where there is no limit."""
    try:
        quota, period = v2.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((v1 / "cpu.cfs_quota_us").read_text())
        return None if quota_us < 0 else quota_us / int((v1 / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
