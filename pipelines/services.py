"""Local servers as child processes: started, waited for, and stopped together."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from deblur.errors import SetupError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Service:
    """A running server."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path


class Services:
    """Child processes that end when the block ends, also after an error or Ctrl-C.

    Args:
        logs: folder for what the servers print.
        env: their environment, beside this process's own.
    """

    def __init__(self, logs: Path, env: Mapping[str, str]) -> None:
        self.logs = logs
        self.env = dict(env)
        self.running: list[Service] = []

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for service in reversed(self.running):
            _stop(service.process)

    def start(
        self, name: str, module_args: Sequence[str], port: int, health: str, timeout: float = 120.0
    ) -> Service:
        """Start ``python -m MODULE ARGS`` and wait until ``health`` answers with 200.

        Args:
            name: what to call it, also its log file.
            module_args: the module and its arguments.
            port: where it will listen.
            health: path of its health page.
            timeout: seconds to wait.

        Raises:
            SetupError: it ended, or did not answer in time; the end of its log is in the message.
        """
        log = self.logs / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *module_args],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                # A group of its own: Ctrl-C reaches this process first, which stops them in order.
                start_new_session=True,
            )
        service = Service(name, f"http://{HOST}:{port}", process, log)
        self.running.append(service)
        until = time.monotonic() + timeout
        while time.monotonic() < until and process.poll() is None:
            try:
                if httpx.get(service.url + health, timeout=5.0).status_code == 200:
                    return service
            except httpx.HTTPError:
                pass
            time.sleep(0.25)
        ended = process.poll()
        what = f"ended with {ended}" if ended is not None else f"did not answer in {timeout:.0f} s"
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-8:])
        raise SetupError(f"{name} {what}; the end of {log}:\n  {tail}")


def free_port(preferred: int) -> int:
    """``preferred`` if it is free, else one that the system picks."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            if os.name == "posix":  # on Windows this would find a port in use free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SetupError("no free port on 127.0.0.1")


def _stop(process: subprocess.Popen[bytes], patience: float = 15.0) -> None:
    """End a server and the processes it started."""
    if process.poll() is None:
        _signal(process, "SIGTERM")
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            _signal(process, "SIGKILL")
            process.wait()


def _signal(process: subprocess.Popen[bytes], name: str) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, getattr(signal, name))
    else:  # Windows has no groups to signal, and one way to end a process
        process.terminate()
