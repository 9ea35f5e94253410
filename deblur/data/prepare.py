"""Preparing a data set: every picture decoded once, into memory-mapped shards of raw pixels."""

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from deblur.cpus import usable_cpus, worker_threads
from deblur.data.journal import Journal, States
from deblur.data.layout import Averaging
from deblur.data.listing import (
    Listing,
    Pair,
    kind_of,
    list_data,
    require_paired,
    state_of_pair,
)
from deblur.data.manifest import (
    FORMAT,
    Manifest,
    PairEntry,
    Shard,
    SplitEntries,
    is_prepared,
    read_manifest,
)
from deblur.data.pairs import require_equal_sizes
from deblur.data.shards import cut, read_shard, shard_name, write_shard
from deblur.data.storage import read_file
from deblur.errors import DataError
from deblur.images import decode_rgb, read_size
from deblur.progress import SILENT, Progress, clock_time

log = logging.getLogger(__name__)

_SOURCES = "sources.jsonl"
_PROBES = 4  # pairs that are decoded to tell size and time beforehand


def prepare(
    root: Path | str,
    out: Path,
    subset: Averaging = "blur",
    progress: Progress = SILENT,
    verify: bool = False,
) -> Manifest:
    """Decode a data set once into memory-mapped shards below ``out``.

    Each shard is named by the digests of the pictures in it and appears whole, so an interrupted
    preparation goes on where it was, and one of changed data writes the changed shards alone. The
    manifest is written last, and shards it no longer names are removed after that: whoever opens
    the folder finds the old version or the new one.

    Args:
        root: whatever ``deblur.data.listing`` finds pairs in.
        out: a local folder.
        subset: which blurred folder to take.
        progress: shows pairs done, rate and time left.
        verify: also compare the content of shards that are there with the manifest's digests.

    Raises:
        DataError: no data, a picture is missing or of another size than its counterpart, too
            little space, or another process is preparing into ``out``.
        PictureError: a picture is damaged.
    """
    listing = list_data(root, subset)
    require_paired(listing)
    # One that is damaged or another program's is refused, not replaced.
    before = read_manifest(out) if is_prepared(out) else None
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out), _open_sources(out) as sources:
        for partial in (*out.glob(".*.partial"), *out.glob("building.npy")):
            partial.unlink()  # of a run that was killed
        shards = _Shards(out, before, verify)
        runs = [
            _Run(split, run, [state_of_pair(pair) for pair in run])
            for split, pairs in listing.splits.items()
            for run in cut(pairs)
        ]
        for run in runs:
            run.find(sources, shards)
        todo = [pair for run in runs if run.shard is None for pair in run.pairs]
        if todo:
            _announce(out, listing, todo)
        total = sum(len(run.pairs) for run in runs)
        with progress.task("prepare", total, "pairs") as advance, worker_threads() as pool:
            for run in runs:
                if run.shard is not None:
                    advance(len(run.pairs), "kept")
                    continue

                def decoded(pairs: list[Pair] = run.pairs) -> Iterator[tuple[PairEntry, _Pictures]]:
                    for result in pool.map(_read, pairs):
                        yield result
                        advance(1)

                run.entries, run.shard = write_shard(out, run.split, decoded())
                for line in run.lines():
                    sources.append(*line)
        manifest = Manifest(
            subset,
            kind_of(listing),
            listing.layout,
            str(root),
            {
                split: SplitEntries(
                    tuple(entry for run in runs if run.split == split for entry in run.entries),
                    tuple(run.shard for run in runs if run.split == split and run.shard),
                )
                for split in listing.splits
            },
        )
        if todo:
            sources.replace(line for run in runs for line in run.lines())
        if manifest != before:
            manifest.write(out)
        shards.remove_others(manifest)
    return manifest


def describe(root: Path | str, subset: Averaging = "blur", progress: Progress = SILENT) -> Manifest:
    """The manifest of a data set, prepared or not.

    Of one that is not, every file is read; the digest equals the prepared one's.

    Raises:
        DataError: as ``prepare`` does.
    """
    if is_prepared(root):
        return read_manifest(Path(root))
    listing = list_data(root, subset)
    require_paired(listing)
    splits = {}
    with worker_threads() as pool:
        for split, pairs in listing.splits.items():
            with progress.task(f"digests {split}", len(pairs), "pairs") as advance:
                entries = []
                for entry in pool.map(_describe, pairs):
                    entries.append(entry)
                    advance(1)
            splits[split] = SplitEntries(tuple(entries))
    return Manifest(subset, kind_of(listing), listing.layout, str(root), splits)


_Pictures = tuple[np.ndarray, np.ndarray]


def _describe(pair: Pair) -> PairEntry:
    """The entry of a pair, from its bytes and headers."""
    contents = read_file(pair.blur), read_file(pair.sharp)
    sizes = read_size(contents[0], str(pair.blur)), read_size(contents[1], str(pair.sharp))
    return _entry(pair, contents, sizes)


