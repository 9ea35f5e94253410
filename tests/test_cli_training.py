"""``deblur train --dry-run`` and ``deblur checkpoints``: what they print, how they end."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deblur.cli import app
from deblur.models import build_network
from deblur.training.checkpoint import load_checkpoint
from deblur.training.folder import BEST, INDEX, CheckpointFolder, epoch_name
from tests.training.states import damage, is_of_step, names, saved, step_name


def deblur(*args: object, columns: int = 200) -> tuple[int, str]:
    """Exit code and everything printed, on one line."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": str(columns)})
    return result.exit_code, re.sub(r"\s+", " ", result.output)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the epochs 1 and 2, the best of step 2 and the newest, 4, and 3."""
    also = {1: [epoch_name(1)], 2: [BEST, epoch_name(2)]}
    return saved(tmp_path / "mine", 1, 2, 3, 4, also=also)


# Checkpoints.


@pytest.mark.parametrize("columns", [80, 200])
def test_checkpoints_are_listed_with_what_they_hold(run: Path, columns: int) -> None:
    code, said = deblur("checkpoints", "ls", run, columns=columns)
    assert code == 0
    figures = r" │ {} │ 0 │ {} │ 0\.0 │ \d{{4}}-\d\d-\d\d \d\d:\d\d │"
    for name, step in (
        (f"{step_name(4)} (newest)", 4), (step_name(3), 3), (epoch_name(2), 2), (epoch_name(1), 1),
        (BEST, 2),
    ):  # fmt: skip
        assert re.search(re.escape(name) + figures.format(step, f"20.0{step}"), said), (name, said)
    assert said.index("step_00000004") < said.index("step_00000003") < said.index("epoch_0002")


def test_a_file_that_is_not_in_the_index_is_listed_as_such(run: Path) -> None:
    (run / INDEX).unlink()
    code, said = deblur("checkpoints", "ls", run)
    assert code == 0
    assert said.count("not listed") == 5
    assert "(newest)" not in said


def test_whole_checkpoints_are_verified(run: Path) -> None:
    code, said = deblur("checkpoints", "verify", run)
    assert code == 0
    for name in (step_name(4), step_name(3), epoch_name(2), epoch_name(1), BEST):
        assert f"{name}: whole" in said


@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied", "removed"])
def test_damage_ends_verifying_with_2(run: Path, how: str) -> None:
    damage(run / step_name(4), how)
    damage(run / epoch_name(1), "flipped")
    code, said = deblur("checkpoints", "verify", run)
    assert code == 2
    found = "is gone" if how == "removed" else "is damaged: its SHA-256 is not the one in"
    assert f"{step_name(4)}: {run / step_name(4)} {found}" in said
    assert f"{epoch_name(1)}: {run / epoch_name(1)} is damaged" in said
    assert f"{step_name(3)}: whole" in said
    assert "error: 2 of 5 checkpoints are damaged" in said
    assert "Traceback" not in said


def test_the_best_is_verified_without_an_index_too(run: Path) -> None:
    damage(run / BEST, "flipped")  # and so epoch 2, which is the same file
    (run / INDEX).unlink()
    code, said = deblur("checkpoints", "verify", run)
    assert code == 2
    assert f"{BEST}: {run / BEST} is damaged or not a checkpoint (the checksum of" in said
    assert "error: 2 of 5 checkpoints are damaged" in said


def test_pruning_says_what_it_removed(run: Path) -> None:
    (run / ".step_00000005.pt.77.partial").write_bytes(b"half")
    code, said = deblur("checkpoints", "prune", run)
    assert code == 0
    removed = f"{step_name(3)}, {epoch_name(1)}, .step_00000005.pt.77.partial"
    assert said == f"removed {removed} "
    assert names(run) == [BEST, epoch_name(2), INDEX, step_name(4)]
    assert is_of_step(CheckpointFolder(run).newest(), 4)
    assert is_of_step(load_checkpoint(run / BEST), 2)
    assert deblur("checkpoints", "prune", run) == (0, "nothing to remove ")


def test_pruning_keeps_as_many_as_asked_for_and_none_is_not_offered(run: Path) -> None:
    assert deblur("checkpoints", "prune", run, "--keep", 2) == (0, "nothing to remove ")
    code, said = deblur("checkpoints", "prune", run, "--keep", 0)
    assert code == 2
    assert "greater than or equal to 1" in said
    assert len(CheckpointFolder(run).files()) == 5


def test_pruning_waits_for_nobody_while_a_training_writes(run: Path) -> None:
    with CheckpointFolder(run).writing():
        code, said = deblur("checkpoints", "prune", run)
    assert code == 2
    assert "error: another training writes to" in said
    assert len(CheckpointFolder(run).files()) == 5


@pytest.mark.parametrize("command", ["ls", "verify", "prune"])
def test_a_folder_without_checkpoints_is_an_error_and_stays_as_it_is(
    tmp_path: Path, command: str
) -> None:
    for path in (tmp_path, tmp_path / "none"):
        code, said = deblur("checkpoints", command, path)
        assert code == 2
        assert f"error: {path} holds no checkpoints: expected the folder of a run" in said
    assert list(tmp_path.iterdir()) == []


# Estimates.

SMALL = [
    part
    for setting in ("patch_size=64", "tile=64", "overlap=16", "num_epochs=3")
    for part in ("--set", setting)
]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("prepared", [False, True])
def test_a_dry_run_says_what_a_training_takes_and_leaves_no_file(
    workplace: Path, root: Path, tiny_data: Path, prepared: bool
) -> None:
    data = tiny_data if prepared else root
    before = sorted(data.rglob("*"))
    code, said = deblur("train", data, "--recipe", "demo", *SMALL, "--dry-run")
    assert code == 0, said
    parameters = sum(p.numel() for p in build_network("unet", 8, True).parameters())
    assert f"{parameters:,} parameters" in said
    # Four pictures, ten crops of each; batches of four.
    assert "epochs: 3 of 40 crops of 64x64, 10 steps of 4" in said
    assert "120 crops in 30 steps" in said
    assert "recipe demo" in said
    assert re.search(r"│ patch_size │ 64 +│ side of a crop", said)
    found = re.search(
        r"about (\d+\.\d) crops/s, (\d+:\d\d(?::\d\d)?) of training and (\d+:\d\d(?::\d\d)?) of "
        r"validation, (\d+\.\d) GB of memory",
        said,
    )
    assert found, said
    assert float(found[1]) > 1
    assert 0.1 < float(found[4]) < 100
    assert list(workplace.iterdir()) == []
    assert sorted(data.rglob("*")) == before


def test_a_dry_run_counts_the_larger_crops_at_the_end(workplace: Path, tiny_data: Path) -> None:
    last = ["--set", "last_epochs=1", "--set", "last_patch_size=96"]
    code, said = deblur("train", tiny_data, "--recipe", "demo", *SMALL, *last, "--dry-run")
    assert code == 0, said
    assert "epochs: 2 of 40 crops of 64x64, 10 steps of 4" in said
    # A step of 4 x 64 x 64 pixels has room for one crop of 96 x 96.
    assert "epochs: 1 of 40 crops of 96x96, 40 steps of 1" in said
    assert "120 crops in 60 steps" in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dry-run", "--set", "batchsize=4"], "did you mean 'batch_size'"),
        (["--dry-run", "--set", "batch_size=none"], "batch_size"),
        (["--dry-run", "--recipe", "gopr"], "did you mean 'gopro'"),
        (["--dry-run", "--set", "num_epochs=1", "--set", "last_epochs=2"], "last_epochs 2 is more"),
        ([], "where should the run be kept? Name a folder, as --out runs/mine"),
    ],
)
def test_a_mistaken_call_says_what_to_do(
    workplace: Path, tiny_data: Path, args: list[str], message: str
) -> None:
    code, said = deblur("train", tiny_data, *args)
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert list(workplace.iterdir()) == []


def test_a_dry_run_on_no_data_is_an_error(workplace: Path) -> None:
    code, said = deblur("train", "nowhere", "--dry-run")
    assert code == 2
    assert "there is no data folder nowhere" in said
    assert list(workplace.iterdir()) == []
