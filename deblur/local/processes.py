"""Child processes that are recognised later, by whichever process, and ended with all they started.

A process is known by its number and the time at which it started, as numbers are given again. What
it started carries two variables of the environment (``MARK``, ``PART``), so that it is found after
its parent is gone, and nothing else is taken for it.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from deblur.errors import SetupError

HOST = "127.0.0.1"
MARK, PART = "DEBLUR_PLATFORM", "DEBLUR_PLATFORM_PART"

#: Seconds by which the same start is read differently when the clock was set in between.
_CLOCK = 1.0
#: Seconds that what a process left behind has to end by itself.
_ORPHANS = 10.0


class Identity(BaseModel):
    """A process for as long as it runs; ``started`` is a Unix time in seconds."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: float

    @classmethod
    def of(cls, process: psutil.Process) -> "Identity":
        return cls(pid=process.pid, started=process.create_time())

    def find(self) -> psutil.Process | None:
        """The process, or ``None`` if it has ended, also if another has its number by now."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _CLOCK
        except psutil.Error:
            return None
        return process if same and alive(process) else None


def launch(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    mark: str,
    part: str,
    folder: Path | None = None,
) -> psutil.Popen:
    """Start a process of its own group, with what it prints at the end of ``log``.

    Ctrl-C on the terminal does not reach it: who started it stops it, in order.
    """
    with log.open("ab") as out:
        return psutil.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env, MARK: mark, PART: part},
            cwd=folder,
            **own_group(),
        )


def own_group(window: bool = True) -> dict[str, bool | int]:
    """Arguments of ``Popen``; ``window=False`` gives it no terminal, also on Windows."""
    if os.name != "nt":
        return {"start_new_session": True}
    flags = int(getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))
    return {"creationflags": flags | (0 if window else getattr(subprocess, "CREATE_NO_WINDOW", 0))}


def alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and that nobody has asked about does not."""
    try:
        # Asked for its result, a child of this process disappears. Until all its threads are gone
        # it looks like a zombie, and has no result yet.
        if isinstance(process, psutil.Popen):
            return process.poll() is None
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def marked(mark: str, part: str | None = None) -> list[psutil.Process]:
    """What runs with this mark in its environment, of one part or of all."""
    found = []
    for process in psutil.process_iter():
        try:
            env = process.environ()
        except (psutil.Error, OSError):  # another user's, or just ended
            continue
        if env.get(MARK) == mark and part in (None, env.get(PART)) and process.pid != os.getpid():
            found.append(process)
    return [process for process in found if alive(process)]


class Stopping:
    """A part that is being ended: its process is asked first, then what that left behind, and
    whatever does not go in time is killed.

    Args:
        process: the part's own, ``None`` if that has ended already.
        mark, part: of what it started.
        patience: seconds that the process has; what it leaves behind has ten.
        children_first: its own children are asked before it, and have the same patience. For one
            that would kill them.
    """

    def __init__(
        self,
        process: psutil.Process | None,
        mark: str,
        part: str,
        patience: float,
        children_first: bool = False,
    ) -> None:
        self.process = process if process is not None and alive(process) else None
        self.mark, self.part, self.patience = mark, part, patience
        self.killed = False
        self._hurried = False
        self._asked: set[psutil.Process] = set()
        self._first: set[psutil.Process] = set()
        # Where the environment of others cannot be read, these at least are known.
        self._children: set[psutil.Process] = set()
        with suppress(psutil.NoSuchProcess):
            if self.process is not None:
                self._children = set(self.process.children(recursive=True))
            if self.process is not None and children_first:
                self._first = set(self.process.children())
        self._ask(self._first)
        self._wait(patience if self.process else _ORPHANS)

    def done(self) -> bool:
        """Look, and go on with it. True once nothing of the part runs."""
        late = self._hurried or time.monotonic() > self._until
        self._first = {child for child in self._first if alive(child)}
        if self._first:
            if late:
                self._kill(self._first)
            return False
        if self.process is not None:
            if self.process not in self._asked:
                self._ask({self.process})
                self._wait(self.patience)
            elif not alive(self.process):
                self.process = None
                self._wait(_ORPHANS)
            elif late:
                self._kill({self.process})
            return False
        rest = {p for p in self._children if alive(p)} | set(marked(self.mark, self.part))
        self._ask(rest - self._asked)
        if late:
            self._kill(rest)
        return not rest

    def hurry(self) -> None:
        """Wait no longer: kill what is left."""
        self._hurried = True

    def wait(self) -> None:
        """Until it is done."""
        while not self.done():
            time.sleep(0.1)

    def _wait(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def _ask(self, processes: set[psutil.Process]) -> None:
        self._asked |= processes
        for process in processes:
            _ask_to_end(process)

    def _kill(self, processes: set[psutil.Process]) -> None:
        self.killed = True
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def tail(log: Path, lines: int = 8) -> list[str]:
    """The last lines of a log that say something."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 65536))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def free_port(preferred: int) -> int:
    """``preferred`` if it is free, else one that the system picks.

    Raises:
        SetupError: there is none.
    """
    for port in (preferred, 0):
        with socket.socket() as probe:
            if os.name == "posix":  # on Windows this would find a port in use free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SetupError(f"no free port on {HOST}: stop something that listens there")


def _ask_to_end(process: psutil.Process) -> None:
    try:
        if os.name == "nt":
            # Reaches a group on this terminal; elsewhere Windows has only one way to end a process.
            try:
                process.send_signal(getattr(signal, "CTRL_BREAK_EVENT"))  # noqa: B009
            except OSError:
                process.terminate()
        else:
            process.terminate()
    except psutil.Error:
        pass
