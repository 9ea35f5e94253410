"""A run's folder whose files are damaged, lost, left behind or being replaced."""

import logging
import shutil
import threading
from pathlib import Path

import pytest
import torch

from deblur.digests import file_sha256
from deblur.errors import CheckpointError
from deblur.training.folder import BEST, INDEX, CheckpointFolder, epoch_name, open_checkpoint
from tests.training.states import damage, is_of_step, listed, names, saved, state, step_name


@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied", "removed"])
def test_a_damaged_newest_is_named_and_the_one_before_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    saved(tmp_path, 3, 4, 5)
    damage(tmp_path / step_name(5), how)
    with caplog.at_level(logging.WARNING):
        assert is_of_step(CheckpointFolder(tmp_path).newest(), 4)
    (warning,) = caplog.messages
    assert str(tmp_path / step_name(5)) in warning
    assert ("is gone" if how == "removed" else "is damaged") in warning
    assert warning.endswith(f"going on from {step_name(4)}")


def test_a_whole_newest_is_taken_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, 3, 4, also={3: [BEST]})
    with caplog.at_level(logging.WARNING):
        assert is_of_step(CheckpointFolder(tmp_path).newest(), 4)
    assert caplog.messages == []


def test_an_epoch_or_the_best_is_gone_back_to_whichever_is_later(tmp_path: Path) -> None:
    for best, epoch in ((4, 2), (2, 4)):
        path = tmp_path / f"best of step {best}"
        saved(path, 1, 2, 3, 4, 5, 6, also={best: [BEST], epoch: [epoch_name(1)]})
        for step in (5, 6):
            damage(path / step_name(step), "flipped")
        assert is_of_step(CheckpointFolder(path).newest(), 4)


def test_an_empty_folder_has_no_newest(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path).newest() is None
    assert CheckpointFolder(tmp_path / "none").newest() is None
    with pytest.raises(CheckpointError, match=r"holds no checkpoint: train one with  deblur train"):
        open_checkpoint(tmp_path)


