"""Servers for the length of a block: started, waited for, and stopped together."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from deblur.errors import SetupError
from deblur.local.parts import Part
from deblur.local.processes import Stopping, launch, tail


@dataclass(frozen=True)
class Service:
    """A running server."""

    name: str
    url: str
    process: psutil.Popen
    log: Path


class Services:
    """Child processes that end when the block ends, also after an error or Ctrl-C.

    Args:
        logs: folder for what the servers print, of this block alone.
        env: their environment, beside this process's own.
    """

    def __init__(self, logs: Path, env: Mapping[str, str]) -> None:
        self.logs = logs.resolve()
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
            Stopping(service.process, str(self.logs), service.name, patience=15.0).wait()

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
        return self.start_part(Part(name, tuple(module_args), port, health), timeout)

    def start_part(self, part: Part, timeout: float = 120.0) -> Service:
        """Start a part of the platform and wait until it is ready.

        Raises:
            SetupError: as ``start``.
        """
        log = self.logs / f"{part.name}.log"
        log.unlink(missing_ok=True)
        env = {**self.env, **part.env}
        process = launch(part.command, log, env, str(self.logs), part.name)
        service = Service(part.name, part.url, process, log)
        self.running.append(service)
        until = time.monotonic() + timeout
        while time.monotonic() < until and process.poll() is None:
            if part.is_ready(process.create_time()):
                return service
            time.sleep(0.25)
        ended = process.poll()
        what = f"ended with {ended}" if ended is not None else f"did not answer in {timeout:.0f} s"
        raise SetupError(f"{part.name} {what}; the end of {log}:\n  " + "\n  ".join(tail(log)))
