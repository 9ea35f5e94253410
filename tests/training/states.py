"""Checkpoints without a training: their weights say which step they are of."""

import json
from pathlib import Path

import torch

from deblur.training.checkpoint import Checkpoint
from deblur.training.config import make_config
from deblur.training.folder import INDEX, CheckpointFolder


def state(step: int, weights: int = 10_000, epoch: int = 0) -> Checkpoint:
    """A checkpoint of ``4 * weights`` bytes of weights, all of them ``step``."""
    return Checkpoint(
        config=make_config().model_dump(mode="json"),
        data_digest="0" * 64,
        epoch=epoch,
        step=step,
        loss_sum=0.0,
        loss_count=0,
        model={"weight": torch.full((weights,), float(step))},
        ema=None,
        optimizer={},
        scaler=None,
        rng={"cpu": torch.get_rng_state()},
        best_psnr=20.0,
        stale=0,
        history=[{"psnr": 20.0 + step / 100}],
        skipped=0,
        skipped_in_row=0,
        seconds=1.0,
        compiled=False,
    )


def is_of_step(checkpoint: Checkpoint | None, step: int) -> bool:
    """Whether it is the one that ``state`` made for this step, in its weights, too."""
    return (
        checkpoint is not None
        and checkpoint.step == step
        and bool((checkpoint.model["weight"] == step).all())
    )


def saved(path: Path, *steps: int, keep: int = 2, also: dict[int, list[str]] | None = None) -> Path:
    """A folder with checkpoints of these steps, saved one after the other."""
    folder = CheckpointFolder(path, keep)
    with folder.writing():
        for step in steps:
            folder.save(state(step), (also or {}).get(step, []))
    return path


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.name != ".lock")


def listed(path: Path) -> list[str]:
    """What the index names, the newest first."""
    content = json.loads((path / INDEX).read_text(encoding="utf-8"))
    return [content["latest"], *(set(content["checkpoints"]) - {content["latest"]})]


def step_name(step: int) -> str:
    return f"step_{step:08d}.pt"


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    middle = len(content) // 2
    if how == "flipped":
        content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes(content)
    elif how == "truncated":
        file.write_bytes(content[:middle])
    elif how == "emptied":
        file.write_bytes(b"")
    elif how == "removed":
        file.unlink()
