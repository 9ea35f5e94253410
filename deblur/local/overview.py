"""How the platform is shown on a terminal."""

import time

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deblur.local.parts import TITLES
from deblur.local.status import PartStatus, Status, elapsed

_STYLES = {
    "ready": "green", "done": "green", "starting": "yellow", "pausing": "yellow",
    "stopping": "yellow", "failed": "bold red", "gone": "bold red",
}  # fmt: skip


def overview(status: Status) -> RenderableType:
    """The parts; below them what deserves a sentence, the champion and the flow runs."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("part", "state", "address", "pid", "for", "memory", "restarts"):
        right = heading in ("pid", "memory", "restarts")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for part in status.parts:
        table.add_row(*_row(part))
    lines: list[RenderableType] = [table]
    for part in status.parts:
        if part.state.note and part.condition != "done":
            lines.append(
                Text(f"{TITLES[part.state.name]}: {part.state.note}", "" if part.well else "yellow")
            )
    lines += [Text(fault, "red") for fault in status.faults]
    if status.champion:
        lines.append(Text(f"champion: version {status.champion}"))
    for run in status.runs:
        when = "" if run.at is None else _when(run.at)
        lines.append(Text(f"{run.state.lower():9} {run.flow}/{run.name} {when}".rstrip()))
    return Group(*lines)


def _row(part: PartStatus) -> list[str]:
    state, style = part.state, _STYLES.get(part.condition, "dim")
    runs = part.memory > 0
    return [
        TITLES[state.name],
        f"[{style}]{part.condition}[/]",
        f"[link={state.url}]{state.url}[/link]" if runs and state.url else "",
        str(state.process.pid) if state.process and runs else "",
        elapsed(state.since) if part.condition not in ("waiting", "stopped", "done") else "",
        f"{part.memory / 2**20:.0f} MiB" if runs else "",
        str(state.restarts or ""),
    ]


def _when(at: float) -> str:
    if at <= time.time():
        return f"for {elapsed(at)}"
    return "at " + time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
