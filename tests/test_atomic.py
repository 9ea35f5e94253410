"""Files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

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
    with pytest.raises(PermissionError), whole_file(file) as partial:
        partial.write_bytes(b"new")
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["best.pt"]


def test_content_is_flushed_to_the_disk_before_the_name_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def replace_and_tell(path: Path, target: Path) -> Path:
        events.append("renamed")
        return replace(path, target)

    def fsync_and_tell(descriptor: int) -> None:
        events.append(f"flushed {os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    monkeypatch.setattr(Path, "replace", replace_and_tell)
    monkeypatch.setattr(os, "fsync", fsync_and_tell)
    with whole_file(tmp_path / "best.pt") as partial:
        partial.write_bytes(b"new")
    assert events == ["flushed 3 bytes", "renamed"]