def _read(pair: Pair) -> tuple[PairEntry, _Pictures]:
    """A pair, each file read once: its entry and its pixels."""
    contents = read_file(pair.blur), read_file(pair.sharp)
    blurred = decode_rgb(contents[0], str(pair.blur))
    sharp = decode_rgb(contents[1], str(pair.sharp))
    return _entry(pair, contents, (blurred.shape[:2], sharp.shape[:2])), (blurred, sharp)


def _entry(
    pair: Pair, contents: tuple[bytes, bytes], sizes: Sequence[tuple[int, ...]]
) -> PairEntry:
    require_equal_sizes(pair, *sizes)
    height, width = sizes[0]
    digests = [sha256(content).hexdigest() for content in contents]
    return PairEntry(pair.scene, pair.name, height, width, *digests)


def _open_sources(out: Path) -> Journal[PairEntry]:
    """What is known of the files that were read before, so that they need not be read again."""
    return Journal(out / _SOURCES, "entry", FORMAT, lambda values: PairEntry(**values), asdict)


@dataclass
class _Run:
    """Pairs that share a shard: how their files were before they are read, and what became of them.

    ``shard`` is ``None`` until there is one, ``entries`` are complete then.
    """

    split: str
    pairs: list[Pair]
    states: list[States]
    entries: list[PairEntry] = field(default_factory=list)
    shard: Shard | None = None

    def find(self, sources: Journal[PairEntry], shards: "_Shards") -> None:
        """Take over the shard that is there already, if there is one."""
        known = [sources.find(*both) for both in zip(self.pairs, self.states, strict=True)]
        self.entries = [
            # The same files may be listed under another name than before.
            replace(entry, scene=pair.scene, name=pair.name)
            for pair, entry in zip(self.pairs, known, strict=True)
            if entry is not None
        ]
        if len(self.entries) == len(self.pairs):
            self.shard = shards.find(shard_name(self.split, self.entries), self.entries)

    def lines(self) -> Iterator[tuple[Pair, States, PairEntry]]:
        """The run's lines in the journal of sources."""
        return zip(self.pairs, self.states, self.entries, strict=True)


class _Shards:
    """The shards that a folder holds already."""

    def __init__(self, folder: Path, before: Manifest | None, verify: bool) -> None:
        self.folder = folder
        self.verify = verify
        splits = before.splits if before else {}
        self.listed = {shard.file: shard for e in splits.values() for shard in e.shards}

    def find(self, name: str, entries: list[PairEntry]) -> Shard | None:
        """The shard of this name, if it is there and as it should be."""
        if not (self.folder / name).is_file():
            return None
        try:
            content = read_shard(self.folder, name)
        except DataError:
            return None
        size, listed = sum(entry.bytes for entry in entries), self.listed.get(name)
        if content.shape != (size,):
            return None
        if listed and not self.verify:
            return listed
        digest = sha256(content.data).hexdigest()
        if listed and listed.sha256 != digest:
            log.warning("%s is damaged and is written again", self.folder / name)
            return None
        return Shard(name, len(entries), size, digest)

    def remove_others(self, manifest: Manifest) -> None:
        """Remove the shards that a manifest does not name."""
        named = {shard.file for e in manifest.splits.values() for shard in e.shards}
        for path in self.folder.glob("*.npy"):
            if path.name not in named:
                with suppress(PermissionError):  # Windows keeps what is mapped; the next call may
                    path.unlink()


def _announce(out: Path, listing: Listing, todo: list[Pair]) -> None:
    """Say what is to be written and how long it will take, judged by a few pairs.

    Raises:
        DataError: it does not fit on the disk.
    """
    started = time.monotonic()
    probes = todo[:: max(1, len(todo) // _PROBES)][:_PROBES]
    mean = sum(_read(pair)[0].bytes for pair in probes) / len(probes)
    size = mean * len(todo)
    seconds = (time.monotonic() - started) / len(probes) * len(todo) / usable_cpus()
    free = shutil.disk_usage(out).free
    everything = sum(len(pairs) for pairs in listing.splits.values())
    log.info(
        "preparing %d of %d pairs (%s layout) into %s: about %.2f GB and %s; %.1f GB are free",
        len(todo), everything, listing.layout, out, size / 1e9, clock_time(seconds), free / 1e9,
    )  # fmt: skip
    if size > free:
        raise DataError(
            f"{out} has {free / 1e9:.1f} GB free, and the prepared data needs about "
            f"{size / 1e9:.1f} GB: free space, or prepare into another folder"
        )


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder's lock. The system lets go of it if the process is killed."""
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(
            f"another process is preparing data into {out}: wait for it, or name another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
