"""What has been done: one record a picture, beside the results.

A record is a small file of its own, written once the result is there. That is the one form which a
folder and an object store hold alike: S3 cannot append to a file, and a list that is rewritten
after every picture costs more than the pictures. From time to time the records of a shard are
folded into one file of lines, so that a start reads few files; whatever is killed in between leaves
both, and of two records the later one counts.

Each shard writes under its own name, so shards never wait for each other. What was recorded under
another division counts as well.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from deblur.batch.config import Shard
from deblur.batch.store import patiently
from deblur.data.storage import (
    Location,
    forget_listings,
    list_files,
    reachable,
    read_bytes,
    write_file,
)
from deblur.digests import json_sha256

log = logging.getLogger(__name__)

RECORDS = "records"
_VERSION = 1
#: So many single records are folded, or a quarter of those already folded, whichever is more: all
#: folding together then writes each record about five times.
_FOLD, _SHARE = 1000, 4
#: Single records are read so many at a time: what they cost is waiting for the store.
_SIDE_BY_SIDE = 16


@dataclass(frozen=True)
class Record:
    """What became of one picture.

    Attributes:
        name: as in the manifest.
        state: of the picture when it was listed.
        sha256: of the picture's bytes; empty where they were not read.
        model: SHA-256 of the model.
        settings: digest of what else the result depends on.
        size: bytes of the result; 0 where there is none.
        megapixels: of the picture.
        seconds: that the machine spent on it: since the picture before was done.
        at: when it was done, in seconds since 1970.
        error: why there is no result, in a sentence; empty if there is one.
    """

    name: str
    state: str | None
    sha256: str
    model: str
    settings: str
    size: int
    megapixels: float
    seconds: float
    at: float
    error: str = ""

    def is_by(self, model: str, settings: str) -> bool:
        """Whether it is a result of this model with these settings."""
        return not self.error and self.model == model and self.settings == settings


class Records:
    """The records of one shard. ``put`` may be called by any thread.

    Args:
        folder: of the batch.
        shard: whose records they are.
    """

    def __init__(self, folder: Location, shard: Shard) -> None:
        self.shard = shard
        self._folder = folder / RECORDS
        self._file = self._folder / f"{shard}.jsonl"
        self._singles = self._folder / str(shard)
        self._lock = Lock()
        self._loose: set[str] = set()
        self._known: dict[str, Record] = {}
        for path, record in _read(self._folder):
            if not shard.holds(record.name):
                continue
            if path.startswith(f"{shard}/"):
                self._loose.add(path)
            _take(self._known, record)

    def find(self, name: str) -> Record | None:
        """The latest record of a picture."""
        return self._known.get(name)

    def all(self) -> list[Record]:
        """The latest record of each picture, sorted by name."""
        with self._lock:
            return [self._known[name] for name in sorted(self._known)]

    def put(self, record: Record) -> None:
        """Keep a record, for good when this returns.

        Raises:
            DataError: the store cannot be reached, or is full.
        """
        path = f"{self.shard}/{json_sha256(record.name)[:32]}.json"
        _write_single(self._folder / path, _line(record))
        with self._lock:
            self._known[record.name] = record
            self._loose.add(path)
            if len(self._loose) >= max(_FOLD, len(self._known) // _SHARE):
                self._fold()

    def fold(self) -> None:
        """Leave one file of the shard's records."""
        with self._lock:
            if self._loose:
                self._fold()

    def _fold(self) -> None:
        content = b"".join(_line(self._known[name]) for name in sorted(self._known))
        patiently(lambda: write_file(self._file, content), f"write {self._file}")
        patiently(self._remove_loose, f"write {self._folder}")
        self._loose.clear()

    def _remove_loose(self) -> None:
        if isinstance(self._folder, Path):
            for path in self._loose:
                (self._folder / path).unlink(missing_ok=True)
            return
        with reachable(self._folder, "written"), suppress(FileNotFoundError):
            self._folder.fs.rm([(self._folder / path).path for path in self._loose])


def read_records(folder: Location) -> dict[str, Record]:
    """The latest record of each picture by name, of all shards of a batch.

    Raises:
        DataError: the store cannot be reached.
    """
    known: dict[str, Record] = {}
    for _, record in _read(folder / RECORDS):
        _take(known, record)
    return known


def _read(folder: Location) -> Iterator[tuple[str, Record]]:
    forget_listings(folder)
    paths = patiently(lambda: list_files(folder), f"list {folder}")

    def read(path: str) -> bytes:
        try:
            return read_bytes(folder / path)
        except FileNotFoundError:
            return b""  # another shard has just folded it

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        contents = pool.map(lambda path: patiently(lambda: read(path), f"read {path}"), paths)
        for path, content in zip(paths, contents, strict=True):
            for record in _parsed(content):
                yield path, record


def _parsed(content: bytes) -> Iterable[Record]:
    """Torn lines and those of other versions are as good as none."""
    for line in content.split(b"\n"):
        try:
            values: dict[str, Any] = json.loads(line)
            if values.pop("version") == _VERSION:
                yield Record(**values)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def _take(known: dict[str, Record], record: Record) -> None:
    before = known.get(record.name)
    if before is None or before.at <= record.at:
        known[record.name] = record


def _line(record: Record) -> bytes:
    # Names may hold what is no valid UTF-8, so everything is escaped.
    return json.dumps({"version": _VERSION, **asdict(record)}).encode() + b"\n"


def _write_single(file: Location, content: bytes) -> None:
    if not isinstance(file, Path):
        patiently(lambda: write_file(file, content), f"write {file}")
        return
    # Neither whole nor flushed, which would take as long as a small picture: a torn record is as
    # good as none, and costs no more than that picture.
    file.parent.mkdir(parents=True, exist_ok=True)
    patiently(lambda: file.write_bytes(content), f"write {file}")
