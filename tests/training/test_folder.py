"""A run's folder: what is kept, who may write, what is pruned."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deblur.errors import CheckpointError
from deblur.training.checkpoint import load_checkpoint
from deblur.training.config import TrainConfig
from deblur.training.folder import BEST, INDEX, CheckpointFolder, epoch_name
from tests.training.states import damage, is_of_step, listed, names, saved, state, step_name

ROOT = Path(__file__).parents[2]
#: Of a checkpoint that ``state`` makes.
SIZE = 50_000


def test_the_newest_the_best_and_the_epochs_asked_for_are_kept(tmp_path: Path) -> None:
    also = {2: [BEST], 4: [epoch_name(2)], 6: [BEST, epoch_name(3)]}
    saved(tmp_path, 1, 2, 3, 4, 5, 6, 7, also=also)
    kept = ["best.pt", "epoch_0002.pt", "epoch_0003.pt", "step_00000006.pt", "step_00000007.pt"]
    assert names(tmp_path) == sorted([*kept, INDEX])
    assert sorted(listed(tmp_path)) == kept
    assert listed(tmp_path)[0] == "step_00000007.pt"
    steps = {name: load_checkpoint(tmp_path / name).step for name in kept}
    assert list(steps.values()) == [6, 4, 6, 6, 7]


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_of_the_newest_stay_as_asked_for(tmp_path: Path, keep: int) -> None:
    saved(tmp_path, 10, 20, 30, 40, 50, keep=keep)
    assert CheckpointFolder(tmp_path).files() == [step_name(s) for s in (50, 40, 30)[:keep]]


def test_the_index_describes_each_file(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    with folder.writing():
        folder.save(state(7, epoch=3), [BEST])
    entry = folder.entries()[BEST]
    assert entry == folder.entries()[step_name(7)]
    assert (entry.step, entry.epoch, entry.psnr) == (7, 3, pytest.approx(20.07))
    assert entry.bytes == (tmp_path / BEST).stat().st_size
    assert SIZE - 10_000 < entry.bytes < SIZE
    assert entry.saved.endswith("+00:00")


def test_other_names_are_links_to_one_file_and_a_later_best_changes_none_of_them(
    tmp_path: Path,
) -> None:
    saved(tmp_path, 1, also={1: [BEST, epoch_name(1)]})
    files = [tmp_path / name for name in (step_name(1), BEST, epoch_name(1))]
    assert len({file.stat().st_ino for file in files}) == 1
    before = (tmp_path / epoch_name(1)).read_bytes()
    saved(tmp_path, 2, also={2: [BEST]})
    assert (tmp_path / epoch_name(1)).read_bytes() == before
    assert (tmp_path / step_name(1)).read_bytes() == before
    assert is_of_step(load_checkpoint(tmp_path / BEST), 2)
    assert set(CheckpointFolder(tmp_path).problems().values()) == {None}


def test_where_there_are_no_links_copies_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    saved(tmp_path, 1, 2, also={1: [BEST], 2: [BEST, epoch_name(1)]})
    assert names(tmp_path) == [
        BEST, epoch_name(1), INDEX, step_name(1), step_name(2)
    ]  # fmt: skip
    files = [tmp_path / name for name in (step_name(2), BEST, epoch_name(1))]
    assert len({file.stat().st_ino for file in files}) == 3
    assert len({file.read_bytes() for file in files}) == 1


def test_what_a_killed_process_of_the_same_number_left_is_not_written_to(tmp_path: Path) -> None:
    saved(tmp_path, 1, also={1: [epoch_name(1)]})
    before = (tmp_path / epoch_name(1)).read_bytes()
    folder = CheckpointFolder(tmp_path)
    with folder.writing():
        # Killed between linking and renaming.
        os.link(tmp_path / step_name(1), tmp_path / f".{BEST}.{os.getpid()}.partial")
        folder.save(state(2), [BEST])
    assert (tmp_path / epoch_name(1)).read_bytes() == before
    assert is_of_step(load_checkpoint(tmp_path / BEST), 2)


def test_what_a_killed_process_left_is_removed_when_the_next_one_starts(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    for name in (f".{step_name(2)}.1.partial", f".{BEST}.1.partial", f".{INDEX}.1.partial"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".model.onnx.1.partial").write_bytes(b"somebody else's")
    with CheckpointFolder(tmp_path).writing():
        assert names(tmp_path) == [".model.onnx.1.partial", INDEX, step_name(1)]


def test_steps_beyond_eight_digits_are_ordered_as_numbers(tmp_path: Path) -> None:
    last = 99_999_999
    saved(tmp_path, last, last + 1, also={last: [epoch_name(9999)], last + 1: [epoch_name(10000)]})
    folder = CheckpointFolder(tmp_path)
    epochs = ["epoch_10000.pt", "epoch_9999.pt"]
    assert folder.files() == ["step_100000000.pt", "step_99999999.pt", *epochs]
    (tmp_path / INDEX).unlink()
    found = folder.newest()
    assert found is not None and found.step == last + 1
    folder.prune(keep=1)
    assert folder.files() == ["step_100000000.pt", "epoch_10000.pt"]


HOLDING = """
import sys, time
from pathlib import Path
from deblur.training.folder import CheckpointFolder

