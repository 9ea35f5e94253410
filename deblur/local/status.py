"""What runs at this moment, as anybody can see it from outside."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psutil

from deblur.errors import SetupError
from deblur.local.http import ask
from deblur.local.model import aliases
from deblur.local.parts import MLFLOW, PICTURES, PREFECT
from deblur.local.state import PartState, PlatformState, StateFolder
from deblur.registry import CHAMPION

#: Flow runs that are shown, the next ones and the newest.
RUNS = 10


@dataclass(frozen=True)
class PartStatus:
    """A part as it is.

    Attributes:
        state: what its supervisor wrote last.
        condition: that, or ``gone`` where the process does not run any more.
        memory: bytes that it and what it started hold, 0 if it does not run.
        well: it does what it should: it runs and is ready, has done its work, or waits for a model.
    """

    state: PartState
    condition: str
    memory: int
    well: bool


@dataclass(frozen=True)
class FlowRun:
    """A flow run that is under way or to come; ``at`` is the Unix time of its start."""

    flow: str
    name: str
    state: str
    at: float | None


@dataclass(frozen=True)
class Status:
    """The platform of a folder.

    Attributes:
        state: what its supervisor wrote last, ``None`` if nothing runs.
        supervised: whether that still watches it.
        parts: in the order in which they start.
        runs: flow runs under way and scheduled; none if Prefect does not answer.
        champion: the version that has the alias, ``None`` if none has it or MLflow does not answer.
        faults: what did not answer though it runs, a sentence each.
    """

    state: PlatformState | None
    supervised: bool = False
    parts: tuple[PartStatus, ...] = ()
    runs: tuple[FlowRun, ...] = ()
    champion: str | None = None
    faults: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        return self.supervised and not self.faults and all(part.well for part in self.parts)

    def plain(self) -> dict[str, Any]:
        """For machines; times are Unix times in seconds, memory is in bytes."""
        state = self.state
        return {
            "running": state is not None,
            "well": self.well,
            "folder": str(state.folder) if state else None,
            "since": state.since if state else None,
            "supervisor": state.supervisor.pid if state and self.supervised else None,
            "env": state.addresses if state else {},
            "champion": self.champion,
            "faults": list(self.faults),
            "parts": [
                {
                    "name": part.state.name,
                    "state": part.condition,
                    "well": part.well,
                    "url": part.state.url or None,
                    "pid": part.state.process.pid if part.state.process else None,
                    "since": part.state.since,
                    "memory": part.memory,
                    "restarts": part.state.restarts,
                    "log": str(part.state.log),
                    "note": part.state.note,
                }
                for part in self.parts
            ],
            "flow_runs": [vars(run) for run in self.runs],
        }


def examine(files: StateFolder) -> Status:
    """Look at the platform of a folder.

    Raises:
        SetupError: its state file is damaged.
    """
    state = files.read()
    if state is None:
        return Status(None)
    parts = tuple(_part(part) for part in state.parts)
    running = {part.state.name: part.condition == "ready" for part in parts}
    faults: list[str] = []
    runs: tuple[FlowRun, ...] = ()
    champion: str | None = None
    if running.get(PREFECT):
        try:
            runs = flow_runs(state.prefect_url)
        except SetupError as error:
            faults.append(str(error))
    if running.get(MLFLOW):
        try:
            champion = aliases(state.mlflow_url).get(CHAMPION)
        except SetupError as error:
            faults.append(str(error))
    supervised = state.supervisor.find() is not None
    return Status(state, supervised, parts, runs, champion, tuple(faults))


def flow_runs(prefect: str) -> tuple[FlowRun, ...]:
    """Flow runs under way and scheduled, from Prefect's server.

    Raises:
        SetupError: it does not answer.
    """
    kinds = ["RUNNING", "PENDING", "SCHEDULED", "CANCELLING", "PAUSED"]
    asked = {
        "flow_runs": {"state": {"type": {"any_": kinds}}},
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": RUNS,
    }
    found = ask(f"{prefect}/api/flow_runs/filter", asked) or []
    ids = sorted({run["flow_id"] for run in found})
    flows = ask(f"{prefect}/api/flows/filter", {"flows": {"id": {"any_": ids}}}) if ids else []
    names = {flow["id"]: flow["name"] for flow in flows or []}
    return tuple(
        FlowRun(
            names.get(run["flow_id"], ""), run["name"], run["state_name"],
            _unix(run["start_time"] or run["expected_start_time"]),
        )
        for run in found
    )  # fmt: skip


def _part(state: PartState) -> PartStatus:
    process = state.process.find() if state.process else None
    condition: str = state.condition
    if process is None and condition in ("starting", "ready", "stopping"):
        condition = "gone"
    waits = condition == "waiting" and state.name == PICTURES and bool(state.note)
    well = condition in ("ready", "done") or waits
    return PartStatus(state, condition, memory_of(process) if process else 0, well)


def memory_of(process: psutil.Process) -> int:
    """Resident bytes of a process and of all that it started."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += int(each.memory_info().rss)
    except psutil.Error:
        pass
    return total


def _unix(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def elapsed(since: float) -> str:
    """``12 s``, ``3 min``, ``5 h`` or ``2 d`` since a Unix time."""
    seconds = max(0.0, time.time() - since)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "d" and seconds >= length):
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
