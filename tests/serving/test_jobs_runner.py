"""Which job runs when, what is bounded, and what stops and restarts do."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur.errors import PictureTooLargeError, SetupError
from deblur.serving.admission import BusyError
from deblur.serving.engine import Engine
from deblur.serving.jobs.job import (
    FINAL,
    Job,
    JobCancelledError,
    JobConflictError,
    JobSettings,
    UnknownJobError,
)
from deblur.serving.jobs.runner import Jobs
from deblur.serving.jobs.store import Store
from deblur.serving.keys import Key, _caller
from deblur.serving.service import DrainingError, Service, Wanted
from tests.serving.conftest import encoded
from tests.serving.jobs_server import LIMITS
from tests.serving.test_service import HeldEngine

#: Up to 0.0125 megapixels are small.
SMALL, LARGE = np.zeros((90, 100, 3), np.uint8), np.zeros((200, 200, 3), np.uint8)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Ticking(Clock):
    """No two times are the same."""

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@pytest.fixture
def held(tiny_model: Path) -> HeldEngine:
    return HeldEngine(tiny_model)


@asynccontextmanager
async def running(
    engine: Engine, folder: Path, clock: Clock | None = None, **bounds: Any
) -> AsyncIterator[Jobs]:
    service = Service(engine, LIMITS)
    settings = JobSettings(folder=folder, **bounds)
    jobs = Jobs(service, settings, clock=clock or Clock())
    await jobs.start()
    try:
        yield jobs
    finally:
        if isinstance(engine, HeldEngine):
            engine.go_on.set()
        await jobs.stop()
        await asyncio.to_thread(service.close)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await body()

    asyncio.run(bounded())


async def put(jobs: Jobs, id: str, pixels: np.ndarray) -> Job:
    return (await jobs.put(id, encoded(pixels), Wanted()))[0]


async def last(jobs: Jobs, id: str) -> Job:
    async for job in jobs.follow(id):
        if job and job.state in FINAL:
            return job
    raise AssertionError("the stream ended before the job")


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def states(jobs: Jobs, ids: str) -> list[str]:
    return [jobs.get(id).state for id in ids]


def test_small_jobs_pass_a_large_one_and_large_ones_run_one_at_a_time(
    held: HeldEngine, tmp_path: Path
) -> None:
    async def body() -> None:
        async with running(held, tmp_path, Ticking()) as jobs:
            held.hold()
            for id, pixels in (("l", LARGE), ("m", LARGE), ("s", SMALL), ("t", SMALL)):
                await put(jobs, id, pixels)
            await until(lambda: states(jobs, "ls") == ["running", "running"])
            assert states(jobs, "mt") == ["queued", "queued"]
            m, t = (jobs.get(id).seconds_left for id in "mt")
            assert m is not None and t is not None and m <= t
            held.go_on.set()
            ended = {id: (await last(jobs, id)).expires for id in "lmst"}
            assert ended["s"] < ended["m"] > ended["l"]  # type: ignore[operator]

    run(body)


def test_jobs_of_one_kind_run_in_order_of_arrival(held: HeldEngine, tmp_path: Path) -> None:
    async def body() -> None:
        async with running(held, tmp_path) as jobs:
            held.hold()
            for id in "cab":
                await put(jobs, id, SMALL)
            await until(lambda: states(jobs, "cab") == ["running", "running", "queued"])
            held.go_on.set()
            assert (await last(jobs, "b")).state == "done"

    run(body)


def test_a_job_that_waits_is_cancelled_and_never_begun(held: HeldEngine, tmp_path: Path) -> None:
    async def body() -> None:
        async with running(held, tmp_path) as jobs:
            held.hold()
            for id in "lm":
                await put(jobs, id, LARGE)
            following = asyncio.create_task(last(jobs, "m"))
            await asyncio.sleep(0)
            await jobs.delete("m")
            assert (await following).state == "cancelled"
            with pytest.raises(UnknownJobError):
                jobs.get("m")
            assert states(jobs, "l") == ["running"]
            held.go_on.set()
            assert (await last(jobs, "l")).state == "done"

    run(body)


def test_while_a_cancelled_job_is_being_deleted_its_result_is_gone(
    held: HeldEngine, tmp_path: Path
) -> None:
    async def body() -> None:
        async with running(held, tmp_path) as jobs:
            held.hold()
            await put(jobs, "l", LARGE)
            disk = threading.Event()
            jobs._disk.submit(disk.wait, 30)
            deleting = asyncio.create_task(jobs.delete("l"))
            await until(lambda: states(jobs, "l") == ["cancelled"])
            with pytest.raises(JobCancelledError, match="was cancelled"):
                await jobs.result("l")
            again = asyncio.create_task(put(jobs, "l", SMALL))  # waits for it to be gone
            await asyncio.sleep(0.05)
            disk.set()
            await deleting
            assert (await again).width == 100
            assert states(jobs, "l") != ["cancelled"]

    run(body)


def test_a_finished_job_is_forgotten_when_its_time_is_up(held: HeldEngine, tmp_path: Path) -> None:
    clock = Clock()

    async def body() -> None:
        async with running(held, tmp_path, clock, hours=2) as jobs:
            await put(jobs, "s", SMALL)
            assert (await last(jobs, "s")).expires == clock.now + timedelta(hours=2)
            clock.now += timedelta(hours=1, minutes=59)
            await jobs.sweep()
            assert states(jobs, "s") == ["done"]
            clock.now += timedelta(minutes=1)
            with pytest.raises(UnknownJobError, match="its time is up"):
                jobs.get("s")
            await jobs.sweep()
            assert [path.name for path in tmp_path.iterdir()] == ["lock"]
            await put(jobs, "s", SMALL)
            await last(jobs, "s")
            clock.now += timedelta(hours=3)
            again, new = await jobs.put("s", encoded(SMALL), Wanted())  # without a sweep
            assert new and again.created == clock.now

    run(body)


def test_what_waits_is_bounded_in_number(held: HeldEngine, tmp_path: Path) -> None:
    async def body() -> None:
        async with running(held, tmp_path, max_jobs=2) as jobs:
            jobs.service._model.scheduler.tile_seconds = 10.0
            held.hold()
            for id in "ab":
                await put(jobs, id, SMALL)
            await until(lambda: jobs.service._taken_on.held > 0.017)
            with pytest.raises(BusyError, match="2 jobs are queued or running") as refused:
                await put(jobs, "c", SMALL)
            assert refused.value.retry_after >= 70  # 8 tiles
            await put(jobs, "a", SMALL)  # which it knows
            held.go_on.set()
            await last(jobs, "a")
            await last(jobs, "b")
            await put(jobs, "c", SMALL)

    run(body)


def test_a_finished_job_keeps_its_room_on_disk_until_it_is_deleted(
    held: HeldEngine, tmp_path: Path
) -> None:
    clock, noise = Clock(), np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)

    async def body() -> None:
        # A job may need 120 kB of picture, as many of its result, and 16 of the folder.
        async with running(held, tmp_path, clock, max_gigabytes=300e3 / 2**30) as jobs:
            await put(jobs, "a", noise)
            await last(jobs, "a")
            assert 120e3 < jobs._bytes < 150e3
            with pytest.raises(BusyError, match="delete jobs whose results you have") as refused:
                await put(jobs, "b", noise)
            assert refused.value.retry_after == 24 * 3600
            await jobs.delete("a")
            assert jobs._bytes == 0
            await put(jobs, "b", noise)
            await last(jobs, "b")

    run(body)


def test_a_job_that_can_never_have_room_is_refused_for_good(
    held: HeldEngine, tmp_path: Path
) -> None:
    async def body() -> None:
        async with running(held, tmp_path, max_gigabytes=1e5 / 2**30) as jobs:
            with pytest.raises(PictureTooLargeError, match=r"may need 0\.00 GiB on disk"):
                await put(jobs, "a", LARGE)

    run(body)


def test_a_job_counts_against_its_callers_key(held: HeldEngine, tmp_path: Path) -> None:
    async def body() -> None:
        async with running(held, tmp_path) as jobs:
            _caller.set(Key("app", "", per_minute=0.05))
            await put(jobs, "a", LARGE)
            await put(jobs, "a", LARGE)  # not again
            with pytest.raises(BusyError, match="the key 'app'"):
                await put(jobs, "b", LARGE)

    run(body)


def test_a_stop_puts_jobs_back_and_the_next_start_runs_them(
    held: HeldEngine, tmp_path: Path
) -> None:
    async def body() -> None:
        async with running(held, tmp_path) as jobs:
            await put(jobs, "d", SMALL)
            await last(jobs, "d")
            held.hold()
            for id in "lm":
                await put(jobs, id, LARGE)
            await until(lambda: states(jobs, "l") == ["running"])
            following = jobs.follow("l")
            await anext(following)
            stopping = asyncio.create_task(jobs.stop())
            said = [job async for job in following if job]  # ends, though the job has not
            assert all(job.state != "cancelled" for job in said)
            await stopping
            with pytest.raises(DrainingError):
                jobs._admit(jobs.service.check(encoded(SMALL), Wanted()), 0)
            held.go_on.set()
            store = Store(tmp_path)
            assert [(r.id, r.state, r.begun) for r in store.open()] == [
                ("d", "done", 1), ("l", "queued", 0), ("m", "queued", 0),
            ]  # fmt: skip
            store.close()
            jobs._disk = type(jobs._disk)(1)  # for the second stop, below

        async with running(held, tmp_path) as jobs:
            assert [job.id for job in map(jobs.get, "dlm")] == ["d", "l", "m"]
            assert (await last(jobs, "l")).state == (await last(jobs, "m")).state == "done"
            path, record = await jobs.result("d")
            assert (path.stat().st_size > 0, record.media) == (True, "image/png")

    run(body)


def test_while_the_server_drains_jobs_wait_for_the_next_one(
    held: HeldEngine, tmp_path: Path
) -> None:
    async def body() -> None:
        async with running(held, tmp_path) as jobs:
            held.hold()
            for id in "lm":
                await put(jobs, id, LARGE)
            await asyncio.to_thread(held.begun.acquire, timeout=20)
            jobs.service.draining = True
            held.go_on.set()
            await until(lambda: states(jobs, "l") == ["done"])
            await asyncio.sleep(0.05)
            assert states(jobs, "m") == ["queued"]

    run(body)


def test_a_job_that_brings_the_server_down_again_and_again_is_given_up(
    held: HeldEngine, tmp_path: Path
) -> None:
    async def body() -> None:
        async with running(held, tmp_path) as jobs:
            held.hold()
            await put(jobs, "l", LARGE)
            await until(lambda: states(jobs, "l") == ["running"])
        store = Store(tmp_path)
        (record,) = store.open()
        store.update(record.model_copy(update={"begun": 5}))
        store.close()
        async with running(held, tmp_path) as jobs:
            job = jobs.get("l")
            assert job.state == "failed"
            assert job.error is not None and job.error.status == 500
            assert "the server died 5 times" in job.error.detail

    run(body)


def test_two_servers_do_not_share_a_folder(held: HeldEngine, tmp_path: Path) -> None:
    async def body() -> None:
        async with running(held, tmp_path):
            with pytest.raises(SetupError, match="another server keeps its jobs in"):
                await Jobs(Service(held, LIMITS), JobSettings(folder=tmp_path)).start()

    run(body)


def test_a_result_that_the_disk_does_not_take_fails_the_job(
    held: HeldEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def body() -> None:
        async with running(held, tmp_path) as jobs:
            held.hold()
            await put(jobs, "l", LARGE)
            await asyncio.to_thread(held.begun.acquire, timeout=20)
            monkeypatch.setattr("deblur.atomic.os.fsync", full)
            held.go_on.set()
            job = await last(jobs, "l")
            assert job.error is not None
            assert (job.state, job.error.status) == ("failed", 507)
            monkeypatch.undo()
        # Not even that could be written, so it is run again.
        async with running(held, tmp_path) as jobs:
            assert (await last(jobs, "l")).state == "done"

    run(body)


def test_a_client_that_leaves_while_its_job_is_stored_finds_it_later(
    held: HeldEngine, tmp_path: Path
) -> None:
    async def body() -> None:
        async with running(held, tmp_path) as jobs:
            disk = threading.Event()
            jobs._disk.submit(disk.wait, 30)
            sending = asyncio.create_task(put(jobs, "s", SMALL))
            await until(lambda: bool(jobs._busy))
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            disk.set()
            await until(lambda: not jobs._busy)
            assert (await last(jobs, "s")).state == "done"
            with pytest.raises(JobConflictError):
                await put(jobs, "s", LARGE)

    run(body)
