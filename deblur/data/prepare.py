"""Preparing a data set: every picture decoded once, into memory-mapped shards of raw pixels."""

import json
import logging
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from deblur.atomic import whole_file
from deblur.cpus import usable_cpus
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

#: Remembers the state of every source file, so that the next call need not read those unchanged.
_SOURCES = "sources.json"
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
    if is_prepared(out):
        read_manifest(out)  # one that is damaged or another program's is refused, not replaced
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        for partial in (*out.glob(".*.partial"), *out.glob("building.npy")):
            partial.unlink()  # of a run that was killed
        sources = _Sources(out / _SOURCES)
        shards = _Shards(out, verify)
        runs = [(split, run) for split, pairs in listing.splits.items() for run in cut(pairs)]
        known = [sources.entries(run) for _, run in runs]
        kept = [
            shards.find(shard_name(split, entries), entries) if entries else None
            for (split, _), entries in zip(runs, known, strict=True)
        ]
        todo = [pair for (_, run), have in zip(runs, kept, strict=True) if not have for pair in run]
        if todo:
            _announce(out, listing, todo)
        done: dict[str, list[tuple[list[PairEntry], Shard]]] = {s: [] for s in listing.splits}
        total = sum(len(run) for _, run in runs)
        with progress.task("prepare", total, "pairs") as advance, _threads() as pool:
            for (split, run), entries, have in zip(runs, known, kept, strict=True):
                if entries and have:
                    advance(len(run), "kept")
                    done[split].append((entries, have))
                    continue

                def decoded(run: list[Pair] = run) -> Iterator[tuple[PairEntry, _Pictures]]:
                    for result in pool.map(_read, run):
                        yield result
                        advance(1)

                # Before reading: a file that changes while it is read is read again next time.
                states = [state_of_pair(pair) for pair in run]
                entries, shard = write_shard(out, split, decoded())
                done[split].append((entries, shard))
                sources.remember(run, states, entries)
        manifest = Manifest(
            subset,
            kind_of(listing),
            listing.layout,
            str(root),
            {
                split: SplitEntries(
                    tuple(entry for entries, _ in parts for entry in entries),
                    tuple(shard for _, shard in parts),
                )
                for split, parts in done.items()
            },
        )
        if not is_prepared(out) or read_manifest(out) != manifest:
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
    with _threads() as pool:
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
    digests, sizes = [], []
    for file in (pair.blur, pair.sharp):
        content = read_file(file)
        digests.append(sha256(content).hexdigest())
        sizes.append(read_size(content, str(file)))
    require_equal_sizes(pair, *sizes)
    return PairEntry(pair.scene, pair.name, *sizes[0], *digests)


def _read(pair: Pair) -> tuple[PairEntry, _Pictures]:
    """A pair, each file read once: its entry and its pixels."""
    digests, pictures = [], []
    for file in (pair.blur, pair.sharp):
        content = read_file(file)
        digests.append(sha256(content).hexdigest())
        pictures.append(decode_rgb(content, str(file)))
    blurred, sharp = pictures
    require_equal_sizes(pair, blurred.shape[:2], sharp.shape[:2])
    height, width = blurred.shape[:2]
    return PairEntry(pair.scene, pair.name, height, width, *digests), (blurred, sharp)


class _Sources:
    """What is known of each pair's files since they were last read. Only ever saves work: a state
    that does not fit, or a damaged file of states, means that they are read again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, dict] = {}
        with suppress(OSError, ValueError):
            read = json.loads(path.read_text(encoding="utf-8"))
            self.known = read if isinstance(read, dict) else {}

    def entries(self, run: list[Pair]) -> list[PairEntry] | None:
        """The entries of a run of pairs if all of their files are as they were."""
        entries = []
        for pair in run:
            kept = self.known.get(str(pair.blur))
            state = state_of_pair(pair)
            if state is None or kept is None or kept.get("state") != [str(pair.sharp), *state]:
                return None
            with suppress(TypeError, KeyError):
                entry = PairEntry(**kept["entry"])
                # The same files may be listed under another name than before.
                entries.append(replace(entry, scene=pair.scene, name=pair.name))
        return entries if len(entries) == len(run) else None

    def remember(
        self, run: list[Pair], states: list[list[str] | None], entries: list[PairEntry]
    ) -> None:
        for pair, state, entry in zip(run, states, entries, strict=True):
            if state is not None:
                kept = {"state": [str(pair.sharp), *state], "entry": asdict(entry)}
                self.known[str(pair.blur)] = kept
        with whole_file(self.path) as partial:
            partial.write_text(json.dumps(self.known, indent=0) + "\n", encoding="utf-8")


class _Shards:
    """The shards that a folder holds already."""

    def __init__(self, folder: Path, verify: bool) -> None:
        self.folder = folder
        self.verify = verify
        self.listed: dict[str, Shard] = {}
        if is_prepared(folder):
            splits = read_manifest(folder).splits
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


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode: Pillow works outside the interpreter lock. On an error the rest of the
    queue is dropped."""
    pool = ThreadPoolExecutor(usable_cpus())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
