"""Keeps the parts of the platform running, and stops them in order."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deblur.atomic import whole_file
from deblur.errors import SetupError
from deblur.local.http import ask
from deblur.local.model import Served, choose_model
from deblur.local.parts import (
    DEPLOYMENTS,
    MLFLOW,
    PICTURES,
    PREFECT,
    TITLES,
    WORKER,
    Part,
    deployments,
    flow_worker,
    local_environment,
    mlflow_server,
    picture_server,
    prefect_server,
)
from deblur.local.processes import Identity, Stopping, alive, free_port, launch, tail
from deblur.local.state import PartState, PlatformState, Ports, StateFolder

#: In this order they start; in the other one they stop.
ORDER = (MLFLOW, PREFECT, WORKER, DEPLOYMENTS, PICTURES)
NEEDS = {MLFLOW: (), PREFECT: (), WORKER: (PREFECT,), DEPLOYMENTS: (WORKER,), PICTURES: (MLFLOW,)}

#: What dies this often in a row stays down; each time it is started again after a longer pause.
FAILURES = 5
LONGEST_PAUSE = 60.0
#: Seconds after which a part that was ready has not failed in a row.
STEADY = 300.0
#: Seconds between looks at the registry.
LOOK = 5.0
TICK = 0.5

NO_MODEL = "no model yet: the first one that is registered is served"


@dataclass
class _Kept:
    """A part with what only its supervisor knows."""

    part: Part
    state: PartState
    process: psutil.Process | None = None
    stopping: Stopping | None = None
    failures: int = 0
    due: float = 0.0


class Supervisor:
    """The platform of a folder, for as long as the context lasts.

    Args:
        folder: with ``prefect.yaml``; everything is kept below it.
        ports: where the servers should listen. What is taken is replaced by a free one.
        say: gets a line for each thing that happens.

    Raises:
        SetupError: the platform of this folder runs already.
    """

    def __init__(
        self, folder: Path, ports: Ports, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.files = StateFolder(folder)
        self.say = say
        self._asked = ports
        self._stops = 0
        self._served: Served | None = None
        self._looked = 0.0
        self._written: PlatformState | None = None

    def __enter__(self) -> "Supervisor":
        self._lock = take(self.files)
        self._lock.__enter__()
        self.files.logs.mkdir(parents=True, exist_ok=True)
        before = self.files.read()
        self.files.stop_request.unlink(missing_ok=True)
        found = {part.name: part for part in before.parts} if before else {}
        running = {
            name: process
            for name, part in found.items()
            if part.condition in ("starting", "ready")
            and part.process
            and (process := part.process.find())
        }
        ports = before.ports if before and running else self._free(self._asked)
        if not running:
            for log in self.files.logs.glob("*.log"):
                if log.stem in ORDER:
                    log.unlink()
        self._state = PlatformState(
            folder=self.files.folder,
            supervisor=Identity.of(psutil.Process()),
            since=before.since if before and running else time.time(),
            ports=ports,
        )
        self._env = {
            **local_environment(self.files.folder),
            **self._state.addresses,
            # What a process printed before it was killed is in its log, in any language.
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
        }
        self._kept = {name: self._keep(name) for name in ORDER}
        for name, process in running.items():
            self._kept[name].process, self._kept[name].state = process, found[name]
            self.say(f"{TITLES[name]} still runs, process {process.pid}: taken over")
        self._write()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__(None, None, None)

    @property
    def state(self) -> PlatformState:
        """As it is now."""
        parts = tuple(self._kept[name].state for name in ORDER)
        return self._state.model_copy(update={"parts": parts})

    def ask_to_stop(self, *_: object) -> None:
        """For signal handlers: stop in order; asked again, at once."""
        self._stops += 1

    def run(self) -> None:
        """Start everything and keep it running until asked to stop, then stop it in order."""
        while not self._stops and not self.files.stop_request.exists():
            self.tick()
            time.sleep(TICK)
        self._stop_all()

    def tick(self) -> None:
        """Look at every part, and do what is due."""
        for kept in self._kept.values():
            self._advance(kept)
        self._look_for_model()
        self._write()

    def _advance(self, kept: _Kept) -> None:
        condition = kept.state.condition
        if condition == "waiting":
            if all(self._kept[need].state.condition == "ready" for need in NEEDS[kept.part.name]):
                self._start_if_wanted(kept)
        elif condition in ("starting", "ready"):
            assert kept.process is not None
            if not alive(kept.process):
                self._ended(kept)
            elif condition == "starting" and not kept.part.once:
                started = kept.process.create_time()
                if kept.part.is_ready(started):
                    self._set(kept, "ready")
                    took = time.time() - started
                    where = f" at {kept.part.url}" if kept.part.url else ""
                    self.say(f"{kept.part.title} is ready{where} after {took:.0f} s")
            elif kept.failures and time.time() - kept.state.since > STEADY:
                kept.failures = 0
        elif condition == "pausing":
            gone = kept.stopping is None or kept.stopping.done()
            if gone and time.monotonic() >= kept.due:
                self._start(kept)
        elif condition == "failed":
            if kept.stopping is not None and kept.stopping.done():
                kept.stopping = None
        elif condition == "stopping":
            assert kept.stopping is not None
            if kept.stopping.done():
                kept.process = None
                self._set(kept, "waiting", process=None)

    def _start_if_wanted(self, kept: _Kept) -> None:
        if kept.part.name == DEPLOYMENTS and self._is_deployed():
            self._set(kept, "done", note="as before")
        elif kept.part.name == PICTURES and self._served is None:
            if self._looked and not kept.state.note:
                self._set(kept, "waiting", note=NO_MODEL)
                self.say(f"{kept.part.title}: {NO_MODEL}")
        else:
            # One that a killed supervisor left may hold the port.
            kept.stopping = Stopping(None, self.files.mark, kept.part.name, 0.0)
            self._set(kept, "pausing")
            self._advance(kept)

    def _start(self, kept: _Kept) -> None:
        if kept.part.name == PICTURES:
            assert self._served is not None
            kept.part = picture_server(self._state.ports.pictures, self._served.address)
        env = {**self._env, **kept.part.env}
        kept.stopping = None
        kept.process = launch(
            kept.part.command, kept.state.log, env, self.files.mark, kept.part.name,
            self.files.folder,
        )  # fmt: skip
        note = self._served.address if kept.part.name == PICTURES and self._served else ""
        self._set(kept, "starting", note=note, process=Identity.of(kept.process))

    def _ended(self, kept: _Kept) -> None:
        """A process that ran runs no longer."""
        title, code = kept.part.title, _code(kept.process)
        kept.process = None
        if kept.part.once and code == 0:
            self._set(kept, "done", process=None)
            self._note_deployed()
            self.say(f"{title} are made")
            return
        kept.failures += 1
        # What it started would hold its port, or run on without anybody to report to.
        kept.stopping = Stopping(None, self.files.mark, kept.part.name, 0.0)
        what = "ended" if code is None else f"ended with {code}"
        last = "".join(f"\n    {line}" for line in tail(kept.state.log))
        where = f"; the end of {kept.state.log}:{last}" if last else ""
        if kept.failures >= FAILURES:
            note = f"{what}, {kept.failures} times in a row: mend it, then deblur down and up"
            self._set(kept, "failed", note=note, process=None)
            self.say(f"{title} {what} for the {kept.failures}th time and stays down{where}")
            return
        pause = min(2.0 ** (kept.failures - 1), LONGEST_PAUSE)
        kept.due = time.monotonic() + pause
        restarts = kept.state.restarts + 1
        self._set(kept, "pausing", note=what, process=None, restarts=restarts)
        self.say(f"{title} {what}, starts again in {pause:.0f} s{where}")

    def _look_for_model(self) -> None:
        """Serve another model when there is a better one; the version of an alias is followed by
        the picture server itself."""
        kept = self._kept[PICTURES]
        ready = self._kept[MLFLOW].state.condition == "ready"
        if not ready or time.monotonic() < self._looked + LOOK:
            return
        try:
            found = choose_model(self._state.mlflow_url)
        except SetupError:
            return
        self._looked = time.monotonic()
        before, self._served = self._served, found or self._served
        # One that was taken over says in its note what it serves.
        served = before.address if before else kept.state.note
        if found is None or (before == found):
            return
        condition = kept.state.condition
        if condition in ("starting", "ready") and served != found.address:
            self.say(f"{kept.part.title}: {found.address} from now on, before it {served}")
            kept.stopping = Stopping(kept.process, self.files.mark, PICTURES, kept.part.patience)
            self._set(kept, "stopping")
        elif condition == "failed":
            kept.failures = 0
            self._set(kept, "waiting")

    def _stop_all(self) -> None:
        self.say("stopping in order; Ctrl-C again kills what is left")
        stops = self._stops or 1
        for name in reversed(ORDER):
            kept = self._kept[name]
            running = kept.process is not None and alive(kept.process)
            kept.stopping = Stopping(
                kept.process, self.files.mark, name, kept.part.patience, kept.part.children_first
            )
            self._set(kept, "stopping")
            while not kept.stopping.done():
                if self._stops > stops:
                    kept.stopping.hurry()
                self._write()
                time.sleep(0.1)
            if running:
                self.say(
                    f"{kept.part.title} {'was killed' if kept.stopping.killed else 'has stopped'}"
                )
            self._set(kept, "stopped", process=None)
            self._write()
        self.files.clear()

    def _keep(self, name: str) -> _Kept:
        ports, prefect = self._state.ports, self._state.prefect_url
        part = {
            MLFLOW: lambda: mlflow_server(ports.mlflow, _store(), self.files.folder),
            PREFECT: lambda: prefect_server(ports.prefect),
            WORKER: lambda: flow_worker(prefect),
            DEPLOYMENTS: deployments,
            PICTURES: lambda: picture_server(ports.pictures, ""),
        }[name]()
        log = self.files.logs / f"{name}.log"
        return _Kept(part, PartState(name=name, url=part.url, log=log, since=time.time()))

    def _set(self, kept: _Kept, condition: str, note: str = "", **others: Any) -> None:
        if condition == "ready":
            note = kept.state.note
        now = {"condition": condition, "note": note, "since": time.time()}
        kept.state = kept.state.model_copy(update={**now, **others})

    def _write(self) -> None:
        if self.state != self._written:
            self._written = self.state
            try:
                self.files.write(self._written)
            except OSError as error:
                # The parts are kept, and stopped, on a full disk, too.
                self.say(f"the state cannot be written: {error}")

    def _free(self, ports: Ports) -> Ports:
        free: dict[str, int] = {}
        for name, wanted in ports.model_dump().items():
            port = free_port(wanted)
            while port in free.values():
                port = free_port(0)
            free[name] = port
            if port != wanted:
                self.say(f"port {wanted} is taken: {TITLES[name]} gets {port}")
        return Ports(**free)

    def _is_deployed(self) -> bool:
        """Whether the deployments are as ``prefect.yaml`` wants them. Made anew, they would lose
        what was changed on Prefect's page: a schedule that was resumed would be paused again."""
        try:
            said = json.loads(self.files.deployed.read_text(encoding="utf-8"))
            known = ask(f"{self._state.prefect_url}/api/deployments/count", {})
        except (OSError, ValueError, SetupError):
            return False
        return bool(said["digest"] == self._digest() and known and known >= said["count"])

    def _note_deployed(self) -> None:
        try:
            count = ask(f"{self._state.prefect_url}/api/deployments/count", {})
        except SetupError:
            return
        with whole_file(self.files.deployed) as partial:
            said = {"digest": self._digest(), "count": count}
            partial.write_text(json.dumps(said), encoding="utf-8")

    def _digest(self) -> str:
        """Of what the deployments are made from: the file, the flows that it names, and the
        automations."""
        text = (self.files.folder / "prefect.yaml").read_text(encoding="utf-8")
        digest = hashlib.sha256(f"{self.files.folder}\n{text}".encode())
        flows = re.findall(r"entrypoint:\s*[\"']?([^\"'\s]+\.py)", text)
        for name in sorted({*flows, "pipelines/automations.py"}):
            file = self.files.folder / name
            digest.update(file.read_bytes() if file.is_file() else b"")
        return digest.hexdigest()


def take(files: StateFolder) -> AbstractContextManager[object]:
    """The right to run the platform of a folder: free again as soon as its holder is gone.

    Raises:
        SetupError: another process has it.
    """
    from filelock import FileLock, Timeout

    files.place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(files.lock)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        raise SetupError(
            f"the platform of {files.folder} runs already: deblur status shows it, deblur down "
            "stops it"
        ) from None


def _store() -> str:
    """MLflow's database: that of ``MLFLOW_TRACKING_URI``, unless it names a server."""
    said = os.environ.get("MLFLOW_TRACKING_URI", "")
    return said if said and not said.startswith("http") else "sqlite:///mlflow.db"


def _code(process: psutil.Process | None) -> int | None:
    """What a child ended with; of a process that was taken over nobody knows."""
    return process.poll() if isinstance(process, psutil.Popen) else None
