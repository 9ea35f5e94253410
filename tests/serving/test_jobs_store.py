"""Jobs on disk: whole or not there, whatever happens."""

import errno
import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from deblur.errors import SetupError
from deblur.serving.jobs.job import Failure, StorageError
from deblur.serving.jobs.store import Record, Store
from deblur.serving.service import Wanted

FORKING = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")


def record_of(number: int) -> Record:
    return Record(
        id=f"job-{number}",
        digest="",
        created=datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=number),
        width=30,
        height=20,
        wanted=Wanted(quality=80),
    )


def picture_of(id: str) -> bytes:
    return hashlib.sha256(id.encode()).digest() * 4000


def result_of(id: str) -> bytes:
    return picture_of(id)[::-1]


def done(record: Record) -> Record:
    return record.model_copy(update={"state": "done", "media": "image/png", "headers": {"A": "b"}})


def opened(folder: Path) -> tuple[Store, list[Record]]:
    store = Store(folder)
    return store, store.open()


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()} - {"lock"}


def test_what_was_written_is_read_in_order_of_arrival(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    for number in (2, 0, 1):
        record = record_of(number)
        store.create(record, picture_of(record.id))
    store.finish(done(record_of(1)), result_of("job-1"))
    failure = Failure(status=415, detail="no picture")
    failed = record_of(2).model_copy(update={"state": "failed", "error": failure})
    store.finish(failed)
    store.close()

    store, records = opened(tmp_path)
    assert records == [record_of(0), done(record_of(1)), failed]
    assert store.picture("job-0") == picture_of("job-0")
    assert store.result("job-1").read_bytes() == result_of("job-1")
    assert [store.size(record.id) for record in records] == [128_000, 128_000, 0]
    store.close()


def test_a_second_server_is_refused_the_folder_until_the_first_has_left(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    with pytest.raises(SetupError, match="another server keeps its jobs in"):
        Store(tmp_path).open()
    store.close()
    opened(tmp_path)[0].close()


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SetupError, match="name a folder that the server may write to"):
        Store(tmp_path / "file").open()


def test_ids_that_differ_in_case_alone_or_mean_devices_are_jobs_of_their_own(
    tmp_path: Path,
) -> None:
    store, _ = opened(tmp_path)
    for id in ("con", "CON", "Con", "nul"):
        store.create(record_of(0).model_copy(update={"id": id}), id.encode())
    names = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert len({name.lower() for name in names}) == 4
    assert store.picture("Con") == b"Con"
    store.close()


def test_what_a_request_left_that_was_never_answered_is_cleared_away(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    store.create(record_of(0), picture_of("job-0"))
    store.close()
    (tmp_path / "halfway").mkdir()
    (tmp_path / "halfway" / "picture").write_bytes(b"half")
    kept = next(path for path in tmp_path.iterdir() if path.is_dir() and path.name != "halfway")
    (kept / ".job.json.1.partial").write_bytes(b"{")
    store, records = opened(tmp_path)
    assert records == [record_of(0)]
    assert files_in(tmp_path) == {"job.json", "picture"}
    store.close()


def test_a_record_that_cannot_be_read_is_left_alone_and_hinders_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, _ = opened(tmp_path)
    store.create(record_of(0), picture_of("job-0"))
    store.close()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "job.json").write_text('{"id": "x"}')
    store, records = opened(tmp_path)
    assert records == [record_of(0)]
    assert (tmp_path / "damaged" / "job.json").exists()
    assert "cannot be read and is left alone" in caplog.text
    store.close()


def test_a_full_disk_is_told_and_leaves_nothing_of_a_new_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = opened(tmp_path)
    for fails_at in (1, 2, 3):  # the picture's content, its name, the record's content
        fail(monkeypatch, fails_at)
        with pytest.raises(StorageError, match="disk does not take it") as raised:
            store.create(record_of(0), picture_of("job-0"))
        assert raised.value.status == 507
        monkeypatch.undo()
        assert files_in(tmp_path) == set()
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    store.close()


def test_a_full_disk_leaves_a_job_that_ends_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = opened(tmp_path)
    store.create(record_of(0), picture_of("job-0"))
    for fails_at in (1, 3):  # the result, the record
        fail(monkeypatch, fails_at)
        with pytest.raises(StorageError):
            store.finish(done(record_of(0)), result_of("job-0"))
        monkeypatch.undo()
    store.close()
    store, records = opened(tmp_path)
    assert records == [record_of(0)]
    assert files_in(tmp_path) == {"job.json", "picture"}
    store.close()


def fail(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Let the disk be full at the ``at``-th flush."""
    flush, flushes = os.fsync, iter(range(1, 1000))

    def fsync(descriptor: int) -> None:
        if next(flushes) == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def work(folder: Path, first: int = 0, jobs: int = 1) -> None:
    """Jobs from their arrival to their deletion."""
    store, _ = opened(folder)
    for number in range(first, first + jobs):
        record = record_of(number)
        store.create(record, picture_of(record.id))
        store.update(begun := record.model_copy(update={"begun": 1}))
        store.finish(done(begun), result_of(record.id))
        store.remove(f"job-{number - 2}")


def check(folder: Path) -> set[str]:
    """The states of a store that was left by a kill, in which every job is whole."""
    store, records = opened(folder)
    states = set()
    for record in records:
        if record.state == "queued":
            assert store.picture(record.id) == picture_of(record.id)
        else:
            assert store.result(record.id).read_bytes() == result_of(record.id)
        states.add(f"{record.state} {record.begun}")
    assert files_in(folder) <= {"job.json", "picture", "result"}
    assert len([path for path in folder.iterdir() if path.is_dir()]) == len(records)
    store.close()
    return states


def forked(job: Callable[[], None]) -> int:
    """A process of its own for a piece of work; its number."""
    process = os.fork()
    if process == 0:
        try:
            job()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return process


@FORKING
@pytest.mark.slow
def test_a_kill_before_any_step_on_disk_leaves_every_job_whole(tmp_path: Path) -> None:
    seen, step, code = set(), 0, 9
    while code == 9:
        step += 1
        folder = tmp_path / str(step)

        def until_step(folder: Path = folder, last: int = step) -> None:
            steps = iter(range(1, last))

            def dying(event: str, arguments: tuple) -> None:
                changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "open")
                if changes and str(folder) in str(arguments[0]) and not next(steps, 0):
                    os._exit(9)

            sys.addaudithook(dying)
            work(folder, jobs=3)

        process = forked(until_step)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        seen |= check(folder)
    assert code == 0
    assert step > 60
    assert seen == {"queued 0", "queued 1", "done 1"}


@FORKING
@pytest.mark.slow
def test_two_hundred_kills_at_any_moment_leave_every_job_whole(tmp_path: Path) -> None:
    chance, seen = random.Random(1), set()
    began = time.monotonic()
    work(tmp_path / "timed", jobs=5)
    a_job = (time.monotonic() - began) / 5
    for kill in range(200):
        folder = tmp_path / str(kill // 20)
        process = forked(partial(work, folder, 10_000 * kill, 10_000))
        time.sleep(chance.uniform(0, 4 * a_job))
        os.kill(process, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
        seen |= check(folder)
    assert "done 1" in seen
    assert seen & {"queued 0", "queued 1"}
