"""Losses that are not finite, and memory that is full."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deblur.data.feed import CropBatch
from deblur.device import choose_numerics
from deblur.errors import DeblurError
from deblur.training.config import TrainConfig, make_config
from deblur.training.plan import Phase
from deblur.training.run import Batch, TrainingRun
from deblur.training.train import train
from deblur.training.trouble import DivergedError, memory_advice
from tests.conftest import TINY
from tests.training.test_resume import newest


def a_batch(crops: int = 2) -> CropBatch:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (2, crops, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return CropBatch(pixels, torch.zeros(crops, 3, dtype=torch.bool))


def fresh_run(**settings: Any) -> TrainingRun:
    config = make_config("seed", {**TINY, "patch_size": 32, **settings})
    return TrainingRun(config, "digest", choose_numerics("fp32", "cpu"))


def spoil(run: TrainingRun, loss: float) -> None:
    """Make the loss of the next step what it should not be."""
    real = run.criterion.forward

    def spoiled(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        run.criterion.forward = real  # type: ignore[method-assign]
        return real(pred, target) * loss

    run.criterion.forward = spoiled  # type: ignore[method-assign]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_without_a_finite_loss_changes_nothing(bad: float) -> None:
    run = fresh_run(ema_decay=0.9)
    run.train_step(a_batch(), 1e-3)
    before = run.state()
    spoil(run, bad)
    loss, _, skipped = run.train_step(a_batch(), 1e-3).tolist()
    assert not np.isfinite(loss)
    assert skipped == 1.0
    after = run.state()
    assert all(torch.equal(before.model[key], after.model[key]) for key in before.model)
    moments = [state.optimizer["state"][0] for state in (before, after)]
    assert torch.equal(moments[0]["exp_avg"], moments[1]["exp_avg"])
    assert moments[0]["step"] == moments[1]["step"] == 1
    assert (before.loss_sum, before.loss_count) == (after.loss_sum, after.loss_count)
    assert after.step == 2
    # The next one is an ordinary step again.
    assert run.train_step(a_batch(), 1e-3).tolist()[2] == 0.0
    assert not torch.equal(run.state().model["final.weight"], after.model["final.weight"])


def test_single_bad_steps_are_skipped_counted_and_survived(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    real = TrainingRun.train_step

    def sometimes(self: TrainingRun, batch: Batch, rate: float, share: float = 1.0) -> torch.Tensor:
        if self.step in (1, 3):
            spoil(self, float("nan"))
        return real(self, batch, rate, share)

    monkeypatch.setattr(TrainingRun, "train_step", sometimes)
    config = make_config("seed", {**TINY, "max_skipped": 2})
    summary = train(config, tiny_data, tmp_path)
    assert summary.step == 4
    kept = newest(tmp_path)
    assert (kept.skipped, kept.skipped_in_row) == (2, 1)
    assert "step 2 skipped" in caplog.text
    assert np.isfinite([point["train_loss"] for point in kept.history]).all()


def test_bad_steps_in_a_row_end_the_run_and_name_the_batch(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = TrainingRun.train_step, []

    def broken(self: TrainingRun, batch: Batch, rate: float, share: float = 1.0) -> torch.Tensor:
        assert isinstance(batch, CropBatch)
        seen.append(batch.pixels)
        if self.step >= 1:
            spoil(self, float("nan"))
        return real(self, batch, rate, share)

    monkeypatch.setattr(TrainingRun, "train_step", broken)
    config = make_config("seed", {**TINY, "max_skipped": 2})
    with pytest.raises(DivergedError, match=r"not finite in 2 steps in a row.*learning_rate"):
        train(config, tiny_data, tmp_path)
    report = json.loads((tmp_path / "bad_batch.json").read_text())
    assert report["step"] == len(seen) == 3
    assert len(report["crops"]) == 4
    assert {"picture", "top", "left", "turn", "epoch", "number"} <= report["crops"][0].keys()
    # The picture shows the very crops: blurred above, sharp below.
    shown = np.asarray(Image.open(tmp_path / "bad_batch.png"))
    blurred, sharp = seen[-1].numpy()
    rows = [np.concatenate(list(crops), axis=1) for crops in (blurred, sharp)]
    np.testing.assert_array_equal(shown, np.concatenate(rows))
    # What was saved before is whole, and finite.
    kept = newest(tmp_path)
    assert all(torch.isfinite(weight).all() for weight in kept.model.values())


@pytest.mark.parametrize(
    ("batch", "patch", "world", "advice"),
    [
        (32, 256, 1, r"32 crops of 256x256 on 1 process .*batch_size=16, or precision=bf16"),
        (6, 256, 2, r"on 2 processes .*batch_size=2"),
        (1, 256, 1, r"try --set patch_size=128"),
    ],
)
def test_full_memory_names_the_next_smaller_batch(
    batch: int, patch: int, world: int, advice: str
) -> None:
    phase = Phase(range(1), 100, patch, batch)
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ):
        with pytest.raises(DeblurError, match=advice), memory_advice(phase, world):
            raise error


def test_other_errors_pass_as_they_are() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes differ"),
        memory_advice(Phase(range(1), 1, 64, 1), 1),
    ):
        raise RuntimeError("shapes differ")


def test_a_batch_that_a_cpu_cannot_hold_is_advised_upon() -> None:
    run = fresh_run()
    huge = torch.empty(1, dtype=torch.uint8).expand(2, 10**6, 256, 256, 3)
    batch = CropBatch(huge, torch.zeros(10**6, 3, dtype=torch.bool))
    with (
        pytest.raises(DeblurError, match="out of memory with a batch of 1000000 crops"),
        memory_advice(Phase(range(1), 10**6, 256, 10**6), 1),
    ):
        run.train_step(batch, 1e-3)
