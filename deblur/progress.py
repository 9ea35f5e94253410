"""Progress for people: bars with rate and time left on a terminal, log lines elsewhere.

The library never prints. Whoever calls it hands in a ``Progress``; the default is silent. Tasks may
be nested, as a validation within a training. ``advance`` may be called by any thread.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Display

log = logging.getLogger(__name__)

Clock = Callable[[], float]


class Advance(Protocol):
    """Called when ``steps`` more are done; ``note`` is shown beside the bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None: ...


class Progress(Protocol):
    """Something that shows how far a long piece of work is."""

    def task(
        self, name: str, total: int, unit: str = "", done: int = 0
    ) -> AbstractContextManager[Advance]:
        """Show a piece of work until the context ends.

        Args:
            name: what is done.
            total: steps in all.
            unit: what a step is, as ``pictures``.
            done: steps done earlier, as by a run that is resumed. Rate and time left are those of
                the steps done since.
        """
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, name: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
        yield lambda steps=1, note="": None


class LogProgress:
    """One log line every ``interval`` seconds: for workers, containers and CI."""

    def __init__(self, interval: float = 10.0, clock: Clock = time.monotonic) -> None:
        self.interval = interval
        self.clock = clock
        self._open = 0
        self._lock = Lock()

    @contextmanager
    def task(self, name: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
        with self._lock:
            # A line for each validation of a second would drown the training's: what is short
            # within another task is not mentioned.
            brief = self._open > 0
            self._open += 1
        pace = _Pace(total, done, self.clock)
        said = pace.start

        def advance(steps: int = 1, note: str = "") -> None:
            nonlocal said, brief
            with self._lock:
                pace.add(steps)
                now = pace.now
                if now - said < self.interval and (brief or pace.done != total):
                    return
                said, brief = now, False
                count = f"{name}: {pace.done} of {total} {unit}".rstrip()
                parts = (count, pace.speed(" a second"), pace.left(), note)
            log.info(", ".join(filter(None, parts)))

        try:
            yield advance
        finally:
            with self._lock:
                self._open -= 1


class BarProgress:
    """A bar a task, drawn by rich on standard error.

    Open tasks are drawn below each other. A task that ends within another disappears; the last one
    to end stays on the screen. Lines of ``StderrHandler`` appear above the bars.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self.clock = clock
        self._display: Display | None = None  # a terminal holds one only
        self._open = 0
        self._lock = Lock()

    @contextmanager
    def task(self, name: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
        pace = _Pace(total, done, self.clock)
        with self._lock:
            display = self._display
            if display is None:
                display = _display(self.console)
                display.start()
                self._display = display
            self._open += 1
            bar = display.add_task(
                name, total=total, completed=done, unit=unit, rate="", left="", note=""
            )
        lock = Lock()

        def advance(steps: int = 1, note: str = "") -> None:
            with lock:
                pace.add(steps)
                # The unit follows the count, so the rate needs no unit of its own.
                display.update(bar, completed=pace.done, rate=pace.speed("/s"), left=pace.left())
                if note:
                    display.update(bar, note=note)

        try:
            yield advance
        finally:
            with self._lock:
                self._open -= 1
                if self._open:
                    display.remove_task(bar)
                else:
                    self._display = None
                    display.stop()


class StderrHandler(logging.StreamHandler):
    """Writes log lines to what is ``sys.stderr`` when they come.

    While bars are drawn that is a stand-in of rich's, which puts lines above them. The usual
    handler keeps the stream that it found first, and would write across the bars.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr


class _Pace:
    """Steps done, those ``done`` earlier included, and the rate of the others."""

    def __init__(self, total: int, done: int, clock: Clock) -> None:
        self.total = total
        self.done = self.earlier = done
        self.clock = clock
        self.start = self.now = clock()

    def add(self, steps: int) -> None:
        self.done += steps
        self.now = self.clock()

    @property
    def rate(self) -> float:
        """Steps a second."""
        return (self.done - self.earlier) / max(self.now - self.start, 1e-9)

    def speed(self, unit: str) -> str:
        if self.rate <= 0:
            return ""
        return f"{self.rate:.1f}{unit}" if self.rate >= 1 else f"{1 / self.rate:.1f} s each"

    def left(self) -> str:
        if self.done >= self.total:
            return f"took {clock_time(self.now - self.start)}"
        return f"{clock_time((self.total - self.done) / self.rate)} left" if self.rate > 0 else ""


def _display(console: "Console") -> "Display":
    from rich import progress as bars
    from rich.table import Column

    return bars.Progress(
        bars.TextColumn("{task.description}", style="bold", markup=False),
        bars.BarColumn(bar_width=min(28, console.width // 5)),
        bars.MofNCompleteColumn(table_column=Column(no_wrap=True)),
        bars.TextColumn("{task.fields[unit]}"),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TextColumn("{task.fields[left]}", style="progress.remaining"),
        # Of all columns the note is cut where the terminal is narrow. A file name may hold what
        # rich would take for markup.
        bars.TextColumn(
            "{task.fields[note]}", style="dim", markup=False,
            table_column=Column(no_wrap=True, ratio=1),
        ),
        console=console,
        expand=True,
        redirect_stdout=sys.stdout.isatty(),  # elsewhere its lines do not tear the bars
    )  # fmt: skip


def clock_time(seconds: float) -> str:
    """``1:05`` or ``2:00:07``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


SILENT: Progress = Silent()


def for_terminal() -> Progress:
    """Bars where a person watches, log lines otherwise."""
    return BarProgress() if sys.stderr.isatty() else LogProgress()
