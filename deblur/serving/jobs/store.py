"""Jobs on disk: a folder for each, every file of it written whole.

``job.json`` makes the job: a folder without it is what is left of a request that was never
answered, or of a job that was being deleted. ``picture`` is what came, until the job has ended, and
``result`` what came out; both are written before the ``job.json`` that counts on them.
"""

import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from deblur.atomic import flush_folder, whole_file
from deblur.errors import SetupError
from deblur.serving.jobs.job import Failure, StorageError
from deblur.serving.service import Wanted

log = logging.getLogger(__name__)

_JOB, _PICTURE, _RESULT, _LOCK = "job.json", "picture", "result", "lock"


class Record(BaseModel):
    """What is kept of a job beside its picture.

    Attributes:
        digest: of the picture and of how the answer shall be.
        state: ``queued`` until it has ended. That it runs is not written: after a crash nothing
            does.
        begun: how often it was begun without an end or an orderly stop.
        media, headers: of the result.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    digest: str
    created: datetime
    width: int
    height: int
    wanted: Wanted
    state: Literal["queued", "done", "failed"] = "queued"
    begun: int = 0
    error: Failure | None = None
    expires: datetime | None = None
    media: str = ""
    headers: dict[str, str] = {}


class Store:
    """The jobs below ``folder``. Its methods block, and belong to one thread at a time.

    Records survive a kill and a power cut at any moment: a job is there as it was before a change
    or as it is after it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    def open(self) -> list[Record]:
        """Take the folder for this server, clear away what was never finished, and read the jobs
        in their order of arrival.

        Raises:
            SetupError: it cannot be written to, or another server has it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            alone = _locked(self._lock)
        except OSError as error:
            self.close()
            raise SetupError(
                f"jobs cannot be kept in {self.folder} ({error.strerror or error}): name a folder "
                "that the server may write to"
            ) from None
        if not alone:
            self.close()
            raise SetupError(
                f"another server keeps its jobs in {self.folder}: stop it, or give each server a "
                "folder of its own"
            )
        records = [r for f in self.folder.iterdir() if f.is_dir() and (r := self._read(f))]
        return sorted(records, key=lambda record: (record.created, record.id))

    def close(self) -> None:
        """Leave the folder to others."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def create(self, record: Record, picture: bytes) -> None:
        """Keep a new job.

        Raises:
            StorageError: the disk does not take it; nothing of it is left.
        """
        self.remove(record.id)
        try:
            with _full_disk_told():
                self._write(record.id, _PICTURE, picture)
                self.update(record)
                flush_folder(self.folder)
        except StorageError:
            self.remove(record.id)
            raise

    def update(self, record: Record) -> None:
        """Replace the record.

        Raises:
            StorageError: the disk does not take it; the record is as it was.
        """
        with _full_disk_told():
            self._write(record.id, _JOB, record.model_dump_json(indent=1).encode())

    def finish(self, record: Record, result: bytes | None = None) -> None:
        """Keep the result, if there is one, then the record of a job that has ended; the picture
        goes.

        Raises:
            StorageError: the disk does not take it; the job is as it was.
        """
        folder = self._of(record.id)
        if result is None:
            _clear(folder / _RESULT)  # of an attempt that the disk did not take
        else:
            with _full_disk_told():
                self._write(record.id, _RESULT, result)
        self.update(record)
        _clear(folder / _PICTURE)

    def picture(self, id: str) -> bytes:
        return (self._of(id) / _PICTURE).read_bytes()

    def result(self, id: str) -> Path:
        """Where the result of a job is, if it is done."""
        return self._of(id) / _RESULT

    def remove(self, id: str) -> None:
        """Forget a job, if there is one."""
        _remove(self._of(id))

    def size(self, id: str) -> int:
        """Bytes of picture and result on disk."""
        folder, size = self._of(id), 0
        for name in (_PICTURE, _RESULT):
            with suppress(FileNotFoundError):
                size += (folder / name).stat().st_size
        return size

    def _of(self, id: str) -> Path:
        # Ids that differ in case alone are one name on some file systems, and CON is none on
        # Windows; a digest has neither fault.
        return self.folder / hashlib.sha256(id.encode()).hexdigest()[:32]

    def _write(self, id: str, name: str, content: bytes) -> None:
        with whole_file(self._of(id) / name) as partial:
            partial.write_bytes(content)

    def _read(self, folder: Path) -> Record | None:
        for partial in folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)
        try:
            record = Record.model_validate_json((folder / _JOB).read_bytes())
        except FileNotFoundError:
            _remove(folder)
            return None
        except (OSError, ValidationError) as error:
            log.warning("the job in %s cannot be read and is left alone: %s", folder, error)
            return None
        _clear(folder / (_RESULT if record.state == "queued" else _PICTURE))
        return record


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.error("a job cannot be written: %s", error)
        raise StorageError(
            f"the server's disk does not take it ({error.strerror or type(error).__name__}): send "
            "it again when there is room"
        ) from error


def _clear(file: Path) -> None:
    with suppress(OSError):  # else it goes with the job
        file.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    # The record first: without it, what is left after a crash is cleared away.
    try:
        (folder / _JOB).unlink(missing_ok=True)
    except OSError as error:
        log.warning("a job cannot be deleted: %s", error)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _locked(descriptor: int) -> bool:
    """Lock the file for as long as this process has it open; ``False`` if another one has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
