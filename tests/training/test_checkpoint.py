"""Checkpoints are whole, readable without pickle's dangers, and of the right architecture."""

import os
import pickle
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from deblur.errors import CheckpointError
from deblur.training.checkpoint import FORMAT, load_checkpoint, load_weights, save_checkpoint
from deblur.training.config import TrainConfig
from deblur.training.folder import BEST, CheckpointFolder
from tests.training.states import state


def leaves(tree: Any) -> list[Any]:
    """What a tree of dictionaries and lists ends in; tensors as bytes."""
    if isinstance(tree, dict):
        return [leaf for key in tree for leaf in (key, *leaves(tree[key]))]
    if isinstance(tree, list | tuple):
        return [leaf for value in tree for leaf in leaves(value)]
    return [(tree.shape, tree.numpy().tobytes()) if isinstance(tree, torch.Tensor) else tree]


def test_saving_and_loading_gives_the_same_state(tiny_run: Path, tmp_path: Path) -> None:
    kept = CheckpointFolder(tiny_run).newest()
    assert kept is not None
    save_checkpoint(tmp_path / "copy.pt", kept)
    again = load_checkpoint(tmp_path / "copy.pt")
    assert leaves(asdict(again)) == leaves(asdict(kept))
    assert len(leaves(kept.model)) > 100
    assert len(leaves(kept.optimizer)) > 100
    assert (again.epoch, len(again.history)) == (2, 2)


def test_a_run_leaves_its_newest_its_best_and_the_epochs_asked_for(
    tiny_run: Path, tiny_config: TrainConfig
) -> None:
    folder = CheckpointFolder(tiny_run)
    newest, best = folder.newest(), load_checkpoint(tiny_run / BEST)
    assert newest is not None
    assert newest.train_config() == tiny_config
    assert folder.latest == f"step_{newest.step:08d}.pt"
    epochs = ["epoch_0002.pt", "epoch_0001.pt"]
    before = f"step_{newest.step // 2:08d}.pt"
    assert folder.files() == [folder.latest, before, *epochs, BEST]
    assert best.history[-1]["psnr"] == best.best_psnr == newest.best_psnr
    assert set(folder.problems().values()) == {None}


def test_the_same_state_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, state(3))
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_a_failed_save_keeps_the_previous_file(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.pt"
    kept = load_checkpoint(tiny_run / BEST)
    save_checkpoint(path, kept)
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CheckpointError, match=r"No space left on device.*previous checkpoint"):
        save_checkpoint(path, kept)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mine.pt"]


@pytest.mark.parametrize("size", [0, 1, 5000, -1])
def test_a_truncated_checkpoint_is_refused(tiny_run: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.pt"
    path.write_bytes((tiny_run / BEST).read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"cut\.pt is damaged or not a checkpoint \(\w+"):
        load_checkpoint(path)


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / BEST
    save_checkpoint(path, state(3))
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<f", 3.0) * 100) + 202] ^= 1
    path.write_bytes(content)
    assert not torch.equal(
        torch.load(path, weights_only=True)["model"]["weight"], state(3).model["weight"]
    ), "torch checks itself by now"
    with pytest.raises(CheckpointError, match=r"best\.pt is damaged .*checksum of archive/data/0"):
        load_checkpoint(path)


def test_whatever_bit_is_flipped_the_content_is_either_refused_or_the_same(tmp_path: Path) -> None:
    path, kept = tmp_path / "kept.pt", state(3, weights=20)
    save_checkpoint(path, kept)
    content, expected, refused = path.read_bytes(), leaves(asdict(kept)), 0
    directory = content.index(b"PK\x01\x02")  # each byte of the table of contents, and some others
    for position in [*range(0, directory, 11), *range(directory, len(content))]:
        flipped = bytearray(content)
        flipped[position] ^= 0x10 if position % 2 else 0xFF
        path.write_bytes(flipped)
        try:
            assert leaves(asdict(load_checkpoint(path))) == expected, position
        except CheckpointError as error:
            assert "damaged or not a checkpoint (" in str(error)
            refused += 1
    assert refused > 300


def test_a_checkpoint_of_the_previous_format_is_refused_as_such(tmp_path: Path) -> None:
    torch.save({"format": 1, "config": {}, "model": {}}, tmp_path / "old.pt")
    with pytest.raises(CheckpointError, match=r"of another version .*format 2.*train again"):
        load_checkpoint(tmp_path / "old.pt")


def test_a_checkpoint_that_lacks_parts_is_refused(tmp_path: Path) -> None:
    torch.save({"format": FORMAT, "config": {}}, tmp_path / "less.pt")
    with pytest.raises(CheckpointError, match=r"lacks parts of a checkpoint: .*'data_digest'"):
        load_checkpoint(tmp_path / "less.pt")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pwned",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "config": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


def test_a_missing_checkpoint_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*deblur train"):
        load_checkpoint(tmp_path / "none.pt")


def test_weights_of_another_architecture_are_refused(tiny_run: Path) -> None:
    kept = load_checkpoint(tiny_run / BEST)
    foreign = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3))
    with pytest.raises(CheckpointError, match="another architecture: 2 weights are missing"):
        load_weights(foreign, kept.model)


def test_a_checkpoint_whose_width_does_not_fit_names_the_first_difference(tiny_run: Path) -> None:
    kept = load_checkpoint(tiny_run / BEST)
    kept.config["base_ch"] = 16
    with pytest.raises(CheckpointError, match=r"is \(128,\), expected \(256,\)"):
        kept.network()


def test_somebody_elses_state_dict_is_not_a_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "theirs.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        load_checkpoint(tmp_path / "theirs.pt")
