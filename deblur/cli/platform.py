"""``deblur up``, ``deblur status`` and ``deblur down``."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated

import typer

from deblur.cli.common import readable_errors

if TYPE_CHECKING:
    from rich.console import Console

    from deblur.local.state import PlatformState, Ports, StateFolder

_HOW_TO_START = "nothing runs in {folder}: deblur up starts the platform"


@readable_errors
def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is ready, and leave it running.")
    ] = False,
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Of Prefect.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Of MLflow.")] = 5000,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the picture server.")] = 8000,
) -> None:
    """Start the whole platform on this machine: Prefect, MLflow, a worker, the picture server.

    To be called in the project's folder, where prefect.yaml is. A port that is taken is replaced by
    a free one. Ctrl-C stops everything, with --detach deblur down does.
    """
    from rich.console import Console

    from deblur.local.starting import check_setup

    check_setup(Path.cwd())

    from deblur.local.starting import running
    from deblur.local.state import Ports, StateFolder

    console = Console(highlight=False, soft_wrap=True)
    files = StateFolder(Path.cwd())
    supervisor = running(files)
    if supervisor is not None:
        console.print(
            f"the platform of {files.folder} runs already, process {supervisor.pid};"
            "  deblur down  stops it\n",
            markup=False,
        )
        _show(console, files)
        return
    ports = Ports(prefect=prefect_port, mlflow=mlflow_port, pictures=port)
    if detach:
        _up_detached(console, files, ports)
    else:
        _up_here(console, files, ports)


@readable_errors
def status(
    shell: Annotated[
        str | None, typer.Argument(help="With --env: bash or powershell.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: JSON.")] = False,
    env: Annotated[
        bool, typer.Option("--env", help="Only the lines that make other commands find it.")
    ] = False,
) -> None:
    """What runs, and whether all is well: exit code 0 if it is, 1 else.

    eval "$(deblur status --env)" lets prefect and mlflow in this terminal find the servers; in
    PowerShell: deblur status --env powershell | Invoke-Expression
    """
    from rich.console import Console

    from deblur.errors import SetupError
    from deblur.local.starting import require_packages

    require_packages()

    from deblur.local.state import StateFolder, shell_lines
    from deblur.local.status import examine

    if shell is not None and not env:
        raise SetupError(f"'{shell}' says nothing without --env: deblur status --env {shell}")
    files = StateFolder(Path.cwd())
    if env:
        state = files.read()
        if state is None:
            typer.echo(_HOW_TO_START.format(folder=files.folder), err=True)
            raise typer.Exit(1)
        for line in shell_lines(state.addresses, shell or "bash"):
            typer.echo(line)
        return
    if as_json:
        found = examine(files)
        typer.echo(json.dumps(found.plain()))
        raise typer.Exit(0 if found.well else 1)
    raise typer.Exit(0 if _show(Console(highlight=False, soft_wrap=True), files) else 1)


@readable_errors
def down() -> None:
    """Stop the whole platform of this folder, in order, and wait until it has stopped."""
    from deblur.local.starting import require_packages

    require_packages()

    from deblur.local.state import StateFolder
    from deblur.local.stopping import stop_platform

    files = StateFolder(Path.cwd())
    started = time.monotonic()
    if stop_platform(files, typer.echo):
        typer.echo(f"all has stopped after {time.monotonic() - started:.0f} s")
    else:
        typer.echo(f"nothing runs in {files.folder}")


def _up_here(console: "Console", files: "StateFolder", ports: "Ports") -> None:
    from deblur.local.starting import run_here

    def say(line: str) -> None:
        # A terminal that was closed must not keep the parts from being stopped.
        with suppress(OSError):
            console.print(line, markup=False)

    say(f"starting the platform of {files.folder}; Ctrl-C stops it")
    with _watched(console, files):
        run_here(files.folder, ports, say)


def _up_detached(console: "Console", files: "StateFolder", ports: "Ports") -> None:
    from deblur.local.starting import start_detached

    console.print(f"starting the platform of {files.folder}", markup=False)
    state: PlatformState | None = None
    try:
        with _watched(console, files, hints=False):
            for now in start_detached(files, ports):
                state = now
    except KeyboardInterrupt:
        console.print("it goes on starting:  deblur status  shows it,  deblur down  stops it")
        raise
    well = _show(console, files)
    if state is not None:
        _hints(console, state)
    console.print("deblur status  shows it,  deblur down  stops it")
    if not well:
        raise typer.Exit(1)


@contextmanager
def _watched(console: "Console", files: "StateFolder", hints: bool = True) -> Iterator[None]:
    """The overview, kept up to date by a thread on a terminal, while the block runs."""
    from rich.live import Live

    from deblur.errors import DeblurError
    from deblur.local.overview import overview
    from deblur.local.status import examine

    over, said = Event(), not hints
    live = Live(console=console, refresh_per_second=2, transient=True)

    def watch() -> None:
        nonlocal said
        while not over.is_set():
            try:
                found = examine(files)
            except DeblurError:
                continue
            finally:
                over.wait(1.5)
            if found.state is None:
                continue
            if console.is_terminal:
                live.update(overview(found))
            if not said and found.state.settled:
                said = True
                _hints(console, found.state)

    watching = Thread(target=watch, daemon=True)
    with live:
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join(15)


def _show(console: "Console", files: "StateFolder") -> bool:
    """Print the overview; whether all is well."""
    from deblur.local.overview import overview
    from deblur.local.status import elapsed, examine

    found = examine(files)
    if found.state is None:
        console.print(_HOW_TO_START.format(folder=files.folder), markup=False)
        return False
    console.print(overview(found))
    if not found.supervised:
        console.print(
            "nobody watches it any more (the process that did is gone): deblur up takes over what "
            "still runs, deblur down stops it",
            style="bold red",
        )
    else:
        console.print(f"in {files.folder} for {elapsed(found.state.since)}", markup=False)
    return found.well


def _hints(console: "Console", state: "PlatformState") -> None:
    """What lets the user's own commands find the servers."""
    from deblur.local.state import shell_lines

    console.print("\nfor prefect and mlflow in another terminal (bash, then PowerShell):")
    for shell in ("bash", "powershell"):
        for line in shell_lines(state.addresses, shell):
            console.print(f"  {line}", markup=False)
    console.print()
