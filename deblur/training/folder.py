"""The checkpoints of a run: the newest, the best, every tenth epoch's, and what names them.

``latest.json`` names the newest checkpoint and the SHA-256 of every file. Files named by their step
are never changed, so the newest that it names is either whole or known to be damaged; then the one
before is taken.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from deblur.atomic import whole_file
from deblur.digests import file_sha256
from deblur.errors import CheckpointError
from deblur.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)

INDEX = "latest.json"
BEST = "best.pt"
_INDEX_FORMAT = 1
_STEP = re.compile(r"step_(\d{8,})\.pt")
_EPOCH = re.compile(r"epoch_(\d{4,})\.pt")
#: How often a folder is looked through again while a training goes on in it.
_LOOKS = 10


@dataclass(frozen=True)
class Entry:
    """A checkpoint as ``latest.json`` describes it.

    Attributes:
        sha256: of the file, and ``bytes``, its size.
        step, epoch: steps and whole epochs done.
        psnr: of the latest validation in dB, if there was one.
        saved: when, ISO 8601 in UTC.
    """

    sha256: str
    bytes: int
    step: int
    epoch: int
    psnr: float | None
    saved: str


@dataclass(frozen=True)
class _Index:
    """What ``latest.json`` says: the name of the newest checkpoint, and all by name."""

    latest: str | None
    entries: dict[str, Entry]


class CheckpointFolder:
    """The checkpoints below one folder, for the one process that writes them.

    Args:
        path: folder of the run, made when something is saved.
        keep: how many of the newest stay, besides the best and those of whole tens of epochs.
    """

    def __init__(self, path: Path, keep: int = 2) -> None:
        self.path = path
        self.keep = keep
        self._thread: ThreadPoolExecutor
        self._under_way: Future[None] | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one that writes here, for as long as the block lasts.

        Raises:
            CheckpointError: nothing can be written here, which is better known before the first
                hour of training than after it, or another process trains in this folder.
        """
        with self._locked(), ThreadPoolExecutor(1, "checkpoint") as self._thread:
            # What a killed save left may be as large as a checkpoint.
            for pattern in (".*.pt.*.partial", f".{INDEX}.*.partial"):
                for leftover in self.path.glob(pattern):
                    with suppress(OSError):
                        leftover.unlink()
            try:
                yield
                self.flush()
            finally:
                self._under_way = None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise CheckpointError(
                f"another training writes to {self.path}: wait for its end or stop it, or name "
                "another folder with --out"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    def _unwritable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"cannot write to {self.path}: {error}. Name another folder with --out, or make this "
            "one writable"
        )

    def save(self, checkpoint: Checkpoint, also: Sequence[str] = ()) -> None:
        """Write a checkpoint while the caller goes on; it must not change any more.

        Args:
            checkpoint: a state of its own, see ``TrainingRun.state``.
            also: further names for the same file, as ``BEST`` or ``epoch_name(10)``.

        Raises:
            CheckpointError: the save before this one failed.
        """
        self.flush()
        self._under_way = self._thread.submit(self._write, checkpoint, tuple(also))

    def flush(self) -> None:
        """Wait until what was handed in is on the disk.

        Raises:
            CheckpointError: it could not be written; the files of before are untouched.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def check(self) -> None:
        """As ``flush``, but without waiting for a save that is under way."""
        if self._under_way is not None and self._under_way.done():
            self.flush()

    def _write(self, checkpoint: Checkpoint, also: tuple[str, ...]) -> None:
        path = self.path / f"step_{checkpoint.step:08d}.pt"
        try:
            self._unlist([path.name])  # the same step once more, as at the end of an epoch
            save_checkpoint(path, checkpoint)
            entry = Entry(
                sha256=file_sha256(path),
                bytes=path.stat().st_size,
                step=checkpoint.step,
                epoch=checkpoint.epoch,
                psnr=checkpoint.history[-1]["psnr"] if checkpoint.history else None,
                saved=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            self._unlist(also)
            for name in also:
                with whole_file(self.path / name) as partial:
                    _link(path, partial)
            entries = {**self.entries(), path.name: entry, **dict.fromkeys(also, entry)}
            steps = self._numbered(_STEP)
            # After a return to an earlier checkpoint, steps past this one are of the past.
            behind = [name for name, step in steps.items() if step <= checkpoint.step]
            # What is not listed was left by a save that was interrupted; or latest.json was lost.
            kept = sorted(behind, key=lambda name: name not in entries)[: self.keep]
            old = [name for name in steps if name not in kept]
            self._write_index(path.name, {n: e for n, e in entries.items() if n not in old})
        except OSError as error:
            raise CheckpointError(
                f"cannot save {path}: {error}. The previous checkpoint is untouched; free some "
                "space or make the folder writable, then start the same command again"
            ) from error
        for name in old:
            with suppress(OSError):  # Windows: somebody reads it; the next save tries again
                (self.path / name).unlink(missing_ok=True)

    def _unlist(self, names: Sequence[str]) -> None:
        """Forget the SHA-256 of files that are about to be replaced: a kill in between would leave
        whole ones that it does not fit. Until it is known again, their content is looked at.
        """
        index = self._read_index()
        if index.entries.keys() & set(names):
            left = {name: entry for name, entry in index.entries.items() if name not in names}
            self._write_index(index.latest, left)

    def _write_index(self, latest: str | None, entries: dict[str, Entry]) -> None:
        content = {
            "format": _INDEX_FORMAT,
            "latest": latest,
            "checkpoints": {name: asdict(entry) for name, entry in sorted(entries.items())},
        }
        with whole_file(self.path / INDEX) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _read_index(self) -> _Index:
        file = self.path / INDEX
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["format"] == _INDEX_FORMAT:
                latest, entries = content["latest"], {}
                for name, values in content["checkpoints"].items():
                    with suppress(TypeError):
                        entries[name] = Entry(**values)
                return _Index(latest if isinstance(latest, str) else None, entries)
            log.warning("%s is of another version; the checkpoints themselves are read", file)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            log.warning("%s is damaged; the checkpoints themselves are read", file)
        return _Index(None, {})

    def entries(self) -> dict[str, Entry]:
        """What ``latest.json`` says, by file name; files that are gone are left out."""
        listed = self._read_index().entries
        return {name: entry for name, entry in listed.items() if (self.path / name).is_file()}

    @property
    def latest(self) -> str | None:
        """Name of the newest checkpoint, whether or not it is whole."""
        return self._read_index().latest

    def files(self) -> list[str]:
        """Names of all checkpoints on the disk: the newest first, then epochs, then the best."""
        best = [BEST] if (self.path / BEST).is_file() else []
        return [*self._numbered(_STEP), *self._numbered(_EPOCH), *best]

    def _numbered(self, pattern: re.Pattern[str]) -> dict[str, int]:
        """Files of such names on the disk with their numbers, the highest first."""
        names = [path.name for path in self.path.iterdir()] if self.path.is_dir() else []
        found = {name: int(match[1]) for name in names if (match := pattern.fullmatch(name))}
        return dict(sorted(found.items(), key=lambda item: item[1], reverse=True))

    def problems(self) -> dict[str, str | None]:
        """What is wrong with each file, ``None`` where nothing is; of the newest also if it is
        gone.

        A file's SHA-256 tells or, where ``latest.json`` does not know it, the file's content.
        """
        for _ in range(_LOOKS):
            index = self._read_index()
            found = {name: self._problem(name, index) for name in self._by_age(index)}
            if not any(found.values()) or self._read_index() == index:
                break
        return found

    def _by_age(self, index: _Index) -> list[str]:
        """Names of the checkpoints: the newest first."""
        names = self.files()
        if index.latest is not None and index.latest not in names:
            names.insert(0, index.latest)

        def age(name: str) -> tuple[bool, int]:
            # What was written after the last index is whole as well, but was never promised to be.
            entry = index.entries.get(name)
            return name == index.latest, entry.step if entry is not None else -1

        return sorted(names, key=age, reverse=True)

    def _problem(self, name: str, index: _Index) -> str | None:
        path, entry = self.path / name, index.entries.get(name)
        try:
            if entry is None:
                load_checkpoint(path)
            elif file_sha256(path) != entry.sha256:
                return f"{path} is damaged: its SHA-256 is not the one in {INDEX}"
        except FileNotFoundError:
            return f"{path} is gone"
        except (OSError, CheckpointError) as error:
            return str(error)
        return None

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; ``None`` if nothing was ever saved.

        Raises:
            CheckpointError: there are checkpoints, and none is whole.
        """
        return self._newest()[1]

    def _newest(self) -> tuple[str | None, Checkpoint | None]:
        """The newest checkpoint that is whole, with its name."""
        for _ in range(_LOOKS):
            index, found, problems = self._read_index(), None, []
            for name in self._by_age(index):
                problem = self._problem(name, index)
                try:
                    if problem is None:
                        found = name, load_checkpoint(self.path / name)
                        break
                except CheckpointError as error:
                    problem = str(error)
                problems.append(problem)
            # A training that goes on here removes files while they are looked at.
            if not problems or self._read_index() == index:
                break
        if found is None and problems:
            raise CheckpointError(
                f"none of the {len(problems)} checkpoints in {self.path} is whole ({problems[0]}): "
                "restore them from a backup, or name another folder to start over"
            )
        if found is None:
            return None, None
        if problems:
            log.warning("%s; going on from %s", "; ".join(problems), found[0])
        return found

    def prune(self, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` of the steps and of the epochs, and what interrupted
        saves left; never the best, the newest or the newest that is whole. Returns the names.

        Raises:
            CheckpointError: a training writes here, no checkpoint is whole, or nothing can be
                removed.
        """
        with self._locked():
            whole, latest = self._newest()[0], self.latest
            old = [*list(self._numbered(_STEP))[keep:], *list(self._numbered(_EPOCH))[keep:]]
            old = [name for name in old if name not in (whole, latest)]
            old += sorted(path.name for path in self.path.glob(".*.partial"))
            try:
                if latest is not None:
                    entries = self.entries()
                    self._write_index(latest, {n: e for n, e in entries.items() if n not in old})
                for name in old:
                    (self.path / name).unlink(missing_ok=True)
            except OSError as error:
                raise self._unwritable(error) from error
        return old


def epoch_name(epoch: int) -> str:
    """``epoch_0010.pt``."""
    return f"epoch_{epoch:04d}.pt"


def open_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint by its file, or a run's best by its folder; its newest before any validation.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    if not path.is_dir():
        return load_checkpoint(path)
    if (path / BEST).is_file():
        return load_checkpoint(path / BEST)
    found = CheckpointFolder(path).newest()
    if found is None:
        raise CheckpointError(f"{path} holds no checkpoint: train one with  deblur train")
    return found


def _link(file: Path, name: Path) -> None:
    """A further name for a file that never changes; a copy where the file system has no links."""
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)