with CheckpointFolder(Path(sys.argv[1])).writing():
    print("writing", flush=True)
    time.sleep(600)
"""


def test_a_second_training_in_the_folder_is_refused_until_the_first_one_ends(
    tmp_path: Path, tiny_data: Path, tiny_config: TrainConfig
) -> None:
    from deblur.training.train import train

    with CheckpointFolder(tmp_path).writing():
        began = time.monotonic()
        with pytest.raises(CheckpointError, match=r"another training writes to .*--out"):
            train(tiny_config, tiny_data, tmp_path)
        assert time.monotonic() - began < 5
        with pytest.raises(CheckpointError, match="another training writes"):
            CheckpointFolder(tmp_path).prune(keep=1)
    assert names(tmp_path) == []
    assert names(saved(tmp_path, 1)) == [INDEX, step_name(1)]


def test_an_error_within_the_training_frees_the_folder(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    with pytest.raises(RuntimeError, match="diverged") as kept, folder.writing():
        folder.save(state(1))
        raise RuntimeError("diverged")
    saved(tmp_path, 2)
    assert folder.files() == [step_name(2), step_name(1)]  # the save under way was finished
    assert kept.value is not None


def test_another_process_is_refused_and_a_killed_one_no_longer_counts(tmp_path: Path) -> None:
    holding = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "writing\n"
        began = time.monotonic()
        with pytest.raises(CheckpointError, match="another training writes"):
            saved(tmp_path, 1)
        assert time.monotonic() - began < 2
    finally:
        holding.kill()
        holding.wait()
    assert is_of_step(CheckpointFolder(saved(tmp_path, 1)).newest(), 1)


def test_pruning_leaves_the_newest_the_best_and_the_newest_epoch(tmp_path: Path) -> None:
    also = {1: [BEST], 2: [epoch_name(1)], 3: [epoch_name(2)]}
    saved(tmp_path, 1, 2, 3, 4, keep=3, also=also)
    (tmp_path / ".best.pt.1.partial").write_bytes(b"half")
    removed = CheckpointFolder(tmp_path).prune(keep=1)
    assert sorted(removed) == [".best.pt.1.partial", epoch_name(1), step_name(2), step_name(3)]
    assert names(tmp_path) == [BEST, epoch_name(2), INDEX, step_name(4)]
    assert sorted(listed(tmp_path)) == [BEST, epoch_name(2), step_name(4)]
    assert CheckpointFolder(tmp_path).prune(keep=1) == []
    assert is_of_step(CheckpointFolder(tmp_path).newest(), 4)


def test_pruning_spares_the_newest_that_is_whole(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 4, keep=4)
    damage(tmp_path / step_name(4), "flipped")
    assert CheckpointFolder(tmp_path).prune(keep=1) == [step_name(2), step_name(1)]
    assert is_of_step(CheckpointFolder(tmp_path).newest(), 3)
    damage(tmp_path / step_name(3), "flipped")
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        CheckpointFolder(tmp_path).prune(keep=1)
    assert CheckpointFolder(tmp_path).files() == [step_name(4), step_name(3)]


def test_pruning_works_without_an_index(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, keep=3, also={1: [BEST]})
    (tmp_path / INDEX).unlink()
    assert CheckpointFolder(tmp_path).prune(keep=1) == [step_name(2), step_name(1)]
    assert names(tmp_path) == [BEST, step_name(3)]
    assert is_of_step(CheckpointFolder(tmp_path).newest(), 3)
