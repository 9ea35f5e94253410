"""Saves that fail: told, without harm to what was saved before."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deblur.atomic import whole_file
from deblur.errors import CheckpointError
from deblur.training.checkpoint import load_checkpoint
from deblur.training.folder import BEST, INDEX, CheckpointFolder
from tests.training.states import is_of_step, listed, names, saved, state, step_name

ROOT = Path(__file__).parents[2]


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_save_is_told_by_flush_and_the_previous_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 1, 2, also={1: [BEST]})
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    folder = CheckpointFolder(tmp_path)
    with folder.writing():
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full_disk)
            folder.save(state(3), [BEST])
            with pytest.raises(CheckpointError, match=r"No space left.*previous.*free some space"):
                folder.flush()
        assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
        folder.flush()  # told once
        folder.save(state(3), [BEST])
    assert is_of_step(folder.newest(), 3)


def test_a_failed_save_is_told_by_the_next_save_by_check_and_by_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    folder = CheckpointFolder(tmp_path)
    with folder.writing():
        folder.check()
        folder.save(state(1))
        with pytest.raises(CheckpointError, match="cannot save"):
            folder.save(state(2))
        folder.save(state(3))
        with pytest.raises(CheckpointError, match=step_name(3)):
            for _ in range(1000):
                folder.check()
                time.sleep(0.01)
    with pytest.raises(CheckpointError, match=step_name(4)), folder.writing():
        folder.save(state(4))
    assert names(tmp_path) == []


def test_an_index_that_cannot_be_written_keeps_the_previous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 1, 2)
    folder = CheckpointFolder(tmp_path)

    def full(path: Path) -> object:
        if path.name == INDEX:
            full_disk()
        return whole_file(path)

    with folder.writing():
        with monkeypatch.context() as patch:
            patch.setattr("deblur.training.folder.whole_file", full)
            folder.save(state(3))
            with pytest.raises(CheckpointError, match="No space left on device"):
                folder.flush()
        assert is_of_step(folder.newest(), 2)
        folder.save(state(4))
    assert folder.files() == [step_name(4), step_name(2)]


#: Saves until a limit on the size of files stops it in the middle of one.
LIMITED = """
import json, os, resource, signal, sys
from pathlib import Path
from deblur.errors import CheckpointError
from deblur.training.folder import BEST, CheckpointFolder
from tests.training.states import is_of_step, state

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, told = Path(sys.argv[1]), []
folder = CheckpointFolder(path)
with folder.writing():
    folder.save(state(1, 1000), [BEST])
    folder.flush()
    before = sorted(os.listdir(path))
    for limit in (0, 50, 5_000, 100_000, 400_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        folder.save(state(2, 100_000), [BEST])
        try:
            folder.flush()
        except CheckpointError as error:
            told.append(str(error))
        assert sorted(os.listdir(path)) == before, os.listdir(path)
        assert is_of_step(folder.newest(), 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    folder.save(state(3, 100_000), [BEST])
    folder.flush()
    assert is_of_step(folder.newest(), 3)
print(json.dumps(told))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits on the size of files")
def test_a_write_that_fails_in_the_middle_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "run")],
        capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told) == 5
    for message in told:
        assert (
            f"cannot save {tmp_path / 'run' / step_name(2)}: [Errno 27] File too large" in message
        )
        assert "previous checkpoint is untouched; free some space" in message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_keeps_what_is_there_and_saving_goes_on_when_there_is_room(
    small_disk: Path,
) -> None:
    path = saved(small_disk / "run", 1, 2, also={1: [BEST]})
    before = {name: (path / name).read_bytes() for name in names(path)}
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(400_000))
    for room in (0, 8192, 32768):
        with ballast.open("rb+") as file:
            file.truncate(ballast.stat().st_size - room)
        with pytest.raises(CheckpointError, match="No space left on device"):
            saved(path, 3, also={3: [BEST]})
        assert {name: (path / name).read_bytes() for name in names(path)} == before
        assert is_of_step(CheckpointFolder(path).newest(), 2)
    ballast.unlink()
    saved(path, 3, also={3: [BEST]})
    assert is_of_step(CheckpointFolder(path).newest(), 3)
    assert is_of_step(load_checkpoint(path / BEST), 3)


def test_a_folder_that_cannot_be_written_is_told_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    impossible = [tmp_path / "file", tmp_path / "file" / "run"]
    if sys.platform == "linux":
        impossible += [Path("/proc/run"), Path("/dev/null/run")]
    for path in impossible:
        message = rf"cannot write to {path}: .*Name another folder with --out, or make this one"
        with pytest.raises(CheckpointError, match=message), CheckpointFolder(path).writing():
            raise AssertionError("never reached")


def test_a_read_only_file_system_is_told_before_the_training(small_disk: Path) -> None:
    path = saved(small_disk / "run", 1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    message = r"cannot write to .*Read-only file system.*make this one writable"
    with pytest.raises(CheckpointError, match=message), CheckpointFolder(path).writing():
        raise AssertionError("never reached")
    with pytest.raises(CheckpointError, match=message):
        CheckpointFolder(path).prune(keep=1)
    assert is_of_step(CheckpointFolder(path).newest(), 1)


def test_a_file_that_a_reader_holds_does_not_stop_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    saved(tmp_path, 1, 2)
    unlink = Path.unlink

    def held(path: Path, missing_ok: bool = False) -> None:
        if path.name == step_name(1):
            raise PermissionError(errno.EACCES, "open in another program", str(path))
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", held)
        saved(tmp_path, 3)
    assert CheckpointFolder(tmp_path).files() == [step_name(3), step_name(2), step_name(1)]
    assert step_name(1) not in listed(tmp_path)
    saved(tmp_path, 4)
    assert CheckpointFolder(tmp_path).files() == [step_name(4), step_name(3)]
