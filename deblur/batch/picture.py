"""One picture's way from the source to the target.

A thread takes a picture all the way: it reads and decodes while others compute, computes when it
is its turn, encodes and writes while others compute. Nothing else is needed to keep the network
busy, as decoding, computing and encoding all work outside the interpreter lock.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import PurePosixPath
from threading import Condition, Lock, Semaphore

from deblur.batch.config import BatchConfig
from deblur.batch.manifest import Entry
from deblur.batch.model import QUALITY, BatchModel
from deblur.batch.records import Record, Records
from deblur.batch.store import read_picture_file, write_picture_file
from deblur.data.storage import Location, location
from deblur.errors import PictureError, PictureTooLargeError
from deblur.images import (
    SUFFIXES,
    Limits,
    Picture,
    encode_picture,
    read_header,
    read_picture,
    to_float,
    to_uint8,
)

#: Megapixels of all pictures between decoding and writing together; a larger one is there alone. A
#: megapixel takes 3 MB before and 3 MB after, and 28 MB while it is computed.
IN_FLIGHT = 64.0
#: No format that is read takes more bytes for a pixel: 16 bit, four channels, uncompressed.
_BYTES_PER_PIXEL = 8.0
_MEGABYTES = 64.0


class Outcome(Enum):
    """What became of a picture."""

    COMPUTED = "computed"
    SKIPPED = "skipped"
    FAILED = "failed"


class PictureLine:
    """Takes pictures from source to target, each recorded. Called by several threads.

    Args:
        config: of the batch.
        model: what deblurs them.
        records: of the shard.
        there: names of the files in the target and their size in bytes.
    """

    def __init__(
        self, config: BatchConfig, model: BatchModel, records: Records, there: dict[str, int]
    ) -> None:
        self._source, self._target = location(config.source), location(config.target)
        self._limits = limits_of(config)
        self._model, self._records, self._there = model, records, there
        self._turn = Semaphore(model.workers)
        self._budget = _Budget(IN_FLIGHT)
        self._clock = _Clock()

    def take(self, entry: Entry) -> Outcome:
        """Deblur one picture, unless its record says that it has been.

        Raises:
            DataError: a store cannot be reached. What is wrong with the picture itself is recorded,
                and nothing is raised.
        """
        digest = ""
        try:
            if entry.size > self._limits.megabytes * 2**20:
                raise PictureTooLargeError(
                    f"{entry.name} has {entry.size / 2**20:.1f} MB: expected at most "
                    f"{self._limits.megabytes:g} MB"
                )
            content = read_picture_file(self._source / entry.name)
            digest = hashlib.sha256(content).hexdigest()
            known = self._records.find(entry.name)
            if known is not None and known.sha256 == digest and self.holds(known):
                # Only its time has changed, as after copying.
                self._records.put(replace(known, state=entry.state, at=time.time()))
                return Outcome.SKIPPED
            megapixels, size = self._deblur(entry, content)
        except (PictureError, MemoryError) as error:
            said = str(error) or f"{entry.name} is too large for this machine's memory"
            self._put(entry, digest, 0, 0.0, said)
            return Outcome.FAILED
        self._put(entry, digest, size, megapixels)
        return Outcome.COMPUTED

    def holds(self, record: Record) -> bool:
        """Whether the target holds this model's result of a record."""
        by_this = record.is_by(self._model.identity, self._model.settings)
        return by_this and self._there.get(record.name) == record.size

    def _deblur(self, entry: Entry, content: bytes) -> tuple[float, int]:
        """Megapixels, and bytes of the result."""
        megapixels = read_header(content, self._limits, entry.name).megapixels
        with self._budget.held(megapixels):
            picture = read_picture(content, self._limits, entry.name)
            del content
            with self._turn:
                restored = self._restore(picture)
            encoded = encode_picture(
                restored, SUFFIXES[PurePosixPath(entry.name).suffix.lower()], QUALITY
            )
        write_picture_file(place_in(self._target, entry.name), encoded)
        return megapixels, len(encoded)

    def _restore(self, picture: Picture) -> Picture:
        return picture.with_rgb(to_uint8(self._model.predict(to_float(picture.rgb))))

    def _put(
        self, entry: Entry, digest: str, size: int, megapixels: float, error: str = ""
    ) -> None:
        self._records.put(
            Record(
                name=entry.name,
                state=entry.state,
                sha256=digest,
                model=self._model.identity,
                settings=self._model.settings,
                size=size,
                megapixels=megapixels,
                seconds=self._clock.lap(),
                at=time.time(),
                error=error,
            )
        )


def limits_of(config: BatchConfig) -> Limits:
    """What pictures of a batch are accepted."""
    return Limits(max(_MEGABYTES, _BYTES_PER_PIXEL * config.max_megapixels), config.max_megapixels)


def place_in(target: Location, name: str) -> Location:
    """Where the result of a picture goes.

    Raises:
        PictureError: out of the target. Stores allow names that are absolute paths on a disk.
    """
    if "\\" in name or name.startswith("/") or ".." in name.split("/") or ":" in name[:2]:
        raise PictureError(
            f"{name} might lead out of {target}: expected a name without a backslash, a drive or "
            "a leading slash; rename the picture in the source"
        )
    return target / name


class _Budget:
    """Megapixels that may be held at a time."""

    def __init__(self, limit: float) -> None:
        self._limit, self._used = limit, 0.0
        self._changed = Condition()

    @contextmanager
    def held(self, amount: float) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + amount <= self._limit)
            self._used += amount
        try:
            yield
        finally:
            with self._changed:
                self._used -= amount
                # What many small ones leave behind in rounding would keep a large one out.
                self._used = self._used if self._used > 1e-9 else 0.0
                self._changed.notify_all()


class _Clock:
    """Seconds since the picture before: together, all that the machine spent, waiting included."""

    def __init__(self) -> None:
        self._last, self._lock = time.monotonic(), Lock()

    def lap(self) -> float:
        with self._lock:
            now = time.monotonic()
            seconds, self._last = now - self._last, now
        return seconds
