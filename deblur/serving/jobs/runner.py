"""Jobs run in order of arrival, through the same service as the pictures that clients wait for.

All disk work is done by one thread, so what is written and what is deleted keep their order,
whatever is cancelled meanwhile. Progress is in memory alone.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from deblur.errors import DeblurError, PictureTooLargeError
from deblur.images import Header
from deblur.serving.admission import BusyError
from deblur.serving.jobs.entry import Entry
from deblur.serving.jobs.job import (
    FINAL,
    Failure,
    Job,
    JobCancelledError,
    JobConflictError,
    JobFailedError,
    JobSettings,
    UnknownJobError,
)
from deblur.serving.jobs.store import Record, Store
from deblur.serving.keys import spend
from deblur.serving.service import Answer, DrainingError, Service, Wanted

log = logging.getLogger(__name__)

Result = TypeVar("Result")

#: Times that a job is begun without an end, before it is taken for what brings the server down.
_ATTEMPTS = 5

#: Bytes that a job is counted with beside its pictures: the folder and the record.
_FOLDER_BYTES = 2**14

#: Seconds: between sweeps, between events at least, between comments in a quiet stream, and between
#: looks whether the server is being stopped.
_SWEEP, _GAP, _BEAT, _LOOK = 60.0, 0.2, 15.0, 1.0

_FAULT = Failure(
    status=500,
    detail="the server failed on this picture, for a reason that is in its log: send it again",
)
_DEADLY = Failure(
    status=500,
    detail=f"the server died {_ATTEMPTS} times while it worked on this picture, so it is not begun "
    "again: allow the server more memory or send a smaller picture",
)


class Jobs:
    """The jobs of a server. Its methods belong to the event loop of the service.

    Args:
        service: what deblurs.
        settings: where jobs are kept, and how many.
        side_by_side: jobs that run at once, of which one may be large, so that small ones pass it.
        clock: the time in UTC.
    """

    def __init__(
        self,
        service: Service,
        settings: JobSettings,
        side_by_side: int = 2,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.service, self.settings = service, settings
        self._side_by_side, self._clock = side_by_side, clock
        self._store = Store(settings.folder)
        self._disk = ThreadPoolExecutor(1, "jobs")
        self._entries: dict[str, Entry] = {}
        self._unfinished: dict[str, Entry] = {}  # in order of arrival
        self._busy: dict[str, asyncio.Task[Any]] = {}  # being stored or deleted
        self._bytes = 0
        self._stopping = False
        self._sweeper: asyncio.Task[None] | None = None
        gauge = service.telemetry.gauge
        gauge("deblur_jobs_unfinished", "Jobs queued or running.", lambda: len(self._unfinished))
        gauge("deblur_jobs_bytes", "Disk that jobs take or may need.", lambda: self._bytes)

    async def start(self) -> None:
        """Take on what the folder holds: jobs that have not ended are run from their start.

        Raises:
            SetupError: the folder cannot be used, or another server uses it.
        """
        for record, size in await self._on_disk(self._read):
            entry = Entry(record, size, self._tiles_of(record), record.state)
            self._entries[record.id] = entry
            self._bytes += entry.bytes
            if entry.state == "queued":
                self._unfinished[record.id] = entry
                if record.begun >= _ATTEMPTS:
                    await self._end(entry, _DEADLY)
        self._sweeper = asyncio.create_task(self._sweeping())
        self._begin()

    async def stop(self) -> None:
        """Put the jobs that run back into the line, on disk too, and leave the folder."""
        self._stopping = True
        if self._sweeper:
            self._sweeper.cancel()
        tasks = [e.task for e in self._unfinished.values() if e.task]
        for entry in self._unfinished.values():
            entry.interrupt()
        for entry in self._entries.values():
            entry.tell()
        await asyncio.gather(*tasks, *self._busy.values(), return_exceptions=True)
        await self._on_disk(self._store.close)
        self._disk.shutdown()

    async def put(self, id: str, encoded: bytes, wanted: Wanted) -> tuple[Job, bool]:
        """A job for this picture, and whether it is new.

        Raises:
            JobConflictError: the id belongs to another picture, or to another answer of it.
            PictureError, PictureTooLargeError: told from the header.
            BusyError: too many jobs, or too much on disk.
            DrainingError: the server ends.
            StorageError: the disk does not take it.
        """
        header, digest = await asyncio.to_thread(self._inspect, encoded, wanted)
        while (busy := self._busy.get(id)) or self._expired(id):
            await asyncio.wait([busy or self._apart(id, self._forget(self._entries[id]))])
        if entry := self._entries.get(id):
            if entry.record.digest != digest:
                raise JobConflictError(
                    f"the job '{id}' is of another picture, or asks for another answer: choose "
                    "another id, or delete that job first"
                )
            return self._said(entry), False
        room = len(encoded) + _room(header.width, header.height)
        self._admit(header, room)
        record = Record(
            id=id, digest=digest, created=self._clock(), width=header.width,
            height=header.height, wanted=wanted,
        )  # fmt: skip
        # A client that leaves meanwhile may ask for the job later: it is stored all the same.
        entry = await asyncio.shield(self._apart(id, self._keep(record, encoded, room)))
        return self._said(entry), True

    def get(self, id: str) -> Job:
        """The job as it is now.

        Raises:
            UnknownJobError: there is none of this id.
        """
        return self._said(self._known(id))

    def follow(self, id: str) -> AsyncIterator[Job | None]:
        """The job as it is now and after each change until it has ended, but not more often than
        five times a second; ``None`` where it has been quiet for 15 s. Ends when the server does.

        Raises:
            UnknownJobError: there is none of this id.
        """
        return self._followed(self._known(id))

    async def result(self, id: str) -> tuple[Path, Record]:
        """The file of the result, and the record that has its media type and headers.

        Raises:
            UnknownJobError: there is no job of this id.
            JobConflictError: it has not ended.
            JobCancelledError: it was cancelled.
            JobFailedError: it failed; with the status of what it failed of.
        """
        entry = self._known(id)
        if entry.state == "cancelled":
            raise JobCancelledError(f"the job '{id}' was cancelled: send the picture again")
        if entry.record.error:
            raise JobFailedError(entry.record.error)
        path = self._store.result(id)
        if entry.state != "done":
            raise JobConflictError(
                f"the job '{id}' is {entry.state}, {entry.done} of {entry.total} tiles are done: "
                "ask again once it is done"
            )
        if not await self._on_disk(path.is_file):
            raise UnknownJobError(id)
        return path, entry.record

    async def delete(self, id: str) -> None:
        """Cancel the job if it has not ended, and forget it.

        Raises:
            UnknownJobError: there is none of this id.
        """
        while busy := self._busy.get(id):
            await asyncio.wait([busy])
        await asyncio.shield(self._apart(id, self._forget(self._known(id))))

    async def sweep(self) -> None:
        """Forget the jobs whose time is up."""
        for id in list(self._entries):
            if self._expired(id) and id not in self._busy:
                await self._apart(id, self._forget(self._entries[id]))

    def _read(self) -> list[tuple[Record, int]]:
        def room(record: Record) -> int:
            queued = record.state == "queued"
            more = _room(record.width, record.height) if queued else _FOLDER_BYTES
            return self._store.size(record.id) + more

        return [(record, room(record)) for record in self._store.open()]

    def _inspect(self, encoded: bytes, wanted: Wanted) -> tuple[Header, str]:
        digest = hashlib.sha256(repr(sorted(asdict(wanted).items())).encode())
        digest.update(encoded)
        return self.service.check(encoded, wanted), digest.hexdigest()

    def _admit(self, header: Header, room: int) -> None:
        if self.service.draining or self._stopping:
            raise DrainingError("the server is being stopped: send the picture again in a moment")
        most = self.settings.max_gigabytes * 2**30
        if room > most:
            raise PictureTooLargeError(
                f"the job may need {room / 2**30:.2f} GiB on disk, all jobs together have "
                f"{self.settings.max_gigabytes:g}: send a smaller picture or raise the limit"
            )
        waiting = sum(e.megapixels for e in self._unfinished.values() if e.state == "queued")
        if len(self._unfinished) + len(self._busy) >= self.settings.max_jobs:
            raise BusyError(
                f"{len(self._unfinished)} jobs are queued or running, as many as are taken on: "
                "send it again later",
                self.service.seconds_for(waiting),
            )
        if self._bytes + room > most:
            raise BusyError(
                f"jobs take {self._bytes / 2**30:.2f} GiB of the {self.settings.max_gigabytes:g} "
                f"they have on disk, this one may need {room / 2**30:.2f}: delete jobs whose "
                "results you have, or send it again later",
                self._seconds_to_room(waiting),
            )
        spend(header.megapixels)
        self._bytes += room

    def _seconds_to_room(self, waiting: float) -> float:
        """Until a result takes the place of what was held for it, or one expires."""
        if self._unfinished:
            return self.service.seconds_for(waiting)
        ends = [e.record.expires for e in self._entries.values() if e.record.expires]
        return (min(ends) - self._clock()).total_seconds() if ends else 1.0

    async def _keep(self, record: Record, encoded: bytes, room: int) -> Entry:
        try:
            await self._on_disk(self._store.create, record, encoded)
        except BaseException:
            self._bytes -= room
            raise
        entry = Entry(record, room, self._tiles_of(record), "queued")
        self._entries[record.id] = self._unfinished[record.id] = entry
        self._begin()
        return entry

    def _begin(self) -> None:
        """Fill the free places."""
        if self._stopping or self.service.draining:
            return
        running = [e for e in self._unfinished.values() if e.task]
        for entry in self._unfinished.values():
            if len(running) >= self._side_by_side:
                return
            waits = self._large(entry) and any(map(self._large, running))
            if entry.state == "queued" and not entry.task and not waits:
                entry.task = asyncio.create_task(self._run(entry))
                entry.task.add_done_callback(partial(self._left, entry))
                running.append(entry)

    def _left(self, entry: Entry, _: asyncio.Task[None]) -> None:
        entry.task = None
        self._begin()

    def _large(self, entry: Entry) -> bool:
        return not self.service.is_small(entry.megapixels)

    async def _run(self, entry: Entry) -> None:
        before = entry.record
        entry.state = "running"
        entry.tell()
        outcome: Answer | Failure
        try:
            entry.record = before.model_copy(update={"begun": before.begun + 1})
            await self._on_disk(self._store.update, entry.record)
            picture = await self._on_disk(self._store.picture, before.id)
            outcome = await self.service.deblur(
                picture, before.wanted, on_tiles=entry.on_tiles, patient=True
            )
        except (asyncio.CancelledError, DrainingError):
            if entry.state == "running":  # not cancelled by its client
                await self._put_back(entry, before)
            return
        except DeblurError as error:
            outcome = Failure(status=error.status, detail=str(error))
        except Exception:
            log.exception("the job %s failed", before.id)
            outcome = _FAULT
        await self._end(entry, outcome)

    async def _put_back(self, entry: Entry, record: Record) -> None:
        entry.begin_again(record)
        with suppress(DeblurError):  # on disk it was begun once more, which does no harm
            await self._on_disk(self._store.update, record)

    async def _end(self, entry: Entry, outcome: Answer | Failure) -> None:
        """Write down how a job ended, then say it."""
        entry.ended = True
        ends = {"expires": self._clock() + timedelta(hours=self.settings.hours)}
        if isinstance(outcome, Answer):
            entry.done = entry.total
            said = {"state": "done", "media": outcome.media, "headers": outcome.headers}
            record = entry.record.model_copy(update={**ends, **said})
            try:
                await self._on_disk(self._store.finish, record, outcome.content)
            except DeblurError as error:
                outcome = Failure(status=error.status, detail=str(error))
        if isinstance(outcome, Failure):
            record = entry.record.model_copy(update={**ends, "state": "failed", "error": outcome})
            with suppress(DeblurError):  # after a restart it is run again
                await self._on_disk(self._store.finish, record)
        size = _FOLDER_BYTES + await self._on_disk(self._store.size, record.id)
        self._bytes += size - entry.bytes
        entry.bytes = size
        self._unfinished.pop(record.id, None)
        entry.record = record
        if entry.state != "cancelled":
            entry.state = record.state
            entry.tell()

    async def _forget(self, entry: Entry) -> None:
        if entry.state not in FINAL:
            entry.state = "cancelled"
            entry.tell()
        if entry.task:
            task = entry.task
            entry.interrupt()
            await asyncio.wait([task])
        await self._on_disk(self._store.remove, entry.record.id)
        self._entries.pop(entry.record.id, None)
        self._unfinished.pop(entry.record.id, None)
        self._bytes -= entry.bytes
        self._begin()

    async def _followed(self, entry: Entry) -> AsyncIterator[Job | None]:
        while True:
            changed, said = entry.changed, self._said(entry)
            yield said
            if said.state in FINAL:
                return
            since = spoken = time.monotonic()
            while not changed.is_set():
                if self._stopping or self.service.draining:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _LOOK)
                if time.monotonic() - spoken >= _BEAT:
                    yield None
                    spoken = time.monotonic()
            await asyncio.sleep(since + _GAP - time.monotonic())

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            try:
                await self.sweep()
            except Exception:
                log.exception("finished jobs could not be swept")

    def _known(self, id: str) -> Entry:
        if id not in self._entries or self._expired(id):
            raise UnknownJobError(id)
        return self._entries[id]

    def _expired(self, id: str) -> bool:
        entry = self._entries.get(id)
        expires = entry.record.expires if entry else None
        return expires is not None and expires <= self._clock()

    def _said(self, entry: Entry) -> Job:
        return entry.said(self._seconds_left(entry))

    def _seconds_left(self, entry: Entry) -> float:
        if entry.state != "queued":
            if (measured := entry.seconds_left()) is not None:
                return measured
            # The service may not have taken it on yet; then it is not among what goes on there.
            going_on = self.service.seconds_for(0.0)
            return max(going_on, self.service.seconds_for(entry.megapixels) - going_on)
        before_it = takewhile(lambda other: other is not entry, self._unfinished.values())
        ahead = sum(other.megapixels for other in before_it if other.state == "queued")
        return self.service.seconds_for(ahead + entry.megapixels)

    def _tiles_of(self, record: Record) -> int:
        if record.state == "done":
            return int(record.headers["X-Deblur-Tiles"])
        return self.service.tiles_of(record.width, record.height)

    def _apart(self, id: str, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """A task that has a job to itself and goes on when whoever waits for it leaves."""

        def over(task: asyncio.Task[Result]) -> None:
            del self._busy[id]
            if not task.cancelled():
                task.exception()  # whoever waits for it raises it, if anybody does

        task = asyncio.create_task(work)
        self._busy[id] = task
        task.add_done_callback(over)
        return task

    async def _on_disk(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)


def _room(width: int, height: int) -> int:
    """Bytes held for a result that is not there yet: those of the pixels."""
    return _FOLDER_BYTES + 3 * width * height
