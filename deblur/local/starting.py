"""``deblur up``: the platform in this process, or in one of its own that stays."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deblur.errors import SetupError
from deblur.local.processes import Identity, own_group, tail
from deblur.local.state import PlatformState, Ports, StateFolder
from deblur.local.supervisor import Supervisor

#: Seconds that the parts of a detached platform are waited for.
PATIENCE = 600.0
#: What the parts are made of, by the extra that brings it.
_NEEDED = {
    "pipelines": ("prefect", "mlflow", "psutil", "filelock"),
    "serve": ("fastapi", "uvicorn"),
}


def check_setup(folder: Path) -> None:
    """Whether the platform can be started in a folder at all.

    Raises:
        SetupError: there is no ``prefect.yaml``, or a package is missing.
    """
    if not (folder / "prefect.yaml").is_file():
        raise SetupError(
            f"there is no prefect.yaml in {folder}: start the platform in the project's folder, "
            "the one with prefect.yaml and pipelines/; its data, runs and registry are kept there"
        )
    require_packages()


def require_packages() -> None:
    """Whether what the platform runs on is installed.

    Raises:
        SetupError: a package is missing.
    """
    for extra, packages in _NEEDED.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            raise SetupError(
                f"the platform needs {', '.join(missing)}, not installed here: "
                f"pip install -e '.[pipelines,serve,sample]' brings it (extra {extra})"
            )


def run_here(folder: Path, ports: Ports, say: Callable[[str], None]) -> None:
    """Run the platform in this process until a signal or ``deblur down`` stops it.

    Raises:
        SetupError: it runs already.
    """
    with Supervisor(folder, ports, say) as supervisor, _signals(supervisor.ask_to_stop):
        supervisor.run()


def start_detached(files: StateFolder, ports: Ports) -> Iterator[PlatformState]:
    """Start a process that runs the platform, and yield what it writes until all is settled, or
    for ten minutes.

    Raises:
        SetupError: the process ended; the end of its log is in the message.
    """
    files.logs.mkdir(parents=True, exist_ok=True)
    log = files.logs / "supervisor.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "deblur.local", ports.model_dump_json()],
            cwd=files.folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
            **own_group(window=False),
        )  # type: ignore[call-overload]
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ended = process.poll()
        if ended is not None:
            said = "\n  ".join(tail(log))
            raise SetupError(f"the platform ended with {ended}; the end of {log}:\n  {said}")
        state = files.read()
        if state and state.supervisor.pid == process.pid and state.supervisor.find():
            yield state
            if state.settled:
                return
        time.sleep(0.5)


def running(files: StateFolder) -> Identity | None:
    """The supervisor of the platform of this folder, if it is alive."""
    state = files.read()
    return state.supervisor if state and state.supervisor.find() else None


@contextmanager
def _signals(handler: Callable[..., None]) -> Iterator[None]:
    """Every signal by which a process is asked to end calls ``handler`` inside the block."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, handler) for number in known}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
