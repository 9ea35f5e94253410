"""Files that appear whole or not at all."""

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from deblur import atomic
from deblur.atomic import whole_file


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_new_file_appears_with_its_folders(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "mine" / "best.pt"
    with whole_file(file) as partial:
        partial.write_bytes(b"weights")
        assert not file.exists()
        assert partial.parent == file.parent
    assert file.read_bytes() == b"weights"
    assert names(file.parent) == ["best.pt"]


def test_content_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(b"a longer older content")
    with whole_file(file) as partial:
        partial.write_bytes(b"new")
        assert file.read_bytes() == b"a longer older content"
    assert file.read_bytes() == b"new"
    assert names(tmp_path) == ["best.pt"]


@pytest.mark.parametrize("error", [RuntimeError("disk full"), KeyboardInterrupt()])
def test_an_exception_keeps_the_old_file_and_leaves_no_partial(
    tmp_path: Path, error: BaseException
) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(b"old")
    with pytest.raises(type(error)), whole_file(file) as partial:
        partial.write_bytes(b"half of the n")
        raise error
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["best.pt"]


def test_an_exception_leaves_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_file(tmp_path / "best.pt") as partial:
        partial.write_bytes(b"half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), whole_file(file):
        pass
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["best.pt"]


def test_a_failing_rename_leaves_no_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(b"old")

    def taken(path: Path, target: Path) -> Path:
        raise PermissionError(f"{target} is open in another program")

    monkeypatch.setattr(Path, "replace", taken)
    monkeypatch.setattr(atomic, "_PATIENCE", 0.2)
    with pytest.raises(PermissionError), whole_file(file) as partial:
        partial.write_bytes(b"new")
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["best.pt"]


def test_content_is_flushed_before_the_name_changes_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def replace_and_tell(path: Path, target: Path) -> Path:
        events.append("renamed")
        return replace(path, target)

    def fsync_and_tell(descriptor: int) -> None:
        found = os.fstat(descriptor)
        size = f"{found.st_size} bytes"
        events.append(f"flushed {'folder' if stat.S_ISDIR(found.st_mode) else size}")
        if stat.S_ISDIR(found.st_mode):
            assert found.st_ino == tmp_path.stat().st_ino
        fsync(descriptor)

    monkeypatch.setattr(Path, "replace", replace_and_tell)
    monkeypatch.setattr(os, "fsync", fsync_and_tell)
    with whole_file(tmp_path / "best.pt") as partial:
        partial.write_bytes(b"new")
    folders = ["flushed folder"] if hasattr(os, "O_DIRECTORY") else []
    assert events == ["flushed 3 bytes", "renamed", *folders]


def test_where_folders_cannot_be_opened_the_file_appears_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    with whole_file(tmp_path / "best.pt") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "best.pt").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="needs folders that can be flushed")
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_folder_that_need_not_be_flushed_is_no_error_and_one_that_fails_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync, closed, close = os.fsync, [], os.close

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    def close_and_tell(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    monkeypatch.setattr(os, "close", close_and_tell)
    expected = nullcontext() if number == errno.EINVAL else pytest.raises(OSError, match="error")
    with expected, whole_file(tmp_path / "best.pt") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "best.pt").read_bytes() == b"new"
    assert len(closed) == 1


def test_what_a_killed_process_of_the_same_number_left_is_not_written_to(tmp_path: Path) -> None:
    kept = tmp_path / "kept.pt"
    kept.write_bytes(b"kept")
    os.link(kept, tmp_path / f".best.pt.{os.getpid()}.partial")
    with whole_file(tmp_path / "best.pt") as partial:
        partial.write_bytes(b"new")
    assert kept.read_bytes() == b"kept"
    assert names(tmp_path) == ["best.pt", "kept.pt"]


def test_a_reader_that_holds_the_old_file_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    replace, tries = Path.replace, []

    def held(path: Path, target: Path) -> Path:
        tries.append(path)
        if len(tries) < 3:
            raise PermissionError(f"{target} is open in another program")
        return replace(path, target)

    monkeypatch.setattr(atomic, "_PATIENCE", 10.0)
    monkeypatch.setattr(Path, "replace", held)
    with whole_file(tmp_path / "best.pt") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "best.pt").read_bytes() == b"new"
    assert len(tries) == 3
