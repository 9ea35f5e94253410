"""Several processes train as one does. Gloo on the CPU, started by the real torchrun."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from deblur.data.crops import EpochBatches
from deblur.errors import ConfigError
from deblur.training.run import loss_share
from deblur.training.world import World, joined_world
from tests.training.test_resume import SETTINGS, assert_same_state, newest, program

pytestmark = pytest.mark.slow

#: 20 crops in batches of 3: the parts of two processes differ, and one goes without in the last.
UNEVEN: dict[str, Any] = {**SETTINGS, "batch_size": 3, "crops_per_image": 4, "num_epochs": 2}


def torchrun(data: Path, out: Path, settings: dict[str, Any], *stop: str) -> int:
    _, _, *arguments = program(data, out, settings, *stop)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2",
        "--master_addr", "127.0.0.1", "--master_port", str(port), "-m", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=240)
    return done.returncode


def points(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "points.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def together(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that was never interrupted."""
    out = tmp_path_factory.mktemp("together")
    assert torchrun(tiny_data, out, UNEVEN) == 0
    return out


def test_two_processes_give_the_curve_of_one(
    tiny_data: Path, tmp_path: Path, together: Path
) -> None:
    subprocess.run(
        program(tiny_data, tmp_path, UNEVEN), check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    alone, shared = points(tmp_path), points(together)
    assert [p["step"] for p in alone] == [p["step"] for p in shared]
    for key in ("loss", "train_loss", "val_loss", "psnr", "ssim"):
        ours = [p[key] for p in shared if key in p]
        # Sums in another order: the difference is rounding, and it grows with the steps.
        assert ours == pytest.approx([p[key] for p in alone if key in p], rel=2e-3), key
        assert len(ours) >= 2
    first = next(p["loss"] for p in shared if "loss" in p)
    assert first == pytest.approx(next(p["loss"] for p in alone if "loss" in p), rel=1e-6)
    assert newest(tmp_path).step == newest(together).step == 12


def test_two_processes_that_are_stopped_and_resumed_are_bit_identical(
    tiny_data: Path, tmp_path: Path, together: Path
) -> None:
    # Only one of the two is sent the signal; they agree on the step.
    assert torchrun(tiny_data, tmp_path, UNEVEN, "4", "SIGTERM") != 0
    assert newest(tmp_path).step == 4
    assert torchrun(tiny_data, tmp_path, UNEVEN) == 0
    assert_same_state(tmp_path, together)
    assert [p["step"] for p in points(tmp_path)] == [p["step"] for p in points(together)]


def test_the_parts_of_a_batch_count_as_much_as_they_have_crops() -> None:
    for crops in range(1, 9):
        worlds = [World(rank, 3) for rank in range(3)]
        parts = [
            len(next(iter(EpochBatches(crops, crops, 0, range(1), w.rank, w.size)))) for w in worlds
        ]
        weights = [loss_share(crops, world) for world in worlds]
        assert weights == pytest.approx([part * 3 / crops for part in parts])
        assert sum(weights) / 3 == pytest.approx(1.0)


def test_a_half_described_world_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(ConfigError, match="RANK, MASTER_ADDR, MASTER_PORT is not set"),
        joined_world(),
    ):
        pass


def test_a_process_alone_agrees_with_itself() -> None:
    with joined_world() as world:
        assert world == World()
        assert world.agree(15, 0) == [15, 0]
        assert world.gather("a") == ["a"]
        assert world.of_first("b") == "b"
        assert torch.equal(world.mean(torch.ones(2)), torch.ones(2))
