"""A job in the memory of the server: what is on disk, and how far it is."""

import asyncio
import time
from dataclasses import dataclass, field

from deblur.serving.jobs.job import FINAL, Job, State, Tiles
from deblur.serving.jobs.store import Record


@dataclass(eq=False)
class Entry:
    """One job.

    Attributes:
        record: what is kept of it on disk.
        bytes: of the disk that it takes or may need.
        done, total: tiles.
        state: as its client sees it.
        task: what runs it.
        ended: its task only writes down how it ended, and is not to be interrupted.
        changed: set at the next change, and replaced by another one then.
    """

    record: Record
    bytes: int
    total: int
    state: State
    done: int = 0
    task: asyncio.Task[None] | None = None
    ended: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _first: tuple[float, int] | None = None  # when first tiles were done, and how many

    @property
    def megapixels(self) -> float:
        return self.record.width * self.record.height / 1e6

    def tell(self) -> None:
        """Wake those who follow it."""
        self.changed.set()
        self.changed = asyncio.Event()

    def begin_again(self, record: Record) -> None:
        """Back into the line, with nothing done."""
        self.record, self.state, self.done, self._first = record, "queued", 0, None
        self.tell()

    def on_tiles(self, done: int, total: int) -> None:
        """So many tiles are done; what comes late, after the end, is not counted."""
        if self.state == "running" and not self.ended:
            self.done, self.total = done, total
            self._first = self._first or (time.monotonic(), done)
            self.tell()

    def interrupt(self) -> None:
        """End the task that runs it, if there is one, unless that is at its end anyway."""
        if self.task and not self.ended:
            self.task.cancel()

    def seconds_left(self) -> float | None:
        """By the rate of its own tiles, once there is one."""
        if self._first is None or self.done == self._first[1]:
            return None
        seconds, tiles = time.monotonic() - self._first[0], self.done - self._first[1]
        return (self.total - self.done) * seconds / tiles

    def said(self, seconds_left: float) -> Job:
        """As its client sees it."""
        record, done = self.record, self.state == "done"
        return Job(
            id=record.id,
            state=self.state,
            created=record.created,
            width=record.width,
            height=record.height,
            tiles=Tiles(done=self.total if done else self.done, total=self.total),
            seconds_left=None if self.state in FINAL else round(seconds_left, 1),
            error=record.error,
            expires=record.expires,
            model=record.headers.get("X-Deblur-Model"),
            result=f"/v1/jobs/{record.id}/result" if done else None,
        )
