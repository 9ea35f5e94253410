"""A run that is interrupted and goes on equals one that was never interrupted, to the bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from deblur.data.prepare import prepare
from deblur.errors import CheckpointError, StoppedError
from deblur.evaluation import evaluate
from deblur.training.checkpoint import Checkpoint
from deblur.training.config import TrainConfig, make_config
from deblur.training.folder import CheckpointFolder
from deblur.training.train import TrainSummary, train
from tests.conftest import TINY

#: Three epochs of five steps, the last of them with a smaller batch, and everything on.
SETTINGS: dict[str, Any] = {
    **TINY, "num_epochs": 3, "crops_per_image": 5, "batch_size": 4, "schedule": "cosine",
    "warmup_steps": 3, "ema_decay": 0.9, "clip_norm": 1.0, "fft_weight": 0.1, "log_every": 1,
}  # fmt: skip
STEPS_PER_EPOCH = 5


class StopAt:
    """A tracker that asks its own process to stop when a step is reported."""

    def __init__(self, *steps: int) -> None:
        self.steps = set(steps)
        self.losses: dict[int, float] = {}
        self.epochs: dict[int, float] = {}

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        assert step is not None
        if "loss" not in values:
            self.epochs[step] = values["train_loss"]
            return
        self.losses[step] = values["loss"]
        if step in self.steps:
            self.steps.discard(step)
            os.kill(os.getpid(), signal.SIGTERM)

    def picture(self, image: object, name: str, step: int | None = None) -> None:
        pass


def newest(out: Path) -> Checkpoint:
    found = CheckpointFolder(out).newest()
    assert found is not None
    return found


def differences(a: object, b: object, where: str = "") -> list[str]:
    """Where two states differ; tensors have to be equal to the bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [d for key in a for d in differences(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True))
                for d in differences(x, y, f"{where}[{i}]")]  # fmt: skip
    return [] if a == b else [f"{where}: {a!r} and {b!r}"]


def assert_same_state(one: Path, other: Path) -> None:
    """Everything but the clock and what does not decide the result."""
    a, b = newest(one), newest(other)
    for state in (a, b):
        state.config = state.train_config().decisive()
        state.seconds = 0.0
        for point in state.history:
            point["seconds"] = 0.0
    assert differences(a.__dict__, b.__dict__) == []


@pytest.fixture(scope="module")
def straight(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StopAt]:
    """A run that was never interrupted."""
    out, tracker = tmp_path_factory.mktemp("straight"), StopAt()
    train(make_config("seed", SETTINGS), tiny_data, out, tracker=tracker)
    assert newest(out).step == 3 * STEPS_PER_EPOCH
    return out, tracker


def run_in_parts(
    config: TrainConfig, data: Path, out: Path, stops: tuple[int, ...]
) -> tuple[TrainSummary, StopAt]:
    tracker = StopAt(*stops)
    for stop in stops:
        with pytest.raises(StoppedError, match="everything is saved") as stopped:
            train(config, data, out, tracker=tracker)
        assert stopped.value.exit_code == 143
        assert newest(out).step == stop
    return train(config, data, out, tracker=tracker), tracker


@pytest.mark.parametrize("workers", [0, 2, 4])
def test_stopped_in_the_middle_of_epochs_and_resumed_is_bit_identical(
    tiny_data: Path, tmp_path: Path, straight: tuple[Path, StopAt], workers: int
) -> None:
    config = make_config("seed", {**SETTINGS, "workers": workers})
    # In the middle of an epoch, before its last batch, right at its end, and in the next one.
    _, tracker = run_in_parts(config, tiny_data, tmp_path, (2, 4, 5, 13))
    assert_same_state(tmp_path, straight[0])
    assert tracker.losses == straight[1].losses
    assert tracker.epochs == straight[1].epochs


def test_the_number_of_workers_may_change_on_the_way(
    tiny_data: Path, tmp_path: Path, straight: tuple[Path, StopAt]
) -> None:
    for stop, workers in ((3, 2), (8, 0), (11, 4)):
        config = make_config("seed", {**SETTINGS, "workers": workers})
        with pytest.raises(StoppedError):
            train(config, tiny_data, tmp_path, tracker=StopAt(stop))
    train(make_config("seed", SETTINGS), tiny_data, tmp_path)
    assert_same_state(tmp_path, straight[0])


