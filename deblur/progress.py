"""Progress for people: bars with rate and time left on a terminal, log lines elsewhere.

The library never prints. Whoever calls it hands in a ``Progress``; the default is silent.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

log = logging.getLogger(__name__)


class Advance(Protocol):
    """Called when ``steps`` more are done; ``note`` is shown beside the bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None: ...


class Progress(Protocol):
    """Something that shows how far a long piece of work is."""

    def task(self, name: str, total: int, unit: str = "") -> AbstractContextManager[Advance]:
        """Show a piece of work of ``total`` steps until the context ends."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, name: str, total: int, unit: str = "") -> Iterator[Advance]:
        yield lambda steps=1, note="": None


class LogProgress:
    """One log line every ``interval`` seconds: for workers, containers and CI."""

    def __init__(self, interval: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = interval
        self.clock = clock

    @contextmanager
    def task(self, name: str, total: int, unit: str = "") -> Iterator[Advance]:
        start = said = self.clock()
        done = 0

        def advance(steps: int = 1, note: str = "") -> None:
            nonlocal done, said
            done += steps
            now = self.clock()
            if now - said >= self.interval or done == total:
                said = now
                rate = done / max(now - start, 1e-9)
                left = (total - done) / rate if rate > 0 else 0.0
                log.info(
                    "%s: %d of %d %s, %.1f a second, %s left%s",
                    name, done, total, unit, rate, clock_time(left), f", {note}" if note else "",
                )  # fmt: skip

        yield advance


class BarProgress:
    """A bar a task, drawn by rich on standard error."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)

    @contextmanager
    def task(self, name: str, total: int, unit: str = "") -> Iterator[Advance]:
        from rich import progress as bars

        columns = (
            bars.TextColumn("{task.description}", style="bold", markup=False),
            bars.BarColumn(bar_width=28),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[unit]}"),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(),
            # A file name may hold what rich would take for markup.
            bars.TextColumn("{task.fields[note]}", style="dim", markup=False),
        )
        start = time.monotonic()
        with bars.Progress(*columns, console=self.console) as shown:
            bar = shown.add_task(name, total=total, unit=unit, rate="", note="")
            done = 0

            def advance(steps: int = 1, note: str = "") -> None:
                nonlocal done
                done += steps
                rate = done / max(time.monotonic() - start, 1e-9)
                # The unit follows the count, so the rate needs no unit of its own.
                speed = f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each" if done else ""
                shown.update(bar, advance=steps, rate=speed)
                if note:
                    shown.update(bar, note=note)

            yield advance


def clock_time(seconds: float) -> str:
    """``1:05`` or ``2:00:07``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


SILENT: Progress = Silent()


def for_terminal() -> Progress:
    """Bars where a person watches, log lines otherwise."""
    return BarProgress() if sys.stderr.isatty() else LogProgress()