def test_a_folder_stands_for_its_best_or_its_newest_while_there_is_no_best(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    assert is_of_step(open_checkpoint(tmp_path), 2)
    saved(tmp_path, 3, 4, also={3: [BEST]})
    assert is_of_step(open_checkpoint(tmp_path), 3)
    assert is_of_step(open_checkpoint(tmp_path / step_name(4)), 4)


@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied"])
def test_a_folder_without_a_whole_checkpoint_is_an_error(tmp_path: Path, how: str) -> None:
    saved(tmp_path, 1, 2, 3, also={1: [BEST]})
    for name in CheckpointFolder(tmp_path).files():
        damage(tmp_path / name, how)
    with pytest.raises(CheckpointError, match=rf"none of the 3 .*{step_name(3)}.*from a backup"):
        CheckpointFolder(tmp_path).newest()


INDEXES = {
    "missing": None,
    "empty": b"",
    "zeros": b"\0" * 1144,
    "a list": b"[]",
    "no names": b'{"format": 1}',
    "names of another kind": b'{"format": 1, "latest": 7, "checkpoints": []}',
    "entries of another kind": b'{"format": 1, "latest": null, "checkpoints": {"best.pt": 7}}',
    "another version": b'{"format": 99, "latest": "best.pt", "checkpoints": {}}',
}


@pytest.mark.parametrize("content", INDEXES.values(), ids=INDEXES.keys())
def test_without_a_readable_index_the_checkpoints_themselves_are_read(
    tmp_path: Path, content: bytes | None
) -> None:
    saved(tmp_path, 1, 2, 3, 4, also={1: [BEST]})
    if content is None:
        (tmp_path / INDEX).unlink()
    else:
        (tmp_path / INDEX).write_bytes(content)
    folder = CheckpointFolder(tmp_path)
    assert is_of_step(folder.newest(), 4)
    damage(tmp_path / step_name(4), "flipped")
    assert is_of_step(folder.newest(), 3)

    saved(tmp_path, 5)
    assert listed(tmp_path) == [step_name(5)]
    assert is_of_step(folder.newest(), 5)


def test_whichever_byte_of_the_index_is_damaged_a_whole_checkpoint_is_found(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    whole = (tmp_path / INDEX).read_bytes()
    steps = set()
    for position in range(0, len(whole), 3):
        flipped = bytes([whole[position] ^ (1 << position % 8)])
        (tmp_path / INDEX).write_bytes(whole[:position] + flipped + whole[position + 1 :])
        found = CheckpointFolder(tmp_path).newest()
        assert found is not None and is_of_step(found, found.step)
        steps.add(found.step)
    assert steps == {2, 3}  # 2 where the digest of 3 was hit


def test_saving_from_an_earlier_step_removes_what_was_later(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20, 30)
    damage(tmp_path / step_name(30), "flipped")
    assert is_of_step(CheckpointFolder(tmp_path).newest(), 20)
    saved(tmp_path, 25)
    assert names(tmp_path) == [INDEX, step_name(20), step_name(25)]
    assert sorted(listed(tmp_path)) == [step_name(20), step_name(25)]
    assert is_of_step(CheckpointFolder(tmp_path).newest(), 25)


def test_what_an_interrupted_save_left_gives_way_to_what_was_finished(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20)
    for step in (15, 30):  # written, but not yet listed
        shutil.copy(saved(tmp_path / "other", step) / step_name(step), tmp_path)
    shutil.rmtree(tmp_path / "other")
    assert is_of_step(CheckpointFolder(tmp_path).newest(), 20)
    saved(tmp_path, 25)
    assert names(tmp_path) == [INDEX, step_name(20), step_name(25)]


def test_a_kill_between_a_replaced_file_and_the_index_leaves_a_whole_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timed save and that of the epoch's end may be of the same step."""
    saved(tmp_path, 1, 2, also={1: [BEST]})

    def killed(*_: object) -> None:
        raise SystemExit

    folder = CheckpointFolder(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(SystemExit), folder.writing():
        patch.setattr("deblur.training.folder.file_sha256", killed)
        folder.save(state(2, epoch=1), [BEST])
    found = folder.newest()
    assert found is not None and found.epoch == 1 and is_of_step(found, 2)
    assert set(folder.problems().values()) == {None}


def test_files_removed_by_a_training_while_they_are_looked_at_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, 1, keep=1, also={1: [BEST]})
    steps = iter([2, 3])

    def training_goes_on(path: Path) -> str:
        with monkeypatch.context() as patch:
            patch.setattr("deblur.training.folder.file_sha256", file_sha256)
            for step in [step for step in [next(steps, None)] if step]:
                saved(tmp_path, step, keep=1, also={step: [BEST]})
        return file_sha256(path)

    monkeypatch.setattr("deblur.training.folder.file_sha256", training_goes_on)
    with caplog.at_level(logging.WARNING):
        assert is_of_step(CheckpointFolder(tmp_path).newest(), 3)
    assert caplog.messages == []
    steps = iter([4])
    assert CheckpointFolder(tmp_path).problems() == {step_name(4): None, BEST: None}


def test_readers_find_a_whole_checkpoint_while_another_is_saved(tmp_path: Path) -> None:
    saved(tmp_path, 1, also={1: [BEST]})
    found: list[int] = []
    faults: list[BaseException] = []
    folder, ended = CheckpointFolder(tmp_path), threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                newest, best = folder.newest(), open_checkpoint(tmp_path)
                assert newest is not None and is_of_step(newest, newest.step)
                assert is_of_step(best, best.step)
                found.append(newest.step)
            except BaseException as error:
                faults.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    saved(tmp_path, *range(2, 62), also={step: [BEST] for step in range(2, 62, 3)})
    ended.set()
    reader.join()
    assert faults == []
    assert found == sorted(found)
    assert len(set(found)) > 3


def test_a_run_of_the_previous_format_is_not_taken_for_an_empty_folder(tmp_path: Path) -> None:
    for name in (BEST, epoch_name(10), "last.pt"):
        torch.save({"format": 1, "config": {}}, tmp_path / name)
    with pytest.raises(CheckpointError, match="is a checkpoint of another version"):
        CheckpointFolder(tmp_path).newest()
