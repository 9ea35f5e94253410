"""One shard of a batch, from the listing to the report.

A process works on its shard alone; all that shards have in common is the store. Whenever it is
killed, the same call goes on: what has a record is done, what has none was in flight.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Lock, Thread

from deblur.batch.config import BatchConfig, Shard
from deblur.batch.manifest import Entry, Manifest, list_source, read_manifest
from deblur.batch.model import BatchModel, open_model
from deblur.batch.picture import Outcome, PictureLine, limits_of
from deblur.batch.records import Records
from deblur.batch.report import BatchReport, make_report, write_report
from deblur.batch.store import patiently, read_picture_file
from deblur.data.storage import Location, forget_listings, list_states, location
from deblur.errors import DataError, PictureError, StoppedError
from deblur.images import read_header
from deblur.progress import SILENT, Advance, Progress
from deblur.stopping import StopRequest, stop_signals

#: Threads beside those that compute: one decodes the next picture while one encodes the last.
#: A store far away is waited for by more of them.
_NEARBY, _FAR = 2, 8
#: Pictures whose headers are read to estimate the megapixels of all from their bytes.
_SAMPLED = 8
#: What ``deblur.atomic.whole_file`` calls a file that is being written.
_PARTIAL = re.compile(r"\.(?P<name>.+)\.\d+\.partial")


def run_shard(
    config: BatchConfig, shard: Shard = Shard(), progress: Progress = SILENT
) -> BatchReport:
    """Deblur the pictures of one shard that have not been done.

    Done means: the target holds the result, and its record says that it was made of the same bytes
    by the same model with the same settings. Pictures that failed are tried again at every start.

    Args:
        config: the batch.
        shard: by default all of it.
        progress: shows megapixels, estimated from the sizes of the files.

    Returns:
        The report of this shard, which is also written into the folder of the batch.

    Raises:
        StoppedError: a signal asked for the end; the same call goes on.
        DataError: the source holds no pictures, or a store cannot be reached.
        DeblurError: the model cannot be opened, or the target holds somebody else's pictures.
    """
    with stop_signals() as stop, open_model(config.model, config.workers) as model:
        manifest = _manifest(config, shard)
        entries = [entry for entry in manifest.entries if shard.holds(entry.name)]
        records = Records(config.folder, shard)
        line = PictureLine(config, model, records, _results(location(config.target), entries))
        todo, earlier = [], 0.0
        for entry in entries:
            record = records.find(entry.name)
            unchanged = entry.state is not None and record and record.state == entry.state
            if record and unchanged and line.holds(record):
                earlier += record.megapixels
            else:
                todo.append(entry)
        gauge = _Gauge(config, todo, earlier)
        with progress.task("deblur", gauge.total, "megapixels", gauge.told) as advance:
            gauge.advance = advance
            counts = _work(line, todo, gauge, stop, _threads(config, model))
            if not stop.signum:
                gauge.fill()
        records.fold()
        report = make_report(
            config, f"{shard.index}/{shard.count}", entries, records.all(),
            (model.identity, model.settings), manifest.others, counts[Outcome.COMPUTED],
        )  # fmt: skip
    write_report(config, report, "report" if shard.count == 1 else f"report-{shard}")
    if stop.signum:
        raise StoppedError(
            stop.signum,
            f"stopped with {report.done} of {report.pictures} pictures done: the same command "
            "goes on",
        )
    return report


def _manifest(config: BatchConfig, shard: Shard) -> Manifest:
    """Of a batch in one process the source as it is now; shards share one listing."""
    manifest = read_manifest(config) if shard.count > 1 else None
    return manifest or list_source(config)


def _results(target: Location, entries: Sequence[Entry]) -> dict[str, int]:
    """Size in bytes by name of what the target holds of these pictures. Removes what a killed
    process has left half-written of them."""
    names = {entry.name for entry in entries}
    if isinstance(target, Path):
        for folder in {PurePosixPath(name).parent for name in names}:
            for partial in (target / folder).glob(".*.partial"):
                cut = _PARTIAL.fullmatch(partial.name)
                if cut and (folder / cut["name"]).as_posix() in names:
                    partial.unlink(missing_ok=True)
    forget_listings(target)
    there = patiently(lambda: list_states(target), f"list {target}")
    return {name: size for name, (size, _) in there.items() if name in names}


def _threads(config: BatchConfig, model: BatchModel) -> int:
    local = all(isinstance(location(end), Path) for end in (config.source, config.target))
    return model.workers + (_NEARBY if local else _FAR)


@dataclass
class _Queue:
    """What the threads of a shard share. Closed, it gives no more pictures."""

    entries: Iterator[Entry]
    stop: StopRequest
    lock: Lock
    error: BaseException | None = None
    closed: bool = False

    def next(self) -> Entry | None:
        with self.lock:
            if self.error or self.closed or self.stop.signum:
                return None
            return next(self.entries, None)


def _work(
    line: PictureLine, todo: Sequence[Entry], gauge: "_Gauge", stop: StopRequest, threads: int
) -> Counter[Outcome]:
    """Take the pictures in some threads; what is in flight when the end is asked for, ends well."""
    queue, counts = _Queue(iter(todo), stop, Lock()), Counter[Outcome]()

    def work() -> None:
        while entry := queue.next():
            try:
                outcome = line.take(entry)
            except BaseException as error:
                with queue.lock:
                    queue.error = queue.error or error
                return
            with queue.lock:
                counts[outcome] += 1
                gauge.add(entry)

    # Daemons, as someone who asks a second time does not want to wait for them.
    crew = [Thread(target=work, name=f"picture-{n}", daemon=True) for n in range(threads)]
    for thread in crew:
        thread.start()
    try:
        while any(thread.is_alive() for thread in crew):
            for thread in crew:
                thread.join(0.1)  # never for long: on Windows a signal is only heard in between
    finally:
        queue.closed = True
    if queue.error:
        raise queue.error
    return counts


class _Gauge:
    """Megapixels done, in whole steps. Each picture counts as many as its bytes suggest, so that
    the sum is known from the start."""

    def __init__(self, config: BatchConfig, todo: Sequence[Entry], earlier: float) -> None:
        self._per_byte = _megapixels_per_byte(config, todo)
        self._sum = earlier
        self.told = round(earlier)
        self.total = max(1, round(earlier + sum(entry.size for entry in todo) * self._per_byte))
        self.advance: Advance = lambda steps=1, note="": None

    def add(self, entry: Entry) -> None:
        self._sum += entry.size * self._per_byte
        self._tell(min(int(self._sum), self.total), entry.name)

    def fill(self) -> None:
        self._tell(self.total, "")

    def _tell(self, reached: int, note: str) -> None:
        self.advance(reached - self.told, note)
        self.told = reached


def _megapixels_per_byte(config: BatchConfig, todo: Sequence[Entry]) -> float:
    source, limits = location(config.source), limits_of(config)
    megapixels, size = 0.0, 0
    for entry in todo[:: max(1, len(todo) // _SAMPLED)][:_SAMPLED]:
        try:
            content = read_picture_file(source / entry.name)
            megapixels += read_header(content, limits, entry.name).megapixels
            size += entry.size
        except PictureError:
            continue
        except DataError:
            break  # the first picture that is read says it
    return megapixels / size if size else 1e-6