def test_a_phase_on_larger_crops_is_resumed_exactly(tiny_data: Path, tmp_path: Path) -> None:
    config = make_config(
        "seed", {**SETTINGS, "last_epochs": 1, "last_patch_size": 96, "last_batch_size": 3}
    )
    train(config, tiny_data, tmp_path / "straight")
    # 20 crops: two epochs of 5 steps, then one of 7.
    summary, _ = run_in_parts(config, tiny_data, tmp_path / "parts", (7, 10, 12))
    assert summary.step == 17
    assert_same_state(tmp_path / "parts", tmp_path / "straight")


def test_shake_made_anew_is_resumed_exactly(tiny_data: Path, tmp_path: Path) -> None:
    shake = {"shortest": 3, "longest": 6, "perspective": 0}
    config = make_config("seed", {**SETTINGS, "num_epochs": 1, "patch_size": 48, "shake": shake})
    train(config, tiny_data, tmp_path / "straight")
    run_in_parts(config, tiny_data, tmp_path / "parts", (3,))
    assert_same_state(tmp_path / "parts", tmp_path / "straight")


def test_a_stop_during_validation_is_heard_and_the_validation_done_again(
    tiny_data: Path, tmp_path: Path, straight: tuple[Path, StopAt], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deblur.training import loop

    real = evaluate

    def slow(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kwargs)

    monkeypatch.setattr(loop, "evaluate", slow)
    config = make_config("seed", SETTINGS)
    with pytest.raises(StoppedError) as stopped:
        train(config, tiny_data, tmp_path)
    assert stopped.value.exit_code == 130
    kept = newest(tmp_path)
    assert (kept.step, kept.epoch, kept.history) == (STEPS_PER_EPOCH, 0, [])
    monkeypatch.undo()
    train(config, tiny_data, tmp_path)
    assert_same_state(tmp_path, straight[0])


def program(data: Path, out: Path, settings: dict[str, Any], *stop: str) -> list[str]:
    return [
        sys.executable, "-m", "tests.training.tiny_training", str(data), str(out),
        json.dumps(settings), *stop,
    ]  # fmt: skip


@pytest.mark.slow
def test_killed_without_warning_it_goes_on_from_the_last_save(
    tiny_data: Path, tmp_path: Path
) -> None:
    # A save after every step, so that there is one in the middle of an epoch.
    settings = {**SETTINGS, "save_minutes": 1e-6}
    config = make_config("seed", settings)
    train(config, tiny_data, tmp_path / "straight")
    killed = tmp_path / "killed"
    process = subprocess.Popen(program(tiny_data, killed, settings))
    deadline = time.monotonic() + 120
    while not list(killed.glob("step_0000000[789].pt")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert 6 <= newest(killed).step < 15
    train(config, tiny_data, killed)
    assert_same_state(killed, tmp_path / "straight")


def test_a_run_of_another_configuration_is_not_continued_unless_told_to(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    train(make_config("seed", {**TINY, "num_epochs": 1}), tiny_data, tmp_path)
    with pytest.raises(CheckpointError, match=r"num_epochs was 1, is now 2.*--adopt"):
        train(tiny_config, tiny_data, tmp_path)
    summary = train(tiny_config, tiny_data, tmp_path, adopt=True)
    assert (summary.epochs, summary.step) == (2, 4)
    assert newest(tmp_path).train_config() == tiny_config


def test_a_run_on_other_data_is_not_continued_unless_told_to(
    tiny_data: Path, root: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = make_config("seed", {**TINY, "num_epochs": 4, "log_every": 1})
    with pytest.raises(StoppedError):
        train(config, tiny_data, tmp_path / "run", tracker=StopAt(3))
    import shutil

    shutil.rmtree(root / "train" / "masonry-train")
    other = prepare(root, tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"the data was another .*--adopt"):
        train(config, tmp_path / "other", tmp_path / "run")
    # Two steps an epoch before, one now: the second epoch begins anew.
    summary = train(config, tmp_path / "other", tmp_path / "run", adopt=True)
    assert (summary.epochs, summary.step) == (4, 4)
    assert newest(tmp_path / "run").data_digest == other.digest


def test_settings_that_change_no_result_may_change_on_the_way(
    tiny_data: Path, tmp_path: Path
) -> None:
    train(make_config("seed", {**TINY, "num_epochs": 1}), tiny_data, tmp_path)
    other = {"workers": 2, "keep": 5, "save_minutes": 1, "log_every": 7, "checkpoint_every": 3}
    assert train(make_config("seed", {**TINY, "num_epochs": 1, **other}), tiny_data, tmp_path)
