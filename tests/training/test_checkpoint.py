"""Checkpoints are whole, readable without pickle's dangers, and of the right architecture."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from deblur.errors import CheckpointError
from deblur.training.checkpoint import load_checkpoint, load_weights, save_checkpoint


def test_saving_and_loading_gives_the_same_state(tiny_run: Path, tmp_path: Path) -> None:
    kept = load_checkpoint(tiny_run / "last.pt")
    save_checkpoint(tmp_path / "copy.pt", kept)
    again = load_checkpoint(tmp_path / "copy.pt")
    assert again.train_config() == kept.train_config()
    assert all(torch.equal(kept.model[key], again.model[key]) for key in kept.model)
    assert again.optimizer["param_groups"] == kept.optimizer["param_groups"]


def test_a_failed_save_keeps_the_previous_file(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    kept = load_checkpoint(tiny_run / "last.pt")
    save_checkpoint(path, kept)
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CheckpointError, match=r"No space left on device.*previous checkpoint"):
        save_checkpoint(path, kept)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_truncated_checkpoint_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes((tiny_run / "last.pt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(path)


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
    kept = load_checkpoint(tiny_run / "last.pt")
    foreign = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3))
    with pytest.raises(CheckpointError, match="another architecture: 2 weights are missing"):
        load_weights(foreign, kept.model)


def test_a_checkpoint_whose_width_does_not_fit_names_the_first_difference(tiny_run: Path) -> None:
    kept = load_checkpoint(tiny_run / "last.pt")
    kept.config["base_ch"] = 16
    with pytest.raises(CheckpointError, match=r"is \(128,\), expected \(256,\)"):
        kept.network()


def test_somebody_elses_state_dict_is_not_a_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "theirs.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        load_checkpoint(tmp_path / "theirs.pt")
